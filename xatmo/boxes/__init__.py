"""A user's data as networks of boxes read them, and results in the user's form."""

from xatmo.boxes.channels import Channel
from xatmo.boxes.reading import Boxes, read_boxes, why_not
from xatmo.boxes.times import Times, card_step, check_step, hours_of

__all__ = [
    "Boxes",
    "Channel",
    "Times",
    "card_step",
    "check_step",
    "hours_of",
    "read_boxes",
    "why_not",
]
