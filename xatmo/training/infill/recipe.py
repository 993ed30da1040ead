"""A recipe of a network that fills gaps: what it reads, and what is hidden from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xatmo.errors import OptionError
from xatmo.training.recipe import Source, check_choice, check_quantities, read_as

__all__ = ["Gaps", "InfillRecipe", "Objective", "Optimizer", "read_recipe"]


@dataclass(frozen=True)
class Gaps:
    """Which pieces of series the network sees, and how much of them: ``[sampling]``."""

    patch: tuple[int, int] = (128, 128)
    """Points of a piece; smaller grids are read whole."""
    times: int = 64
    """Longest piece of a series."""
    single: float = 0.15
    """Share of pieces that are one time alone."""
    regional: float = 0.25
    """Share of pieces that are cut smaller, as regions are."""
    coarse: float = 0.25
    """Share of pieces that are means of 2 x 2 points, where the grid has so many."""
    unnamed: float = 0.4
    """Share of pieces of which it is not said what quantity they are: those may be
    mirrored either way, and may have their sign changed."""
    random: float = 0.2
    """Share of pieces that are random fields, in place of the sources'."""
    cache_mb: int = 2048
    """Fields kept in memory (MiB), of all sources together."""


@dataclass(frozen=True)
class Optimizer:
    """How the weights are found: AdamW, its rate up at first and down on a cosine."""

    batch_size: int = 8
    """Pieces per process and step; even."""
    steps_per_epoch: int = 250
    epochs: int = 24
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    """``"cosine"`` to zero, or ``"constant"``."""
    rise_steps: int = 300
    """Steps in which the learning rate rises to its value."""
    weight_decay: float = 1e-4
    """On kernels alone."""
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    """Largest norm of all gradients together."""
    precision: str = "auto"
    """As Lightning names it; ``"auto"`` is ``"bf16-mixed"`` on a GPU, else 32 bits."""
    workers: int = 1
    """Processes that cut pieces and draw gaps; 0 does so in the training process."""
    validate_every: int = 1
    validation_pieces: int = 112
    seed: int = 20230221

    def __post_init__(self) -> None:
        check_choice("optimizer", "schedule", self.schedule, ("cosine", "constant"))
        if self.batch_size % 2:
            msg = "Pieces come in twos: two winds, or two times of a series."
            raise OptionError(
                msg,
                found=f"batch_size = {self.batch_size} in [optimizer]",
                needed="an even number",
                hint=f"batch_size = {self.batch_size + 1}",
            )


@dataclass(frozen=True)
class Objective:
    """What the network is to make small in the gaps: ``[objective]``."""

    crps: float = 1.0
    """Weight of the continuous ranked probability score of mean and spread."""
    mse: float = 0.5
    """Weight of the squared error of the mean."""
    atmodist: float = 0.0
    """Weight of the AtmoDist distance of filled winds to true ones."""
    atmodist_model: str = "atmodist-small"
    atmodist_spacing: tuple[float, float] = (0.7, 2.0)
    """Grids of winds that it is taken on, in degrees."""


@dataclass(frozen=True)
class InfillRecipe:
    """The whole recipe. What a source holds stands with it, in ``quantities``."""

    name: str
    version: str
    title: str
    train: tuple[Source, ...]
    validation: tuple[Source, ...] = ()
    calibration: tuple[Source, ...] = ()
    """Fields that are neither trained nor scored on: at release the spread is scaled
    to the errors there."""
    evaluation: tuple[Source, ...] = ()
    """What the released model is scored on, one table of scores each."""
    task: str = "infill"
    architecture: str = "infiller"
    network: Mapping[str, Any] = field(default_factory=dict)
    sampling: Gaps = Gaps()
    optimizer: Optimizer = Optimizer()
    objective: Objective = Objective()
    init_from: str | None = None
    """Begin with the weights of a run below the same ``--out``, or a released model."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """Tables that go into the model card as they are."""

    def __post_init__(self) -> None:
        convolutions = ("plain", "gated", "partial")
        kind = self.network.get("convolution", "plain")
        check_choice("network", "convolution", kind, convolutions)
        for source in (*self.train, *self.validation, *self.calibration):
            check_quantities(source)


def read_recipe(path: str | Path) -> InfillRecipe:
    """Read and check a recipe with ``task = "infill"``.

    Raises
    ------
    xatmo.errors.OptionError
        For a file that is missing, keys that no recipe has, or sources that do not say
        what they hold.
    """
    recipe: InfillRecipe = read_as(
        InfillRecipe,
        Path(path),
        sampling=Gaps,
        optimizer=Optimizer,
        objective=Objective,
    )
    return recipe
