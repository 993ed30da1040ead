"""A recipe of a downscaling network: what it reads, and what it is scored by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xatmo.errors import OptionError
from xatmo.training.recipe import Source, check_built, check_choice, read_as

__all__ = ["Crops", "DownscaleRecipe", "Objective", "Optimizer", "read_recipe"]


@dataclass(frozen=True)
class Crops:
    """Which pieces of the fine fields the network sees: ``[sampling]``."""

    patch: tuple[int, int] = (96, 96)
    """Fine points; the coarse field is their block mean."""
    offset: bool = True
    """Crops begin at any fine point, so that blocks fall everywhere; else on every
    ``factor``-th one."""
    mirror_latitude: bool = True
    """Exchange north and south at random: winds and vorticity change their signs."""
    mirror_longitude: bool = True
    """Exchange east and west at random."""
    cache_mb: int = 1024
    """Fields kept in memory (MiB), of all sources together."""


@dataclass(frozen=True)
class Optimizer:
    """How the weights are found: AdamW, its rate up at first and down on a cosine."""

    batch_size: int = 16
    """Crops per process and step."""
    steps_per_epoch: int = 250
    epochs: int = 16
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    """``"cosine"`` to zero, or ``"constant"``."""
    rise_steps: int = 200
    """Steps in which the learning rate rises to its value."""
    weight_decay: float = 1e-4
    """On kernels alone."""
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    """Largest norm of all gradients together; the two networks of an adversarial
    objective are not clipped."""
    precision: str = "auto"
    """As Lightning names it; ``"auto"`` is ``"bf16-mixed"`` on a GPU, else 32 bits."""
    validate_every: int = 1
    validation_crops: int = 96
    seed: int = 20230221

    def __post_init__(self) -> None:
        check_choice("optimizer", "schedule", self.schedule, ("cosine", "constant"))


@dataclass(frozen=True)
class Objective:
    """What the network is to make small: ``[objective]``.

    ``"crps"`` scores ``members`` draws of a network with noise, ``"mse"`` one field,
    ``"adversarial"`` one field by its ``content`` and by a second network, that learns
    to tell it from a true one. All see the field after conservation.
    """

    kind: str = "crps"
    members: int = 2
    fairness: float = 0.97
    """Share of the spread that the CRPS gives back: 1 is fair, and lets members run
    away from each other unpunished; a little less does not."""
    differences: float = 1.0
    """Weight of the CRPS of finite differences: one and two points apart along either
    axis, and the mixed second difference."""
    spectrum: float = 0.0
    """Weight of the CRPS of Fourier coefficients, each ring of wavenumbers alike."""
    block_mean: float = 0.1
    """Weight of the squared error of block means before conservation."""
    content: str = "mse"
    """``"mse"``, or ``"atmodist"``: the distance to a pretrained network."""
    content_model: str = "atmodist-small"
    content_layer: str | None = None
    content_level: str | None = None
    """Level whose constants the model reads all fields with; theirs by default."""
    adversarial_weight: float = 0.001
    low: float = 0.46
    """The generator takes another step where the discriminator's loss is below."""
    high: float = 0.6
    """The discriminator takes another step where its loss is above."""

    def __post_init__(self) -> None:
        kinds = ("crps", "mse", "adversarial")
        check_choice("objective", "kind", self.kind, kinds)
        check_choice("objective", "content", self.content, ("mse", "atmodist"))


@dataclass(frozen=True)
class DownscaleRecipe:
    """The whole recipe."""

    name: str
    version: str
    title: str
    quantities: tuple[str, ...]
    train: tuple[Source, ...]
    validation: tuple[Source, ...] = ()
    calibration: tuple[Source, ...] = ()
    """Days that are neither trained nor scored on: at release the noise is scaled so
    that the spread of draws is their error there."""
    evaluation: tuple[Source, ...] = ()
    """What the released model is scored on, one table of scores each."""
    task: str = "downscale"
    architecture: str = "generator"
    network: Mapping[str, Any] = field(default_factory=dict)
    factor: int = 4
    normalization: Mapping[str, Any] = field(default_factory=lambda: {"kind": "zscore"})
    """``kind = "zscore"``; with ``of = "name"`` the constants are those of an earlier
    run or a released model, which a network that begins with its weights is used to;
    ``levels`` are those that it knows from there alone."""
    sampling: Crops = Crops()
    optimizer: Optimizer = Optimizer()
    objective: Objective = Objective()
    init_from: str | None = None
    """Begin with the weights of a run below the same ``--out``, or a released model."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """Tables that go into the model card as they are."""

    def __post_init__(self) -> None:
        kind = self.normalization.get("kind", "zscore")
        check_choice("normalization", "kind", kind, ("zscore",))
        _check_network(self)
        _check_patch(self)


def read_recipe(path: str | Path) -> DownscaleRecipe:
    """Read and check a recipe with ``task = "downscale"``.

    Raises
    ------
    xatmo.errors.OptionError
        For a file that is missing, keys that no recipe has, or parts that do not fit
        each other.
    """
    recipe: DownscaleRecipe = read_as(
        DownscaleRecipe,
        Path(path),
        sampling=Crops,
        optimizer=Optimizer,
        objective=Objective,
    )
    return recipe


def _check_network(recipe: DownscaleRecipe) -> None:
    """Refuse a network that is built for another task than the objective's."""
    check_built(
        {
            "channels": (recipe.network.get("channels", 2), len(recipe.quantities)),
            "factor": (recipe.network.get("factor", 4), recipe.factor),
        }
    )
    noise, kind = recipe.network.get("noise", 0), recipe.objective.kind
    if (noise > 0) != (kind == "crps"):
        msg = f"The objective {kind!r} does not fit a network that reads noise."
        if not noise:
            msg = "The CRPS needs draws that differ, and this network reads no noise."
        raise OptionError(
            msg,
            found=f"noise = {noise} in [network], kind = {kind!r} in [objective]",
            needed="noise with 'crps', and none with 'mse' or 'adversarial'",
            hint="noise = 16 in [network]" if not noise else 'kind = "crps"',
        )


def _check_patch(recipe: DownscaleRecipe) -> None:
    patch, factor = recipe.sampling.patch, recipe.factor
    if all(n > 0 and n % factor == 0 for n in patch):
        return
    msg = f"A patch of {patch[0]} x {patch[1]} points has no whole blocks."
    raise OptionError(
        msg,
        found=f"patch = {list(patch)}, factor = {factor}",
        needed=f"multiples of {factor}",
        hint=f"patch = {[max(1, n // factor) * factor for n in patch]} in [sampling]",
    )
