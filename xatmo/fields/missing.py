"""What to say when a quantity is not there: what is, and which call may help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from xatmo.errors import FieldNotFoundError
from xatmo.fields.attributes import units_of
from xatmo.fields.levels import describe_levels
from xatmo.fields.names import Found, canonical_units, known_name
from xatmo.fields.units import same_dimension
from xatmo.fields.winds import FROM_WINDS, WINDS

__all__ = ["missing"]


def missing(
    ds: xr.Dataset, found: Mapping[str, Sequence[Found]], quantity: str
) -> FieldNotFoundError:
    """Return the error for a quantity that no variable holds or leads to."""
    strange = _strange(ds, found)
    needed = quantity
    if quantity in FROM_WINDS:
        needed = f"{quantity}, or eastward_wind and northward_wind at one level"
    parts = [_known(found)]
    if strange:
        parts.append("not recognised: " + ", ".join(strange[:8]))
    msg = f"No variable holds {quantity}."
    return FieldNotFoundError(
        msg,
        found="; ".join(p for p in parts if p) or "no variables",
        needed=needed,
        hint=_hint(ds, found, quantity, strange),
    )


def _known(found: Mapping[str, Sequence[Found]]) -> str:
    texts = [
        f"{e.name} ({q}, {describe_levels(e.levels, 3)})"
        for q, entries in found.items()
        for e in entries
    ]
    return ", ".join(texts[:8]) + (", ..." if len(texts) > 8 else "")


def _strange(ds: xr.Dataset, found: Mapping[str, Sequence[Found]]) -> list[str]:
    """Return the maps that no table knows."""
    named = {e.name for entries in found.values() for e in entries}
    maps = [str(n) for n in ds.data_vars if ds[n].ndim > 1]
    return [n for n in maps if n not in named and not _is_bounds(n)]


def _hint(
    ds: xr.Dataset,
    found: Mapping[str, Sequence[Found]],
    quantity: str,
    strange: Sequence[str],
) -> str:
    for name in strange:
        if (dim := _dim_of_names(ds[name])) is not None:
            return f'da.to_dataset("{dim}"), where da is {name!r}'
    wanted, all_of_it = _lacking(found, quantity)
    for one in wanted:
        name = next((n for n in strange if _could_be(ds[n], one)), "")
        if name:
            label = f'ds["{name}"].attrs["standard_name"] = "{one}"'
            return f"{label}, if that is what it is"
    return f"xr.merge([ds, other]) with a dataset that holds {all_of_it}"


def _lacking(
    found: Mapping[str, Sequence[Found]], quantity: str
) -> tuple[list[str], str]:
    """Return what would help, each alone; and in words, what is enough."""
    if quantity not in FROM_WINDS:
        return [quantity], quantity
    winds = [q for q in WINDS if q not in found]
    if len(winds) == 1:
        return winds, winds[0]
    if any(q in found for q in FROM_WINDS):
        return [quantity, *winds], f"{quantity}, or both winds"
    return winds, "eastward_wind and northward_wind"


def _dim_of_names(da: xr.DataArray) -> str | None:
    """Return a dimension along which an array holds known quantities by name."""
    for dim in da.dims:
        labels = da.indexes[dim].tolist() if dim in da.indexes else []
        if any(isinstance(x, str) and known_name(x) is not None for x in labels):
            return str(dim)
    return None


def _is_bounds(name: str) -> bool:
    return name.lower().endswith(("_bnds", "_bounds"))


def _could_be(da: xr.DataArray, quantity: str) -> bool:
    to = canonical_units(quantity)
    return to is not None and same_dimension(units_of(da.attrs) or "?", to)
