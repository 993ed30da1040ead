"""Find a model's weights: beside its card, in the cache, or at an address.

Whatever the place, the file that is returned has the card's sha256. A download goes to
a temporary file, is checked, and only then takes its place, under a lock that spares
other processes the same download.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from xatmo.errors import AtmoError, DownloadError
from xatmo.options import get_options
from xatmo.zoo.card import Card
from xatmo.zoo.files import file_sha256
from xatmo.zoo.weights import check_sha256

__all__ = [
    "cache_errors",
    "cache_folder",
    "download",
    "imported_folder",
    "local_copies",
    "locked",
    "models_folder",
    "weights_path",
    "where",
]

DEFAULT_MODELS_URL: str | None = None
"""Web address of the released models, ``<address>/<name>/<file>``.

A home page for our own files does not exist yet: one constant to set when it does.
"""

RETRIES = 2
TIMEOUT = 30.0  # seconds without a byte from the server
LOCK_TIMEOUT = 3600.0  # seconds to wait for another process's download

_RETRY_LATER = (408, 425, 429)  # of the 4xx answers, those that may change by waiting


@dataclass
class _Search:
    """What was tried so far, for the error message in case nothing works."""

    card: Card
    tried: list[str] = field(default_factory=list)

    def note(self, place: object, failure: object) -> None:
        self.tried.append(f"{place}: {failure}")


def weights_path(card: Card, *, force: bool = False) -> Path:
    """Return a file with the card's weights, downloading it if there is none yet.

    The places, in order: beside the card; the cache; ``XATMO_MODELS_URL``, which is a
    folder of models or a web address; the addresses in the card.

    Parameters
    ----------
    card : Card
        As from :func:`xatmo.zoo.get_card`.
    force : bool
        Download again even if there is a good copy; it stays until the new one is
        complete. Where there is no address, read and check the copy again.

    Returns
    -------
    pathlib.Path
        A file whose sha256 this process has compared with the card's.

    Raises
    ------
    xatmo.errors.DownloadError
        If no place has the file, with every place and its failure, or if the cache
        cannot be written.
    xatmo.errors.WeightsError
        If there is a damaged file and no address to replace it from.
    """
    search = _Search(card)
    addresses = _addresses(card)
    if not (force and addresses):
        for path in _places(card):
            if _is_good(path, search, afresh=force):
                return path
    if addresses:
        return _download(addresses, search, force=force)
    for path in local_copies(card):
        check_sha256(path, card.weights.sha256, name=card.name)
    raise _not_found(search)


def local_copies(card: Card) -> list[Path]:
    """Return the files on this machine that should be the weights, unchecked."""
    return [file for file in _places(card) if file.is_file()]


def where(card: Card) -> str:
    """Say in a few words where the weights are, without reading them."""
    copies = [c for c in local_copies(card) if c.stat().st_size == card.weights.size]
    if copies:
        return "in the cache" if copies[0] == _cache_path(card) else "on disk"
    return "to download" if _addresses(card) else "not available"


def cache_folder() -> Path:
    """Return the folder for downloads: ``XATMO_CACHE``, or the system's cache."""
    chosen = os.environ.get("XATMO_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("xatmo"))


def models_folder() -> Path | None:
    """Return the folder that ``XATMO_MODELS_URL`` names, None if it is no folder."""
    place = os.environ.get("XATMO_MODELS_URL", "")
    if place.startswith("file:"):
        return Path(url2pathname(urlsplit(place).path))
    if not place or "://" in place:
        return None
    return Path(place).expanduser()


def imported_folder() -> Path:
    """Return the folder of models that a user has imported or derived."""
    return cache_folder() / "imported"


def download(address: str, target: Path) -> None:
    """Download a file of which no sum is known; the caller holds its lock.

    Raises
    ------
    xatmo.errors.DownloadError
        With the reason; ``target`` keeps what it had.
    """
    try:
        _fetch(address, target, None)
    except Exception as error:
        if _is_of_the_disk(error):
            raise
        msg = f"{address} cannot be fetched."
        raise DownloadError(
            msg,
            found=_reason(error),
            needed="the file at that address",
            hint="try again with a network connection, or download it in another way "
            "and import it: xatmo models import FILE",
        ) from error


def _places(card: Card) -> list[Path]:
    folders = [card.folder] if card.folder else []
    folders.append(_cache_path(card).parent)
    ours = models_folder()
    if ours is not None:
        folders.append(ours.resolve() / card.name)
    return list(dict.fromkeys(folder / card.weights.file for folder in folders))


def _addresses(card: Card) -> list[str]:
    named = os.environ.get("XATMO_MODELS_URL") if models_folder() is None else None
    bases = [base.rstrip("/") for base in (named, DEFAULT_MODELS_URL) if base]
    ours = [f"{base}/{card.name}/{card.weights.file}" for base in bases]
    return list(dict.fromkeys([*ours, *card.weights.urls]))


def _cache_path(card: Card) -> Path:
    # Part of the sum is in the name: a file of another release is never in the way.
    release = f"{card.name}-{card.version}-{card.weights.sha256[:12]}"
    return cache_folder() / "models" / release / card.weights.file


def _is_good(path: Path, search: _Search, *, afresh: bool = False) -> bool:
    if not path.is_file():
        search.note(path, "no such file")
        return False
    try:
        found = file_sha256(path, afresh=afresh)
    except OSError as error:
        search.note(path, error)
        return False
    if found != search.card.weights.sha256:
        search.note(path, f"damaged, its sha256 is {found}")
        return False
    return True


def _download(addresses: list[str], search: _Search, *, force: bool) -> Path:
    target = _cache_path(search.card)
    with cache_errors(target), locked(target):
        # Another process may have been faster while this one waited for the lock.
        if not force and target.is_file() and _is_good(target, search):
            return target
        _remove_leftovers(target)
        _check_space(target, search.card.weights.size)
        for address in addresses:
            try:
                _fetch(address, target, search.card.weights.sha256)
            except Exception as error:
                if _is_of_the_disk(error):
                    raise
                search.note(address, _reason(error))
            else:
                return target
    raise _not_found(search)


def _fetch(address: str, target: Path, sha256: str | None) -> None:
    import pooch

    # Pooch checks the sum before the file gets this name, and leaves an old file of
    # the final name alone; the last step is a rename within the folder.
    checked = target.with_name(f"{target.name}.checked")
    checked.unlink(missing_ok=True)  # without a sum any file would pass for it
    keeper = pooch.create(
        path=target.parent,
        base_url="",
        registry={checked.name: f"sha256:{sha256}" if sha256 else None},
        urls={checked.name: address},
        retry_if_failed=RETRIES,
    )
    keeper.fetch(checked.name, downloader=_downloader(address))
    checked.chmod(0o644)  # temporary files are private; a cache may be shared
    os.replace(checked, target)


class _PermanentError(Exception):
    """An answer that asking again does not change: Pooch does not retry on it."""


def _downloader(address: str) -> Callable[..., None]:
    import pooch
    import requests

    progress = get_options().progress
    if not address.startswith("http"):
        return pooch.downloaders.choose_downloader(address, progressbar=progress)
    http = pooch.HTTPDownloader(progressbar=progress, chunk_size=2**20, timeout=TIMEOUT)

    def download(url: str, output_file: str, keeper: Any) -> None:
        try:
            http(url, output_file, keeper)
        except requests.HTTPError as error:
            if _is_permanent(error.response):
                raise _PermanentError(_reason(error)) from error
            raise

    return download


def _is_permanent(response: Any) -> bool:
    status = response.status_code
    return 400 <= status < 500 and status not in _RETRY_LATER


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer for {TIMEOUT:g} seconds"
    text = str(error)
    if "does not match the known hash" in text:
        return "the file there has another sha256 than the card says"
    text = text if len(text) <= 200 else text[:197] + "..."
    known = isinstance(error, _PermanentError)
    return text if known else f"{type(error).__name__}: {text}"


def _is_of_the_disk(error: Exception) -> bool:
    if isinstance(error, PermissionError):
        return True
    # By name: not every system has all of them.
    name = errno.errorcode.get(getattr(error, "errno", None) or 0)
    return name in ("ENOSPC", "EDQUOT", "EROFS", "EFBIG")


@contextlib.contextmanager
def cache_errors(target: Path) -> Iterator[None]:
    """Turn trouble with the cache's folder into an error that names it."""
    try:
        yield
    except AtmoError:
        raise
    except OSError as error:
        msg = f"The cache folder {target.parent} cannot take the download."
        raise DownloadError(
            msg,
            found=str(error) or type(error).__name__,
            needed="a folder that can be written, with room for the file",
            hint="XATMO_CACHE=/another/folder in the environment, or "
            "XATMO_MODELS_URL=/a/folder/of/models that holds the file",
        ) from error


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Keep other processes, and machines that share the cache, from this download."""
    from filelock import FileLock, Timeout

    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f"{target.name}.lock"), timeout=LOCK_TIMEOUT)
    try:
        lock.acquire()
    except Timeout as error:
        msg = f"Another process has been downloading {target} for too long."
        raise DownloadError(
            msg,
            found=f"the lock {lock.lock_file} is held for {LOCK_TIMEOUT:g} seconds",
            needed="the download to end, or the process that holds the lock",
            hint=f"delete {lock.lock_file} once no other process is downloading",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _remove_leftovers(target: Path) -> None:
    """Delete what a killed download left behind; only the lock's holder may."""
    lock = f"{target.name}.lock"
    for path in target.parent.iterdir():
        if path != target and not path.name.startswith(lock) and path.is_file():
            path.unlink(missing_ok=True)


def _check_space(target: Path, size: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < size:
        msg = f"{free:,} bytes free, the file has {size:,}"
        raise OSError(errno.ENOSPC, msg)


def _not_found(search: _Search) -> DownloadError:
    card = search.card
    msg = f"The weights of {card.name!r} {card.version} cannot be found or fetched."
    found = "".join(f"\n    {line}" for line in search.tried)
    if not _addresses(card):
        found += "\n    no web address: the card has none, XATMO_MODELS_URL names none"
    return DownloadError(
        msg,
        found=found,
        needed=f"{card.weights.file}, {card.weights.size:,} bytes, "
        f"sha256 {card.weights.sha256}",
        hint=f"xatmo models fetch {card.name} with a network connection, or "
        "XATMO_MODELS_URL=/a/folder/of/models (or a web address) in the environment",
    )
