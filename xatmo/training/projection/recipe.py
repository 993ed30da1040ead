"""A recipe of climate projections: which scenarios are learnt from, and what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xatmo.errors import OptionError
from xatmo.training.projection.files import grid_of
from xatmo.training.recipe import Source, check_built, check_choice, read_as

__all__ = [
    "TARGETS",
    "Optimizer",
    "ProjectionRecipe",
    "Windows",
    "folder_of",
    "on_data",
    "read_recipe",
]

TARGETS = {
    "tas": "K",
    "diurnal_temperature_range": "K",
    "pr": "mm day-1",
    "pr90": "mm day-1",
}
"""What ClimateBench has to be projected, and its units here."""


@dataclass(frozen=True)
class Windows:
    """What is read of the scenarios: ``[sampling]``."""

    target: str = "tas"
    """The variable that is projected: one for each network, as published."""
    years: int = 10
    """Years of forcings that are read; the map is that of the last of them."""
    scenarios: tuple[str, ...] = (
        "ssp126",
        "ssp370",
        "ssp585",
        "historical",
        "hist-GHG",
        "hist-aer",
    )
    """Trained on. Windows of an ``ssp`` begin in the historical years before it."""
    test: str = "ssp245"
    """Scored on, and never trained on."""
    test_years: int = 21
    """Last years of it: 2080 to 2100."""
    validation: float = 0.1
    """Share of the windows, drawn at random as published, that are held out. They have
    years in common with others: what generalises, only the test scenario tells."""

    def __post_init__(self) -> None:
        check_choice("sampling", "target", self.target, tuple(TARGETS))
        object.__setattr__(self, "scenarios", tuple(self.scenarios))
        wrong = None
        if self.test in self.scenarios:
            wrong = f"test = {self.test!r}, which is among the scenarios"
        elif self.years < 1 or self.test_years < 1:
            wrong = f"years = {self.years}, test_years = {self.test_years}"
        elif not 0 <= self.validation < 1:
            wrong = f"validation = {self.validation}"
        if wrong:
            msg = "[sampling] does not say what can be trained and scored on."
            needed = "a test scenario that is not trained on, years of 1 at least, and"
            needed += " a validation share from 0 to below 1"
            hint = "compare with train/climax/projection.toml"
            raise OptionError(msg, found=wrong, needed=needed, hint=hint)


@dataclass(frozen=True)
class Optimizer:
    """How the weights are found: ``[optimizer]``. Rates rise and fall as published."""

    batch_size: int = 16
    """Windows per process and step."""
    steps_per_epoch: int = 0
    """0: as many as pass through all windows once."""
    epochs: int = 50
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    """``"cosine"`` to ``end_rate``, or ``"constant"`` once it has risen."""
    rise_steps: int = 60
    """Steps in which the learning rate rises to its value."""
    end_rate: float = 1e-8
    """Where the rate begins and ends."""
    weight_decay: float = 1e-5
    """Of all but the codes of variables, places and times."""
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 1.0
    """Largest norm of all gradients together."""
    freeze: bool = True
    """Keep the blocks of the encoder as they are, but for their norms."""
    precision: str = "auto"
    """As Lightning names it; ``"auto"`` is ``"bf16-mixed"`` on a GPU, else 32 bits."""
    validate_every: int = 1
    seed: int = 20230124

    def __post_init__(self) -> None:
        check_choice("optimizer", "schedule", self.schedule, ("cosine", "constant"))


@dataclass(frozen=True)
class ProjectionRecipe:
    """The whole recipe. Its one source is the folder with the files of ClimateBench."""

    name: str
    version: str
    title: str
    network: Mapping[str, Any]
    train: tuple[Source, ...]
    task: str = "projection"
    architecture: str = "climax-series"
    sampling: Windows = Windows()
    optimizer: Optimizer = Optimizer()
    northward: bool = True
    """Rows go from south to north, as published; else from north to south. A network
    to begin with says which."""
    init_from: str | None = None
    """Begin with the encoder of a ClimaX, of any variables: a run below the same
    ``--out``, or a model."""
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        built = self.network.get("times", 10)
        check_built({"times": (built, self.sampling.years)})

    @property
    def variables(self) -> tuple[str, ...]:
        """Forcings in the order of the network."""
        return tuple(self.network.get("variables", ("CO2", "SO2", "CH4", "BC")))

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Latitudes and longitudes of the network's grid."""
        rows, columns = self.network.get("grid", (32, 64))
        return grid_of((int(rows), int(columns)), self.northward)


def read_recipe(path: str | Path) -> ProjectionRecipe:
    """Read and check a recipe with ``task = "projection"``.

    Raises
    ------
    xatmo.errors.OptionError
        For a file that is missing, keys that no recipe has, or parts that do not fit
        each other.
    """
    path = Path(path)
    recipe: ProjectionRecipe = read_as(
        ProjectionRecipe, path, sampling=Windows, optimizer=Optimizer
    )
    return recipe


def on_data(recipe: ProjectionRecipe, source: Source) -> ProjectionRecipe:
    """Return the recipe on the files in another folder.

    Raises
    ------
    xatmo.errors.OptionError
        If a level or a coarser grid is asked for.
    """
    if source.level is not None or source.coarsen != 1:
        msg = "Forcings have no levels, and come to the grid of the network by itself."
        found = f"level={source.level!r}, coarsen={source.coarsen}"
        needed = "the folder alone"
        raise OptionError(msg, found=found, needed=needed, hint="--data FOLDER")
    return replace(recipe, train=(source,))


def folder_of(recipe: ProjectionRecipe) -> Path:
    """Return the folder that the recipe reads.

    Raises
    ------
    xatmo.errors.OptionError
        If it names none, or several, or one that is not there.
    """
    hint = "--data FOLDER with the files of ClimateBench, inputs_*.nc and outputs_*.nc"
    needed = "one folder, with train_val/ and test/ below it or all files in it"
    if len(recipe.train) != 1:
        msg = "A recipe of projections has one source: a folder."
        found = ", ".join(source.path for source in recipe.train) or "no [[data.train]]"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
    try:
        folder = recipe.train[0].resolve()
    except OptionError as error:
        msg = error.problem
        raise OptionError(msg, found=error.found, needed=needed, hint=hint) from error
    if not folder.is_dir():
        msg = f"{folder} is no folder."
        raise OptionError(msg, found="a file", needed=needed, hint=hint)
    return folder
