"""Files of a published AtmoRep model: what is there, and the weights in them.

A model is a folder ``id<ID>`` with its settings, ``model_id<ID>.json``, and its
weights: in one file, in one for each epoch, or in one for each part of each field.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xatmo.errors import OptionError, WeightsError
from xatmo.zoo.importers.common import refused, some, unpickled

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Original", "find_original", "read_weights"]

_SETTINGS = re.compile(r"model_id([A-Za-z0-9]+)\.json")
_WEIGHTS = re.compile(
    r"AtmoRep_(?:(?P<part>encoder|decoder|tail)_(?P<field>\w+?)_"
    r"|(?P<info>embeds?_token_info)_)?"
    r"id(?P<id>[A-Za-z0-9]+?)(?:_epoch(?P<epoch>\d+))?\.mod"
)
# Published folders lie one or two below what an archive unpacks to.
_DEPTHS = ("", "*/", "*/*/")


@dataclass(frozen=True)
class Original:
    """A published model on disk.

    Attributes
    ----------
    id : str
    config : dict
        Its settings.
    epoch : int or None
        Of the weights, if the files say so.
    files : dict of str to Path
        What the names of tensors in a file begin with -> the file.
    """

    id: str
    config: dict[str, Any]
    epoch: int | None
    files: dict[str, Path]


def find_original(path: str | os.PathLike[str], epoch: int | None = None) -> Original:
    """Find the one model in a folder.

    Parameters
    ----------
    path : path
        ``id<ID>``, or a folder above it that holds no other model.
    epoch : int, optional
        Which of several; the file without a number, or the last one, if not given.

    Raises
    ------
    xatmo.errors.OptionError
        If there is no model, there are several, or there is no such epoch.
    xatmo.errors.WeightsError
        If the settings cannot be read, or parts are missing.
    """
    folder = Path(path).expanduser()
    found = sorted(_models(folder))
    if len(found) != 1:
        raise _not_one(folder, found)
    home, name = found[0]
    config = _settings(home / f"model_id{name}.json")
    epoch, files = _chosen(home, name, config, epoch)
    return Original(name, config, epoch, files)


def read_weights(original: Original) -> dict[str, Tensor]:
    """Read the weights of a model, under the names of its one file.

    Nothing but tensors is read: a file that would run code is refused.

    Raises
    ------
    xatmo.errors.WeightsError
        If a file is refused or damaged.
    """
    return {
        f"{start}{key}": tensor
        for start, file in original.files.items()
        for key, tensor in _tensors(file).items()
    }


def _models(folder: Path) -> Iterator[tuple[Path, str]]:
    """Folder and id of all models in a folder: settings with weights beside them."""
    for depth in _DEPTHS:
        for file in folder.glob(f"{depth}model_id*.json"):
            named = _SETTINGS.fullmatch(file.name)
            if named and any(file.parent.glob(f"AtmoRep_*id{named[1]}*.mod")):
                yield file.parent, named[1]


def _settings(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text("utf-8"))
        if not isinstance(config, dict) or not isinstance(config["fields"], list):
            msg = "no table with a list of fields"
            raise TypeError(msg)
    except (OSError, ValueError, TypeError, KeyError) as error:
        msg = f"{file} does not hold the settings of a model."
        needed = "one table in JSON, as the model's authors publish it"
        hint = "download the model again"
        found = f"{type(error).__name__}: {error}"
        raise WeightsError(msg, found=found, needed=needed, hint=hint) from error
    return config


def _chosen(
    folder: Path, name: str, config: Mapping[str, Any], epoch: int | None
) -> tuple[int | None, dict[str, Path]]:
    """Choose an epoch, and its one file if there is one, or else its parts."""
    tables: dict[int | None, dict[str, Path]] = {}
    for file in sorted(folder.glob("AtmoRep_*.mod")):
        named = _WEIGHTS.fullmatch(file.name)
        if named and named["id"] == name:
            number = None if named["epoch"] is None else int(named["epoch"])
            start = _start(named, config)
            if start is not None:
                tables.setdefault(number, {})[start] = file
    wanted = epoch if epoch is not None or None in tables else max(tables, key=_number)
    if wanted not in tables:
        msg = f"There are no weights of epoch {epoch}."
        found = (
            ", ".join(str(k) for k in tables if k is not None) or "one file, no epochs"
        )
        needed, hint = "one of these", "leave epoch out: the last one is taken"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
    files = tables[wanted]
    if "" in files:
        return wanted, {"": files[""]}
    _check_parts(files, config, folder)
    return wanted, files


def _number(epoch: int | None) -> int:
    return -1 if epoch is None else epoch


def _start(named: re.Match[str], config: Mapping[str, Any]) -> str | None:
    """What the names in a file lack: None for a field that the settings do not name."""
    if named["info"]:
        return f"{named['info']}."
    if not named["part"]:
        return ""
    key = "fields" if named["part"] == "encoder" else "fields_prediction"
    names = [entry[0] for entry in config.get(key, config["fields"])]
    if named["field"] not in names:
        return None
    return f"{named['part']}s.{names.index(named['field'])}."


def _check_parts(
    files: Mapping[str, Path], config: Mapping[str, Any], folder: Path
) -> None:
    predicted = config.get("fields_prediction", config["fields"])
    wanted = [f"encoders.{i}." for i in range(len(config["fields"]))]
    for part in ("decoders", "tails"):
        wanted += [f"{part}.{i}." for i in range(len(predicted))]
    missing = [start for start in wanted if start not in files]
    if missing or not any(start.endswith("token_info.") for start in files):
        msg = f"Parts of the model are missing in {folder}."
        found = some(sorted(file.name for file in files.values()))
        needed = "one file, or encoder, decoder and tail of each field, and token_info"
        hint = "download the model again"
        raise WeightsError(msg, found=found, needed=needed, hint=hint)


def _tensors(file: Path) -> dict[str, Tensor]:
    import torch

    state = unpickled(file)
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(tensor, torch.Tensor)
        for key, tensor in state.items()
    ):
        raise refused(file, type(state).__name__)
    return dict(state)


def _not_one(folder: Path, found: list[tuple[Path, str]]) -> OptionError:
    needed = "a folder id<ID> with model_id<ID>.json and AtmoRep_id<ID>.mod"
    if found:
        msg = f"{folder} holds several models."
        said = ", ".join(name for _, name in found)
        hint = f"xatmo models import {found[0][0]}"
        return OptionError(msg, found=said, needed="one of them", hint=hint)
    msg = f"{folder} holds no AtmoRep model."
    said = "no such folder"
    if folder.is_dir():
        said = some(sorted(p.name for p in folder.iterdir())) or "an empty folder"
    hint = 'unpack the archive first; or xatmo.load_model("atmorep-<ID>") downloads it'
    return OptionError(msg, found=said, needed=needed, hint=hint)
