"""One time of a user's data as networks read it that are told how far ahead to look."""

from xatmo.fieldsets.attention import attend_fieldset
from xatmo.fieldsets.embedding import embed_fieldset
from xatmo.fieldsets.forecasting import forecast_fieldset
from xatmo.fieldsets.reading import FieldSet, read_fieldset, why_not

__all__ = [
    "FieldSet",
    "attend_fieldset",
    "embed_fieldset",
    "forecast_fieldset",
    "read_fieldset",
    "why_not",
]
