"""Published AtmoRep models by their ids: fetched from their authors, imported once.

The authors publish no sums of their files. So the first download that makes a whole
model is what later ones are compared with.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from xatmo.errors import DownloadError, ModelNotFoundError, WeightsError
from xatmo.zoo.fetch import cache_errors, cache_folder, download, locked
from xatmo.zoo.files import draft, file_sha256
from xatmo.zoo.importing import import_model
from xatmo.zoo.registry import cards_of

__all__ = ["PREFIX", "PUBLISHED", "fetch_published"]

PREFIX = "atmorep-"
ATMOREP_URL = "https://datapub.fz-juelich.de/atmorep/models"
"""Where the archives are; ``XATMO_ATMOREP_URL`` names another place."""

PUBLISHED = {
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
"""Ids that are known to have been published, and what they are of."""


def fetch_published(name: str) -> None:
    """Download and import a model, unless another process was faster.

    Parameters
    ----------
    name : str
        ``atmorep-<ID>``.

    Raises
    ------
    xatmo.errors.ModelNotFoundError
        If no such id is known.
    xatmo.errors.DownloadError
        If it cannot be fetched, or is another file than the first time.
    xatmo.errors.WeightsError
        If the archive is damaged, or is no model.
    """
    known = name.removeprefix(PREFIX)
    if known not in PUBLISHED:
        raise _unknown(known)
    archive = cache_folder() / "atmorep" / known / f"model_id{known}.tar.gz"
    with cache_errors(archive), locked(archive):
        if _is_imported(name):
            return
        entry = _fetched(archive, known)
        try:
            import_model(archive, name=name)
        except WeightsError:
            # Nothing that was no model shall stand in the way of the next try.
            archive.unlink(missing_ok=True)
            raise
        with draft(_record(archive)) as unfinished:
            unfinished.write_text(json.dumps(entry, indent=1) + "\n", "utf-8")


def _fetched(archive: Path, known: str) -> dict[str, Any]:
    """Download an archive unless it is there; return what is to be known of it."""
    base = os.environ.get("XATMO_ATMOREP_URL") or ATMOREP_URL
    address = f"{base.rstrip('/')}/{archive.name}"
    first = _remembered(archive)
    if not archive.is_file() or first is None or _sha256(archive) != first:
        download(address, archive)
    found = _sha256(archive)
    if first is not None and found != first:
        archive.unlink()
        msg = f"The file of the model {known!r} is another one than the first time."
        raise DownloadError(
            msg,
            found=f"{address}: sha256 {found}",
            needed=f"sha256 {first}, as in {_record(archive)}",
            hint="ask the model's authors what has changed; if it is meant, delete "
            f"{_record(archive)}",
        )
    return {"url": address, "sha256": found, "size": archive.stat().st_size}


def _record(archive: Path) -> Path:
    return archive.with_suffix("").with_suffix(".json")


def _remembered(archive: Path) -> str | None:
    """Return the sum of the first download, if there was one."""
    record = _record(archive)
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


def _sha256(archive: Path) -> str:
    return file_sha256(archive, afresh=True)


def _is_imported(name: str) -> bool:
    try:
        return bool(cards_of(name))
    except ModelNotFoundError:
        return False


def _unknown(known: str) -> ModelNotFoundError:
    lines = "".join(f"\n    {PREFIX}{key}  {what}" for key, what in PUBLISHED.items())
    msg = f"No published AtmoRep model is known by the id {known!r}."
    return ModelNotFoundError(
        msg,
        found=repr(known),
        needed=f"one of{lines}",
        hint="xatmo models import FOLDER, for files that are here already",
    )
