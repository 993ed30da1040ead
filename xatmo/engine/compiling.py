"""When a network is compiled: on request, or where that is likely to pay.

Compiling takes half a minute or more, and saves a share of each pass. Nobody knows at
the beginning how many passes there will be. With ``"auto"`` a GPU computes as it is
until it has spent about as long as compiling takes: at the worst, all takes twice as
long as if that had been known. What was compiled then has to prove faster.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from xatmo.engine.devices import is_gpu

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Compiling"]

Mode = bool | str
Result = TypeVar("Result")

# Seconds on the device after which compiling is tried.
PATIENCE = 60.0
# Passes by which the two ways are compared, and how much faster the new one must be.
PASSES = 3
GAIN = 1.05


class Compiling:
    """Decides, for each method and shape of a network on a device.

    Parameters
    ----------
    mode : bool or "auto"
    device : str
    """

    def __init__(self, mode: Mode, device: str) -> None:
        # On a CPU the networks have fused forms of their own, which are as fast.
        self._mode: Mode = mode if mode != "auto" or is_gpu(device) else False
        self._lock = threading.Lock()
        self._spent: dict[Hashable, float] = {}
        self._eager: dict[Hashable, float] = {}
        self._compiled: dict[Hashable, list[float]] = {}
        self._given_up: set[Hashable] = set()

    @property
    def on(self) -> bool:
        """Whether anything may be compiled at all."""
        return bool(self._mode)

    def wanted(self, spot: Hashable) -> bool:
        """Whether the next pass at a spot is to be a compiled one."""
        if not self._mode or spot in self._given_up:
            return False
        return self._mode is True or self._spent.get(spot, 0.0) >= PATIENCE

    def took(self, spot: Hashable, seconds: float, *, compiled: bool) -> None:
        """Hear how long a pass has kept the device."""
        if self._mode != "auto":
            return
        with self._lock:
            if not compiled:
                self._spent[spot] = self._spent.get(spot, 0.0) + seconds
                self._eager[spot] = min(self._eager.get(spot, seconds), seconds)
                return
            # In the first pass the device waits for the compiler.
            times = self._compiled.setdefault(spot, [])
            if len(times) > PASSES:
                return
            times.append(seconds)
            late = times[1:]
            if len(late) == PASSES and GAIN * min(late) > self._eager[spot]:
                self._given_up.add(spot)

    def run(
        self,
        spot: Hashable,
        compiled: Callable[[], Result],
        eager: Callable[[], Result],
        is_out_of_memory: Callable[[Exception], bool],
    ) -> Result:
        """Run what is compiled; or the other, with a warning, if that fails.

        What fails in both ways fails for good reasons, which are the network's.
        """
        try:
            return compiled()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            result = eager()
            with self._lock:
                first = spot not in self._given_up
                self._given_up.add(spot)
            if first:
                _warn(error)
            return result


def _warn(error: Any) -> None:
    lines = str(error).strip().splitlines() or [""]
    msg = (
        "The network could not be compiled, and runs as it is: "
        f"{type(error).__name__}: {lines[0][:200]} "
        "(xatmo.set_options(compile=False) does not try)"
    )
    warnings.warn(msg, stacklevel=2)
