"""A recipe: all that training a released model needs, read from one TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from xatmo.errors import OptionError

__all__ = [
    "AnyRecipe",
    "Optimizer",
    "Recipe",
    "Sampling",
    "SlottedField",
    "Source",
    "build",
    "check_built",
    "check_choice",
    "check_quantities",
    "read_as",
    "read_recipe",
    "read_toml",
    "task",
]

_PARTS = ("train", "validation", "calibration", "constants", "evaluation")


@dataclass(frozen=True)
class Source:
    """One data set, or a part of it.

    ``coarsen`` makes block means of that many rows and columns: a second, coarser
    grid to learn from. ``spacing`` interpolates to a regular grid of that many
    degrees: coarse simulations on the grid that is wanted, without its detail.
    ``grid`` makes means over the cells of a regular global grid of so many rows and
    columns, ``box`` leaves what is between two latitudes and two longitudes.
    ``start`` and ``end`` are ISO dates, both included. ``weight`` is the share of pairs
    relative to their number, ``level`` chooses one of several.
    """

    path: str
    start: str | None = None
    end: str | None = None
    coarsen: int = 1
    spacing: float | None = None
    grid: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None
    """South, north, west, east."""
    weight: float = 1.0
    level: str | None = None
    scene: str | None = None
    """Sources of one scene lie on the same points and are read together."""
    quantities: tuple[str, ...] = ()
    """Standard names, where the recipe leaves it to its sources what they hold."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantities", tuple(self.quantities))
        for key in ("grid", "box"):
            if (value := getattr(self, key)) is not None:
                object.__setattr__(self, key, tuple(value))

    def resolve(self) -> Path:
        """Return the file: absolute, in ``$XATMO_DATA/data``, or where we stand."""
        root = os.environ.get("XATMO_DATA")
        candidates = [Path(self.path)]
        if root:
            candidates.append(Path(root) / "data" / self.path)
        for path in candidates:
            if path.exists():
                return path
        msg = f"The data set {self.path!r} is not there."
        raise OptionError(
            msg,
            found=f"no {' and no '.join(map(str, candidates))}",
            needed="a file or Zarr store that xarray opens",
            hint="--data with the path of a file that is there; paths in a recipe are "
            "also looked for below $XATMO_DATA/data",
        )


@dataclass(frozen=True)
class Sampling:
    """Which pairs of patches the network sees."""

    step_hours: int = 6
    n_lags: int = 12
    patch: tuple[int, int] = (32, 32)
    latitude_limit: float = 60.0
    """Centres of patches lie within this many degrees of the equator."""
    mirror: bool = True
    """Mirror the hemispheres at random: the vorticity changes sign with the rows."""
    order: str = "auto"
    """``"random"`` reads two fields for each pair, ``"stream"`` many pairs from two
    fields and shuffles them; ``"auto"`` streams data that do not fit the cache."""
    cache_mb: int = 1024
    """Fields kept in memory (MiB), of all sources together."""
    patches_per_field: int = 20
    """Pairs of patches that a stream cuts from one pair of fields."""
    shuffle_buffer: int = 2048
    """Pairs that a stream shuffles in memory."""

    def __post_init__(self) -> None:
        check_choice("sampling", "order", self.order, ("auto", "random", "stream"))


@dataclass(frozen=True)
class Optimizer:
    """How the weights are found."""

    batch_size: int = 128
    """Pairs per process and step: two devices make a step of twice as many."""
    steps_per_epoch: int = 250
    epochs: int = 60
    warm_pairs: int = 4096
    """Size of the fixed subset that training begins on: else it does not take off."""
    warm_epochs: int = 4
    method: str = "sgd"
    """``"sgd"`` as published, or ``"adamw"``: takes off without a warm start."""
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_penalty: float = 1e-4
    """Times the sum of squared kernels, added to the loss (Keras' l2); for SGD."""
    weight_decay: float = 0.05
    """Of AdamW, on kernels alone, apart from the loss."""
    rise_steps: int = 0
    """Steps in which the learning rate rises to its value; with the cosine schedule."""
    clip_norm: float = 5.0
    """Largest gradient norm, tensor by tensor."""
    schedule: str = "plateau"
    """``"plateau"`` as published, or ``"cosine"`` to zero over the main phase."""
    plateau_patience: int = 8
    """Epochs without an improvement after which the rate falls to a tenth."""
    plateau_delta: float = 0.04
    """Least improvement of the training loss that counts."""
    precision: str = "auto"
    """As Lightning names it; ``"auto"`` is ``"bf16-mixed"`` on a GPU, else 32 bits."""
    validate_every: int = 3
    validation_pairs: int = 4096
    seed: int = 20230221

    def __post_init__(self) -> None:
        check_choice("optimizer", "method", self.method, ("sgd", "adamw"))
        check_choice("optimizer", "schedule", self.schedule, ("plateau", "cosine"))


def check_choice(table: str, key: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that a key of a recipe cannot have.

    Raises
    ------
    xatmo.errors.OptionError
    """
    if value not in choices:
        msg = f"[{table}] {key} cannot be {value!r}."
        raise OptionError(
            msg,
            found=f"{key} = {value!r}",
            needed=" or ".join(map(repr, choices)),
            hint=f'{key} = "{choices[0]}"',
        )


def check_quantities(source: Source) -> None:
    """Refuse a source that does not say what it holds.

    Raises
    ------
    xatmo.errors.OptionError
    """
    if source.quantities:
        return
    msg = f"The source {source.path!r} does not say which quantities to read from it."
    raise OptionError(
        msg,
        found=f"path = {source.path!r} without quantities",
        needed="standard names of fields of the recipe",
        hint='quantities = ["eastward_wind", "northward_wind"] below its path',
    )


def check_built(told: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuse a network that is built for other fields than the recipe reads.

    Parameters
    ----------
    told : mapping of str to tuple
        For keys of ``[network]`` what they are, and what they have to be.

    Raises
    ------
    xatmo.errors.OptionError
    """
    for key, (built, needed) in told.items():
        if built != needed:
            msg = "The network is built for other fields than the recipe's."
            raise OptionError(
                msg,
                found=f"{key} = {built} in [network]",
                needed=f"{needed}, as the rest of the recipe says",
                hint=f"{key} = {needed} in [network]",
            )


class SlottedField(Protocol):
    """A field of a network that knows several levels, each in a slot of its own."""

    @property
    def name(self) -> str:
        """What the recipe calls it."""

    @property
    def quantity(self) -> str:
        """CF standard name."""

    @property
    def slots(self) -> tuple[tuple[str, ...], ...]:
        """For each slot the levels that it may be, such as ``"10 m"``."""

    def slot_of(self, level: str) -> int | None:
        """Which slot a level of data goes into; None if none of them."""


class AnyRecipe(Protocol):
    """What the recipes of all tasks have in common."""

    @property
    def name(self) -> str:
        """Name of the run, and of the model."""

    @property
    def version(self) -> str:
        """Of the model."""

    @property
    def title(self) -> str:
        """A line about the model."""

    @property
    def architecture(self) -> str:
        """As model cards call it."""

    @property
    def network(self) -> Mapping[str, Any]:
        """Arguments of the network's class."""

    @property
    def card(self) -> Mapping[str, Any]:
        """Tables of the model card."""

    @property
    def optimizer(self) -> Any:
        """How the weights are found."""

    @property
    def init_from(self) -> str | None:
        """Whose weights the network begins with."""


@dataclass(frozen=True)
class Recipe:
    """The whole recipe."""

    name: str
    version: str
    title: str
    architecture: str
    network: Mapping[str, Any]
    train: tuple[Source, ...]
    validation: tuple[Source, ...] = ()
    constants: tuple[Source, ...] = ()
    """Levels that are only measured, so that the model can be tried there."""
    evaluation: tuple[Source, ...] = ()
    """What the released model is scored on, one table of scores each."""
    quantities: tuple[str, ...] = (
        "divergence_of_wind",
        "atmosphere_relative_vorticity",
    )
    normalization: Mapping[str, Any] = field(
        default_factory=lambda: {"kind": "signlog", "alpha": 0.2}
    )
    sampling: Sampling = Sampling()
    optimizer: Optimizer = Optimizer()
    init_from: str | None = None
    """Begin with the weights of a run below the same ``--out``, or a released model."""
    calibrate: bool = False
    """Scale the last layer: its distance orders the lags of training data best."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """Tables that go into the model card as they are."""


def read_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe.

    Raises
    ------
    xatmo.errors.OptionError
        For a file that is missing, or keys that no recipe has.
    """
    recipe: Recipe = read_as(Recipe, Path(path), sampling=Sampling, optimizer=Optimizer)
    return recipe


def task(path: str | Path) -> str:
    """Return what a recipe trains for: ``"pairs"``, or what it says itself."""
    return str(read_toml(Path(path)).get("task", "pairs"))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a recipe of any task: a table, with its sources as such.

    Where it says ``like = "other.toml"``, what it leaves out is taken from that recipe
    in the same folder, table by table.

    Raises
    ------
    xatmo.errors.OptionError
        For a file that is missing, or sources with unknown keys.
    """
    raw = _loaded(path)
    data = raw.pop("data", {})
    for part in [p for p in data if p in _PARTS]:
        raw[part] = tuple(build(Source, s, path) for s in data.pop(part))
    if data:
        raw["data"] = data  # left for the check of unknown keys later on
    raw.setdefault("train", ())
    return raw


def _loaded(path: Path, *above: Path) -> dict[str, Any]:
    if path in above:
        msg = f"The recipe {str(path)!r} is like itself."
        raise OptionError(
            msg,
            found=" is like ".join(map(str, (*above, path))),
            needed="a chain of `like` that ends at a recipe without",
            hint=f"take `like` out of {path}",
        )
    if not path.exists():
        msg = f"There is no recipe {str(path)!r}."
        raise OptionError(
            msg,
            found="no such file",
            needed="a recipe.toml such as train/atmodist/recipe.toml",
            hint="xatmo train train/atmodist/recipe.toml",
        )
    with path.open("rb") as file:
        raw = tomllib.load(file)
    like = raw.pop("like", None)
    if like is None:
        return raw
    return _merged(_loaded(path.parent / like, *above, path), raw)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Both tables in one, those within them too; what is above counts."""
    both = dict(below)
    for key, value in above.items():
        known = both.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            both[key] = _merged(known, value)
        else:
            both[key] = value
    return both


def read_as(cls: type, path: Path, **tables: type) -> Any:
    """Read a recipe of some class, whose tables are of others: ``name=class``.

    Raises
    ------
    xatmo.errors.OptionError
        For a file that is missing, keys that no recipe has, or parts that do not fit
        each other.
    """
    raw = read_toml(path)
    for table, its in tables.items():
        if table in raw:
            raw[table] = build(its, raw[table], path)
    return build(cls, raw, path)


def build(cls: type, values: Mapping[str, Any], path: Path) -> Any:
    """Make a dataclass of a table of the recipe in a file.

    Raises
    ------
    xatmo.errors.OptionError
        For unknown keys, and those that are missing.
    """
    known = {f.name for f in fields(cls)}
    if unknown := set(values) - known:
        msg = f"{path} has keys that no recipe has."
        raise OptionError(
            msg,
            found=", ".join(sorted(unknown)),
            needed=f"some of {', '.join(sorted(known))}",
            hint="compare with train/atmodist/recipe.toml",
        )
    clean = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return cls(**clean)
    except TypeError as error:
        msg = f"{path} is not complete: {error}."
        raise OptionError(
            msg,
            found=", ".join(sorted(values)) or "nothing",
            needed=", ".join(sorted(known)),
            hint="compare with train/atmodist/recipe.toml",
        ) from error
