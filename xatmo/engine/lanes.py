"""Small batches side by side on a CPU, in place of many threads for each of them.

Torch cuts every operation up among its threads and waits for the last one. For a batch
of small fields that is hardly worth it: with a second thread 128 of them took 0.8 of
the time of one thread, two at a time side by side 0.6 to 0.7.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

__all__ = ["Lanes", "lanes_for"]

# Points of the largest batch that is small, and how many are in memory at a time.
SMALL = 2**14
MOST = 8

_making = threading.Lock()


class Lanes:
    """Threads of our own, each with its share of the threads that torch may use.

    Parameters
    ----------
    count : int
        How many batches run side by side.
    share : int
        Threads of torch for each.
    everywhere : int
        Threads of torch elsewhere in this process, which stay as they are.

    Attributes
    ----------
    threads : ThreadPoolExecutor
        Where the passes run.
    """

    def __init__(self, count: int, share: int, everywhere: int) -> None:
        import torch

        self.count = count
        self.threads = ThreadPoolExecutor(
            count, "xatmo-cpu", initializer=_limit, initargs=(share,)
        )
        # All of them begin now: each tells torch another number of threads, which it
        # keeps for that thread, and for those that have not used it yet. These are told
        # the old number again, by a thread that comes and goes.
        together = threading.Barrier(count)
        for one in [self.threads.submit(together.wait) for _ in range(count)]:
            one.result()
        restoring = threading.Thread(target=torch.set_num_threads, args=(everywhere,))
        restoring.start()
        restoring.join()


def lanes_for(points: int) -> Lanes | None:
    """Return where batches of so many points run; None for the thread that asks.

    As many cores are busy as torch has threads in the thread that asks: a worker of
    dask.distributed, whose tasks have one each, stays with that one.
    """
    if points > SMALL:
        return None
    import torch

    everywhere = torch.get_num_threads()
    if everywhere == 1:
        return None
    with _making:
        return _lanes(everywhere, os.getpid())


@lru_cache
def _lanes(everywhere: int, process: int) -> Lanes:
    """Threads do not outlive a fork, so that each process has its own."""
    count = min(everywhere, MOST)
    return Lanes(count, everywhere // count, everywhere)


def _limit(share: int) -> None:
    """Give this thread fewer threads of torch."""
    import torch

    torch.get_num_threads()  # or the first operation would ask for all of them
    torch.set_num_threads(share)
