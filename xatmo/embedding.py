"""embed(): fields as maps of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xatmo.box_embedding import embed_boxes
from xatmo.engine import Call, apply
from xatmo.errors import OptionError
from xatmo.fields import Fields, area_weights, cell_coordinates, restore
from xatmo.fields.levels import describe_levels
from xatmo.fieldsets import embed_fieldset
from xatmo.matching import Prepared, card_level, prepare, warn_of
from xatmo.options import get_options
from xatmo.provenance import sign
from xatmo.zoo import Card, Model, check_layer, load_model

__all__ = [
    "by_level",
    "call_of",
    "cell_weights",
    "check_reduce",
    "dtype_of",
    "embed",
    "embed_fields",
    "history_of",
    "input_names",
]

_CORE = ("latitude", "longitude")


def embed(
    obj: xr.Dataset | xr.DataArray | xr.DataTree,
    model: str | Model | None = None,
    *,
    layer: str | None = None,
    level: Any = None,
    reduce: str | None = None,
) -> xr.DataArray:
    """Turn atmospheric fields into a map of vectors.

    Each vector describes a cell of the map in its surroundings: what a network had to
    know of it to tell how far apart in time two states are.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
        Holds what the model reads (see ``xatmo.load_model()``), in names and units of
        the common sources; vorticity and divergence are derived from winds if absent.
        Eager or lazy, in any chunks.
    model : str or Model, optional
        The default model for embeddings if not given.
    layer : str, optional
        Layer that is read out; the model's last one if not given.
    level : str, number or list, optional
        Which level to use where there are several: ``"10 m"``, ``850`` (hPa).
    reduce : {None, "mean"}, optional
        ``"mean"`` gives the area-weighted mean over the map.

    Returns
    -------
    DataArray
        ``(..., latitude, longitude, feature)``, dimensionless, at the centre of each
        cell, in the names, order and orientation of the input; with ``reduce="mean"``
        ``(..., feature)``. Lazy if the input is. Longitudes of a global grid close on
        themselves: the date line leaves no trace.

        A model that reads boxes in space and time embeds each time together with those
        before it, as far as they are there; a vector belongs to a token, layers are
        called ``"encoder3"`` (after three of them), and the coordinate ``field`` names
        the field that a feature is of: only of fields that the data hold. ``attrs``
        name these, and points at the southern and eastern end that fill no token.

    Raises
    ------
    xatmo.errors.FieldNotFoundError, xatmo.errors.UnitsError, xatmo.errors.LevelError
        If the model's inputs cannot be read from ``obj``.
    xatmo.errors.GridError
        If the grid is too coarse, too fine or too small for the model.
    xatmo.errors.TimeAxisError
        If a model of boxes finds no dates, or another time step than its own.
    xatmo.errors.MissingValuesError
        When computed, if there are NaN (see ``xatmo.set_options(missing=...)``); to a
        model of boxes they are what is not known.

    References
    ----------
    Hoffmann, S. and Lessig, C. (2023): AtmoDist: Self-supervised representation
    learning for atmospheric dynamics. Environmental Data Science 2, e6.

    Examples
    --------
    >>> import xatmo
    >>> ds = xatmo.open_sample().isel(time=slice(2))
    >>> xatmo.embed(ds).sizes
    Frozen({'time': 2, 'lat': 24, 'lon': 48, 'feature': 96})
    >>> xatmo.embed(ds, reduce="mean").dims
    ('time', 'feature')
    """
    check_reduce(reduce, "embed")
    found = load_model(model, capability="embed")
    if found.card.box is not None:
        said = {"layer": layer, "level": level, "reduce": reduce}
        return embed_boxes(obj, found, **said, history=history_of(obj))
    if found.card.leads is not None:
        said = {"layer": layer, "level": level, "reduce": reduce}
        return embed_fieldset(obj, found, **said, history=history_of(obj))
    data = prepare(obj, model, capability="embed", level=level, warn=False)
    layer = check_layer(data.card, layer)
    warn_of(data)
    result = embed_fields(data, layer, mean=reduce == "mean")
    result = result.astype(dtype_of(data.fields), copy=False)
    result = restore(result, data.fields)
    return sign(
        result.rename("embedding"),
        verb="embed",
        card=data.card,
        arguments={"layer": layer, "level": level, "reduce": reduce},
        attrs={
            "long_name": f"embedding, layer {layer}",
            "units": "1",
            "layer": layer,
            "level": describe_levels(data.fields.levels),
        },
        notes=data.fields.notes,
        history=history_of(obj),
    )


def embed_fields(data: Prepared, layer: str, *, mean: bool = False) -> xr.DataArray:
    """Embeddings in canonical orientation: (..., latitude, longitude, feature).

    With ``mean`` their means by area: (..., feature).
    """
    return by_level(data.fields, lambda index: _embed_level(data, layer, index, mean))


def by_level(fields: Fields, run: Callable[[int], xr.DataArray]) -> xr.DataArray:
    """Join what ``run`` gives for each level, by its number, along their dimension."""
    if fields.level_dim is None:
        return run(0)
    parts = [run(i).expand_dims(fields.level_dim) for i in range(len(fields.levels))]
    coordinate = next(iter(fields.data.values()))[fields.level_dim]
    joined = xr.concat(parts, dim=fields.level_dim, coords="minimal", compat="override")
    return joined.assign_coords({fields.level_dim: coordinate})


def _embed_level(data: Prepared, layer: str, index: int, mean: bool) -> xr.DataArray:
    fields, card = data.fields, data.card
    arrays = [fields.at_level(i.quantity, index) for i in card.inputs]
    assert card.layers is not None  # noqa: S101 - cards that embed have layers
    latitude, longitude = cell_coordinates(fields.grid, card.layers.stride[layer])
    call = call_of(
        data,
        "embed",
        names=input_names(data),
        layer=layer,
        periodic=fields.grid.is_global,
        level=card_level(card, fields.levels[index]).level,
    )
    sizes = {
        "latitude": len(latitude),
        "longitude": len(longitude),
        "feature": card.layers.features[layer],
    }
    # A finite reach is longer than most chunks are wide: joining them costs less than
    # halos would. Where every point sees every other, that is the user's to decide.
    halo = "global" if card.grid.halo == "global" else None
    weights = cell_weights(fields, card, layer).values if mean else None
    result = apply(call, arrays, core=_CORE, out=sizes, halo=halo, weights=weights)
    if mean:
        return result
    return result.assign_coords(latitude=latitude, longitude=longitude)


def call_of(
    data: Prepared, method: str, *, names: Sequence[str], **kwargs: Any
) -> Call:
    """Plan a method of the model's network, by the options of the moment."""
    options = get_options()
    return Call(
        key=data.model.key,
        method=method,
        kwargs=tuple(kwargs.items()),
        names=tuple(names),
        device=options.device,
        batch_size=options.batch_size,
        missing=options.missing,
    )


def input_names(data: Prepared) -> list[str]:
    """Return which of the user's variables each of the model's inputs is from."""
    sources = data.fields.sources
    quantities = [i.quantity for i in data.card.inputs]
    return [" and ".join(sources[q]) or q for q in quantities]


def cell_weights(fields: Fields, card: Card, layer: str) -> xr.DataArray:
    """Area of each cell of an embedding, (latitude, longitude), of mean 1."""
    assert card.layers is not None  # noqa: S101 - cards that embed have layers
    stride = card.layers.stride[layer]
    latitude, longitude = cell_coordinates(fields.grid, stride)
    # The bands between the cells' centres: what is left of a cell at an edge counts
    # for no more than it covers.
    rows = area_weights(latitude)
    return xr.DataArray(
        np.repeat(rows[:, None], longitude.size, axis=1),
        dims=_CORE,
        coords={"latitude": latitude, "longitude": longitude},
    )


def check_reduce(reduce: str | None, verb: str) -> None:
    """Refuse any reduction but the mean."""
    if reduce not in (None, "mean"):
        msg = f"{verb}() cannot reduce by {reduce!r}."
        raise OptionError(
            msg,
            found=f"reduce={reduce!r}",
            needed="None (the map) or 'mean' (its area-weighted mean)",
            hint=f"ds.atmo.{verb}(..., reduce='mean')",
        )


def dtype_of(fields: Fields) -> np.dtype:
    """Return the type that results on these fields come back in."""
    return np.result_type(*(da.dtype for da in fields.data.values()))


def history_of(obj: Any) -> str:
    """Return the history attribute of the input, if it has one."""
    history = getattr(obj, "attrs", {}).get("history", "")
    return history if isinstance(history, str) else ""
