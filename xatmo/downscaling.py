"""downscale(): fields on a grid several times finer."""

from __future__ import annotations

import json
import numbers
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import xarray as xr

from xatmo.box_downscaling import refine_boxes
from xatmo.boxes import Boxes
from xatmo.embedding import by_level, call_of, history_of, input_names
from xatmo.engine import Finer, apply_finer, picked, rechunked
from xatmo.errors import FieldError, OptionError
from xatmo.fields import (
    Fields,
    Fine,
    as_dataset,
    fine_chunks,
    fine_coordinates,
    fine_dataset,
    kept_attrs,
    land_share_of_cells,
    restore_fine,
    to_user_units,
)
from xatmo.fields.levels import describe_levels
from xatmo.matching import Prepared, card_level, prepare, warn_of
from xatmo.noise import Draw, keys_of
from xatmo.provenance import sign
from xatmo.zoo import Card, Model, list_models, load_model
from xatmo.zoo.card import Downscale

__all__ = ["downscale"]

_CORE = ("latitude", "longitude")
_DIM = "realization"
_NEW = ("_quantity", "_draw")  # names that no data have
_STATIC_FIELDS = {"land_area_fraction": land_share_of_cells}


@dataclass(frozen=True)
class _Arguments:
    factor: int
    realizations: int
    conserve: bool
    seed: int


def downscale(
    obj: xr.Dataset | xr.DataArray | xr.DataTree,
    factor: int = 4,
    realizations: int = 1,
    conserve: bool = True,
    model: str | Model | None = None,
    *,
    seed: int = 0,
    level: Any = None,
) -> xr.Dataset:
    """Refine atmospheric fields to a grid several times finer.

    What the coarse fields leave open is not averaged over but drawn: each realization
    is one fine state that may belong to them, with the variability of fine fields, and
    an ensemble of them tells how much is left open.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
        Holds what the model reads, in names and units of the common sources. Each value
        stands for the mean of its grid cell. Eager or lazy, in any chunks. Of what a
        Multiformer reads one field at one level is enough; it knows less then.
    factor : int, optional
        How many times finer, along latitude and along longitude.
    realizations : int, optional
        How many fine states to draw for each coarse one. More than one give a new first
        dimension ``realization``. Those of a Multiformer are the members of its
        ensemble, of which there are so many and no more.
    conserve : bool, optional
        Make the mean of the fine values in each coarse cell equal its value (but for
        rounding). Only the network's word counts otherwise.
    model : str or Model, optional
        The default model for downscaling if not given; where the data hold vorticity
        and divergence in place of winds, the one that reads those.
    seed : int, optional
        Another one gives other realizations. For the same seed a state, place and
        number of realization get the same draw, in whatever chunks or part of the
        domain they come. It means nothing to a Multiformer, whose members are fixed.
    level : str, number or list, optional
        Which level to use where there are several: ``"10 m"``, ``850`` (hPa). A
        Multiformer refines all that it knows if not given.

    Returns
    -------
    Dataset
        The same quantities in the names, units, order and orientation of the input, on
        ``factor`` times as many latitudes and longitudes: the centres of equal parts of
        its cells, with bounds if it has them. Of a row at a pole only the parts of its
        cells on this side are there, and the mean is over those. Lazy if the input is,
        in its chunks. ``attrs["skill"]`` says what was measured for the model. Of a
        Multiformer they also say which fields were used, and which ones the data lack.

    Raises
    ------
    xatmo.errors.FieldNotFoundError, xatmo.errors.UnitsError, xatmo.errors.LevelError
        If the model's inputs cannot be read from ``obj``.
    xatmo.errors.GridError
        If the grid is too coarse, too fine or too small for the model, or not regular.
    xatmo.errors.OptionError
        If no model refines by that factor, or the model draws no realizations, or not
        so many.
    xatmo.errors.TimeAxisError
        If a Multiformer is not told the dates of the data.
    xatmo.errors.MissingValuesError
        When computed, if there are NaN (see ``xatmo.set_options(missing=...)``: with
        ``"propagate"`` the result is NaN as far around as the model would have seen
        them; of a Multiformer, in their own cells).

    Notes
    -----
    A Multiformer with finer tails (``[box]`` and ``[downscale]`` in its card) refines a
    time with the help of those before it, as many as a box holds, in the model's time
    step: of those that are there, in any step, or of none. What is missing of them is
    unknown to it, and no more. The domain is covered by boxes that overlap by half and
    are blended smoothly; global longitudes close on themselves.

    References
    ----------
    Hoffmann, S. and Lessig, C. (2023): AtmoDist: Self-supervised representation
    learning for atmospheric dynamics. Environmental Data Science 2, e6.

    Lessig, C. et al. (2023): AtmoRep: A stochastic model of atmosphere dynamics using
    large scale representation learning. https://arxiv.org/abs/2308.13280

    Examples
    --------
    >>> import numpy as np
    >>> import xatmo
    >>> from xatmo.testing import synthetic_winds
    >>> ds = synthetic_winds(2, np.arange(50.0, 30.0, -1.0), np.arange(0.0, 24.0))
    >>> fine = xatmo.downscale(ds, realizations=3)
    >>> dict(fine.u10.sizes)
    {'realization': 3, 'time': 2, 'latitude': 80, 'longitude': 96}
    >>> means = fine.coarsen(latitude=4, longitude=4).mean()
    >>> bool(abs(means.u10 - ds.u10.values).max() < 1e-5)
    True
    """
    asked = _checked(factor, realizations, conserve, seed)
    found = load_model(model, capability="downscale")
    if found.card.box is None:
        made = _of_maps(obj, model, asked, level)
    else:
        made = _of_boxes(obj, found, asked, level)
    return _dataset(made, asked, level, obj)


@dataclass(frozen=True)
class _Made:
    """What a model has made: variables in the user's form, and what to say of them."""

    variables: list[xr.DataArray]
    source: Fields | Boxes
    card: Card
    arguments: dict[str, Any]
    about: dict[str, Any]


def _of_maps(
    obj: Any, model: str | Model | None, asked: _Arguments, level: Any
) -> _Made:
    """Variables of a network that sees one time, and draws."""
    data = prepare(obj, model, capability="downscale", level=level, warn=False)
    _check_factor(data.card, asked.factor)
    _check_draws(data.card, asked)
    _check_dims(data.fields, asked)
    warn_of(data)
    fields, source = data.fields, as_dataset(obj)
    fine = fine_coordinates(fields.grid, asked.factor)
    result = by_level(fields, lambda index: _refine(data, index, asked, fine))
    result = result.assign_coords(latitude=fine.latitude, longitude=fine.longitude)
    result = restore_fine(result, fields, asked.factor)
    result = _in_user_chunks(result, source, fields, asked.factor)
    result = _with_realizations(result, asked.realizations)
    variables = [
        _variable(picked(result, **{_NEW[0]: i}), quantity, fields, source)
        for i, quantity in enumerate(fields.data)
    ]
    about = {"level": describe_levels(fields.levels)}
    return _Made(variables, fields, data.card, asdict(asked), about)


def _of_boxes(obj: Any, model: Model, asked: _Arguments, level: Any) -> _Made:
    """Variables of a network that reads boxes in space and time."""
    _check_factor(model.card, asked.factor)
    arguments = {k: v for k, v in asdict(asked).items() if k != "seed"}
    said = {k: v for k, v in arguments.items() if k != "factor"}
    drawn, boxes = refine_boxes(obj, model, **said, level=level)
    variables = [_with_realizations(da, asked.realizations) for da in drawn]
    levels = list(dict.fromkeys(c.held.asked for c in boxes.channels))
    about = {"level": describe_levels(levels), **boxes.about}
    return _Made(variables, boxes, model.card, arguments, about)


def _dataset(made: _Made, asked: _Arguments, level: Any, obj: Any) -> xr.Dataset:
    signed = partial(
        sign,
        verb="downscale",
        card=made.card,
        arguments={**made.arguments, "level": level},
        notes=made.source.notes,
        history=history_of(obj),
    )
    said = {f"xatmo_{name}": _plain(value) for name, value in made.arguments.items()}
    about = {**made.about, **said}
    for variable in made.variables:
        signed(variable, attrs={**variable.attrs, **about})
    variables = {str(variable.name): variable for variable in made.variables}
    ds = fine_dataset(variables, made.source, asked.factor, as_dataset(obj))
    return signed(ds, attrs={**about, **_skill(made.card)})


def _refine(data: Prepared, index: int, asked: _Arguments, fine: Fine) -> xr.DataArray:
    """One level: (quantity, draw, ..., fine latitude, fine longitude)."""
    fields, card = data.fields, data.card
    assert isinstance(card.grid.halo, int)  # noqa: S101 - so are cards that downscale
    level = card_level(card, fields.levels[index]).level
    call = call_of(data, "forward", names=input_names(data), level=level, physical=True)
    arrays = [fields.at_level(i.quantity, index) for i in card.inputs]
    channels, statics = card.noise, _refinement(card).statics
    base, keys = keys_of(arrays[0], _CORE, "seed", asked.seed, "level", level)
    finer = Finer(
        factor=asked.factor,
        halo=card.grid.halo,
        turn=360.0 if fields.grid.is_global else None,
        trim=_trim(fine),
        conserve=asked.conserve,
        noise=Draw(base, channels) if channels else None,
        statics=(
            _Statics(statics, fields.grid.spacing, asked.factor) if statics else None
        ),
    )
    return apply_finer(
        call,
        arrays,
        finer,
        core=_CORE,
        new=_NEW,
        keys=keys,
        realizations=asked.realizations,
    )


@dataclass(frozen=True)
class _Statics:
    """Static fields on the fine parts of the cells around coarse points."""

    names: tuple[str, ...]
    spacing: tuple[float, float]
    factor: int

    def __call__(self, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
        return _static_fields(self, latitude.tobytes(), longitude.tobytes())


@lru_cache(maxsize=4)
def _static_fields(what: _Statics, latitude: bytes, longitude: bytes) -> np.ndarray:
    """(1, S, fine rows, fine columns); kept, since times and draws share them."""
    parts = (np.arange(what.factor) + 0.5) / what.factor - 0.5
    height, width = what.spacing
    # Latitudes run from north to south.
    rows = (np.frombuffer(latitude)[:, None] - height * parts).ravel()
    columns = (np.frombuffer(longitude)[:, None] + width * parts).ravel()
    size = (height / what.factor, width / what.factor)
    fields = [_STATIC_FIELDS[name](rows, columns, size) for name in what.names]
    return np.stack(fields)[None].astype(np.float32)


def _trim(fine: Fine) -> tuple[int, int]:
    """How many rows at either end lie beyond a pole, and are left out."""
    return fine.rows.start, fine.row_weight.size - fine.rows.stop


def _refinement(card: Card) -> Downscale:
    assert card.downscale is not None  # noqa: S101 - so are cards that downscale
    return card.downscale


def _with_realizations(result: xr.DataArray, realizations: int) -> xr.DataArray:
    if realizations == 1:
        return picked(result, **{_NEW[1]: 0})
    attrs = {"standard_name": _DIM, "long_name": "number of the draw", "units": "1"}
    # A scalar coordinate of that name, of an ensemble, gives way.
    result = result.drop_vars(_DIM, errors="ignore").rename({_NEW[1]: _DIM})
    return result.assign_coords({_DIM: (_DIM, np.arange(realizations), attrs)})


def _in_user_chunks(
    result: xr.DataArray, source: xr.Dataset, fields: Fields, factor: int
) -> xr.DataArray:
    """Cut the result into the user's chunks, as many times longer as it is finer."""
    if result.chunks is None:
        return result
    names = [name for several in fields.sources.values() for name in several]
    cut = next(source[n].chunksizes for n in names if source[n].chunks is not None)
    chunks: dict[Any, tuple[int, ...]] = {}
    for dim, sizes in cut.items():
        if dim in fields.grid.names:
            chunks[dim] = fine_chunks(sizes, factor, result.sizes[dim])
        elif sum(sizes) == result.sizes.get(dim):
            chunks[dim] = sizes
    new = tuple(chunks.get(d, c) for d, c in result.chunksizes.items())
    return result.copy(data=rechunked(result.data, new))


def _variable(
    result: xr.DataArray, quantity: str, fields: Fields, source: xr.Dataset
) -> xr.DataArray:
    """One quantity under the user's name and in the user's units, if it has such."""
    names = fields.sources[quantity]
    if len(names) > 1:  # derived, or of several levels
        result.attrs = dict(fields.data[quantity].attrs)
        return result.rename(quantity)
    own = source[names[0]]
    result.attrs = kept_attrs(own, quantity)
    return to_user_units(result, own, quantity).rename(names[0])


def _plain(value: Any) -> Any:
    """What an attribute of a netCDF file can hold."""
    return str(value).lower() if isinstance(value, bool) else value


def _skill(card: Card) -> dict[str, str]:
    """What was measured for the model, if anything was, as an attribute."""
    found = _first_measured(card.scores)
    return {"skill": json.dumps(found, ensure_ascii=False)} if found else {}


def _first_measured(table: Mapping[str, Any]) -> dict[str, Any]:
    """The first table that has numbers; also what it says of them: data and units."""
    if any(isinstance(v, int | float) for v in table.values()):
        return {k: v for k, v in table.items() if not isinstance(v, Mapping)}
    inner = (v for v in table.values() if isinstance(v, Mapping))
    return next(filter(None, map(_first_measured, inner)), {})


# --- What cannot be asked for ---------------------------------------------------------


def _checked(factor: Any, realizations: Any, conserve: Any, seed: Any) -> _Arguments:
    if not isinstance(conserve, bool | np.bool_):
        msg = f"conserve is yes or no, not {conserve!r}."
        raise OptionError(
            msg,
            found=f"conserve={conserve!r}",
            needed="True (block means equal the input) or False",
            hint="ds.atmo.downscale(conserve=True)",
        )
    return _Arguments(
        factor=_whole("factor", factor, 2, example=4),
        realizations=_whole("realizations", realizations, 1, example=8),
        conserve=bool(conserve),
        seed=_whole("seed", seed, None, example=0),
    )


def _whole(name: str, value: Any, least: int | None, *, example: int) -> int:
    integral = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if integral and (least is None or value >= least):
        return int(value)
    msg = f"{name} cannot be {value!r}."
    raise OptionError(
        msg,
        found=f"{name}={value!r} ({type(value).__name__})",
        needed="a whole number" + ("" if least is None else f" of at least {least}"),
        hint=f"ds.atmo.downscale({name}={example})",
    )


def _check_factor(card: Card, factor: int) -> None:
    """Refuse a factor that the model cannot give."""
    own = _refinement(card).factor
    if own == factor:
        return
    factors = {c.name: _refinement(c).factor for c in list_models("downscale")}
    able = [name for name, other in factors.items() if other == factor]
    known = sorted({own, *factors.values()})
    msg = f"{card.name} does not refine by a factor of {factor}."
    raise OptionError(
        msg,
        found=f"factor={factor}",
        needed=f"factor={own}; all models together have {known}",
        hint=f"model={able[0]!r}" if able else f"ds.atmo.downscale(factor={own})",
    )


def _check_draws(card: Card, asked: _Arguments) -> None:
    """Refuse an ensemble that the model cannot give."""
    if asked.realizations > 1 and not card.noise:
        models = list_models("downscale")
        able = [c.name for c in models if c.noise and _alike(c, card)]
        drawing = f", or a model that draws: {', '.join(able)}" if able else ""
        msg = f"{card.name} reads no noise: it gives one result, not several."
        raise OptionError(
            msg,
            found=f"realizations={asked.realizations}",
            needed=f"realizations=1{drawing}",
            hint=f"model={able[0]!r}" if able else "ds.atmo.downscale(realizations=1)",
        )


def _alike(card: Card, other: Card) -> bool:
    """Whether two models read the same, on the same grids."""
    return card.inputs == other.inputs and card.grid.spacing == other.grid.spacing


def _check_dims(fields: Fields, asked: _Arguments) -> None:
    if asked.realizations == 1 or _DIM not in fields.dims:
        return
    msg = f"The data have a dimension of the name that draws need: {_DIM!r}."
    raise FieldError(
        msg,
        found=f"dimensions {fields.dims}",
        needed=f"{_DIM!r} for the draws alone",
        hint=f'ds.rename({_DIM}="member")',
    )
