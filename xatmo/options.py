"""Settings of a session, set for good or within a ``with`` block."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Any

from xatmo.errors import OptionError

__all__ = ["Options", "get_options", "set_options"]


@dataclass(frozen=True)
class Options:
    """The settings and their defaults.

    They are read when a verb is *called*: a lazy result keeps the settings it was built
    with, on whichever worker it is computed.
    """

    device: str = "auto"
    """``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``."""
    batch_size: int | None = None
    """Fields per forward pass; ``None`` chooses by field size and device."""
    missing: str = "raise"
    """NaN in the input: ``"raise"``, or ``"propagate"`` to give NaN for that field."""
    progress: bool = True
    """Show a progress bar for downloads."""


_DEFAULTS = Options()
_current: ContextVar[Options] = ContextVar("xatmo_options", default=_DEFAULTS)

_CHOICES = {"missing": ("raise", "propagate"), "progress": (True, False)}


def get_options() -> Options:
    """Return the settings in force here and now."""
    return _current.get()


class set_options:
    """Change settings, for the session or for a ``with`` block.

    Parameters
    ----------
    **settings
        Any of the fields of :class:`Options`.

    Raises
    ------
    xatmo.errors.OptionError
        For an unknown setting or a value it cannot have.

    Examples
    --------
    >>> import xatmo
    >>> with xatmo.set_options(missing="propagate"):
    ...     xatmo.get_options().missing
    'propagate'
    >>> xatmo.get_options().missing
    'raise'
    """

    def __init__(self, **settings: Any) -> None:
        _check(settings)
        self._before = _current.get()
        _current.set(replace(self._before, **settings))

    def __enter__(self) -> Options:
        return _current.get()

    def __exit__(self, *exc: object) -> None:
        _current.set(self._before)


def _check(settings: dict[str, Any]) -> None:
    known = [field.name for field in fields(Options)]
    for name, value in settings.items():
        if name not in known:
            msg = f"There is no option {name!r}."
            raise OptionError(
                msg,
                found=f"{name}={value!r}",
                needed=f"one of {', '.join(known)}",
                hint="xatmo.set_options(device='cpu')",
            )
        choices = _CHOICES.get(name)
        if choices and value not in choices:
            msg = f"Option {name!r} cannot be {value!r}."
            raise OptionError(
                msg,
                found=f"{name}={value!r}",
                needed=f"one of {', '.join(map(repr, choices))}",
                hint=f"xatmo.set_options({name}={choices[0]!r})",
            )
    size = settings.get("batch_size")
    if size is not None and (not isinstance(size, int) or size < 1):
        msg = f"Option 'batch_size' cannot be {size!r}."
        raise OptionError(
            msg,
            found=f"batch_size={size!r}",
            needed="a whole number of at least 1, or None",
            hint="xatmo.set_options(batch_size=None)",
        )
