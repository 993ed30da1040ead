"""Models that a user adds: imported from other formats, or derived from others.

Each becomes a folder like those of released models, beside the cache of downloads.
Every process that shares it finds the model by its name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xatmo.errors import ModelNotFoundError, OptionError
from xatmo.zoo.card import Card
from xatmo.zoo.cardfile import CARD_FILE, read_card, write_card
from xatmo.zoo.constants import Constants, tensor_name
from xatmo.zoo.fetch import cache_errors, cache_folder, imported_folder, locked
from xatmo.zoo.files import file_sha256
from xatmo.zoo.registry import cards_of
from xatmo.zoo.weights import save_tensors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NewModel", "local_tensors", "place", "readme_of", "scratch_folder"]

_WEIGHTS = "weights.safetensors"
_LOCAL = "local.safetensors"
_README = "README.md"


@dataclass(frozen=True)
class NewModel:
    """What a model's folder is made of.

    Attributes
    ----------
    contents : dict
        Of its card, but for ``[weights]`` and the file of places.
    state : mapping of str to Tensor
        Its weights.
    local : mapping of str to ndarray
        Constants of places, by the names that they have in a file; empty for none.
    readme : str
        For people.
    """

    contents: dict[str, Any]
    state: Mapping[str, Tensor]
    local: Mapping[str, np.ndarray]
    readme: str

    @property
    def has_constants(self) -> bool:
        """Whether there is something to normalise some field with."""
        fields = self.contents.get("fields", ())
        levels = [level for field in fields for level in field["levels"]]
        return bool(self.local) or any("mean" in level for level in levels)


def place(model: NewModel) -> Card:
    """Make a folder of a model, completely or not at all.

    One that is there already stays if it has the same weights, and takes new constants.

    Returns
    -------
    Card
        Of the folder.

    Raises
    ------
    xatmo.errors.OptionError
        If another model has this name.
    xatmo.errors.DownloadError
        If the cache cannot be written.
    xatmo.errors.CardError
        If the contents break the schema of cards.
    """
    target = imported_folder() / model.contents["name"]
    with cache_errors(target), locked(target), scratch_folder() as scratch:
        folder = _written(model, scratch / target.name)
        card = read_card(folder)
        _check_name(card)
        if not (target / CARD_FILE).is_file():
            shutil.rmtree(target, ignore_errors=True)
            os.replace(folder, target)
        elif model.has_constants or not _has_constants(read_card(target)):
            # The card last: before it nothing else counts.
            for file in (_LOCAL, _README, CARD_FILE):
                if (folder / file).is_file():
                    os.replace(folder / file, target / file)
    return read_card(target)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give an empty folder on the disk of the cache, for the time of the block."""
    home = cache_folder() / "unfinished"
    with cache_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=home))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def local_tensors(
    constants: Mapping[tuple[str, str], Constants],
) -> dict[str, np.ndarray]:
    """Return the constants of places by the names that they have in a file."""
    told: dict[str, np.ndarray] = {}
    for (field, level), found in constants.items():
        if found.latitude is None or found.longitude is None:
            continue
        for what in ("mean", "std"):
            array = getattr(found, what).astype(np.float32)
            told[tensor_name(field, level, what)] = np.ascontiguousarray(array)
        told["latitude"] = np.ascontiguousarray(found.latitude)
        told["longitude"] = np.ascontiguousarray(found.longitude)
    return told


def readme_of(contents: Mapping[str, Any], how: str) -> str:
    """Return a page on a model for people; ``how`` says where it comes from."""
    name, fields = contents["name"], contents["fields"]
    rows = [
        f"| {field['name']} | `{field['quantity']}` [{field['units']}] | "
        f"{', '.join(level['level'] for level in field['levels'])} |"
        for field in fields
    ]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{contents['title']}. {how}.",
            "",
            "| field | quantity | levels |",
            "|---|---|---|",
            *rows,
            "",
            "```python",
            "import xatmo",
            "",
            f'model = xatmo.load_model("{name}")',
            "# where the card has no constants, or others are wanted:",
            'norm = xatmo.fit_normalization(ds, model, by="month")',
            "model = model.with_normalization(norm)",
            "```",
            "",
            f"Licence: {contents['licence']}. {contents['citation']}.",
            "",
        ]
    )


def _written(model: NewModel, folder: Path) -> Path:
    """Write all files of a model into a folder of its name."""
    from safetensors.numpy import save_file

    folder.mkdir()
    contents = dict(model.contents)
    sha256 = save_tensors(model.state, folder / _WEIGHTS)
    size = (folder / _WEIGHTS).stat().st_size
    contents["weights"] = {"file": _WEIGHTS, "sha256": sha256, "size": size, "urls": []}
    if model.local:
        save_file(dict(model.local), folder / _LOCAL)
        (folder / _LOCAL).chmod(0o644)
        local_sha256 = file_sha256(folder / _LOCAL, afresh=True)
        local = {"local": _LOCAL, "local_sha256": local_sha256}
        contents["box"] = contents["box"] | local
    (folder / _README).write_text(model.readme, "utf-8")
    write_card(folder, contents)
    folder.chmod(0o755)
    return folder


def _has_constants(card: Card) -> bool:
    own = any(level.mean is not None for f in card.fields for level in f.levels)
    return own or (card.box is not None and card.box.local is not None)


def _check_name(card: Card) -> None:
    """Refuse a name that another model has, wherever it is found."""
    try:
        known = cards_of(card.name)
    except ModelNotFoundError:
        return
    for other in known:
        if other.weights.sha256 != card.weights.sha256:
            msg = f"There is another model of the name {card.name!r}."
            raise OptionError(
                msg,
                found=f"other weights in {other.folder}",
                needed="a name of its own",
                hint=f'name="{card.name}-2", or delete {other.folder} first',
            )
