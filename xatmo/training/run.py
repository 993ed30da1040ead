"""``xatmo train RECIPE``: prepare the data, train, leave a folder to release from."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn

from xatmo.errors import ModelNotFoundError, OptionError
from xatmo.fields import find_axes
from xatmo.nets import ARCHITECTURES
from xatmo.nets.normalization import SignLog
from xatmo.training.data import PairData
from xatmo.training.module import PairClassifier
from xatmo.training.prepare import fit_normalization, open_source, prepare_source
from xatmo.training.recipe import Recipe, Source, read_recipe
from xatmo.training.sampling import FieldStore, PairSampler
from xatmo.zoo import load_model

__all__ = ["build_network", "load_initial", "network_state", "prepare_all", "train"]


def train(
    recipe_path: str | Path,
    *,
    data: str | None = None,
    out: str | Path = "runs",
    devices: int = 1,
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
    out : path
        The run goes into ``<out>/<name>``: prepared data, logs (CSV and TensorBoard),
        checkpoints, ``run.json`` with the constants.
    devices : int
        GPUs, or processes on a CPU.
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
    recipe = read_recipe(recipe_path)
    if data is not None:
        recipe = _on(recipe, data)
    if max_epochs is not None:
        settings = replace(recipe.optimizer, epochs=max_epochs)
        recipe = replace(recipe, optimizer=settings)
    folder = Path(out) / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    levels, train_pairs, held_out = prepare_all(recipe, folder)
    L.seed_everything(recipe.optimizer.seed)
    normalizers = [_normalizer(recipe, c) for c in levels.values()]
    last = folder / "checkpoints" / "last.ckpt"
    network = build_network(recipe)
    if recipe.init_from and not last.exists():
        load_initial(network, recipe.init_from, Path(out))
    module = PairClassifier(network, normalizers, recipe.optimizer)
    trainer = _trainer(recipe, folder, devices, stop_after, progress)
    trainer.fit(
        module,
        PairData(train_pairs, held_out, recipe.optimizer),
        ckpt_path=str(last) if last.exists() else None,
        weights_only=True,
    )
    return folder


def prepare_all(
    recipe: Recipe, folder: Path
) -> tuple[dict[str, dict[str, Any]], PairSampler, PairSampler | None]:
    """Write the stores, measure the constants, and build the two samplers."""
    alpha = float(recipe.normalization.get("alpha", 0.0))

    def prepared(sources: tuple[Source, ...]) -> list[Path]:
        return [prepare_source(s, recipe.quantities, folder / "data") for s in sources]

    paths = prepared(recipe.train)
    stores = [FieldStore(path) for path in paths]
    levels: dict[str, dict[str, Any]] = {}
    for level in dict.fromkeys(store.level for store in stores):
        # The native grid sets the constants; coarser copies are read with the same.
        native = [
            path
            for path, store, source in zip(paths, stores, recipe.train, strict=True)
            if store.level == level and source.coarsen == 1
        ]
        levels[level] = {"trained": True, **fit_normalization(native, alpha)}
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
        kept = [FieldStore(path) for path in prepared(recipe.validation)]
        held_out = PairSampler(kept, [1.0] * len(kept), trained, plain, seed + 1)
    _write_run(recipe, levels, folder)
    return levels, pairs, held_out


def build_network(recipe: Recipe) -> nn.Module:
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
    checkpoint = out / name / "checkpoints" / "last.ckpt"
    if checkpoint.exists():
        state = network_state(checkpoint)
    else:
        try:
            state = load_model(name).network().state_dict()
        except ModelNotFoundError as error:
            msg = f"There are no weights {name!r} to begin with."
            raise OptionError(
                msg,
                found=f"no {checkpoint}, and no released model {name!r}",
                needed="a finished run or a released model",
                hint=f"xatmo train the recipe of {name!r} first, with the same --out",
            ) from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        msg = f"The weights {name!r} do not fit this recipe's network."
        raise OptionError(
            msg,
            found=str(error).splitlines()[-1].strip(),
            needed="the same [network] in both recipes",
            hint=f"compare [network] with the recipe of {name!r}",
        ) from error


def network_state(checkpoint: Path) -> dict[str, Tensor]:
    """Return the network's weights in a checkpoint of training."""
    told = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = told["state_dict"].items()
    return {key.removeprefix("network."): value for key, value in state}


def _write_run(recipe: Recipe, levels: dict[str, dict[str, Any]], folder: Path) -> None:
    told = {"recipe": asdict(recipe), "levels": levels}
    (folder / "run.json").write_text(json.dumps(told, indent=1, default=list))


def _normalizer(recipe: Recipe, constants: dict[str, Any]) -> SignLog:
    values = {k: v for k, v in constants.items() if k != "trained"}
    return SignLog(**values, alpha=recipe.normalization["alpha"])


def _trainer(
    recipe: Recipe, folder: Path, devices: int, stop: int | None, progress: bool
) -> L.Trainer:
    s = recipe.optimizer
    checkpoints = folder / "checkpoints"
    return L.Trainer(
        max_epochs=stop or s.epochs,
        accelerator="auto",
        devices=devices,
        precision=s.precision,
        logger=[
            # One version per start: what a resumed run writes joins what there is.
            CSVLogger(folder, name="csv"),
            TensorBoardLogger(folder, name="tensorboard"),
        ],
        callbacks=[
            ModelCheckpoint(checkpoints, save_last=True, save_top_k=0),
            LearningRateMonitor("epoch"),
        ],
        reload_dataloaders_every_n_epochs=1,
        check_val_every_n_epoch=s.validate_every,
        num_sanity_val_steps=0,
        enable_progress_bar=progress,
        enable_model_summary=False,
        log_every_n_steps=50,
    )


def _on(recipe: Recipe, path: str) -> Recipe:
    """The recipe on one data set: the last part held out, behind a gap.

    A tenth of the period is held out, but at least twice the longest lag; the gap is
    as long as that lag, so that no pair reaches from one part into the other.
    """
    ds = open_source(Source(path))
    times = ds.indexes[str(find_axes(ds).time)]
    longest = dt.timedelta(hours=recipe.sampling.step_hours * recipe.sampling.n_lags)
    period = times[-1] - times[0]
    cut = times[-1] - max(period / 10, 2 * longest)
    return replace(
        recipe,
        train=(Source(path, end=str(cut - longest)),),
        validation=(Source(path, start=str(cut)),),
        constants=(),
    )
