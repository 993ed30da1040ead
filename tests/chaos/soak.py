"""Kill workers during runs and compare: ``python tests/chaos/soak.py 50 [SEED]``.

Four workers of a local cluster embed the sample, with a model that they have from us
alone. During each run one to three of them get SIGKILL, at random times. A run that
takes ten times as long as an undisturbed one counts as hanging.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
import xarray as xr

import xatmo
import xatmo.cluster
from xatmo.zoo.registry import packaged_folder

WORKERS = 4
NOWHERE = "/nonexistent/xatmo"


@dataclass
class Figures:
    """What came of the runs."""

    clean: float = 0.0
    runs: int = 0
    kills: int = 0
    equal: int = 0
    bitwise: int = 0
    hung: int = 0
    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        slow = max(self.seconds, default=0.0)
        middle = float(np.median(self.seconds or [0.0]))
        return (
            f"{self.runs} runs, {self.kills} workers killed: {self.equal} equal "
            f"({self.bitwise} to the last bit), {self.hung} hung; undisturbed "
            f"{self.clean:.1f} s, disturbed {middle:.1f} s (median), {slow:.1f} s (max)"
        )


def own_model(folder: Path) -> str:
    """Put a model where this process alone finds it; returns its name."""
    home = folder / "models" / "mine"
    shutil.copytree(packaged_folder() / "atmodist-small", home)
    card = home / "card.toml"
    text = card.read_text("utf-8")
    card.write_text(text.replace('"atmodist-small"', '"mine"', 1), "utf-8")
    os.environ["XATMO_MODELS_URL"] = str(folder / "models")
    return "mine"


def embedding(times: int) -> xr.DataArray:
    """A lazy result in chunks of five fields, each a task that reads the sample."""
    ds = xatmo.open_sample(chunks={"time": 5})
    several = xr.concat([ds] * -(-times // ds.sizes["time"]), "time")
    several = several.isel(time=slice(0, times))
    first = np.datetime64("2000-01-01T00", "ns")
    stamps = first + np.arange(times) * np.timedelta64(6, "h")
    with mock.patch("xatmo.engine.plan.JOIN_POINTS", 1):  # many small tasks
        return several.assign_coords(time=stamps).atmo.embed("mine", reduce="mean")


@contextmanager
def workers(folder: Path) -> Iterator[object]:
    """Four workers without models, cache or network."""
    with (
        _elsewhere(folder),
        xatmo.cluster.scheduler(
            "local-cluster", workers=WORKERS, memory="1.5GB"
        ) as place,
    ):
        os.environ["XATMO_MODELS_URL"] = str(folder / "models")
        xatmo.cluster.send_models(place.client, "mine")
        yield place.client


@contextmanager
def _elsewhere(folder: Path) -> Iterator[None]:
    """Workers take folders and environment from Dask's configuration."""
    import dask

    env = {"XATMO_CACHE": NOWHERE, "XATMO_MODELS_URL": NOWHERE}
    with dask.config.set(
        {
            "temporary-directory": str(folder / "node"),
            "distributed.nanny.environ": env,
        }
    ):
        before = dict(os.environ)
        # What this process has would come before the configuration.
        os.environ.pop("XATMO_MODELS_URL", None)
        os.environ.pop("XATMO_CACHE", None)
        try:
            yield
        finally:
            os.environ.update(before)


def kill_some(client, count: int, within: float, rng: random.Random, log: list) -> None:
    """Send SIGKILL to `count` workers, at random times in `within` seconds."""
    pids = list(client.run(os.getpid).values())
    times = sorted(rng.uniform(0, within) for _ in range(count))
    start = time.monotonic()
    for pid, at in zip(rng.sample(pids, count), times, strict=True):
        time.sleep(max(0.0, at - (time.monotonic() - start)))
        try:
            os.kill(pid, signal.SIGKILL)
            log.append(pid)
        except ProcessLookupError:
            pass


def soak(runs: int, times: int = 60, seed: int = 0, verbose: bool = False) -> Figures:
    """Run so often, and count."""
    rng, figures = random.Random(seed), Figures()
    folder = Path(tempfile.mkdtemp())
    before = os.environ.get("XATMO_MODELS_URL")
    try:
        own_model(folder)
        lazy = embedding(times)
        with workers(folder) as client:
            client.wait_for_workers(WORKERS)
            lazy.isel(time=slice(0, 20)).compute()  # every process loads the network
            start = time.monotonic()
            expected = lazy.compute()
            figures.clean = time.monotonic() - start
            for _ in range(runs):
                _one(client, lazy, expected, figures, rng)
                if verbose:
                    print(figures, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("XATMO_MODELS_URL", None)
        if before is not None:
            os.environ["XATMO_MODELS_URL"] = before
    return figures


def _one(client, lazy, expected, figures: Figures, rng: random.Random) -> None:
    client.wait_for_workers(WORKERS, timeout=300)
    log: list[int] = []
    count = rng.randint(1, 3)
    killer = threading.Thread(
        target=kill_some, args=(client, count, figures.clean, rng, log)
    )
    figures.runs += 1
    start = time.monotonic()
    future = client.compute(lazy)
    killer.start()
    try:
        got = future.result(timeout=10 * figures.clean + 60)
    except TimeoutError:
        figures.hung += 1
        return
    finally:
        figures.seconds.append(time.monotonic() - start)
        killer.join()
        figures.kills += len(log)
    figures.equal += bool(np.abs(got - expected).max() <= 1e-5)
    figures.bitwise += bool(got.identical(expected))


if __name__ == "__main__":
    asked = [int(number) for number in sys.argv[1:]] or [50]
    print(soak(asked[0], seed=asked[1] if asked[1:] else 0, verbose=True))
