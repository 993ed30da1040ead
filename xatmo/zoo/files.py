"""Files that are whole or absent: sha256 sums and drafts that replace in one step."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["draft", "file_sha256"]

# Seconds. File systems' clocks tick coarsely: two writes in quick succession may leave
# the same times, so a sum is remembered only once its file has settled.
_TOO_FRESH = 2.0


def file_sha256(path: str | os.PathLike[str], *, afresh: bool = False) -> str:
    """Return the sha256 of a file, reading it once per process.

    Parameters
    ----------
    path : path
        The file.
    afresh : bool
        Read it again even if it looks unchanged.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    file = Path(path).resolve()
    if afresh:
        return _digest(file)
    status = file.stat()
    if time.time() - status.st_mtime < _TOO_FRESH:
        return _digest(file)
    # A file that was replaced or rewritten differs in at least one of these.
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return _remembered_digest(file, stamp)


@functools.lru_cache(maxsize=256)
def _remembered_digest(file: Path, stamp: tuple[int, ...]) -> str:
    return _digest(file)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def draft(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a file to write that takes the place of `path` once it is complete.

    If the block raises, `path` keeps what it had. The draft lies in the same folder,
    so that the last step is a rename, which readers see happen at once.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        yield unfinished
        with unfinished.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
