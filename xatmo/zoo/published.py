"""Published models by their names: fetched from their authors, imported once.

The authors publish no sums of their files. So where no sum is known here, the first
download that makes a whole model is what later ones are compared with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xatmo.errors import DownloadError, ModelNotFoundError, WeightsError
from xatmo.zoo.fetch import cache_errors, cache_folder, download, locked
from xatmo.zoo.files import draft, file_sha256
from xatmo.zoo.importing import import_model
from xatmo.zoo.registry import cards_of

__all__ = ["PUBLISHERS", "Known", "Publisher", "fetch_published", "is_published"]


@dataclass(frozen=True)
class Known:
    """A model that is known to have been published.

    Attributes
    ----------
    what : str
        What it is of.
    sha256 : str or None
        Of its file, if the authors or somebody who is trusted has said it.
    options : mapping
        Arguments of :func:`xatmo.import_model` that the file does not tell.
    """

    what: str
    sha256: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Publisher:
    """Where models of one kind are published.

    Attributes
    ----------
    title : str
        What people call them.
    url : str
        The folder with the files.
    variable : str
        Of the environment: names another place.
    folder : str
        For the files, in the cache folder.
    file, suffix : str
        Of a model: what stands before and after its id.
    models : dict of str to Known
        By their ids.
    """

    title: str
    url: str
    variable: str
    folder: str
    file: str
    suffix: str
    models: dict[str, Known]

    def address(self, known: str) -> str:
        """Return the address of a model's file."""
        base = os.environ.get(self.variable) or self.url
        return f"{base.rstrip('/')}/{self.file}{known}{self.suffix}"

    def path(self, known: str) -> Path:
        """Return where the file is kept."""
        home = cache_folder() / self.folder / known
        return home / f"{self.file}{known}{self.suffix}"

    def record(self, known: str) -> Path:
        """Return where the sum of the first download is kept."""
        return self.path(known).with_name(f"{self.file}{known}.json")


_ATMOREP = {
    "4nvwbetz": "vorticity",
    "oxpycr7w": "divergence",
    "dys79lgw": "velocity_u",
    "22j6gysw": "velocity_v",
    "15oisw8d": "velocity_z",
    "1565pb1f": "specific_humidity",
    "3kdutwqb": "total_precip",
    "3qou60es": "temperature, large tokens",
    "2147fkco": "temperature",
    "1jh2qvrx": "six fields with velocity",
    "wqqy94oa": "six fields with vorticity and divergence",
    "3cizyl1q": "velocity_u, velocity_v, temperature",
    "1v4qk0qx": "fine-tuned for 3 hours",
    "1m79039j": "fine-tuned for 6 hours",
    "j8dwr5qj": "velocity_u, 2024",
    "0tlnm5up": "velocity_v, 2024",
    "v63l01zu": "specific_humidity, 2024",
    "9l1errbo": "velocity_z, 2024",
    "7ojls62c": "temperature, 2024",
    "599ioq5r": "total_precip, 2024",
    "wc5e2i3t": "six fields, 2024",
}
_CLIMAX = {
    "5.625deg": "48 variables, trained on CMIP6 at 5.625°",
    "1.40625deg": "48 variables, trained on CMIP6 at 1.40625°",
}

PUBLISHERS = {
    "atmorep-": Publisher(
        title="AtmoRep",
        url="https://datapub.fz-juelich.de/atmorep/models",
        variable="XATMO_ATMOREP_URL",
        folder="atmorep",
        file="model_id",
        suffix=".tar.gz",
        models={known: Known(what) for known, what in _ATMOREP.items()},
    ),
    "climax-": Publisher(
        title="ClimaX",
        url="https://huggingface.co/tungnd/climax/resolve/main",
        variable="XATMO_CLIMAX_URL",
        folder="climax",
        file="",
        suffix=".ckpt",
        models={known: Known(what) for known, what in _CLIMAX.items()},
    ),
}
"""What the names of published models begin with -> where they are."""


def is_published(name: Any) -> bool:
    """Whether a name begins like those of published models."""
    return isinstance(name, str) and name.startswith(tuple(PUBLISHERS))


def fetch_published(name: str) -> None:
    """Download and import a model, unless another process was faster.

    Parameters
    ----------
    name : str
        Such as ``atmorep-<ID>``: see :data:`PUBLISHERS`.

    Raises
    ------
    xatmo.errors.ModelNotFoundError
        If no such id is known.
    xatmo.errors.DownloadError
        If it cannot be fetched, or is another file than the first time, or than it is
        known to be.
    xatmo.errors.WeightsError
        If the file is damaged, or is no model.
    """
    prefix = next(start for start in PUBLISHERS if name.startswith(start))
    publisher, known = PUBLISHERS[prefix], name.removeprefix(prefix)
    if known not in publisher.models:
        raise _unknown(publisher, prefix, known)
    file = publisher.path(known)
    with cache_errors(file), locked(file):
        if _is_imported(name):
            return
        entry = _fetched(publisher, known)
        try:
            import_model(file, name=name, **publisher.models[known].options)
        except WeightsError:
            # Nothing that was no model shall stand in the way of the next try.
            file.unlink(missing_ok=True)
            raise
        with draft(publisher.record(known)) as unfinished:
            unfinished.write_text(json.dumps(entry, indent=1) + "\n", "utf-8")


def _fetched(publisher: Publisher, known: str) -> dict[str, Any]:
    """Download a file unless it is there; return what is to be known of it."""
    file, address = publisher.path(known), publisher.address(known)
    record = publisher.record(known)
    pinned = publisher.models[known].sha256
    first = pinned or _remembered(record)
    if not file.is_file() or first is None or _sha256(file) != first:
        download(address, file)
    found = _sha256(file)
    if first is not None and found != first:
        file.unlink()
        raise _another(known, f"{address}: sha256 {found}", first, record, pinned)
    return {"url": address, "sha256": found, "size": file.stat().st_size}


def _remembered(record: Path) -> str | None:
    """Return the sum of the first download, if there was one."""
    try:
        return str(json.loads(record.read_text("utf-8"))["sha256"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{record} cannot be read."
        raise DownloadError(
            msg,
            found=f"{type(error).__name__}: {error}",
            needed="the sha256 of the first download",
            hint=f"delete {record} to accept what is downloaded next",
        ) from error


def _sha256(file: Path) -> str:
    return file_sha256(file, afresh=True)


def _is_imported(name: str) -> bool:
    try:
        return bool(cards_of(name))
    except ModelNotFoundError:
        return False


def _another(
    known: str, found: str, first: str, record: Path, pinned: str | None
) -> DownloadError:
    hint = "ask the model's authors what has changed"
    if pinned:
        msg = f"The file of the model {known!r} is not the one that was published."
        needed = f"sha256 {first}"
    else:
        msg = f"The file of the model {known!r} is another one than the first time."
        needed = f"sha256 {first}, as in {record}"
        hint += f"; if it is meant, delete {record}"
    return DownloadError(msg, found=found, needed=needed, hint=hint)


def _unknown(publisher: Publisher, prefix: str, known: str) -> ModelNotFoundError:
    lines = "".join(
        f"\n    {prefix}{key}  {one.what}" for key, one in publisher.models.items()
    )
    msg = f"No published {publisher.title} model is known by the id {known!r}."
    what = "FOLDER" if publisher.suffix.endswith("gz") else f"FILE{publisher.suffix}"
    return ModelNotFoundError(
        msg,
        found=repr(known),
        needed=f"one of{lines}",
        hint=f"xatmo models import {what}, for files that are here already",
    )
