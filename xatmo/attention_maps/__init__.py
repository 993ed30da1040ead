"""The verb attention(): what a network of boxes looks at."""

from xatmo.attention_maps.verb import attention

__all__ = ["attention"]
