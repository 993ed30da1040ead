"""Where a result comes from, written into its attributes.

Attributes are never inherited: since a verb changes what the numbers mean, a result
that kept its input's ``units`` would lie. What is known is written on purpose.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import xarray as xr

from xatmo.options import get_options
from xatmo.zoo import Card

__all__ = ["sign"]

_Result = TypeVar("_Result", xr.DataArray, xr.Dataset)


def sign(
    result: _Result,
    *,
    verb: str,
    card: Card | None,
    arguments: Mapping[str, Any],
    attrs: Mapping[str, Any],
    notes: tuple[str, ...] = (),
    history: str = "",
) -> _Result:
    """Write the attributes of a result.

    Parameters
    ----------
    result : DataArray or Dataset
        Attributes it has are replaced.
    verb : str
        What was called.
    card : Card or None
        The model's name, version and sha256 go into the attributes; None if no model
        had a part in it.
    arguments : mapping
        Of the call; None is left out.
    attrs : mapping
        ``long_name``, ``units`` and what else describes the numbers.
    notes : tuple of str
        What was done to the input on the way.
    history : str
        Of the input; one line is added below.

    Returns
    -------
    DataArray or Dataset
        The same object.
    """
    from xatmo import __version__

    said = {**({"model": card.name} if card else {}), **arguments}
    call = ", ".join(f"{k}={v!r}" for k, v in said.items() if v is not None)
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = f"{now} xatmo {__version__}: {verb}({call})"
    line += f" sha256={card.weights.sha256}" if card else ""
    own = _own_constants(card) if card else {}
    line += (
        f" with normalisation fitted to the user's data at {', '.join(own)}"
        if own
        else ""
    )
    result.attrs = {
        **attrs,
        **(_of_model(card) if card else {}),
        **({"xatmo_normalization": json.dumps(own, ensure_ascii=False)} if own else {}),
        **({"comment": "; ".join(notes)} if notes else {}),
        "history": f"{history}\n{line}" if history else line,
    }
    return result


def _of_model(card: Card) -> dict[str, str]:
    precision = get_options().precision
    return {
        "xatmo_model": f"{card.name} {card.version}",
        "xatmo_model_sha256": card.weights.sha256,
        **({"xatmo_precision": precision} if precision != "float32" else {}),
    }


def _own_constants(card: Card) -> dict[str, dict[str, Any]]:
    """Constants that are not the release's: without them nobody could repeat it."""
    return {
        level.level: {
            name: value
            for name in ("mean", "std", "log_mean", "log_std")
            if (value := getattr(level, name)) is not None
        }
        for level in card.levels
        if level.fitted
    }
