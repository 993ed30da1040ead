"""How many fields a batch has on a GPU: found once by trying, and kept on disk.

One small file for each network, kind of field and device. Files are replaced as a whole
and believed only if they say what they are about: with two processes at once the one
that is last wins, and a file that is torn, or another's, is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from xatmo.zoo.fetch import cache_folder
from xatmo.zoo.files import draft

__all__ = ["Known", "Spot", "folder", "read", "search", "write"]

# A batch of twice the size has to be so much faster for each field.
GAIN = 1.05
# Share of the free memory that a batch may take: other tasks' batches wait in the rest.
SHARE = 0.5


@dataclass(frozen=True)
class Spot:
    """What a batch size holds for.

    Parameters
    ----------
    sha256 : str
        Of the weights.
    method : str
        Of the network.
    core : tuple of int
        Shape of one field.
    precision : str
    device : str
        Name and memory of the GPU.
    torch : str
        Its version.
    """

    sha256: str
    method: str
    core: tuple[int, ...]
    precision: str
    device: str
    torch: str

    @property
    def said(self) -> dict[str, Any]:
        """What its file has to say."""
        return {**asdict(self), "core": list(self.core)}


@dataclass(frozen=True)
class Known:
    """What is known of batches at a spot.

    Parameters
    ----------
    best : int or None
        The smallest that is as fast as any; None if nobody has tried.
    complete : bool
        Whether larger ones were tried; or they were not asked for.
    limit : int or None
        What was left after running out of memory.
    """

    best: int | None = None
    complete: bool = True
    limit: int | None = None

    def fitting(self, wanted: int) -> int:
        """Return what fits of a size that is wanted."""
        return wanted if self.limit is None else min(wanted, self.limit)

    def halved(self, size: int) -> Known:
        """Return what is known after running out of memory with a size."""
        return replace(self, limit=self.fitting(max(1, size // 2)))

    def answers(self, largest: int) -> bool:
        """Whether the best of up to ``largest`` is known."""
        return self.best is not None and (self.complete or self.best >= largest)


def search(
    seconds: Callable[[int], float], largest: int, fits: Callable[[int], bool]
) -> Known:
    """Double a batch as long as that pays.

    Parameters
    ----------
    seconds : callable
        What a batch of so many fields takes.
    largest : int
    fits : callable
        Whether memory is likely to do for so many, asked after half as many have run.

    Returns
    -------
    Known

    Examples
    --------
    >>> from xatmo.engine.batchsize import search
    >>> search(lambda n: max(n, 16), 1024, lambda n: True).best
    16
    """
    best, speed, size = 1, 0.0, 1
    while True:
        faster = size / max(seconds(size), 1e-9)
        if faster < GAIN * speed:
            return Known(best)
        best, speed = size, faster
        if size >= largest:
            return Known(best, complete=False)
        size = min(2 * size, largest)
        if not fits(size):
            return Known(best)


def folder() -> Path:
    """Return where the files are: ``batch_sizes`` in the cache folder."""
    return cache_folder() / "batch_sizes"


def read(spot: Spot) -> Known:
    """Return what the file of a spot says; nothing if there is no good one."""
    try:
        said = json.loads(_file(spot).read_text("utf-8"))
        known = Known(**said.pop("known"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Known()
    sizes = [n for n in (known.best, known.limit) if n is not None]
    sound = all(type(n) is int and n >= 1 for n in sizes) and said == spot.said
    return known if sound and type(known.complete) is bool else Known()


def write(spot: Spot, known: Known) -> None:
    """Keep what is known; where nothing can be written it is found again next time."""
    text = json.dumps({**spot.said, "known": asdict(known)}, indent=1)
    with contextlib.suppress(OSError), draft(_file(spot)) as path:
        path.write_text(text, "utf-8")


def _file(spot: Spot) -> Path:
    name = hashlib.sha256(json.dumps(spot.said).encode()).hexdigest()[:24]
    return folder() / f"{name}.json"
