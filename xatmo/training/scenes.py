"""Scenes: what is known of one atmosphere on one grid, level by level.

A scene joins prepared stores that lie on the same points: levels of one file, or files
of one analysis. Boxes are cut from it at any time; what a store lacks is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xatmo.errors import OptionError
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import SlottedField, Source
from xatmo.training.sampling import FieldStore, open_stores

__all__ = ["Channel", "Scene", "prepared", "scenes_of"]


class Channel(NamedTuple):
    """A level of a field, and where a scene has it from."""

    field: str
    slot: int
    store: int
    place: int
    mean: np.ndarray
    """(12,): for each calendar month."""
    std: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Stores on one grid.

    Attributes
    ----------
    name : str
    stores : list of FieldStore
    channels : list of Channel
        In the order of the network's fields and levels.
    times : ndarray of int, seconds
        All times that one of the stores has.
    weight : float
    """

    name: str
    stores: list[FieldStore]
    channels: list[Channel]
    times: np.ndarray
    weight: float

    @property
    def grid(self) -> FieldStore:
        """A store, for its coordinates."""
        return self.stores[0]

    def box(
        self,
        times: np.ndarray,
        row: int,
        column: int,
        size: tuple[int, int],
        which: Sequence[int],
    ) -> np.ndarray:
        """Cut some channels at some times: normalised, (C, T, Y, X); NaN if not there.

        Parameters
        ----------
        times : ndarray of int, shape (T,)
            Seconds.
        row, column : int
        size : tuple of int
            Rows and columns; these wrap on a globe.
        which : sequence of int
            Numbers of channels.
        """
        chosen = [self.channels[i] for i in which]
        out = np.full((len(chosen), len(times), *size), np.nan, np.float32)
        for number in {c.store for c in chosen}:
            store = self.stores[number]
            mine = [i for i, c in enumerate(chosen) if c.store == number]
            for t, time in enumerate(times):
                at = int(np.searchsorted(store.times, time))
                if at == store.times.size or store.times[at] != time:
                    continue
                values = store.window(at, row, column, *size)
                month = int(store.months[at]) - 1
                for i in mine:
                    c = chosen[i]
                    out[i, t] = (values[c.place] - c.mean[month]) / c.std[month]
        return out


def prepared(recipe: Any, sources: Sequence[Source], folder: Path) -> list[FieldStore]:
    """Write the stores of sources, or find them, and open them.

    Parameters
    ----------
    recipe : recipe
        Of any task whose ``[sampling]`` says what is kept in memory.
    sources : sequence of Source
        Each with its quantities.
    folder : Path
        Of the run.
    """
    paths = [prepare_source(s, s.quantities, folder / "data") for s in sources]
    return open_stores(paths, recipe.sampling.cache_mb)


def scenes_of(
    sources: Sequence[Source],
    stores: Sequence[FieldStore],
    fields: Sequence[SlottedField],
    constants: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]],
) -> list[Scene]:
    """Join stores to scenes: those of one ``scene``, else those of one file and grid.

    Parameters
    ----------
    sources, stores
        Of the same number.
    fields : sequence of SlottedField
    constants : mapping
        (field, level) -> mean and standard deviation (12,) of calendar months.

    Raises
    ------
    xatmo.errors.OptionError
        If stores of one scene lie on different points, or a level is none of the
        network's.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, source in enumerate(sources):
        name = source.scene or source.path
        groups.setdefault((name, source.coarsen, source.spacing), []).append(number)
    return [
        _scene(
            str(key[0]),
            [sources[i] for i in group],
            [stores[i] for i in group],
            fields,
            constants,
        )
        for key, group in groups.items()
    ]


def _scene(
    name: str,
    sources: list[Source],
    stores: list[FieldStore],
    fields: Sequence[SlottedField],
    constants: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]],
) -> Scene:
    first = stores[0]
    for store in stores[1:]:
        _check_same_points(name, first, store)
    found: dict[tuple[int, int], Channel] = {}
    for number, store in enumerate(stores):
        for index, quantity in enumerate(store.quantities):
            at, field = _field_of(quantity, fields)
            slot = field.slot_of(store.level)
            if slot is None:
                raise _no_level(store, field)
            told = constants[field.name, store.level]
            channel = Channel(field.name, slot, number, index, *told)
            found.setdefault((at, slot), channel)
    times = np.unique(np.concatenate([store.times for store in stores]))
    cells = np.prod([times.size, first.latitude.size, first.longitude.size])
    weight = max(source.weight for source in sources) * float(np.sqrt(cells))
    return Scene(name, stores, [found[key] for key in sorted(found)], times, weight)


def _field_of(
    quantity: str, fields: Sequence[SlottedField]
) -> tuple[int, SlottedField]:
    for number, field in enumerate(fields):
        if field.quantity == quantity:
            return number, field
    msg = f"No field of the recipe is {quantity!r}."
    raise OptionError(
        msg,
        found=f"{quantity!r} in the quantities of a source",
        needed=f"some of {', '.join(f.quantity for f in fields)}",
        hint="add it to [[fields]], or take it out of quantities",
    )


def _check_same_points(name: str, first: FieldStore, other: FieldStore) -> None:
    axes = ((first.latitude, other.latitude), (first.longitude, other.longitude))
    if all(a.shape == b.shape and np.allclose(a, b, atol=1e-3) for a, b in axes):
        return
    msg = f"Sources of the scene {name!r} lie on different points."
    raise OptionError(
        msg,
        found=f"{first.name}: {_grid(first)}; {other.name}: {_grid(other)}",
        needed="the same latitudes and longitudes",
        hint="give them scenes of their own, or the same coarsen or spacing",
    )


def _grid(store: FieldStore) -> str:
    return f"{store.latitude.size} x {store.longitude.size} points"


def _no_level(store: FieldStore, field: SlottedField) -> OptionError:
    known = ", ".join(repr(level) for names in field.slots for level in names)
    msg = f"The level of {store.name} is none of the field {field.name!r}."
    return OptionError(
        msg,
        found=f"{store.level!r}",
        needed=f"one of {known}",
        hint=f'add "{store.level}" to a slot of the field, or choose another level',
    )
