"""Embeddings by networks of boxes: what an encoder knows of the last time of a box."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xatmo.boxes import Boxes, read_boxes
from xatmo.engine import Domain, Windows, over_windows
from xatmo.engine.boxes import running, states
from xatmo.errors import GridError, OptionError
from xatmo.fields import area_weights, from_canonical
from xatmo.provenance import sign
from xatmo.zoo import Card, Model, check_layer

__all__ = ["embed_boxes"]

_SPACE = ("latitude", "longitude")


@dataclass(frozen=True)
class _States:
    """Fills embeddings of windows."""

    domain: Domain
    layer: int
    features: int

    @property
    def shape(self) -> tuple[int, int, int]:
        rows, columns = self.domain.token_cover
        return rows.count, columns.count, self.features

    def __call__(self, windows: Windows, when: np.ndarray, out: np.ndarray) -> None:
        with running(self.domain) as model:
            said = (self.layer, self.features, model)
            out[:] = states(self.domain, windows, when, *said)


def embed_boxes(
    obj: Any,
    model: Model,
    *,
    layer: str | None,
    level: Any,
    reduce: str | None,
    history: str,
) -> xr.DataArray:
    """Embed fields by a network of boxes; called by :func:`xatmo.embed`.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
    model : Model
        One with a ``[box]`` in its card.
    layer : str, optional
        ``"encoder3"`` is what is known after three layers of the encoders, of which the
        card names those that there are; the first of these if not given.
    level : str, number or list, optional
        Only these levels.
    reduce : {None, "mean"}
    history : str
        Of the input.

    Returns
    -------
    DataArray
        ``(time, ..., latitude, longitude, feature)`` at the centres of tokens, or
        without the map. Each time is embedded with those before it that fill a box; the
        first ones with fewer. Features are those of one field after the other, which
        the coordinate ``field`` names: only of fields that the data hold. Rows and
        columns at the southern and eastern end that fill no token are left out, as
        ``attrs`` say.

    Raises
    ------
    xatmo.errors.AtmoError
        As :func:`xatmo.boxes.read_boxes`.
    """
    layer = check_layer(model.card, layer)
    boxes = read_boxes(obj, model, level=level)
    domain, fields = boxes.domain(), _features(boxes)
    if any(n < size for n, size in zip(domain.shape, domain.token, strict=True)):
        raise _no_token(boxes, domain)
    job = _States(domain, _number(layer, model.card), len(fields))
    result = _run(boxes, job, fields)
    if reduce == "mean":
        weights = xr.DataArray(area_weights(result.latitude.values), dims="latitude")
        result = result.weighted(weights).mean(_SPACE)
    dtype = np.result_type(*(channel.dtype for channel in boxes.channels))
    result = _in_user_form(result.astype(dtype, copy=False), boxes)
    return sign(
        result.rename("embedding"),
        verb="embed",
        card=boxes.card,
        arguments={"layer": layer, "level": level, "reduce": reduce},
        attrs={
            "long_name": f"embedding, layer {layer}",
            "units": "1",
            "layer": layer,
            **boxes.about,
            **_left_out(boxes, job.domain),
        },
        notes=boxes.notes,
        history=history,
    )


def _run(boxes: Boxes, job: _States, fields: list[str]) -> xr.DataArray:
    """(time, ..., latitude, longitude, feature) in canonical orientation."""
    offsets = range(1 - job.domain.box[0], 1)
    index = boxes.times.windows(offsets, boxes.step)
    when = boxes.times.when(offsets, boxes.step)
    data = over_windows(boxes.data.data, index, when, job, job.shape)
    coords = boxes.labels()
    centres = zip(_SPACE, _centres(boxes, job.domain), strict=True)
    coords |= {dim: xr.DataArray(x, dims=dim) for dim, x in centres}
    coords["field"] = xr.DataArray(fields, dims="feature")
    dims = (boxes.time, *boxes.batch, *_SPACE, "feature")
    return xr.DataArray(data, dims=dims, coords=coords)


def _centres(boxes: Boxes, domain: Domain) -> list[np.ndarray]:
    """Latitudes and longitudes of the middles of tokens."""
    axes = (boxes.grid.latitude, boxes.grid.longitude)
    return [
        axis[: cover.count * size].reshape(-1, size).mean(1)
        for axis, cover, size in zip(
            axes, domain.token_cover, domain.token, strict=True
        )
    ]


def _in_user_form(result: xr.DataArray, boxes: Boxes) -> xr.DataArray:
    result = from_canonical(result, boxes.grid)
    if boxes.timeless:
        result = result.isel({boxes.time: 0}, drop=True)
    own = [str(d) for d in boxes.channels[0].source.dims if d in result.dims]
    return result.transpose(*own, ..., "feature")


def _features(boxes: Boxes) -> list[str]:
    """The field that each feature is of."""
    widths = {f["name"]: f["width"] for f in boxes.card.network["fields"]}
    return [name for name, _ in boxes.present for _ in range(widths[name])]


def _number(layer: str, card: Card) -> int:
    """After how many layers: the number that a layer's name ends with."""
    match = re.search(r"(\d+)$", layer)
    most = int(card.network.get("encoder_layers", 6))  # as Multiformer has it
    if match and int(match[1]) <= most:
        return int(match[1])
    msg = f"The layer {layer!r} of {card.name} says no number of layers."
    raise OptionError(
        msg,
        found=f"layer={layer!r}",
        needed=f"a name such as 'encoder{most}', of up to {most} layers",
        hint=f"correct [layers] in {card.folder}",
    )


def _left_out(boxes: Boxes, domain: Domain) -> Mapping[str, str]:
    """Name rows and columns that fill no token."""
    said = []
    rows, columns = domain.token_cover
    axes = zip(_SPACE, domain.shape, (rows, columns), domain.token, strict=True)
    for name, count, cover, size in axes:
        rest = count - cover.count * size
        if rest:
            axis = boxes.grid.latitude if name == "latitude" else boxes.grid.longitude
            degrees = ", ".join(f"{x:g}" for x in axis[-rest:])
            said.append(f"{name} {degrees}")
    return {"points_left_out": "; ".join(said)} if said else {}


def _no_token(boxes: Boxes, domain: Domain) -> GridError:
    rows, columns = domain.shape
    msg = f"The domain is too small for {boxes.card.name}."
    return GridError(
        msg,
        found=f"{rows} x {columns} points",
        needed=f"at least one token: {domain.token[0]} x {domain.token[1]} points",
        hint="select a larger region",
    )
