"""A recipe of a network that fills a hole in the middle of a patch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xatmo.errors import OptionError
from xatmo.training.downscale.recipe import Crops
from xatmo.training.recipe import Source, check_built, check_choice, read_as

__all__ = ["HoleRecipe", "Objective", "Optimizer", "read_recipe"]


@dataclass(frozen=True)
class Optimizer:
    """How the weights are found: Adam, as published, its rate down on a cosine."""

    batch_size: int = 16
    """Patches per process and step."""
    steps_per_epoch: int = 100
    epochs: int = 12
    learning_rate: float = 1e-4
    schedule: str = "cosine"
    """``"cosine"`` to zero, or ``"constant"``."""
    rise_steps: int = 0
    """Steps in which the learning rate rises to its value."""
    weight_penalty: float = 1e-3
    """Times the sum of squared kernels, added to the loss (Keras' l2)."""
    clip_norm: float = 5.0
    """Largest gradient norm, tensor by tensor."""
    precision: str = "auto"
    """As Lightning names it; ``"auto"`` is ``"bf16-mixed"`` on a GPU, else 32 bits."""
    validate_every: int = 1
    validation_crops: int = 96
    seed: int = 20230221

    def __post_init__(self) -> None:
        check_choice("optimizer", "schedule", self.schedule, ("cosine", "constant"))


@dataclass(frozen=True)
class Objective:
    """What is missing, and what is to be small there: ``[objective]``."""

    hole: tuple[int, int] = (59, 99)
    """First row that is missing, and first that is there again; columns alike. Zeros
    stand in for them, and nothing tells the network which zeros."""
    content: str = "mse"
    """``"mse"``, or ``"atmodist"``: the distance of the filled piece to the true one,
    to a pretrained network that sees nothing around it, and a little of the error."""
    content_weight: float = 0.9
    """Share of the distance; the rest is that of the squared error."""
    content_model: str = "atmodist-small"
    content_layer: str | None = None
    content_level: str | None = None
    """Level whose constants the model reads all fields with; theirs by default."""

    def __post_init__(self) -> None:
        check_choice("objective", "content", self.content, ("mse", "atmodist"))

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the hole."""
        return slice(*self.hole), slice(*self.hole)


@dataclass(frozen=True)
class HoleRecipe:
    """The whole recipe."""

    name: str
    version: str
    title: str
    quantities: tuple[str, ...]
    train: tuple[Source, ...]
    validation: tuple[Source, ...] = ()
    evaluation: tuple[Source, ...] = ()
    """What networks are compared on, one table of scores each."""
    task: str = "hole"
    architecture: str = "autoencoder"
    network: Mapping[str, Any] = field(default_factory=dict)
    normalization: Mapping[str, Any] = field(default_factory=lambda: {"kind": "zscore"})
    sampling: Crops = field(default_factory=lambda: Crops(patch=(160, 160)))
    optimizer: Optimizer = Optimizer()
    objective: Objective = Objective()
    init_from: str | None = None
    """Begin with the weights of a run below the same ``--out``."""
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = self.normalization.get("kind", "zscore")
        check_choice("normalization", "kind", kind, ("zscore",))
        built = tuple(self.network.get("patch", (160, 160)))
        channels = self.network.get("channels", 2)
        check_built(
            {
                "channels": (channels, len(self.quantities)),
                "patch": (list(built), list(self.sampling.patch)),
            }
        )
        _check_hole(self)

    @property
    def factor(self) -> int:
        """Patches begin at any point."""
        return 1


def read_recipe(path: str | Path) -> HoleRecipe:
    """Read and check a recipe with ``task = "hole"``.

    Raises
    ------
    xatmo.errors.OptionError
        For a file that is missing, keys that no recipe has, or parts that do not fit
        each other.
    """
    recipe: HoleRecipe = read_as(
        HoleRecipe,
        Path(path),
        sampling=Crops,
        optimizer=Optimizer,
        objective=Objective,
    )
    return recipe


def _check_hole(recipe: HoleRecipe) -> None:
    first, after = recipe.objective.hole
    if 0 < first < after < min(recipe.sampling.patch):
        return
    size = min(recipe.sampling.patch)
    msg = "The hole does not lie inside the patch."
    raise OptionError(
        msg,
        found=f"hole = [{first}, {after}], patch = {list(recipe.sampling.patch)}",
        needed=f"a first and a later row between 0 and {size}",
        hint=f"hole = [{3 * size // 8}, {5 * size // 8}] in [objective]",
    )
