"""A recipe of a Multiformer: its fields, and what is hidden of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xatmo.errors import OptionError
from xatmo.training.recipe import (
    Source,
    build,
    check_built,
    check_choice,
    check_quantities,
    read_as,
)

__all__ = [
    "Boxes",
    "Field",
    "Masking",
    "MultiformerRecipe",
    "Objective",
    "Optimizer",
    "Scaling",
    "read_recipe",
    "released_part",
]


@dataclass(frozen=True)
class Field:
    """What a field of the network is: ``[[fields]]``, one for each in ``[network]``."""

    name: str
    quantity: str
    """CF standard name."""
    slots: tuple[tuple[str, ...], ...]
    """For each level of the network what it may be, such as ``"10 m"``: constants are
    measured for each of them."""
    rate: float = 0.5
    """Largest share of the tokens of a level that are hidden; 0: it is only read."""
    weight: float = 1.0
    """How much it counts in the loss."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "slots", tuple(tuple(s) for s in self.slots))

    def slot_of(self, level: str) -> int | None:
        """Which level of the network a level of data is; None if none of them."""
        found = [number for number, names in enumerate(self.slots) if level in names]
        return found[0] if found else None


@dataclass(frozen=True)
class Boxes:
    """Where boxes are cut from: ``[sampling]``."""

    step_hours: int = 6
    area_weighted: float = 0.7
    """Share of boxes that are as likely as their centre's latitude has area; others are
    as likely everywhere, so that polar regions are not forgotten."""
    fewer_fields: float = 0.3
    """Share of batches with some of the fields only."""
    fewer_levels: float = 0.5
    """Share of batches with some of the levels only."""
    short: float = 0.15
    """Share of boxes whose first times are missing."""
    alone: float = 0.5
    """Share of boxes of which the last time alone is there: of finer tails only."""
    channels: int = 6
    """Fields times levels of a batch at most."""
    cache_mb: int = 4096
    """Fields kept in memory (MiB), of all sources together."""


@dataclass(frozen=True)
class Masking:
    """What is hidden of a box: ``[masking]``. The first four are relative shares."""

    tokens: float = 0.3
    """Tokens anywhere: masked, noised or coarsened, by the three shares below."""
    forecast: float = 0.3
    """The last times."""
    between: float = 0.15
    """Times in the middle."""
    gaps: float = 0.25
    """Gaps as observations have them, of any shape."""
    masked: float = 0.9
    noised: float = 0.1
    coarsened: float = 0.05
    together: float = 0.7
    """Share of boxes in which the same is hidden of all fields and levels."""
    ahead: int = 4
    """Times of a forecast at most."""

    @property
    def shares(self) -> dict[str, float]:
        """How likely each kind is."""
        kinds = {name: getattr(self, name) for name in KINDS}
        total = sum(kinds.values())
        return {name: share / total for name, share in kinds.items()}


KINDS = ("tokens", "forecast", "between", "gaps")


@dataclass(frozen=True)
class Scaling:
    """Constants of the normalisation: ``[normalization]``."""

    by: str = "level"
    """``"level"``: one mean and standard deviation each; ``"month"``: one for each
    calendar month that the training data hold, the others from all of them."""

    def __post_init__(self) -> None:
        check_choice("normalization", "by", self.by, ("level", "month"))


@dataclass(frozen=True)
class Objective:
    """What is to be made small where something was hidden: ``[objective]``."""

    member: float = 0.5
    """Weight of the squared error of members, as published."""
    statistical: float = 0.5
    """Weight of the loss of what members say together, as published."""
    crps: float = 0.0
    """Weight of the continuous ranked probability score of the ensemble. Finer tails
    have no other; these are of them only:"""
    differences: float = 0.0
    """Weight of the CRPS of finite differences, as in the task ``"downscale"``."""
    spectrum: float = 0.0
    """Weight of the CRPS of Fourier coefficients, each ring of wavenumbers alike."""
    offsets: float = 0.0
    """Weight of what members differ by everywhere alike, at each place in a token."""
    members: int = 4
    """How many, drawn anew, are scored in a step."""

    def __post_init__(self) -> None:
        if self.members < 2:
            msg = "The CRPS of an ensemble needs several members."
            found, needed = f"members = {self.members}", "two at least"
            raise OptionError(msg, found=found, needed=needed, hint="members = 4")


@dataclass(frozen=True)
class Optimizer:
    """How the weights are found: AdamW, its rate up at first and down on a cosine."""

    batch_size: int = 32
    """Boxes per process and step."""
    steps_per_epoch: int = 250
    epochs: int = 24
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    """``"cosine"`` to zero, or ``"constant"``."""
    rise_steps: int = 300
    """Steps in which the learning rate rises to its value."""
    weight_decay: float = 0.01
    """On matrices alone."""
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    """Largest norm of all gradients together."""
    precision: str = "auto"
    """As Lightning names it; ``"auto"`` is ``"bf16-mixed"`` on a GPU, else 32 bits."""
    workers: int = 1
    """Processes that cut boxes; 0 does so in the training process."""
    validate_every: int = 1
    validation_boxes: int = 512
    seed: int = 20230828

    def __post_init__(self) -> None:
        check_choice("optimizer", "schedule", self.schedule, ("cosine", "constant"))


@dataclass(frozen=True)
class MultiformerRecipe:
    """The whole recipe. What a source holds stands with it, in ``quantities``."""

    name: str
    version: str
    title: str
    fields: tuple[Field, ...]
    network: Mapping[str, Any]
    train: tuple[Source, ...]
    validation: tuple[Source, ...] = ()
    calibration: tuple[Source, ...] = ()
    """Fields that are neither trained nor scored on: at release the spread of members
    is scaled to the errors there."""
    evaluation: tuple[Source, ...] = ()
    """What the released model is scored on, one table of scores each."""
    factor: int = 1
    """Above 1 the sources are fine fields: networks read their block means, and learn
    to say what they were, on the grid so many times finer."""
    task: str = "multiformer"
    architecture: str = "multiformer"
    sampling: Boxes = Boxes()
    masking: Masking = Masking()
    normalization: Scaling = Scaling()
    optimizer: Optimizer = Optimizer()
    objective: Objective = Objective()
    init_from: str | None = None
    """Begin with the weights of a run below the same ``--out``, or a released model.
    With a ``factor`` these may have more fields and other tails, and the constants of
    the normalisation are taken over as well."""
    init_fields: tuple[str, ...] = ()
    """Runs or models whose fields are coupled here: couplings begin at zero."""
    release_fields: tuple[str, ...] = ()
    """Fields that are released, with their couplings; all if not given."""
    half_precision: bool = False
    """Write the released weights in 16 bits, into a file of half the size."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """Tables that go into the model card as they are."""

    def __post_init__(self) -> None:
        self._check_fields()
        check_built({"finer": (self.network.get("finer", 1), self.factor)})
        self._check_members()
        for source in (*self.train, *self.validation, *self.calibration):
            check_quantities(source)

    @property
    def heads(self) -> dict[str, int]:
        """Numbers of heads that couplings depend on, where the recipe says them."""
        keys = {"encoder_heads", "coupling_heads"} & set(self.network)
        return {key: int(self.network[key]) for key in keys}

    def _check_members(self) -> None:
        have, drawn = int(self.network.get("members", 16)), self.objective.members
        if self.factor > 1 and (drawn > have or self.init_fields):
            msg = "Finer tails cannot be trained like that."
            raise OptionError(
                msg,
                found=f"members = {drawn} in [objective], {have} in [network], "
                f"init_fields = {list(self.init_fields)}",
                needed="no more members than the network has, and no init_fields",
                hint=f"members = {min(4, have)} in [objective], and init_from",
            )

    def _check_fields(self) -> None:
        built = {f["name"]: f["levels"] for f in self.network.get("fields", ())}
        said = {f.name: len(f.slots) for f in self.fields}
        if built == said:
            return
        msg = "The fields of the network are not those of the recipe."
        raise OptionError(
            msg,
            found=f"levels of [[network.fields]]: {built}",
            needed=f"those of [[fields]]: {said}",
            hint="name the same fields, each with as many levels as slots",
        )


def released_part(recipe: MultiformerRecipe) -> MultiformerRecipe:
    """Return the recipe of what is released: that of some of the fields, perhaps."""
    kept = recipe.release_fields or tuple(f.name for f in recipe.fields)
    fields = tuple(f for f in recipe.fields if f.name in kept)
    quantities = {f.quantity for f in fields}

    def some(sources: tuple[Source, ...]) -> tuple[Source, ...]:
        wanted = [[q for q in s.quantities if q in quantities] for s in sources]
        pairs = zip(sources, wanted, strict=True)
        return tuple(
            replace(s, quantities=tuple(q)) for s, q in pairs if q or not s.quantities
        )

    built = [
        {**f, "sources": [s for s in f["sources"] if s in kept]}
        for f in recipe.network["fields"]
        if f["name"] in kept
    ]
    numbers = {k: v for k, v in recipe.network["level_numbers"].items() if k in kept}
    return replace(
        recipe,
        fields=fields,
        network={**recipe.network, "fields": built, "level_numbers": numbers},
        train=some(recipe.train),
        calibration=some(recipe.calibration),
        evaluation=some(recipe.evaluation),
    )


def read_recipe(path: str | Path) -> MultiformerRecipe:
    """Read and check a recipe with ``task = "multiformer"``.

    Raises
    ------
    xatmo.errors.OptionError
        For a file that is missing, keys that no recipe has, sources that do not say
        what they hold, or a network of other fields.
    """
    path = Path(path)
    recipe: MultiformerRecipe = read_as(
        _Draft,
        path,
        sampling=Boxes,
        masking=Masking,
        normalization=Scaling,
        optimizer=Optimizer,
        objective=Objective,
    ).finished(path)
    return recipe


@dataclass(frozen=True)
class _Draft(MultiformerRecipe):
    """A recipe whose fields are still tables."""

    def __post_init__(self) -> None:
        pass

    def finished(self, path: Path) -> MultiformerRecipe:
        """Return it with fields as such, checked."""
        fields = tuple(build(Field, dict(f), path) for f in self.fields)  # type: ignore[call-overload]
        return MultiformerRecipe(**{**vars(self), "fields": fields})
