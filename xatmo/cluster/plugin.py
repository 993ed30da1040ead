"""What a worker does with a model that was sent to it.

This module alone imports ``distributed``: it is loaded where models are sent, and where
they arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin

from xatmo.errors import AtmoError, WeightsError
from xatmo.zoo import ModelKey
from xatmo.zoo.fetch import cache_errors, local_copies, locked
from xatmo.zoo.files import file_sha256
from xatmo.zoo.model import card_of
from xatmo.zoo.registry import also_in

__all__ = ["ModelPlugin", "received"]

_FOLDER = "xatmo-models"

_received: Counter[str] = Counter()


def received() -> dict[str, int]:
    """Return how often each model was sent to this process, by ``name@version``."""
    return dict(_received)


class ModelPlugin(WorkerPlugin):
    """A model on its way to workers, and its place there.

    The scheduler keeps it, and hands it to every worker that comes.

    Parameters
    ----------
    key : ModelKey
        What tasks will ask for.
    files : dict of str to bytes
        Of the model's folder: card, weights, and constants of places if it has some.
    """

    idempotent = True  # what the scheduler has is not sent again

    def __init__(self, key: ModelKey, files: dict[str, bytes]) -> None:
        self.key, self.files = key, files
        self.sums = {name: _sum(content) for name, content in files.items()}
        everything = "".join(f"{n} {self.sums[n]}\n" for n in sorted(self.sums))
        self.sha256 = _sum(everything.encode())
        # The scheduler knows plugins by their names: the same model again is the same.
        self.name = f"xatmo-model-{key.name}-{self.sha256[:16]}"
        self._found = contextlib.ExitStack()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_found"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._found = contextlib.ExitStack()

    async def setup(self, worker: Any) -> None:
        """Keep the model, before the first task arrives."""
        _received[f"{self.key.name}@{self.key.version}"] += 1
        # Hundreds of megabytes on a slow disk: the worker has to answer meanwhile.
        await asyncio.to_thread(self.arrive, shared_folder(worker))
        self.files = {}  # on disk from now on

    def teardown(self, worker: Any) -> None:
        """Forget the model; the files stay for other workers and the next run."""
        self._found.close()

    def arrive(self, folder: Path) -> None:
        """Make this process find the model, below `folder` if it has none yet.

        Raises
        ------
        xatmo.errors.WeightsError
            If these are not the bytes that were sent.
        xatmo.errors.DownloadError
            If the folder cannot be written.
        """
        self._check_bytes()
        if _is_here(self.key):
            return
        home = folder / self.sha256
        target = home / self.key.name
        with cache_errors(target), locked(home):
            if not self._is_whole(target):
                self._write(home, target)
        self._found.enter_context(also_in(home))

    def _check_bytes(self) -> None:
        for name, content in self.files.items():
            if _sum(content) != self.sums[name]:
                msg = f"{name} of {self.key.name} changed on its way to a worker."
                raise WeightsError(
                    msg,
                    found=f"sha256 {_sum(content)} ({len(content):,} bytes)",
                    needed=f"sha256 {self.sums[name]}",
                    hint=f"xatmo.cluster.send_models(client, {self.key.name!r}) again",
                )

    def _is_whole(self, target: Path) -> bool:
        try:
            # Read afresh: what another worker has left here is not known to this one.
            found = {n: file_sha256(target / n, afresh=True) for n in self.sums}
        except OSError:
            return False
        return found == self.sums

    def _write(self, home: Path, target: Path) -> None:
        """Write all files, then give them their place in one step."""
        home.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=home))
        try:
            for name, content in self.files.items():
                (draft / name).write_bytes(content)
            if not self._is_whole(draft):
                msg = f"{draft} did not keep what was written"
                raise OSError(msg)
            shutil.rmtree(target, ignore_errors=True)  # damaged, or half of it
            os.replace(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def shared_folder(worker: Any) -> Path:
    """Return the folder for models that the workers of one machine share."""
    return Path(worker.local_directory).parent / _FOLDER


def _is_here(key: ModelKey) -> bool:
    """Whether this process finds the right weights by itself."""
    try:
        copies = local_copies(card_of(key))
        return any(file_sha256(copy) == key.sha256 for copy in copies)
    except (AtmoError, OSError):
        return False


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
