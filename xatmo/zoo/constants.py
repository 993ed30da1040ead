"""Mean and spread of the fields of a model that reads boxes: where they come from.

What a user has given comes first (:meth:`xatmo.Model.with_normalization`), then the
file of places beside the card, then the numbers in the card. Not every release has any:
those of published models are a separate download, or are measured on the user's data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xatmo.errors import GridError, OptionError, WeightsError
from xatmo.zoo.card import BoxField, Card, FieldLevel
from xatmo.zoo.weights import check_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from xatmo.zoo.model import Model

__all__ = ["Constants", "constants_of", "tensor_name"]


@dataclass(frozen=True, eq=False)
class Constants:
    """What a field at one level is normalised with: (x - mean) / std.

    Parameters
    ----------
    mean, std : ndarray of float, shape (M, R, C)
        In the units of the card's field. M is 1, or 12 for the calendar months from
        January on; R and C are 1, or the lengths of latitude and longitude.
    latitude, longitude : ndarray of float, shapes (R,) and (C,), optional
        Degrees, from north to south and eastward from 0 on; of places only.

    Raises
    ------
    xatmo.errors.OptionError
        If the shapes are others, or a spread is not positive.

    Examples
    --------
    >>> from xatmo.zoo.constants import Constants
    >>> wind = Constants.of([2.0], [8.0])
    >>> wind.mean.shape, wind.monthly, wind.local
    ((1, 1, 1), False, False)
    """

    mean: np.ndarray
    std: np.ndarray
    latitude: np.ndarray | None = None
    longitude: np.ndarray | None = None

    def __post_init__(self) -> None:
        axes = [1 if axis is None else len(axis) for axis in self._axes]
        shape = self.mean.shape
        sized = shape == self.std.shape and shape in ((1, *axes), (12, *axes))
        both = (self.latitude is None) == (self.longitude is None)
        # Where there are no data, both are NaN: what is read there becomes NaN too.
        wrong = np.isfinite(self.mean) != np.isfinite(self.std)
        wrong |= np.isinf(self.mean) | (self.std <= 0) if sized else False
        if sized and both and not wrong.any():
            return
        msg = "These are no constants of normalisation."
        found = f"mean {shape}, std {self.std.shape}, least std {self.std.min():g}"
        needed = "(1 or 12 months, latitudes, longitudes), each std above 0"
        raise OptionError(
            msg, found=found, needed=needed, hint="Constants.of([0], [1])"
        )

    @classmethod
    def of(
        cls,
        mean: np.ndarray | list[float] | tuple[float, ...],
        std: np.ndarray | list[float] | tuple[float, ...],
    ) -> Constants:
        """Return constants of the whole domain: one number, or one for each month."""
        both = (np.asarray(x, dtype=float).reshape(-1, 1, 1) for x in (mean, std))
        return cls(*both)

    @property
    def monthly(self) -> bool:
        """Whether months have constants of their own."""
        return len(self.mean) > 1

    @property
    def local(self) -> bool:
        """Whether places have constants of their own."""
        return self.latitude is not None

    def at(
        self, months: np.ndarray, latitude: np.ndarray, longitude: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and std on a grid.

        Parameters
        ----------
        months : ndarray of int, shape (T,)
            From 1 on.
        latitude, longitude : ndarray, shapes (Y,) and (X,)
            Degrees; of places, the nearest one is taken.

        Returns
        -------
        tuple of ndarray, shapes (T or 1, Y or 1, X or 1)
            As many as differ.

        Raises
        ------
        xatmo.errors.GridError
            If a point is further from all places than these are from each other.
        """
        index: list[np.ndarray] = [np.zeros(1, int)] * 3
        if self.monthly:
            index[0] = np.asarray(months) - 1
        if self.latitude is not None and self.longitude is not None:
            index[1] = _nearest(self.latitude, latitude, "latitude")
            index[2] = _nearest(self.longitude, longitude, "longitude", around=360.0)
        chosen = np.ix_(*index)
        return self.mean[chosen], self.std[chosen]

    @property
    def _axes(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        return self.latitude, self.longitude


def constants_of(model: Model, field: str, level: str) -> Constants:
    """Return the constants of a field at one level.

    Parameters
    ----------
    model : Model
        One that reads boxes.
    field, level : str
        As the card calls them, such as ``"u"`` and ``"850 hPa"``.

    Returns
    -------
    Constants
        The user's, those of places in the card's file, or those of the card.

    Raises
    ------
    xatmo.errors.OptionError
        If there are none, or the card has no such field or level.
    xatmo.errors.WeightsError
        If the card's file is damaged or absent.
    """
    entry = _level(model.card, field, level)
    given = model.normalization
    if given is not None and (field, level) in given.constants:
        return given.constants[field, level]
    local = _local(model.card, field, level)
    if local is not None:
        return local
    if entry.mean is not None and entry.std is not None:
        return Constants.of(entry.mean, entry.std)
    msg = f"{model.name} has no constants to normalise {field!r} at {level} with."
    raise OptionError(
        msg,
        found="none in its card, and none that were given",
        needed="mean and standard deviation of the field, perhaps of each month",
        hint="model.with_normalization(xatmo.fit_normalization(ds, model))",
    )


def tensor_name(field: str, level: str, what: str) -> str:
    """Return the name that constants have in a file: ``what`` is mean or std."""
    return f"{field}/{level}/{what}"


def read_constants(
    get: Callable[[str], np.ndarray], names: set[str], field: str, level: str
) -> Constants | None:
    """Read constants by name, if there are some, from a file or a table of arrays."""
    keys = [tensor_name(field, level, what) for what in ("mean", "std")]
    if not names >= set(keys):
        return None
    mean, std = (np.asarray(get(key)) for key in keys)
    if mean.shape[1:] == (1, 1):
        return Constants(mean, std)
    return Constants(mean, std, get("latitude"), get("longitude"))


def _local(card: Card, field: str, level: str) -> Constants | None:
    """Read the constants of places beside the card, if they are there."""
    box = card.box
    if box is None or box.local is None or card.folder is None:
        return None
    from safetensors import SafetensorError, safe_open

    path: Path = card.folder / box.local
    check_sha256(path, box.local_sha256 or "", name=card.name)
    try:
        with safe_open(path, "np") as file:
            return read_constants(file.get_tensor, set(file.keys()), field, level)
    except (SafetensorError, OptionError) as error:
        msg = f"{path} does not hold constants of places."
        needed = f"tensors such as {tensor_name(field, level, 'mean')!r}, (M, R, C)"
        hint = "import the model again"
        raise WeightsError(msg, found=str(error), needed=needed, hint=hint) from error


def _level(card: Card, field: str, level: str) -> FieldLevel:
    fields = {f.name: f for f in card.fields}
    levels = {lv.level: lv for lv in fields[field].levels} if field in fields else {}
    if level in levels:
        return levels[level]
    msg = f"{card.name} does not read {field!r} at {level}."
    needed = "; ".join(map(_said, card.fields)) or "a model that reads boxes"
    hint = f"xatmo models show {card.name}"
    raise OptionError(msg, found=f"{field!r}, {level!r}", needed=needed, hint=hint)


def _said(field: BoxField) -> str:
    return f"{field.name}: {', '.join(level.level for level in field.levels)}"


def _nearest(
    places: np.ndarray, wanted: np.ndarray, name: str, around: float = np.inf
) -> np.ndarray:
    """Index of the place that is nearest to each point of an axis."""
    away = np.abs(np.asarray(wanted, float)[:, None] - places)  # (Y, R)
    away = away if around == np.inf else np.minimum(away % around, -away % around)
    steps = np.abs(np.diff(places))
    step = float(np.median(steps)) if len(steps) else np.inf
    if (away.min(1) > step).any():
        msg = f"The constants of places do not cover the {name} of the data."
        found = f"{np.min(wanted):g} to {np.max(wanted):g}"
        needed = f"{places.min():g} to {places.max():g}"
        hint = "fit them on these data: xatmo.fit_normalization(ds, model, local=True)"
        raise GridError(msg, found=found, needed=needed, hint=hint)
    return np.asarray(away.argmin(1))
