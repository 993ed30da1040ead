"""predictability(): where, and when, a network can tell how much time has passed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from xatmo.embedding import call_of, dtype_of, history_of, input_names
from xatmo.engine import apply
from xatmo.errors import FieldError
from xatmo.fields import Fields, restore
from xatmo.fields.levels import describe_levels
from xatmo.lags import (
    GROUPINGS,
    Dates,
    Pairs,
    as_lags,
    by_date,
    check_by,
    class_of,
    dates,
    find_pairs,
    group_of,
)
from xatmo.matching import Prepared, card_level, prepare
from xatmo.provenance import sign
from xatmo.windows import Windows, in_blocks, place
from xatmo.zoo import Card, Model

__all__ = ["predictability"]

_SPACE = ("latitude", "longitude")

_SCORES = {
    "probability": "mean probability of the true lag",
    "probability_within_one": "mean probability of the true lag and its neighbours",
    "accuracy": "share of pairs whose lag is named",
    "accuracy_within_one": "share of pairs whose lag is named to within one class",
    "entropy": "mean entropy of the probabilities of the lags",
    "pairs": "number of pairs of states",
}


def predictability(
    obj: xr.Dataset | xr.DataArray | xr.DataTree,
    lag: Any = "48h",
    model: str | Model | None = None,
    *,
    by: str | None = "season",
    stride: int | None = None,
    level: Any = None,
) -> xr.Dataset:
    """Map how well a network tells how much time lies between two states.

    Windows as large as those that the network was trained on are laid over the map.
    For each of them, and for all pairs of states that are ``lag`` apart, the network
    gives the probabilities of its classes of lag. Where they are sure and right, the
    flow changes in a way that can be known; where they are spread out, the network
    cannot tell.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
        The states, as for :func:`xatmo.embed`, along a time axis with dates: in any
        order, with any gaps, in any calendar.
    lag : str, timedelta, numpy.timedelta64, or a list of them
        Time between the two states, such as ``"48h"``: one or several of the lags that
        the model knows.
    model : str or Model, optional
        The default model for distances if not given.
    by : {"season", "half-year", None}
        By what to group the pairs, going by the date of the earlier state. Half-years
        are April to September and October to March; None is the mean over all pairs.
    stride : int, optional
        Grid points from one window to the next; a quarter of a window if not given.
        The cost grows with the inverse of its square.
    level
        As for :func:`xatmo.embed`.

    Returns
    -------
    Dataset
        At the centres of the windows, ``([lag,] [season,] ..., latitude, longitude)``,
        in the names, order and orientation of the input; lags in hours. Lazy if the
        input is. An even window has its centre between grid points.

        ``probability``
            Mean probability of the true lag.
        ``probability_within_one``
            The same of the true lag and the next shorter and longer ones.
        ``accuracy``, ``accuracy_within_one``
            How often the most probable lag is the true one, or next to it.
        ``entropy``
            Mean of -sum(p ln p), in nats: 0 where the network is sure.
        ``pairs``
            How many pairs of states that is.

        What guessing would give is in the attribute ``chance``. Pairs with a state that
        has missing values are left out with ``set_options(missing="propagate")``.

    Raises
    ------
    xatmo.errors.OptionError
        If the model does not know the lag, or an argument cannot be what it is.
    xatmo.errors.TimeAxisError
        If there is no time axis, it has no dates or some of them twice, or no two are
        ``lag`` apart.
    xatmo.errors.ModelError
        If the model names no lags.
    xatmo.errors.GridError
        If no window has its centre in the latitudes that the model was trained on.
    xatmo.errors.AtmoError
        As for :func:`xatmo.embed`.

    References
    ----------
    Hoffmann, S. and Lessig, C. (2023): AtmoDist: Self-supervised representation
    learning for atmospheric dynamics. Environmental Data Science 2, e6.

    Examples
    --------
    >>> import xatmo
    >>> ds = xatmo.open_sample().isel(time=slice(10))
    >>> maps = xatmo.predictability(ds, "48h", by=None, stride=32)
    >>> int(maps.pairs.max())
    2
    >>> bool((maps.probability <= maps.probability_within_one).all())
    True
    """
    check_by(by)
    asked, single = as_lags(lag)
    written = [f"{hours:g}h" for hours in asked]
    arguments = {
        "lag": written[0] if single else written,
        "by": by,
        "stride": stride,
        "level": level,
    }
    data = prepare(obj, model, capability="distance", level=level)
    classes = {hours: class_of(hours, data.card) for hours in asked}
    windows = place(data.fields.grid, data.card, stride)
    _check_names(data.fields, by)
    data, index, pairs = _paired(data, asked)
    means = _all_levels(data, windows, pairs, classes, _grouped(index, pairs, by))
    if not any(da.chunks for da in data.fields.data.values()):
        # In memory as well, the features of all states at once would be too much.
        means = means.compute(scheduler="synchronous")
    means = restore(means.astype(dtype_of(data.fields)), data.fields)
    means = means.isel(lag=0) if single else means
    lead = [d for d in ("lag", *_group_dim(by)) if d in means.dims]
    return _labelled(
        means.transpose("score", *lead, ...),
        data,
        classes,
        arguments,
        history_of(obj),
    )


def _paired(
    data: Prepared, asked: list[float]
) -> tuple[Prepared, Dates, dict[float, Pairs]]:
    """Keep the states that stand in a pair, by date; count the pairs among them."""
    fields, time = data.fields, data.fields.axes.time
    index = dates(_any(fields), time)
    order = by_date(index)
    index = index[order]
    assert data.card.time is not None  # noqa: S101 - it has the lag's class
    known = data.card.time.lags
    pairs = {h: find_pairs(index, h, time=str(time), known=known) for h in asked}
    used = np.unique(np.concatenate([[*p.first, *p.second] for p in pairs.values()]))
    pairs = {
        hours: Pairs(np.searchsorted(used, p.first), np.searchsorted(used, p.second))
        for hours, p in pairs.items()
    }
    take = _as_slice(order[used])
    kept = {q: da.isel({time: take}) for q, da in fields.data.items()}
    return replace(data, fields=replace(fields, data=kept)), index[used], pairs


@dataclass(frozen=True)
class _Groups:
    """The groups of starts: their dimension and labels, and each state's group."""

    dims: tuple[str, ...]
    labels: tuple[str, ...]
    of: np.ndarray

    def members(self, first: np.ndarray, time: str) -> xr.DataArray:
        """1 where a pair belongs to a group: (group, time), or (time) for all pairs."""
        if not self.dims:
            return xr.DataArray(np.ones(first.size), dims=time)
        belongs = np.arange(len(self.labels))[:, None] == self.of[first]
        coords = {self.dims[0]: list(self.labels)}
        return xr.DataArray(belongs.astype(float), coords, (*self.dims, time))


def _grouped(index: Dates, pairs: dict[float, Pairs], by: str | None) -> _Groups:
    """Return the groups that hold pairs, in the order of the calendar."""
    if by is None:
        return _Groups((), (), np.zeros(len(index), int))
    dim, labels, _ = GROUPINGS[by]
    of = group_of(index, by)
    there = np.unique(of[np.concatenate([p.first for p in pairs.values()])])
    return _Groups((dim,), tuple(labels[i] for i in there), np.searchsorted(there, of))


def _all_levels(
    data: Prepared,
    windows: Windows,
    pairs: dict[float, Pairs],
    classes: dict[float, int],
    groups: _Groups,
) -> xr.DataArray:
    """Means of the scores in canonical orientation: (score, lag, ..., group, ...)."""
    dim = data.fields.level_dim
    parts = []
    for i in range(len(data.fields.levels) if dim else 1):
        features = _features(data, windows, i)
        means = [
            _means(data, features, pairs[hours], number, groups)
            for hours, number in classes.items()
        ]
        said = {"units": "hours", "long_name": "time lag"}
        lag = xr.DataArray([*classes], dims="lag", attrs=said, name="lag")
        parts.append(xr.concat(means, dim=lag, coords="minimal", compat="override"))
    result = parts[0]
    if dim is not None:
        levels = _any(data.fields)[dim].variable
        result = xr.concat(parts, dim=dim, coords="minimal", compat="override")
        result = result.assign_coords({dim: levels})
    return result.assign_coords(latitude=windows.latitude, longitude=windows.longitude)


def _features(data: Prepared, windows: Windows, index: int) -> xr.DataArray:
    """Features of every state in every window: (..., latitude, longitude, feature)."""
    fields, card = data.fields, data.card
    sizes = {
        "latitude": len(windows.rows),
        "longitude": len(windows.columns),
        "feature": _feature_size(card),
    }
    time = str(fields.axes.time)
    arrays = [fields.at_level(i.quantity, index) for i in card.inputs]
    arrays = [a.drop_vars([n for n, c in a.coords.items() if c.ndim]) for a in arrays]
    arrays = in_blocks(arrays, time, sizes, windows.size)
    call = call_of(
        data,
        "window_features",
        names=input_names(data),
        rows=windows.rows,
        columns=windows.columns,
        level=card_level(card, fields.levels[index]).level,
    )
    return apply(call, arrays, core=_SPACE, out=sizes, join=False)


def _means(
    data: Prepared, features: xr.DataArray, pairs: Pairs, number: int, groups: _Groups
) -> xr.DataArray:
    """Mean scores of the pairs of one lag, class ``number``: (group, ..., score)."""
    assert data.card.time is not None  # noqa: S101 - it has the lag's class
    time = str(data.fields.axes.time)
    both = [features.isel({time: _as_slice(p)}) for p in (pairs.first, pairs.second)]
    core = [*_SPACE, "feature"]
    out = {d: features.sizes[d] for d in _SPACE}
    out["lag_class"] = len(data.card.time.lags)
    names = ["the earlier state", "the later state"]
    call = call_of(data, "lag_probabilities", names=names, level=None)
    probabilities = apply(call, both, core=core, out=out, join=False)
    scores = xr.apply_ufunc(
        _scores,
        probabilities,
        kwargs={"true": number},
        input_core_dims=[["lag_class"]],
        output_core_dims=[["score"]],
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {"score": len(_SCORES)}},
        output_dtypes=[np.float64],
    )
    members = groups.members(pairs.first, time)
    # The last one is 1 for a pair without missing values: its sum counts them.
    sums = xr.dot(members, scores.fillna(0.0), dim=time)
    count = sums.isel(score=-1)
    means = sums.isel(score=slice(-1)) / count.where(count > 0)
    return xr.concat([means, count], dim="score")


def _scores(probability: np.ndarray, true: int) -> np.ndarray:
    """What ``_SCORES`` says, of single pairs: (..., classes) -> (..., scores)."""
    p = probability.astype(np.float64)
    guess = p.argmax(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = np.where(p > 0, p * np.log(p), 0.0)
    columns = [
        p[..., true],
        p[..., max(true - 1, 0) : true + 2].sum(axis=-1),
        guess == true,
        abs(guess - true) <= 1,
        -surprise.sum(axis=-1),
        np.ones(p.shape[:-1]),
    ]
    scores = np.stack([np.asarray(x, np.float64) for x in columns], axis=-1)
    scores[np.isnan(p).any(axis=-1)] = np.nan
    return scores


def _feature_size(card: Card) -> int:
    """Numbers that describe a window: the last layer is the one with largest cells."""
    assert card.layers is not None  # noqa: S101 - cards with distances have layers
    stride = card.layers.stride
    last = max(card.layers.names, key=lambda name: stride[name])
    cells = [-(-n // stride[last]) for n in card.grid.patch]
    return cells[0] * cells[1] * card.layers.features[last]


def _as_slice(positions: np.ndarray) -> Any:
    """A run of positions as a slice, which leaves the chunks as they are."""
    if np.array_equal(np.diff(positions), np.ones(positions.size - 1, int)):
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions


def _any(fields: Fields) -> xr.DataArray:
    return next(iter(fields.data.values()))


def _labelled(
    means: xr.DataArray,
    data: Prepared,
    classes: dict[float, int],
    arguments: dict[str, Any],
    history: str,
) -> xr.Dataset:
    """Take the scores apart, each with what it means."""
    variables = {}
    for i, (name, said) in enumerate(_SCORES.items()):
        array = means.isel(score=i, drop=True)
        attrs: dict[str, Any] = {
            "long_name": said,
            "units": "nat" if name == "entropy" else "1",
            "level": describe_levels(data.fields.levels),
        }
        if name != "pairs":
            attrs["chance"] = _chance(name, data.card, classes)
        variables[name] = sign(
            array.astype(np.int64) if name == "pairs" else array,
            verb="predictability",
            card=data.card,
            arguments=arguments,
            attrs=attrs,
            notes=data.fields.notes,
            history=history,
        )
    own = ("xatmo_model", "xatmo_model_sha256", "comment", "history")
    signed = variables["pairs"].attrs
    return xr.Dataset(variables, attrs={k: signed[k] for k in own if k in signed})


def _chance(name: str, card: Card, classes: dict[float, int]) -> Any:
    """What a network that has learnt nothing would score."""
    assert card.time is not None  # noqa: S101 - it has the lag's class
    n = len(card.time.lags)
    if name == "entropy":
        return float(np.log(n))
    if not name.endswith("within_one"):
        return 1 / n
    near = [(min(i + 2, n) - max(i - 1, 0)) / n for i in classes.values()]
    return near[0] if len(set(near)) == 1 else near


def _group_dim(by: str | None) -> tuple[str, ...]:
    return () if by is None else (GROUPINGS[by][0],)


def _check_names(fields: Fields, by: str | None) -> None:
    """Refuse dimensions called as those of the result."""
    for name in ("lag", "lag_class", "score", *_group_dim(by)):
        if name in fields.dims:
            msg = f"The data have a dimension that the result needs: {name!r}."
            raise FieldError(
                msg,
                found=f"dimensions {', '.join(fields.dims)}",
                needed=f"another name than {name!r}",
                hint=f'ds.rename({name}="{name}_")',
            )
