"""Settings of a session, set for good or within a ``with`` block."""

from __future__ import annotations

import numbers
import re
from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn

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
    precision: str = "float32"
    """``"float32"``, or ``"bfloat16"`` for products and convolutions that bear it."""
    compile: bool | str = "auto"
    """``torch.compile``: ``"auto"`` on a GPU once it pays, ``True``, ``False``."""
    missing: str = "raise"
    """NaN in the input: ``"raise"``, or ``"propagate"`` to give NaN for that field."""
    progress: bool = True
    """Show a progress bar for downloads."""


# One for the process, as in xarray: what a session sets, its threads see.
_current = Options()

_DEVICE = re.compile(r"auto$|cpu$|cuda(:\d+)?$")
_CHOICES: dict[str, tuple[Any, ...]] = {
    "precision": ("float32", "bfloat16"),
    "compile": ("auto", True, False),
    "missing": ("raise", "propagate"),
    "progress": (True, False),
}


def get_options() -> Options:
    """Return the settings in force here and now."""
    return _current


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
        global _current
        _check(settings)
        self._before = _current
        _current = replace(_current, **settings)

    def __enter__(self) -> Options:
        return _current

    def __exit__(self, *exc: object) -> None:
        global _current
        _current = self._before


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
            needed = f"one of {', '.join(map(repr, choices))}"
            _refuse(name, settings, needed, choices[0])
    if "batch_size" in settings and not _is_size(settings["batch_size"]):
        _refuse("batch_size", settings, "a whole number of at least 1, or None", None)
    if "device" in settings and not _DEVICE.match(str(settings["device"])):
        _refuse("device", settings, "'auto', 'cpu', 'cuda' or 'cuda:<number>'", "auto")


def _is_size(value: Any) -> bool:
    if value is None:
        return True
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return whole and int(value) >= 1


def _refuse(name: str, settings: dict[str, Any], needed: str, good: Any) -> NoReturn:
    value = settings[name]
    msg = f"Option {name!r} cannot be {value!r}."
    raise OptionError(
        msg,
        found=f"{name}={value!r}",
        needed=needed,
        hint=f"xatmo.set_options({name}={good!r})",
    )
