"""``xatmo train RECIPE``: prepare the data, train, leave a folder to release from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn

from xatmo.errors import ModelNotFoundError, OptionError
from xatmo.nets import ARCHITECTURES
from xatmo.nets.normalization import SignLog
from xatmo.training.checkpoints import (
    EveryEpoch,
    WholeFiles,
    check_unchanged,
    find_checkpoint,
    write_run,
)
from xatmo.training.checks import (
    check_alone,
    check_classes,
    check_devices,
    on_data,
    warn_of_grid,
)
from xatmo.training.data import PairData
from xatmo.training.logs import Throughput, write_curve
from xatmo.training.module import PairClassifier
from xatmo.training.parallel import LeaveInOrder, SharedStatistics
from xatmo.training.prepare import fit_normalization, prepare_source
from xatmo.training.recipe import (
    AnyRecipe,
    Recipe,
    Source,
    check_choice,
    read_recipe,
    task,
)
from xatmo.training.sampling import FieldStore, PairSampler, open_stores
from xatmo.zoo import load_model

__all__ = [
    "Job",
    "build_network",
    "build_trainer",
    "fit_levels",
    "initial_state",
    "load_initial",
    "network_state",
    "prepare_all",
    "signlog",
    "train",
]


def train(
    recipe_path: str | Path,
    *,
    data: str | None = None,
    level: str | None = None,
    coarsen: int = 1,
    out: str | Path = "runs",
    devices: int = 1,
    accelerator: str = "auto",
    max_epochs: int | None = None,
    stop_after: int | None = None,
    progress: bool = True,
) -> Path:
    """Train what a recipe describes; called again, go on where it stopped.

    Parameters
    ----------
    recipe_path : path
    data : str, optional
        Train on this file or store in place of the recipe's sources; the last tenth of
        its period is held out.
    level : str, optional
        Of ``data``, if these have several, such as ``"850 hPa"``.
    coarsen : int
        Train on means of so many rows and columns of ``data``.
    out : path
        The run goes into ``<out>/<name>``: prepared data, logs (CSV and TensorBoard),
        checkpoints, ``run.json`` with the constants, ``curve.json``.
    devices : int
        GPUs, or processes on a CPU. The recipe's ``batch_size`` is that of each: two
        devices do what one does with twice the batch.
    accelerator : str
        ``"auto"``, ``"cpu"`` or ``"gpu"``.
    max_epochs : int, optional
        In place of the recipe's.
    stop_after : int, optional
        Stop after this epoch; the schedule stays that of the whole run.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The folder of the run.
    """
    check_devices(devices, accelerator)
    asked = partial(_asked, data=data, level=level, coarsen=coarsen, epochs=max_epochs)
    job = _begin(Path(recipe_path), asked, Path(out))
    recipe, folder = job.recipe, job.folder
    if not job.parallel:
        check_alone(devices)
    checkpoint = find_checkpoint(folder / "checkpoints")
    if checkpoint:
        check_unchanged(recipe, job.levels, folder)
    else:
        write_run(recipe, job.levels, folder)
    s = recipe.optimizer
    L.seed_everything(s.seed)
    network = build_network(recipe)
    if not checkpoint:
        if job.initial:
            job.initial(network)
        elif recipe.init_from:
            load_initial(network, recipe.init_from, Path(out))
    trainer = build_trainer(
        s,
        folder,
        devices,
        accelerator,
        stop_after,
        progress,
        job.unit,
        leaves_out=job.leaves_out,
    )
    trainer.fit(
        job.module(network),
        job.data,
        ckpt_path=str(checkpoint) if checkpoint else None,
        weights_only=True,
    )
    write_curve(folder)
    return folder


@dataclass(frozen=True)
class Job:
    """What is to be trained, on what: ready to begin, or to go on."""

    recipe: AnyRecipe
    folder: Path
    levels: dict[str, dict[str, Any]]
    """Constants of the normalisation, level by level."""
    module: Callable[[nn.Module], L.LightningModule]
    """Makes what Lightning trains of the network."""
    data: L.LightningDataModule
    unit: str = "pairs"
    """What a sample is called."""
    parallel: bool = True
    """Whether several devices can share it."""
    leaves_out: bool = False
    """Whether a step may leave out parts of the network."""
    initial: Callable[[nn.Module], None] | None = None
    """Gives the network weights to begin with, where those of one run are not all."""


_TASKS = (
    "pairs",
    "downscale",
    "infill",
    "hole",
    "multiformer",
    "climax",
    "projection",
)


def _begin(path: Path, asked: Callable[[Any, Any], Any], out: Path) -> Job:
    """Prepare the data of a recipe of any task."""
    kind = task(path)
    check_choice("recipe", "task", kind, _TASKS)
    if kind != "pairs":
        job: Job = import_module(f"xatmo.training.{kind}.run").begin(path, asked, out)
        return job
    recipe = asked(read_recipe(path), on_data)
    check_classes(recipe)
    folder = out / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    levels, pairs, held_out = prepare_all(recipe, folder)
    warn_of_grid(recipe, pairs.stores)
    normalizers = [signlog(recipe, c) for c in levels.values()]
    s = recipe.optimizer
    module = partial(PairClassifier, normalizers=normalizers, optimizer=s)
    return Job(recipe, folder, levels, module, PairData(pairs, held_out, s))


def prepare_all(
    recipe: Recipe, folder: Path
) -> tuple[dict[str, dict[str, Any]], PairSampler, PairSampler | None]:
    """Write the stores, measure the constants, and build the two samplers."""
    alpha = float(recipe.normalization.get("alpha", 0.0))

    def prepared(sources: tuple[Source, ...]) -> list[Path]:
        return [prepare_source(s, recipe.quantities, folder / "data") for s in sources]

    paths = prepared(recipe.train)
    stores = open_stores(paths, recipe.sampling.cache_mb)
    levels = fit_levels(recipe.train, stores, alpha)
    trained = list(levels)
    for path in prepared(recipe.constants):
        constants = fit_normalization([path], alpha)
        levels[FieldStore(path).level] = {"trained": False, **constants}
    seed = recipe.optimizer.seed
    weights = [source.weight for source in recipe.train]
    pairs = PairSampler(stores, weights, trained, recipe.sampling, seed)
    held_out = None
    if recipe.validation:
        plain = replace(recipe.sampling, mirror=False)
        kept = open_stores(prepared(recipe.validation), plain.cache_mb)
        held_out = PairSampler(kept, [1.0] * len(kept), trained, plain, seed + 1)
    return levels, pairs, held_out


def fit_levels(
    sources: Sequence[Source], stores: Sequence[FieldStore], alpha: float | None
) -> dict[str, dict[str, Any]]:
    """Measure the constants of each level that is trained on."""
    levels: dict[str, dict[str, Any]] = {}
    for level in dict.fromkeys(store.level for store in stores):
        # The first grid sets the constants; copies on others are read with the same.
        here = [i for i, store in enumerate(stores) if store.level == level]
        grid = sources[here[0]].coarsen, sources[here[0]].spacing
        native = [
            stores[i].path
            for i in here
            if (sources[i].coarsen, sources[i].spacing) == grid
        ]
        levels[level] = {"trained": True, **fit_normalization(native, alpha)}
    return levels


def build_network(recipe: AnyRecipe) -> nn.Module:
    """Build the recipe's network, untrained."""
    module, _, name = ARCHITECTURES[recipe.architecture].partition(":")
    network: nn.Module = getattr(import_module(module), name)(**recipe.network)
    return network


def load_initial(network: nn.Module, name: str, out: Path) -> None:
    """Give a network the weights of an earlier run or of a released model.

    Raises
    ------
    xatmo.errors.OptionError
        If there is neither, or the weights belong to another network.
    """
    try:
        network.load_state_dict(initial_state(name, out))
    except RuntimeError as error:
        msg = f"The weights {name!r} do not fit this recipe's network."
        raise OptionError(
            msg,
            found=str(error).splitlines()[-1].strip(),
            needed="the same [network] in both recipes",
            hint=f"compare [network] with the recipe of {name!r}",
        ) from error


def initial_state(name: str, out: Path) -> dict[str, Tensor]:
    """Return the weights of an earlier run below ``out``, or of a released model.

    Raises
    ------
    xatmo.errors.OptionError
        If there is neither.
    """
    checkpoint = out / name / "checkpoints" / "last.ckpt"
    if checkpoint.exists():
        return network_state(checkpoint)
    try:
        return load_model(name).network().state_dict()
    except ModelNotFoundError as error:
        msg = f"There are no weights {name!r} to begin with."
        raise OptionError(
            msg,
            found=f"no {checkpoint}, and no released model {name!r}",
            needed="a finished run or a released model",
            hint=f"xatmo train the recipe of {name!r} first, with the same --out",
        ) from error


def network_state(checkpoint: Path) -> dict[str, Tensor]:
    """Return the network's weights in a checkpoint of training."""
    told = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = told["state_dict"].items()
    return {k.removeprefix("network."): v for k, v in state if k.startswith("network.")}


def signlog(recipe: Recipe, constants: dict[str, Any]) -> SignLog:
    """Build the normalisation of one level from its measured constants."""
    values = {k: v for k, v in constants.items() if k != "trained"}
    return SignLog(**values, alpha=recipe.normalization["alpha"])


def build_trainer(
    settings: Any,
    folder: Path,
    devices: int,
    accelerator: str,
    stop: int | None,
    progress: bool,
    unit: str = "pairs",
    *,
    leaves_out: bool = False,
) -> L.Trainer:
    """Set up what trains, logs and saves, as the recipe's ``[optimizer]`` says.

    ``unit`` is what the log counts per second; ``leaves_out`` as of :class:`Job`.
    """
    s = settings
    gpu = accelerator != "cpu" and torch.cuda.is_available()
    several = devices > 1
    return L.Trainer(
        max_epochs=min(stop or s.epochs, s.epochs),
        accelerator="gpu" if gpu else "cpu",
        devices=devices,
        # Started by us, not by running the user's script or notebook once more.
        strategy=_strategy(leaves_out) if several else "auto",
        precision=_precision(s.precision, gpu),
        sync_batchnorm=several and gpu,
        plugins=[WholeFiles(), *([SharedStatistics()] if several and not gpu else [])],
        logger=[
            # One version per start: what a resumed run writes joins what there is.
            CSVLogger(folder, name="csv", flush_logs_every_n_steps=1),
            TensorBoardLogger(folder, name="tensorboard"),
        ],
        callbacks=[
            Throughput(unit),
            EveryEpoch(folder / "checkpoints"),
            *([LeaveInOrder()] if several else []),
        ],
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,  # each process draws its own part
        check_val_every_n_epoch=s.validate_every,
        num_sanity_val_steps=0,
        enable_progress_bar=progress,
        enable_model_summary=False,
        log_every_n_steps=50,
    )


def _strategy(leaves_out: bool) -> str:
    return "ddp_spawn_find_unused_parameters_true" if leaves_out else "ddp_spawn"


def _precision(wanted: str, gpu: bool) -> str:
    if wanted != "auto":
        return wanted
    if not gpu:
        return "32-true"
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if native else "16-mixed"


def _asked(
    recipe: Any,
    onto: Callable[[Any, Source], Any],
    data: str | None,
    level: str | None,
    coarsen: int,
    epochs: int | None,
) -> Any:
    """The recipe with what the call asks for in place of its own."""
    if data is not None:
        recipe = onto(recipe, Source(data, level=level, coarsen=coarsen))
    elif level is not None or coarsen != 1:
        msg = "A level or a coarser grid can be chosen for data of the call only."
        raise OptionError(
            msg,
            found="--level or --coarsen without --data",
            needed="--data, or level and coarsen for each source of the recipe",
            hint='level = "850 hPa" below [[data.train]] in the recipe',
        )
    if epochs is not None:
        settings = replace(recipe.optimizer, epochs=epochs)
        recipe = replace(recipe, optimizer=settings)
    return recipe
