"""A recipe of a ClimaX: its variables, and how far ahead it looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xatmo.training.recipe import (
    Source,
    build,
    check_choice,
    check_quantities,
    read_as,
)

__all__ = ["ClimaXRecipe", "Leads", "Optimizer", "Variables", "read_recipe"]


@dataclass(frozen=True)
class Variables:
    """A quantity at the levels that the network knows: ``[[fields]]``."""

    name: str
    quantity: str
    """CF standard name."""
    levels: Mapping[str, str]
    """Level, such as ``"850 hPa"`` -> what the network calls it there."""

    @property
    def slots(self) -> tuple[tuple[str, ...], ...]:
        """Each level is one of its own."""
        return tuple((level,) for level in self.levels)

    def slot_of(self, level: str) -> int | None:
        """Which level it is; None if it is none of them."""
        levels = list(self.levels)
        return levels.index(level) if level in levels else None


@dataclass(frozen=True)
class Leads:
    """Which pairs of times are drawn: ``[sampling]``."""

    step_hours: int = 6
    longest: int = 12
    """Steps ahead at most."""
    leaning: float = 0.0
    """How much likelier short leads are than long ones: as the power of one over the
    lead. 0: all are as likely."""
    fewer_variables: float = 0.2
    """Share of batches with some of the variables only."""
    factor: int = 1
    """Above 1: not ahead but finer. Means over so many rows and columns, interpolated
    back, are what is read, and the fields themselves what is predicted."""
    cache_mb: int = 2048
    """Fields kept in memory (MiB), of all sources together."""

    @property
    def hours(self) -> tuple[int, ...]:
        """Lead times in hours."""
        if self.factor > 1:
            return (0,)
        return tuple(self.step_hours * n for n in range(1, self.longest + 1))


@dataclass(frozen=True)
class Optimizer:
    """How the weights are found: ``[optimizer]``. Rates rise and fall as published."""

    batch_size: int = 16
    """Samples per process and step."""
    steps_per_epoch: int = 250
    epochs: int = 20
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    """``"cosine"`` to ``end_rate``, or ``"constant"`` once it has risen."""
    rise_steps: int = 500
    """Steps in which the learning rate rises to its value."""
    end_rate: float = 1e-8
    """Where the rate begins and ends."""
    weight_decay: float = 1e-5
    """Of all but the codes of variables and places."""
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    """Largest norm of all gradients together."""
    freeze: bool = False
    """Keep the blocks of the encoder as they are, but for their norms."""
    precision: str = "auto"
    """As Lightning names it; ``"auto"`` is ``"bf16-mixed"`` on a GPU, else 32 bits."""
    workers: int = 0
    """Processes that draw samples; 0 does so in the training process."""
    validate_every: int = 1
    validation_samples: int = 512
    seed: int = 20230124

    def __post_init__(self) -> None:
        check_choice("optimizer", "schedule", self.schedule, ("cosine", "constant"))


@dataclass(frozen=True)
class ClimaXRecipe:
    """The whole recipe. What a source holds stands with it, in ``quantities``."""

    name: str
    version: str
    title: str
    fields: tuple[Variables, ...]
    network: Mapping[str, Any]
    """Without ``variables``, which follow from the fields; without ``grid`` too, where
    it is to be that of the data."""
    train: tuple[Source, ...]
    validation: tuple[Source, ...] = ()
    evaluation: tuple[Source, ...] = ()
    """What the released model is scored on, one table of scores for each scene."""
    task: str = "climax"
    architecture: str = "climax"
    sampling: Leads = Leads()
    optimizer: Optimizer = Optimizer()
    init_from: str | None = None
    """Begin with the weights of a run below the same ``--out``, or of a model: those of
    the same variables, and of places interpolated to those of the data."""
    init_variables: Mapping[str, str] = field(default_factory=dict)
    """Variable -> which one of those weights it begins as, if not that of its name."""
    northward: bool = False
    """Rows go from south to north in the network, as in published ones."""
    half_precision: bool = False
    """Write the released weights in 16 bits, into a file of half the size."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """Tables that go into the model card as they are."""

    def __post_init__(self) -> None:
        for source in (*self.train, *self.validation, *self.evaluation):
            check_quantities(source)

    @property
    def variables(self) -> tuple[str, ...]:
        """What the network calls its variables, in its order."""
        return tuple(v for f in self.fields for v in f.levels.values())


def read_recipe(path: str | Path) -> ClimaXRecipe:
    """Read and check a recipe with ``task = "climax"``.

    Raises
    ------
    xatmo.errors.OptionError
        For a file that is missing, keys that no recipe has, or sources that do not say
        what they hold.
    """
    path = Path(path)
    draft = read_as(_Draft, path, sampling=Leads, optimizer=Optimizer)
    recipe: ClimaXRecipe = draft.finished(path)
    return recipe


@dataclass(frozen=True)
class _Draft(ClimaXRecipe):
    """A recipe whose fields are still tables."""

    def __post_init__(self) -> None:
        pass

    def finished(self, path: Path) -> ClimaXRecipe:
        """Return it with fields as such, checked."""
        fields = tuple(build(Variables, dict(f), path) for f in self.fields)  # type: ignore[call-overload]
        network = dict(self.network)
        network["variables"] = [v for f in fields for v in f.levels.values()]
        return ClimaXRecipe(**{**vars(self), "fields": fields, "network": network})
