"""The model card: everything the code needs to know of a released model.

A model is a folder with a ``card.toml``, a ``README.md`` for people and its weights.
The whole schema, with the optional keys marked; any other key is an error::

    name = "atmodist-small-1deg"    # letters, digits, "-", "_", "."; the folder's name
    version = "1.0.0"
    title = "One line for a table of models"
    architecture = "atmodist"       # key of xatmo.nets.ARCHITECTURES
    capabilities = ["embed", "distance"]
    default = true                  # optional: what a verb takes when none is named
    default_for = ["forecast"]      # optional: the same for some capabilities only
    licence = "Apache-2.0"
    citation = "Who to cite"

    [network]                       # optional: keyword arguments of the architecture
    width = 64

    [[inputs]]                      # one table for each channel, in channel order;
                                    # none, as levels, with "infill" alone: any quantity
    quantity = "divergence_of_wind" # CF standard name
    units = "s-1"                   # the units of mean and std

    [[levels]]                      # in order of preference
    level = "10 m"
    trained = true                  # optional; false: only the constants were measured
    mean = [0.0]                    # one number for each input
    std = [1.0]
    log_mean = [0.0]                # these two with kind = "signlog", and only then
    log_std = [1.0]
    fitted = [1.0, 1.0]             # optional: measured on own data of that spacing

    [[fields]]                      # in place of inputs and levels, with [box] or with
                                    # [leads]: networks that do without some of what
                                    # they know; in the network's order
    name = "u"                      # what the network calls it
    quantity = "eastward_wind"      # CF standard name
    units = "m s-1"
    [[fields.levels]]
    level = "10 m"
    slot = 0                        # which of the field's levels; some may share it
    variable = "10m_u"              # what the network calls it; with [leads], and only
                                    # then
    trained = true                  # optional
    mean = [0.0]                    # optional: one number, or one for each calendar
    std = [1.0]                     # month; without it the user has to give them

    [normalization]
    kind = "signlog"                # or "zscore"; "none" where there are no inputs
    alpha = 0.2                     # with kind = "signlog", and only then

    [grid]
    spacing = [0.7, 2.0]            # degrees between grid points, smallest and largest
    patch = [32, 32]                # smallest domain, rows x columns
    stride = 8                      # grid points per cell of the embedding
    halo = "global"                 # or the receptive radius in grid points
    latitude_limit = 60.0           # optional: trained up to this latitude, degrees
    gaussian = true                 # optional: Gaussian grids are read as well
    northward = true                # optional: the network's rows go from south to
                                    # north
    latitude = [48.0, 24.0]         # optional, with [leads]: of the first and the last
    longitude = [120.0, 150.0]      # row and column of a part of the globe

    [time]                          # optional: networks that know time
    step = "6h"
    lags = [6, 12, 18]              # optional: classes of temporal distance, hours

    [box]                           # with fields, and only then: networks that read
                                    # boxes in space and time
    step = "6h"                     # between the times of a box
    ahead = 4                       # how many times are forecast at once
    local = "local.safetensors"     # optional: mean and std of places, beside the card
    local_sha256 = "64 hexadecimal digits"  # with it

    [leads]                         # with fields, in place of [box]: networks that read
                                    # one time, and are told how far ahead to look; the
                                    # grid is patch and no other
    step = "6h"                     # of what lead times in training are multiples
    shortest = 6                    # lead times in training, hours
    longest = 162

    [layers]                        # optional without "embed"
    names = ["block3", "block2"]    # what layer= accepts; the first is the default
    [layers.stride]                 # grid points per cell
    block3 = 8
    block2 = 4
    [layers.features]
    block3 = 128
    block2 = 64

    [distance]                      # optional
    space = "log-normalised"        # where alpha was fitted
    lags = [6, 12]                  # optional: lags of the fit, hours
    [distance.alpha]                # a positive factor for some or all layers
    block3 = 1.23

    [downscale]                     # optional without "downscale"
    factor = 4                      # fine grid points per grid point, either way; with
                                    # [box] it is finer in [network]
    statics = ["land_area_fraction"]  # optional, without [box]: static fields read on
                                    # the fine grid

    [infill]                        # optional
    radius = 64                     # grid points beyond which no observation counts
    factor = 1.0                    # what the network's spread is multiplied by
    [infill.seen]                   # optional: lowest and highest of each number that
    kurtosis = [-1.0, 20.0]         # describes a series, in training

    [weights]
    file = "weights.safetensors"    # beside the card
    sha256 = "64 hexadecimal digits"
    size = 1234                     # bytes
    urls = []                       # tried in this order

    [training]                      # optional, free: data, attribution, recipe, period
    [scores]                        # optional, free, may be nested
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from xatmo.zoo.tables import dumps

__all__ = [
    "CAPABILITIES",
    "Box",
    "BoxField",
    "Card",
    "Distance",
    "Downscale",
    "FieldLevel",
    "Grid",
    "Infill",
    "Input",
    "Layers",
    "Leads",
    "Level",
    "ModelKey",
    "Normalization",
    "Time",
    "Weights",
]

STATICS = ("land_area_fraction",)
CAPABILITIES = (
    "embed",
    "distance",
    "downscale",
    "infill",
    "forecast",
    "interpolate",
    "attention",
)


@dataclass(frozen=True)
class Input:
    """One channel: a CF standard name and the units the network was fed with."""

    quantity: str
    units: str


@dataclass(frozen=True)
class Level:
    """A level and the normalisation constants there, one number for each input.

    ``fitted`` is the spacing of the user's data that the constants were measured on,
    or None for the constants of the release.
    """

    level: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trained: bool = True
    log_mean: tuple[float, ...] | None = None
    log_std: tuple[float, ...] | None = None
    fitted: tuple[float, float] | None = None


@dataclass(frozen=True)
class FieldLevel:
    """A level of a field: which of the network's it is, and its constants.

    ``mean`` and ``std`` hold one number, or one for each calendar month; None if the
    release has no constants and the user has to give them. ``variable`` is what a
    network that is told the lead time calls it.
    """

    level: str
    slot: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    trained: bool = True
    variable: str | None = None


@dataclass(frozen=True)
class BoxField:
    """A field of a network that does without some, by the network's name for it."""

    name: str
    quantity: str
    units: str
    levels: tuple[FieldLevel, ...]


@dataclass(frozen=True)
class Box:
    """Boxes in space and time: the step between times, and how many are forecast.

    ``local`` is the file with constants of places, beside the card.
    """

    step: str
    ahead: int
    local: str | None = None
    local_sha256: str | None = None


@dataclass(frozen=True)
class Leads:
    """The lead times of training: multiples of a step, from one to another (hours)."""

    step: str
    shortest: int
    longest: int


@dataclass(frozen=True)
class ModelKey:
    """What travels in a Dask graph in place of the weights.

    Each worker process builds the network that the key names once. The sha256 is part
    of it: results made with other weights never share a name with these. So are levels
    whose constants a user has fitted: no other machine's card has them.
    """

    name: str
    version: str
    sha256: str
    dtype: str = "float32"
    levels: tuple[Level, ...] = ()

    def __dask_tokenize__(self) -> tuple[str, ...]:
        said = (self.name, self.version, self.sha256, self.dtype)
        return "xatmo.ModelKey", *said, *map(repr, self.levels)


@dataclass(frozen=True)
class Normalization:
    """How raw values become the network's: standard score, or its signed logarithm."""

    kind: str
    alpha: float | None = None


@dataclass(frozen=True)
class Grid:
    """The grids the network reads: spacing in degrees, lengths in grid points."""

    spacing: tuple[float, float]
    patch: tuple[int, int]
    stride: int
    halo: int | Literal["global"]
    latitude_limit: float | None = None
    gaussian: bool = False
    northward: bool = False
    latitude: tuple[float, float] | None = None
    longitude: tuple[float, float] | None = None


@dataclass(frozen=True)
class Time:
    """Time step, and the temporal distances in hours that the network tells apart."""

    step: str
    lags: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layers:
    """What ``layer=`` accepts, default first, with stride and number of features."""

    names: tuple[str, ...]
    stride: dict[str, int]
    features: dict[str, int]


@dataclass(frozen=True)
class Distance:
    """Scale of the distance for each layer, and how it was fitted."""

    space: str
    alpha: dict[str, float]
    lags: tuple[int, ...] = ()


@dataclass(frozen=True)
class Downscale:
    """How much finer the result is, and the static fields that the network reads."""

    factor: int
    statics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Infill:
    """How far the network is trusted, and what series it was trained on.

    ``radius`` is in grid points, ``factor`` multiplies its spread, and ``seen`` holds
    the range of each number of :func:`xatmo.holdout.character` in training.
    """

    radius: int = 64
    factor: float = 1.0
    seen: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """The weight file: name, sha256, size in bytes, and addresses to fetch it from."""

    file: str
    sha256: str
    size: int
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """A released model, as its ``card.toml`` describes it.

    The attributes are the keys of the file (see the module's docstring). Arrays are
    tuples; optional tables that are absent are None; ``folder`` is where the card was
    read from.
    """

    name: str
    version: str
    title: str
    architecture: str
    capabilities: tuple[str, ...]
    licence: str
    citation: str
    inputs: tuple[Input, ...]
    levels: tuple[Level, ...]
    normalization: Normalization
    grid: Grid
    weights: Weights
    default: bool = False
    default_for: tuple[str, ...] = ()
    network: dict[str, Any] = field(default_factory=dict)
    time: Time | None = None
    layers: Layers | None = None
    distance: Distance | None = None
    downscale: Downscale | None = None
    infill: Infill | None = None
    fields: tuple[BoxField, ...] = ()
    box: Box | None = None
    leads: Leads | None = None
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)

    def to_toml(self) -> str:
        """Return the text of a ``card.toml`` that reads back to an equal card."""
        values = asdict(self)
        del values["folder"]
        if not self.inputs:
            del values["inputs"], values["levels"]
        if not self.fields:
            del values["fields"]
        values["default_for"] = values["default_for"] or None
        # Written in the order of the schema, which differs from the dataclass's only
        # because Python wants fields with defaults last.
        head = ("name", "version", "title", "architecture", "capabilities", "default")
        order = (*head, "default_for", *values)
        values = {key: values[key] for key in order}
        return dumps(_without_absent(values))

    def is_default(self, capability: str) -> bool:
        """Whether a verb takes this model when none is named."""
        able = capability in self.capabilities
        return able and (self.default or capability in self.default_for)

    @property
    def noise(self) -> int:
        """Channels of noise that the network reads; 0 if each input has one result."""
        return int(self.network.get("noise", 0))

    def key(self, dtype: str = "float32") -> ModelKey:
        """Return the key by which workers find this model."""
        fitted = tuple(level for level in self.levels if level.fitted)
        return ModelKey(self.name, self.version, self.weights.sha256, dtype, fitted)

    def with_levels(self, levels: Iterable[Level]) -> Card:
        """Return the card with levels in place of those of the same name, or added."""
        table = {level.level: level for level in (*self.levels, *levels)}
        return replace(self, levels=tuple(table.values()))


def _without_absent(value: Any) -> Any:
    """Drop what is None or an empty table: absent keys of the file."""
    if isinstance(value, dict):
        kept = {k: _without_absent(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v is not None and v != {}}
    if isinstance(value, list | tuple):
        return [_without_absent(item) for item in value]
    return value
