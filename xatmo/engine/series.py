"""How a series with gaps becomes one without: the tasks, and what each of them sees.

Arrays in memory go the same way as lazy ones, piece by piece. What is done with a piece
is a recipe's; here is only what it gets for that: a climatology of the whole series,
the times around, and a choice among methods that was made once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from functools import reduce
from typing import Any, Protocol

import numpy as np

from xatmo.climatology import Background, Moments, background, moments
from xatmo.engine.chunks import rechunked
from xatmo.engine.gaps import Plan
from xatmo.errors import MissingValuesError

__all__ = ["Recipe", "climate", "fill_series"]

# Values beyond are fill values that nobody decoded: 9e36, say.
LARGEST = 1e30
_FILL = np.float32(1e20)  # and this one, that of climate models
_CODES = (-999.0, -9999.0, -99999.0, -32767.0, -32768.0)  # and these, if alone there
# Larger series are read twice, once for the climatology, rather than kept in memory.
_KEEP_BYTES = 2**30


class Recipe(Protocol):
    """What to do with the pieces; picklable."""

    def sample(self, plan: Plan) -> slice | None:
        """The times by which to choose a method; None if there is nothing to choose."""

    def choose(
        self,
        values: np.ndarray,
        plan: Plan,
        gaps: np.ndarray | None,
        found: Background | None,
    ) -> Any:
        """Choose by the sample (T, h, w); what comes back is handed on.

        ``gaps`` are what is to be filled of it: all that is NaN if not given. ``found``
        is its climatology, if it is the whole series.
        """

    def scores(self, choice: Any) -> np.ndarray:
        """What is to be told of the choice: (M,)."""

    def needs_whole(self, plan: Plan) -> bool:
        """Whether the method, or one that may be chosen, has to see all times."""

    def whole(self, values: np.ndarray, plan: Plan, choice: Any) -> Any:
        """Fill a whole series (T, h, w); or None, if the choice fell otherwise."""

    def piece(
        self,
        values: np.ndarray,
        times: np.ndarray,
        own: slice,
        plan: Plan,
        found: Background,
        choice: Any,
        whole: Any,
    ) -> np.ndarray:
        """Fill a piece.

        ``values`` (n, h, w) are those of ``times``, which hold the ``own`` ones of the
        piece and those around them. Gives (3, own times, h, w): values, spread, flag.
        """


# --- The graph ------------------------------------------------------------------------


def fill_series(
    values: Any, plan: Plan, recipe: Recipe, scores: int, gaps: Any = None
) -> Any:
    """Fill a series, lazily if it is lazy.

    Parameters
    ----------
    values : ndarray or dask array, shape (T, h, w)
    plan : Plan
    recipe : Recipe
    scores : int
        How many numbers it tells of its choice.
    gaps : ndarray or dask array of bool, shape (T, h, w), optional
        What a method is chosen for: all that is NaN if not given.

    Returns
    -------
    filled : ndarray or dask array, shape (3, T, h, w)
    told : ndarray or dask array, shape (scores,)
    """
    if not hasattr(values, "dask"):
        return _at_once(values, plan, recipe, gaps)
    return _lazily(values, plan, recipe, scores, gaps)


def _at_once(
    values: np.ndarray, plan: Plan, recipe: Recipe, gaps: np.ndarray | None
) -> Any:
    found = climate(values, plan)
    sample, choice, whole = recipe.sample(plan), None, None
    if sample is not None:
        marked = [] if gaps is None else [gaps]
        choice = _choose(plan, recipe, sample, 0, found, [values], marked)
    if recipe.needs_whole(plan):
        whole = _fill_whole(plan, recipe, found, choice, [values])
    out = np.empty((3, *values.shape), values.dtype)
    for i, own in enumerate(plan.pieces):
        seen = [values[plan.pieces[j]] for j in plan.read_by(i)]
        out[:, own] = _fill_piece(i, plan, recipe, found, choice, whole, seen)
    return out, recipe.scores(choice)


def _lazily(values: Any, plan: Plan, recipe: Recipe, scores: int, gaps: Any) -> Any:
    """One task for each piece; plan and recipe stand in the graph once."""
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    lengths = tuple(p.stop - p.start for p in plan.pieces)
    pieces_of = (lengths, *((n,) for n in plan.shape[1:]))
    values = rechunked(values, pieces_of)
    gaps = None if gaps is None else rechunked(gaps, pieces_of)
    first = _read_again(values)
    token = tokenize(values.name, plan, recipe, None if gaps is None else gaps.name)
    name, told = f"xatmo-infill-{token}", f"xatmo-infill-scores-{token}"

    def key(what: str, *index: int) -> tuple[Hashable, ...]:
        return f"xatmo-infill-{what}-{token}", *index

    pieces = range(len(lengths))
    own, once = ([(x.name, i, 0, 0) for i in pieces] for x in (values, first))
    graph: dict[Any, Any] = {key("plan"): plan, key("recipe"): recipe}
    for i in pieces:
        graph[key("sums", i)] = (sums_of, once[i], i, key("plan"))
    total = _folded(graph, key, [key("sums", i) for i in pieces])
    graph[key("climate")] = (_climate, total, key("plan"))
    sample = recipe.sample(plan)
    about_it = (key("plan"), key("recipe"))
    graph |= {key("choice"): None, key("whole"): None}
    if sample is not None:
        touched = [i for i in pieces if _overlap(plan.pieces[i], sample)]
        part = (sample, plan.pieces[touched[0]].start)
        seen = [once[i] for i in touched]
        marked = [] if gaps is None else [(gaps.name, i, 0, 0) for i in touched]
        graph[key("choice")] = (_choose, *about_it, *part, key("climate"), seen, marked)
    if recipe.needs_whole(plan):
        settled = (key("climate"), key("choice"))
        graph[key("whole")] = (_fill_whole, *about_it, *settled, own)
    known = [key(what) for what in ("plan", "recipe", "climate", "choice", "whole")]
    for i in pieces:
        seen = [own[j] for j in plan.read_by(i)]
        graph[name, 0, i, 0, 0] = (_fill_piece, i, *known, seen)
    read = [values, first, *([] if gaps is None else [gaps])]
    layers = HighLevelGraph.from_collections(name, graph, dependencies=read)
    filled = da.Array(layers, name, ((3,), *pieces_of), dtype=values.dtype)
    said = {(told, 0): (_scores, key("recipe"), key("choice"))}
    layers = HighLevelGraph.from_collections(told, said, dependencies=[filled])
    return filled, da.Array(layers, told, ((scores,),), dtype=np.float64)


def _read_again(values: Any) -> Any:
    """The same values under other names, where they are too many to be kept."""
    if values.nbytes <= _KEEP_BYTES:
        return values
    from dask.graph_manipulation import clone

    return clone(values)


def _folded(graph: dict[Any, Any], key: Callable[..., Any], parts: list[Any]) -> Any:
    """Add up neighbours, and these again; in one order, whoever is first."""
    level = 0
    while len(parts) > 1:
        groups = [parts[i : i + 4] for i in range(0, len(parts), 4)]
        parts = [key("fold", level, i) for i in range(len(groups))]
        graph |= {k: (_added, group) for k, group in zip(parts, groups, strict=True)}
        level += 1
    return parts[0]


def _added(parts: list[Moments]) -> Moments:
    return reduce(operator.add, parts)


def _all_added(parts: list[Moments]) -> Moments:
    """The same sums in the same order as those of a graph."""
    while len(parts) > 1:
        parts = [_added(parts[i : i + 4]) for i in range(0, len(parts), 4)]
    return parts[0]


def _overlap(piece: slice, sample: slice) -> bool:
    return piece.start < sample.stop and sample.start < piece.stop


def _choose(
    plan: Plan,
    recipe: Recipe,
    sample: slice,
    first: int,
    found: Background | None,
    parts: list[np.ndarray],
    marked: list[np.ndarray],
) -> Any:
    """Choose by a sample; the parts begin at the time ``first``."""
    if found is None:
        return None
    own = slice(sample.start - first, sample.stop - first)
    gaps = np.concatenate(marked)[own] if marked else None
    part = plan.part(sample)
    known = found if part.count == plan.count else None
    return recipe.choose(np.concatenate(parts)[own], part, gaps, known)


def _fill_whole(
    plan: Plan,
    recipe: Recipe,
    found: Background | None,
    choice: Any,
    parts: list[np.ndarray],
) -> Any:
    if found is None:
        return None
    return recipe.whole(np.concatenate(parts), plan, choice)


def _scores(recipe: Recipe, choice: Any) -> np.ndarray:
    return recipe.scores(choice)


def _fill_piece(
    index: int,
    plan: Plan,
    recipe: Recipe,
    found: Background | None,
    choice: Any,
    whole: Any,
    parts: list[np.ndarray],
) -> np.ndarray:
    """(3, times of the piece, h, w)."""
    piece, read = plan.pieces[index], plan.read_by(index)
    times = plan.times_of(read)
    start = int(np.searchsorted(times, piece.start))
    own = slice(start, start + piece.stop - piece.start)
    # Other pieces are known by their numbers: they need not follow each other.
    values = np.concatenate(parts)
    seen = values[own]
    gaps = np.isnan(seen)
    if found is None or not gaps.any():
        return np.stack([seen, np.where(gaps, np.nan, 0.0), 3.0 * gaps])
    return recipe.piece(values, times, own, plan, found, choice, whole)


# --- What is checked and summed -------------------------------------------------------


def sums_of(values: np.ndarray, index: int, plan: Plan) -> Moments:
    """Sums over a piece (n, h, w), after a look at its values.

    Raises
    ------
    xatmo.errors.MissingValuesError
        If some are infinite, or fill values that were not decoded.
    """
    _check_values(values, plan.name)
    times = plan.times_of([index])
    observed = values[np.isfinite(values)]
    # A value of the series itself: what is constant has no variance at all then.
    offset = float(observed[0]) if observed.size else 0.0
    count = int(plan.phase.max()) + 1
    early = times < plan.count // 2
    return moments(values, plan.phase[times], count, offset, early)


def climate(values: np.ndarray, plan: Plan) -> Background | None:
    """What a series (T, h, w) is taken relative to; None if that is not known."""
    sums = [sums_of(values[piece], i, plan) for i, piece in enumerate(plan.pieces)]
    return _climate(_all_added(sums), plan)


def _climate(sums: Moments, plan: Plan) -> Background | None:
    observed = sums.count.sum()
    if observed > 1:
        return background(sums, plan.count, periodic=plan.periodic)
    # Of a single value nobody knows how far it holds.
    if observed or not plan.alone:
        return None
    msg = f"{plan.name!r} has no observed value at all."
    raise MissingValuesError(
        msg,
        found=f"{' x '.join(map(str, plan.shape))} values (time, latitude, longitude), "
        "all of them NaN, or where the mask says to fill",
        needed="some values to fill the others from",
        hint=f'ds.drop_vars("{plan.name}"), or check how it was read: '
        "xr.open_dataset(file, mask_and_scale=True)",
    )


def _check_values(values: np.ndarray, name: str) -> None:
    # Two passes suffice for nearly all data: NaN gives no sign here.
    known = ~np.isnan(values)
    largest = np.abs(values).max(initial=0.0, where=known)
    least = values.min(initial=0.0, where=known)
    if np.float32(least) in _CODES and _stands_apart(values, least):
        raise _undecoded(values == least, values, name, f"!= {least:.0f}")
    usual = np.float32(largest) == _FILL
    if not (largest > LARGEST or usual):
        return
    infinite = np.isinf(values)
    if infinite.any():
        msg = f"{name!r} has infinite values."
        raise MissingValuesError(
            msg,
            found=f"{int(infinite.sum())} of {values.size} values, in one part of it",
            needed="finite values, and NaN where something is missing",
            hint=f'ds["{name}"] = ds["{name}"].where(np.isfinite(ds["{name}"]))',
        )
    limit = float(_FILL) / 10 if usual else LARGEST
    raise _undecoded(np.abs(values) > limit, values, name, f"< {limit:.0e}")


def _stands_apart(values: np.ndarray, least: float) -> bool:
    """Whether no other value is anywhere near the least one."""
    return not ((values > least) & (values < 0.8 * least)).any()


def _undecoded(
    where: np.ndarray, values: np.ndarray, name: str, valid: str
) -> MissingValuesError:
    msg = f"{name!r} holds fill values that were not decoded."
    valid = f'abs(ds["{name}"]) {valid}' if "<" in valid else f'ds["{name}"] {valid}'
    return MissingValuesError(
        msg,
        found=f"{int(where.sum())} of {values.size} values such as "
        f"{values[where][0]:.4g}, in one part of it",
        needed="NaN where something is missing",
        hint=f'ds["{name}"] = ds["{name}"].where({valid}), or '
        "set attrs['_FillValue'] and call xr.decode_cf(ds)",
    )
