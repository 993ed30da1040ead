"""infill(): gaps of any shape filled, with the spread and the origin of every value."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xatmo.embedding import history_of
from xatmo.engine import Plan, fill_series, rechunked
from xatmo.errors import TimeAxisError
from xatmo.fields import (
    Axes,
    Grid,
    as_dataset,
    find_axes,
    find_quantities,
    land_share_of_cells,
    read_grid,
    reorder,
    to_canonical,
)
from xatmo.infilling.asked import Asked, check_length, read_arguments
from xatmo.infilling.boxes import fill_jointly
from xatmo.infilling.described import described
from xatmo.infilling.inputs import Marked, check_dims, fields_of, masks_of
from xatmo.lags import dated
from xatmo.matching import warn_of_chunks
from xatmo.zoo import Model

__all__ = ["infill"]

_SPACE = ("latitude", "longitude")


def infill(
    obj: xr.Dataset | xr.DataArray | xr.DataTree,
    method: str = "auto",
    spread: bool = True,
    mask: xr.DataArray | xr.Dataset | None = None,
    model: str | Model | None = None,
    *,
    seed: int = 0,
) -> xr.Dataset:
    """Fill the gaps of fields: clouds, swaths, blocks, dead stations, lost times.

    What was observed stays as it is, to the last bit. Each filled value comes with the
    standard deviation of the error to expect, and with a flag that says what it is
    from. Where nothing near enough was observed a gap stays a gap, and is flagged.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
        On a latitude-longitude grid, with or without time; NaN where something is
        missing. Every floating-point variable is filled, whatever it holds; each one,
        and each level or member, by itself (but see Notes). Eager or lazy, in any
        chunks.
    method : str, optional
        ``"auto"`` hides some of the observed cells, in gaps of the shapes that there
        are, and takes for each series what fills those best. ``"network"`` is the
        model; ``"dineof"``, ``"kriging"``, ``"biharmonic"``, ``"interpolate"``,
        ``"climatology"`` and ``"nearest"`` are plain methods (see
        ``xatmo.methods.fill_gaps``). Also the name of a model that infills.
    spread : bool, optional
        Give the spread.
    mask : DataArray or Dataset of bool, optional
        True where to fill, by dimensions of the data; a Dataset has one for each
        variable of its own. Values there are ignored, and NaN elsewhere stay (land,
        in fields of the sea). All NaN are filled if not given.
    model : str or Model, optional
        The network; the default model for infilling if not given.
    seed : int, optional
        Of the cells that are hidden to choose a method, or to find out the spread of
        one that does not tell.

    Returns
    -------
    Dataset
        All of ``obj``, its fields filled, in their chunks. For each of them:

        ``NAME_spread``
            Standard deviation of the error to expect, in the units of the variable; 0
            where observed, NaN where nothing was filled in.
        ``NAME_provenance``
            0 observed, 1 network, 2 plain method, 3 unfilled (CF flags).
        ``NAME_scores``
            With ``"auto"``: root mean square error of each ``method`` at the hidden
            cells, in the units of the variable; NaN for those not tried. For data in
            memory also in ``attrs["infill_scores"]``, as JSON.

    Raises
    ------
    xatmo.errors.FieldError
        If there is nothing that can be filled, or only categories.
    xatmo.errors.GridError
        If the grid is no regular latitude-longitude grid.
    xatmo.errors.AlignmentError
        If the mask does not lie on the data's coordinates.
    xatmo.errors.MissingValuesError
        When computed, if a variable has no observed value at all, infinite values, or
        fill values that were not decoded.
    xatmo.errors.TimeAxisError
        If times do not ascend, or there are too few for the method.
    xatmo.errors.OptionError
        If there is no such method, or the series is too long for one that has to see
        all of its times.
    xatmo.errors.MissingDependencyError
        If a method needs a package that is not installed.

    Warns
    -----
    xatmo.errors.ExtrapolationWarning
        If a series is unlike those that the network was trained on, or variables are
        left as they are.

    Notes
    -----
    A model of boxes (see ``xatmo.load_model()``), which is taken only if it is named,
    fills what it knows of the data all together: each field at each level from the
    others, and from some times before and after. Other variables and levels stay as
    they are. Where nothing at all is known in any box around a point it stays a gap.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo.testing.gaps import with_gaps
    >>> ds = with_gaps(xatmo.open_sample()[["u"]], "clouds", seed=1)
    >>> filled = xatmo.infill(ds, method="interpolate")
    >>> list(filled)
    ['u', 'u_spread', 'u_provenance']
    >>> filled.u.isnull().any().item()
    False
    >>> filled.u.where(ds.u.notnull()).identical(ds.u.assign_attrs(filled.u.attrs))
    True
    """
    asked = read_arguments(method, spread, mask, model, seed)
    ds = as_dataset(obj)
    axes = find_axes(ds)
    grid = read_grid(ds, axes)
    masks = masks_of(mask, ds, fields_of(obj, ds, axes))
    job = _Job(asked, ds, axes, grid, _quantities(ds))
    made = job.by_itself(masks) if asked.joint is None else job.together(masks)
    result = xr.Dataset({**ds.data_vars, **made}, attrs=ds.attrs)
    # The variables of the input keep their order; what is new about one follows it.
    order = [n for name in ds for n in (name, *(f"{name}_{p}" for p in asked.parts))]
    result = result[[n for n in order if n in result]].assign_coords(ds.coords)
    attrs = {**ds.attrs, **job.about}
    return asked.signed(result, attrs, history_of(obj), job.notes)


@dataclass(frozen=True)
class _Land:
    """Share of land around points; equal for equal spacings, so that it is kept."""

    spacing: tuple[float, float]

    def __call__(self, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
        return land_share_of_cells(latitude, longitude, self.spacing)


class _Job:
    """Fills variables: one after the other, or all at once."""

    def __init__(
        self,
        asked: Asked,
        ds: xr.Dataset,
        axes: Axes,
        grid: Grid,
        quantities: Mapping[str, str],
    ) -> None:
        self.asked, self.ds, self.axes, self.grid = asked, ds, axes, grid
        self.quantities = quantities
        self.told: dict[str, dict[str, float]] = {}
        self.about: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()

    def by_itself(self, masks: Mapping[str, Marked]) -> dict[Hashable, xr.DataArray]:
        """Return variables without gaps, each filled by itself, and what to say."""
        check_dims(self.ds, masks, self.asked.parts)
        warn_of_chunks([marked.values for marked in masks.values()], self.grid.names)
        made: dict[Hashable, xr.DataArray] = {}
        for name, marked in masks.items():
            made |= self._fill(name, _in_memory(marked))
        if self.told:
            self.about = {"infill_scores": json.dumps(self.told)}
        return made

    def together(self, masks: Mapping[str, Marked]) -> dict[Hashable, xr.DataArray]:
        """Return variables whose gaps a network of boxes fills from all of them."""
        assert self.asked.joint is not None  # noqa: S101 - asked by the caller
        masks = {name: _in_memory(marked) for name, marked in masks.items()}
        parts, self.about, self.notes = fill_jointly(self.asked.joint, self.ds, masks)
        check_dims(self.ds, parts, self.asked.parts)
        made: dict[Hashable, xr.DataArray] = {}
        for name, part in parts.items():
            about = (self.quantities.get(name), self.about)
            made |= described(self.asked, masks[name], part, *about)
        return made

    def _fill(self, name: str, marked: Marked) -> dict[Hashable, xr.DataArray]:
        own, wanted = marked.values, marked.wanted
        time = self.axes.time if self.axes.time in own.dims else None
        lead = [d for d in own.dims if d not in (time, *self.grid.names)]
        seen = own if wanted is None else own.where(~wanted)
        seen = seen.astype(np.promote_types(own.dtype.newbyteorder("="), np.float32))
        seen = self._canonical(own, seen, lead)
        # Where all levels are in memory it is known that none of them has a value.
        alone = not lead or (seen.chunks is None and bool(np.isnan(seen.data).all()))
        plan = self._plan(name, own, time, alone=alone)
        check_length(self.asked.method, plan)
        gaps = None if wanted is None else self._canonical(own, wanted, lead)
        filled, told = _each(seen, gaps, lead, partial(self._series, plan))
        dims = [*lead, *([time] if time else []), *_SPACE]
        part = {
            what: self._back(xr.DataArray(filled[i], dims=dims), own)
            for i, what in enumerate(("filled", "spread", "flag"))
        }
        about, scores = {}, {}
        if self.asked.method == "auto":
            told = xr.DataArray(told, dims=[*lead, "method"])
            scores[f"{name}_scores"], chosen = self._scores(name, own, told)
            about = {} if chosen is None else {"infill_method": chosen}
        quantity = self.quantities.get(name)
        marked = Marked(own, wanted)
        return described(self.asked, marked, part, quantity, about) | scores

    def _canonical(
        self, own: xr.DataArray, da: xr.DataArray, lead: list[Hashable]
    ) -> xr.DataArray:
        """Bring what lies on the points of a variable into (*lead, time, ...)."""
        there = own.copy(data=da.data)
        return to_canonical(there, self.grid).transpose(*lead, ..., *_SPACE)

    def _plan(
        self, name: str, own: xr.DataArray, time: str | None, *, alone: bool
    ) -> Plan:
        grid = self.grid
        return Plan(
            name=name,
            quantity=self.quantities.get(name),
            latitude=grid.latitude,
            longitude=grid.longitude,
            hours=None if time is None else _hours(own, time),
            count=1 if time is None else own.sizes[time],
            periodic=grid.is_global,
            land=_Land(grid.spacing),
            alone=alone,
        )

    def _series(self, plan: Plan, values: Any, gaps: Any) -> tuple[Any, Any]:
        if values.ndim == 2:
            values, gaps = values[None], None if gaps is None else gaps[None]
        recipe = self.asked.recipe
        return fill_series(values, plan, recipe, len(recipe.names) + 1, gaps)

    def _back(self, da: xr.DataArray, own: xr.DataArray) -> xr.DataArray:
        """Put a canonical array into the user's orientation and chunks."""
        grid = self.grid
        if grid.lat_flipped:
            da = da.isel(latitude=slice(None, None, -1))
        da = reorder(da, "longitude", _columns(grid))
        da = da.rename(dict(zip(_SPACE, grid.names, strict=True)))
        da = da.transpose(*own.dims)
        if own.chunks is None:
            return da
        return da.copy(data=rechunked(da.chunk().data, own.data.chunks))

    def _scores(
        self, name: str, own: xr.DataArray, told: xr.DataArray
    ) -> tuple[xr.DataArray, str | None]:
        """The table of a variable; what was chosen, if that is known already."""
        names = list(self.asked.recipe.names)
        table = told.isel(method=slice(-1)).assign_coords(method=names)
        table.attrs = {
            "long_name": f"root mean square error at hidden cells of {name}",
            **({"units": own.attrs["units"]} if "units" in own.attrs else {}),
        }
        table = table.assign_coords(
            {d: own[d] for d in table.dims if d != "method" and d in own.coords}
        )
        if told.chunks is not None:
            return table, None
        mean = (table**2).mean([d for d in table.dims if d != "method"])
        rmse = dict(zip(names, np.sqrt(mean.values).tolist(), strict=True))
        self.told[name] = {k: v for k, v in rmse.items() if np.isfinite(v)}
        which = told.isel(method=-1).values
        chosen = sorted({names[int(i)] for i in which[np.isfinite(which)].ravel()})
        return table, ", ".join(chosen) or None


def _in_memory(marked: Marked) -> Marked:
    """Read what is lazy, but not by Dask: a file."""
    if marked.values.chunks is not None:
        return marked
    return Marked(marked.values.compute(), marked.wanted)


def _each(
    seen: xr.DataArray,
    gaps: xr.DataArray | None,
    lead: list[Hashable],
    run: Callable[[Any, Any], tuple[Any, Any]],
) -> tuple[Any, Any]:
    """Fill each series: (3, *lead, time, ...), and what is told, (*lead, M)."""
    sizes = [seen.sizes[d] for d in lead]
    found = [
        run(seen.data[index], None if gaps is None else gaps.data[index])
        for index in np.ndindex(*sizes)
    ]
    filled, told = zip(*found, strict=True)
    stack: Callable[..., Any] = np.stack
    if seen.chunks is not None:
        import dask.array

        stack = dask.array.stack
    timeless = seen.ndim == len(lead) + 2
    shape = seen.shape[len(lead) :]
    parts = [f[:, 0] if timeless else f for f in filled]
    # Stacked along one dimension, which is then all of the others.
    return (
        stack(parts, axis=1).reshape(3, *sizes, *shape),
        stack(told).reshape(*sizes, -1),
    )


def _columns(grid: Grid) -> np.ndarray:
    """Which canonical longitude each of the user's is; one may be there twice."""
    at = np.full(grid.user_longitude.size, -1)
    at[grid.lon_order] = np.arange(grid.lon_order.size)
    for i in np.flatnonzero(at < 0):
        away = grid.longitude - grid.user_longitude[i]
        at[i] = np.argmin(np.abs(np.mod(away + 180.0, 360.0) - 180.0))
    return at


def _quantities(ds: xr.Dataset) -> dict[str, str]:
    return {f.name: q for q, several in find_quantities(ds).items() for f in several}


def _hours(da: xr.DataArray, time: str) -> np.ndarray | None:
    """Hours since the midnight before the first time; None if there are no dates."""
    index = dated(da, time)
    if index is None:
        _check_numbers(da.indexes.get(time), time)
        return None
    if index.hasnans if isinstance(index, pd.DatetimeIndex) else False:
        raise _bad_times(time, "some of them missing (NaT)", f"ds.dropna({time!r})")
    first = index[0]
    since = pd.TimedeltaIndex(index - first).total_seconds().to_numpy() / 3600
    hours = since + first.hour + first.minute / 60 + first.second / 3600
    if (np.diff(hours) == 0).any():
        again = f"{int((np.diff(hours) == 0).sum())} of them again at once"
        raise _bad_times(time, again, f"ds.drop_duplicates({time!r})")
    if (np.diff(hours) < 0).any():
        raise _bad_times(time, "not in order", f"ds.sortby({time!r})")
    return hours


def _check_numbers(index: pd.Index | None, time: str) -> None:
    """Refuse times without dates that go to and fro; backwards is an order too."""
    if index is None or not pd.api.types.is_numeric_dtype(index):
        return
    if index.has_duplicates:
        again = f"{int(index.duplicated().sum())} of them again"
        raise _bad_times(time, again, f"ds.drop_duplicates({time!r})")
    if not (index.is_monotonic_increasing or index.is_monotonic_decreasing):
        raise _bad_times(time, "not in order", f"ds.sortby({time!r})")


def _bad_times(time: str, found: str, hint: str) -> TimeAxisError:
    msg = f"Gaps are filled from the times around them, and {time!r} does not ascend."
    return TimeAxisError(
        msg,
        found=f"times along {time!r}, {found}",
        needed="each time once, the later ones after the earlier",
        hint=hint,
    )
