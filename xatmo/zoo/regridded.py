"""Models on another grid than a released one, made of its weights."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from xatmo.errors import GridError, OptionError
from xatmo.zoo.fetch import weights_path
from xatmo.zoo.imported import NewModel, place, readme_of
from xatmo.zoo.model import Model
from xatmo.zoo.weights import load_state

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["regridded"]

_USUAL = "usual."  # maps of what is usual, (H, W)
_POSITION = "position"  # what a network calls its codes of places, (rows, columns, D)


def regridded(
    model: Model, rows: int, columns: int, *, name: str | None = None
) -> Model:
    """Make a model for another grid: see :meth:`xatmo.Model.with_grid`."""
    from xatmo.nets.climax_position import resize_field, resize_positions

    path, key = weights_path(model.card), model.key
    state = dict(load_state(path, key.sha256, name=model.name))
    _check(model, state, (rows, columns))
    patch = model.card.grid.stride
    codes = state[_POSITION]
    if list(model.card.grid.patch) == [rows, columns]:
        return model
    state[_POSITION] = resize_positions(codes, (rows // patch, columns // patch))
    state |= {
        key: resize_field(state[key], (rows, columns))
        for key in state
        if key.startswith(_USUAL)
        and state[key].ndim == 2  # not how long its anomalies last
    }
    contents = _contents(model, rows, columns, name)
    how = f"Made of the weights of {contents['training']['derived']}; not trained since"
    card = place(NewModel(contents, state, {}, readme_of(contents, how)))
    return Model(card, card.key(key.dtype), model.normalization)


def _contents(
    model: Model, rows: int, columns: int, name: str | None
) -> dict[str, Any]:
    """Return the contents of the card, but for its weights."""
    contents = tomllib.loads(model.card.to_toml())
    for one in ("default", "default_for", "weights", "scores"):
        contents.pop(one, None)
    how = f"{model.name} {model.version}, positions interpolated to {rows} x {columns}"
    return contents | {
        "name": name or f"{model.name}-{rows}x{columns}",
        "title": f"{contents['title']}, on {rows} x {columns} points",
        "network": contents["network"] | {"grid": [rows, columns]},
        "grid": contents["grid"]
        | {
            "patch": [rows, columns],
            "spacing": sorted((180 / rows, 360 / columns)),
        },
        "training": contents.get("training", {}) | {"derived": how},
    }


def _check(model: Model, state: dict[str, Tensor], grid: tuple[int, int]) -> None:
    """Refuse other networks, and grids that cannot be cut into patches."""
    if model.card.leads is None or _POSITION not in state:
        msg = f"{model.name} is not made for one grid alone."
        raise OptionError(
            msg,
            found=f"architecture = {model.card.architecture!r}",
            needed="a model with [leads] in its card, which knows each place",
            hint=f"call the verb: it reads {model.card.grid.spacing} degrees",
        )
    patch = model.card.grid.stride
    if all(type(n) is int and n > 0 and n % patch == 0 for n in grid):
        return
    msg = f"{grid[0]} x {grid[1]} points cannot be cut into patches of {patch}."
    near = [max(patch, int(n) - int(n) % patch) for n in grid]
    said = [
        f"{low} {what} (crop {int(n) - low}) or {low + patch} (pad "
        f"{low + patch - int(n)})"
        for n, low, what in zip(grid, near, ("rows", "columns"), strict=True)
        if n != low
    ]
    raise GridError(
        msg,
        found=f"{grid[0]} x {grid[1]} points",
        needed=f"multiples of {patch}: {', '.join(said) or 'rows and columns above 0'}",
        hint=f"ds.isel(latitude=slice(None, {near[0]}), longitude=slice(None, "
        f"{near[1]})) and model.with_grid({near[0]}, {near[1]})",
    )
