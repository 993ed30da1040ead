"""Constants of a model that reads boxes, to measure, to keep and to hand on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xatmo.errors import OptionError
from xatmo.zoo.card import BoxField, Card
from xatmo.zoo.constants import Constants, read_constants, tensor_name
from xatmo.zoo.files import draft

if TYPE_CHECKING:
    import xarray as xr

    from xatmo.zoo.model import Model

__all__ = ["BoxNormalization"]

_HEADER = "xatmo"  # what is said beside the numbers of a file
_MONTHS = 12


@dataclass(frozen=True, repr=False, eq=False)
class BoxNormalization:
    """Mean and spread of fields at their levels, for a model that reads boxes.

    :func:`xatmo.fit_normalization` measures them, :meth:`from_dataset` takes what is
    known already, and :meth:`xatmo.Model.with_normalization` makes a model use them.

    Parameters
    ----------
    constants : mapping
        (Name of the field, level) -> :class:`xatmo.zoo.constants.Constants`, both as
        the card of the model calls them.
    quantities, units : mapping of str to str
        CF standard name and units of each field.
    spacing : tuple of float, optional
        Degrees between grid points, in latitude and longitude.
    period : tuple of str, optional
        First and last time.
    count, missing : mapping, optional
        Numbers that were used for each field and level, and that were not finite.

    Examples
    --------
    >>> norm = xatmo.fit_normalization(ds, "multiformer-small")  # doctest: +SKIP
    >>> norm.save("constants.safetensors")  # doctest: +SKIP
    """

    constants: Mapping[tuple[str, str], Constants]
    quantities: Mapping[str, str]
    units: Mapping[str, str]
    spacing: tuple[float, float] | None = None
    period: tuple[str, str] | None = None
    count: Mapping[tuple[str, str], int] = field(default_factory=dict)
    missing: Mapping[tuple[str, str], int] = field(default_factory=dict)

    # --- Files ----------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a safetensors file, in one step or not at all; return its path."""
        from safetensors.numpy import save_file

        header = {
            "quantities": dict(self.quantities),
            "units": dict(self.units),
            "spacing": self.spacing,
            "period": self.period,
            "levels": [
                [*key, self.count.get(key), self.missing.get(key)]
                for key in self.constants
            ],
        }
        with draft(path) as unfinished:
            save_file(self.tensors(), unfinished, {_HEADER: json.dumps(header)})
            unfinished.chmod(0o644)
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BoxNormalization:
        """Read what :meth:`save` has written.

        Raises
        ------
        xatmo.errors.OptionError
            If it is something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                header = json.loads((file.metadata() or {})[_HEADER])
                names = set(file.keys())
                arrays = {name: file.get_tensor(name) for name in names}
            return cls._of(header, arrays)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            found = f"{os.fspath(path)}: {error}"
            raise _not_one(found) from error

    @classmethod
    def _of(
        cls, header: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> BoxNormalization:
        constants, counts = {}, []
        for name, level, count, missing in header["levels"]:
            found = read_constants(arrays.__getitem__, set(arrays), name, level)
            if found is None:
                raise KeyError(tensor_name(name, level, "mean"))
            constants[name, level] = found
            counts.append(((name, level), count, missing))
        return cls(
            constants,
            header["quantities"],
            header["units"],
            spacing=tuple(header["spacing"]) if header["spacing"] else None,
            period=tuple(header["period"]) if header["period"] else None,
            count={key: n for key, n, _ in counts if n is not None},
            missing={key: n for key, _, n in counts if n is not None},
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all numbers by the names that they have in a file."""
        told: dict[str, np.ndarray] = {}
        for (name, level), found in self.constants.items():
            told[tensor_name(name, level, "mean")] = np.ascontiguousarray(found.mean)
            told[tensor_name(name, level, "std")] = np.ascontiguousarray(found.std)
            if found.latitude is not None and found.longitude is not None:
                told["latitude"] = np.ascontiguousarray(found.latitude)
                told["longitude"] = np.ascontiguousarray(found.longitude)
        return told

    # --- Numbers that are known already ---------------------------------------------

    @classmethod
    def from_dataset(cls, ds: xr.Dataset, model: Model) -> BoxNormalization:
        """Take means and standard deviations that are known already.

        Parameters
        ----------
        ds : Dataset
            Variables ``<field>_mean`` and ``<field>_std`` in the units of the model's
            card, with any of the dimensions ``level`` (its coordinate as the card
            writes levels), ``month`` (1 to 12), ``latitude`` and ``longitude``; the
            last two go together.
        model : Model
            One that reads boxes.

        Raises
        ------
        xatmo.errors.OptionError
            If there is no such variable, or dimensions or levels are others.

        Examples
        --------
        >>> import xarray as xr
        >>> ds = xr.Dataset({"u_mean": 1.5, "u_std": 8.0})
        >>> BoxNormalization.from_dataset(ds, model)  # doctest: +SKIP
        """
        constants: dict[tuple[str, str], Constants] = {}
        for entry in model.card.fields:
            pair = f"{entry.name}_mean", f"{entry.name}_std"
            if all(name in ds.variables for name in pair):
                constants |= _taken(ds, entry)
        if not constants:
            found = f"variables: {', '.join(map(str, ds.data_vars)) or 'none'}"
            names = ", ".join(f"{f.name}_mean" for f in model.card.fields) or "none"
            raise _not_one(found, f"some of: {names}; and of ..._std")
        told = {name for name, _ in constants}
        fields = [f for f in model.card.fields if f.name in told]
        quantities = {f.name: f.quantity for f in fields}
        return cls(constants, quantities, {f.name: f.units for f in fields})

    def to_dataset(self) -> xr.Dataset:
        """Return the numbers as a Dataset that :meth:`from_dataset` reads."""
        import xarray as xr

        variables: dict[str, xr.DataArray] = {}
        for name in self.quantities:
            levels = [level for f, level in self.constants if f == name]
            for what in ("mean", "std"):
                parts = [_labelled(self.constants[name, lv], what) for lv in levels]
                joined = xr.concat(parts, xr.Variable("level", levels))
                joined.attrs = {"units": self.units[name]}
                variables[f"{name}_{what}"] = joined
        return xr.Dataset(variables)

    # --- Use ------------------------------------------------------------------------

    def check_fits(self, card: Card) -> None:
        """Raise unless these are constants for fields of a model.

        Raises
        ------
        xatmo.errors.OptionError
            Naming what differs.
        """
        known = {f.name: f for f in card.fields}
        for name, level in self.constants:
            mine = (self.quantities[name], self.units[name])
            entry = known.get(name)
            levels = [lv.level for lv in entry.levels] if entry else []
            if entry and mine == (entry.quantity, entry.units) and level in levels:
                continue
            msg = f"These constants are not for the fields of {card.name}."
            found = f"{name} ({mine[0]} [{mine[1]}]) at {level}"
            needed = "; ".join(
                f"{f.name} ({f.quantity} [{f.units}]) at "
                f"{', '.join(lv.level for lv in f.levels)}"
                for f in card.fields
            )
            hint = f"xatmo.fit_normalization(ds, {card.name!r})"
            needed = needed or "fields: this model reads no boxes"
            raise OptionError(msg, found=found, needed=needed, hint=hint)

    @cached_property
    def digest(self) -> str:
        """sha256 of all numbers: what tells these constants from others."""
        sums = hashlib.sha256()
        for name, array in sorted(self.tensors().items()):
            sums.update(f"{name} {array.dtype} {array.shape}".encode())
            sums.update(array.tobytes())
        sums.update(json.dumps(dict(sorted(self.units.items()))).encode())
        return sums.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoxNormalization) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return "xatmo.BoxNormalization", self.digest

    def __repr__(self) -> str:
        spacing = self.spacing and f"{self.spacing[0]:g} x {self.spacing[1]:g}°"
        period = self.period and f"{self.period[0]} to {self.period[1]}"
        said = ", ".join(filter(None, (spacing, period)))
        lines = [f"<xatmo normalisation of boxes{f': {said}' if said else ''}>"]
        lines += [
            f"{name} at {level}: {_told(found)} [{self.units[name]}]"
            for (name, level), found in self.constants.items()
        ]
        return "\n".join(lines)


def _told(found: Constants) -> str:
    mean, std = float(np.nanmean(found.mean)), float(np.nanmean(found.std))
    extra = " of each month" if found.monthly else ""
    extra += f" on {found.mean.shape[1]} x {found.mean.shape[2]} places" * found.local
    about = "about " if extra else ""
    return f"mean {about}{mean:.6g}, std {about}{std:.6g}{extra}"


def _labelled(found: Constants, what: str) -> xr.DataArray:
    import xarray as xr

    dims = ("month", "latitude", "longitude")
    coords: dict[str, Any] = {"month": np.arange(1, _MONTHS + 1)}
    if found.local:
        coords |= {"latitude": found.latitude, "longitude": found.longitude}
    array = xr.DataArray(getattr(found, what), dims=dims)
    gone = [] if found.monthly else ["month"]
    gone += [] if found.local else ["latitude", "longitude"]
    array = array.isel(dict.fromkeys(gone, 0))
    return array.assign_coords({d: coords[str(d)] for d in array.dims})


def _taken(ds: xr.Dataset, entry: BoxField) -> dict[tuple[str, str], Constants]:
    """Take the constants of one field at its levels."""
    import xarray as xr

    pair = (_ordered(ds[f"{entry.name}_{what}"]) for what in ("mean", "std"))
    mean, std = xr.broadcast(*pair)
    wanted = [level.level for level in entry.levels]
    if "level" not in mean.dims:
        return {(entry.name, level): _constants(mean, std) for level in wanted}
    held = [str(level) for level in mean["level"].values.tolist()]
    # Fields share the coordinate: NaN where one of them is not at a level.
    there = (mean.notnull() | std.notnull()).any(set(mean.dims) - {"level"}).values
    strange = [lv for i, lv in enumerate(held) if there[i] and lv not in wanted]
    if strange:
        found = f"{entry.name}_mean at {', '.join(strange)}"
        raise _not_one(found, f"levels as the card writes them: {', '.join(wanted)}")
    return {
        (entry.name, level): _constants(mean.isel(level=i), std.isel(level=i))
        for i, level in enumerate(held)
        if there[i]
    }


def _ordered(array: xr.DataArray) -> xr.DataArray:
    """Bring places into order: from north to south, and eastward from 0 on."""
    strange = set(array.dims) - {"level", "month", "latitude", "longitude"}
    if strange or ("latitude" in array.dims) != ("longitude" in array.dims):
        needed = "some of level, month, and both or none of latitude and longitude"
        found = f"{array.name} {array.dims}"
        raise _not_one(found, needed)
    if "latitude" in array.dims:
        array = array.assign_coords(longitude=array["longitude"] % 360)
        array = array.sortby("latitude", ascending=False).sortby("longitude")
    return array.sortby("month") if "month" in array.coords else array


def _constants(mean: xr.DataArray, std: xr.DataArray) -> Constants:
    dims = [d for d in ("month", "latitude", "longitude") if d in mean.dims]
    places = "latitude" in dims
    axes = [mean[d].values.astype(float) for d in dims if d != "month"]
    shape = (mean.sizes.get("month", 1), *(map(len, axes) if places else (1, 1)))
    both = [x.transpose(*dims).values.astype(float).reshape(shape) for x in (mean, std)]
    return Constants(*both, *axes)


def _not_one(found: str, needed: str | None = None) -> OptionError:
    msg = "This is no normalisation of boxes."
    return OptionError(
        msg,
        found=found,
        needed=needed or "what BoxNormalization.save(path) has written",
        hint="xatmo.fit_normalization(ds, model).save('constants.safetensors')",
    )
