"""Constants of normalisation measured on a user's own data, to keep and to hand on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xatmo.errors import OptionError
from xatmo.zoo.card import Card, Level
from xatmo.zoo.files import draft

if TYPE_CHECKING:
    from xatmo.nets.normalization import SignLog, ZScore

__all__ = ["Normalization"]

# Constants have one number for each quantity.
_CONSTANTS = ("mean", "std", "log_mean", "log_std")


@dataclass(frozen=True, repr=False)
class Normalization:
    """How fields at one level become what a network reads, and what that rests on.

    :func:`xatmo.fit_normalization` measures one, :meth:`xatmo.Model.with_normalization`
    makes a model use it.

    Parameters
    ----------
    kind : str
        ``"signlog"`` (standard score, signed logarithm, standard score again) or
        ``"zscore"``.
    alpha : float or None
        How early the logarithm bends; None without one.
    level : str
        Such as ``"850 hPa"``.
    quantities, units : tuple of str
        CF standard names in the order of a model's channels, and units of mean and std.
    mean, std : tuple of float
        Of the physical field: over all grid points and times alike, std of the
        population.
    log_mean, log_std : tuple of float or None
        Of the field behind the logarithm; None without one.
    spacing : tuple of float
        Degrees between grid points, in latitude and longitude.
    period : tuple of str or None
        First and last time; None for data without dates.
    count, missing : tuple of int
        Numbers that were used for each quantity, and numbers that were not finite.

    Examples
    --------
    >>> import xatmo
    >>> norm = xatmo.fit_normalization(xatmo.open_sample())
    >>> norm.level, norm.count[0]
    ('sigma 0.95', 737280)
    >>> xatmo.Normalization.from_dict(norm.to_dict()) == norm
    True
    """

    kind: str
    alpha: float | None
    level: str
    quantities: tuple[str, ...]
    units: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    log_mean: tuple[float, ...] | None
    log_std: tuple[float, ...] | None
    spacing: tuple[float, float]
    period: tuple[str, str] | None
    count: tuple[int, ...]
    missing: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as numbers, texts and lists: what JSON and TOML hold."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value is not None
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normalization:
        """Return what :meth:`to_dict` was called on.

        Raises
        ------
        xatmo.errors.OptionError
            If a value is missing, unknown, or not one number for each quantity.
        """
        names = [f.name for f in fields(cls)]
        optional = {"alpha", "log_mean", "log_std", "period"}
        lacking = [n for n in names if n not in values and n not in optional]
        strange = [n for n in values if n not in names]
        if lacking or strange:
            found = f"lacking {lacking}, unknown {strange}"
            raise _not_one(found)
        told: dict[str, Any] = dict.fromkeys(optional)
        told |= {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        made = cls(**told)
        made._check()
        return made

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a JSON file, in one step or not at all; return its path."""
        with draft(path) as unfinished:
            text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False)
            unfinished.write_text(text + "\n", "utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Normalization:
        """Read what :meth:`save` has written.

        Raises
        ------
        xatmo.errors.OptionError
            If it is something else.
        """
        try:
            values = json.loads(Path(path).read_text("utf-8"))
        except ValueError as error:
            found = f"{os.fspath(path)}: {error}"
            raise _not_one(found) from error
        if not isinstance(values, dict):
            found = f"{os.fspath(path)}: {type(values).__name__}"
            raise _not_one(found)
        return cls.from_dict(values)

    def module(self) -> SignLog | ZScore:
        """Return what normalises torch tensors (..., channel, latitude, longitude)."""
        from xatmo.nets.normalization import SignLog, ZScore

        if self.log_mean is None or self.log_std is None:
            return ZScore(self.mean, self.std)
        logarithmic = self.log_mean, self.log_std
        return SignLog(self.mean, self.std, *logarithmic, alpha=self.alpha or 0.0)

    def __repr__(self) -> str:
        alpha = "" if self.alpha is None else f", alpha = {self.alpha:g}"
        lat, lon = self.spacing
        lines = [
            f"<xatmo normalisation at {self.level}: {self.kind}{alpha}>",
            f"fitted on {lat:g} x {lon:g}°{_period(self.period)}",
        ]
        width = max(len(q) for q in self.quantities)
        for i, quantity in enumerate(self.quantities):
            told = [
                f"{name} {values[i]:.6g}"
                for name in _CONSTANTS
                if (values := getattr(self, name)) is not None
            ]
            lines.append(
                f"{quantity:<{width}}  {', '.join(told)} [{self.units[i]}]  "
                f"{self.count[i]:,} values{_missing(self.missing[i])}"
            )
        return "\n".join(lines)

    def check_fits(self, card: Card) -> None:
        """Raise unless these are constants for the inputs of a model.

        Raises
        ------
        xatmo.errors.OptionError
            Naming what differs.
        """
        channels = tuple(i.quantity for i in card.inputs)
        units = tuple(i.units for i in card.inputs)
        mine = self.kind, self.alpha, self.quantities, self.units
        wanted = card.normalization.kind, card.normalization.alpha, channels, units
        if mine == wanted:
            return
        msg = f"These constants are not for the inputs of {card.name}."
        raise OptionError(
            msg,
            found=_told(*mine),
            needed=_told(*wanted),
            hint=f"xatmo.fit_normalization(ds, {card.name!r})",
        )

    def as_level(self, known: Level | None) -> Level:
        """Return the entry of a card that these constants make."""
        return Level(
            level=self.level,
            mean=self.mean,
            std=self.std,
            trained=known is not None and known.trained,
            log_mean=self.log_mean,
            log_std=self.log_std,
            fitted=self.spacing,
        )

    def _check(self) -> None:
        for name in (*_CONSTANTS, "units", "count", "missing"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.quantities):
                found = f"{name} = {values!r} for {self.quantities!r}"
                raise _not_one(found)
        if self.kind == "signlog" and None in (self.alpha, self.log_mean, self.log_std):
            found = "kind 'signlog' without alpha, log_mean or log_std"
            raise _not_one(found)


def _told(
    kind: str, alpha: float | None, quantities: tuple[str, ...], units: tuple[str, ...]
) -> str:
    inputs = ", ".join(f"{q} [{u}]" for q, u in zip(quantities, units, strict=True))
    return f"{kind}, alpha {alpha}: {inputs}"


def _period(period: tuple[str, str] | None) -> str:
    return "" if period is None else f", {period[0]} to {period[1]}"


def _missing(count: int) -> str:
    return f", {count:,} missing" if count else ""


def _not_one(found: str) -> OptionError:
    msg = "This is no normalisation."
    return OptionError(
        msg,
        found=found,
        needed="what Normalization.save(path) or .to_dict() gives",
        hint="xatmo.fit_normalization(ds).save('normalization.json')",
    )
