"""Embeddings by networks that are told how far ahead to look."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xatmo.fields import area_weights, cell_coordinates
from xatmo.fieldsets.reading import SPACE, FieldSet, read_fieldset
from xatmo.provenance import sign
from xatmo.zoo import Model, check_layer

__all__ = ["embed_fieldset"]


def embed_fieldset(
    obj: Any,
    model: Model,
    *,
    layer: str | None,
    level: Any,
    reduce: str | None,
    history: str,
) -> xr.DataArray:
    """Embed fields of one time; called by :func:`xatmo.embed`.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
    model : Model
        One with ``[leads]`` in its card.
    layer : str, optional
        The card's first one if not given.
    level : str, number or list, optional
        Only these levels.
    reduce : {None, "mean"}
    history : str
        Of the input.

    Returns
    -------
    DataArray
        ``(..., latitude, longitude, feature)`` at the centres of patches, or without
        the map. What the network is told of the lead time is the shortest one of its
        training, as ``attrs`` say.

    Raises
    ------
    xatmo.errors.AtmoError
        As :func:`xatmo.fieldsets.read_fieldset`.
    """
    layer = check_layer(model.card, layer)
    data = read_fieldset(obj, model, level=level)
    assert model.card.leads is not None  # noqa: S101 - asked of such cards only
    lead = model.card.leads.shortest
    result = _run(data, layer, lead)
    if reduce == "mean":
        weights = xr.DataArray(area_weights(result.latitude.values), dims="latitude")
        result = result.weighted(weights).mean(SPACE)
    dtype = np.result_type(*(channel.dtype for channel in data.channels))
    result = data.placed(result.astype(dtype, copy=False))
    return sign(
        result.rename("embedding"),
        verb="embed",
        card=data.card,
        arguments={"layer": layer, "level": level, "reduce": reduce},
        attrs={
            "long_name": f"embedding, layer {layer}",
            "units": "1",
            "layer": layer,
            "lead_time": f"{lead} h",
            **data.about,
        },
        notes=data.notes,
        history=history,
    )


def _run(data: FieldSet, layer: str, lead: int) -> xr.DataArray:
    """(..., latitude, longitude, feature) in canonical orientation."""
    layers = data.card.layers
    assert layers is not None  # noqa: S101 - cards that embed have layers
    latitude, longitude = cell_coordinates(data.grid, layers.stride[layer])
    out = {
        "latitude": len(latitude),
        "longitude": len(longitude),
        "feature": layers.features[layer],
    }
    result = data.run("embed", data.arrays, out, lead=float(lead))
    return result.assign_coords(latitude=latitude, longitude=longitude)
