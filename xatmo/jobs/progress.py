"""How far a job is: blocks, fields per second, and the time that is left."""

from __future__ import annotations

from typing import Any

__all__ = ["Progress"]

# Always fields per second, never seconds per field.
_FORMAT = (
    "{desc}: {percentage:3.0f}%|{bar}| {rate_noinv_fmt}, {remaining} left{postfix}"
)


class Progress:
    """A bar on the standard error stream.

    Parameters
    ----------
    shown : bool or None
        None for terminals only.
    name : str
        What is going on.
    blocks, fields : int
        How many there are; a field is one position along time.
    done : tuple of int
        How many blocks and fields are there from before.
    """

    def __init__(
        self,
        shown: bool | None,
        name: str,
        blocks: int,
        fields: int,
        done: tuple[int, int] = (0, 0),
    ) -> None:
        from tqdm import tqdm

        self._blocks, self._of = done[0], blocks
        self._bar: Any = tqdm(
            total=fields,
            initial=done[1],
            desc=name,
            unit=" fields",
            bar_format=_FORMAT,
            disable=None if shown is None else not shown,
            dynamic_ncols=True,
        )
        self._say(0)

    def add(self, fields: int, failed: int) -> None:
        """Count a block of so many fields; ``failed`` says how many blocks have."""
        self._blocks += 1
        self._say(failed)
        self._bar.update(fields)

    def _say(self, failed: int) -> None:
        bad = f", {failed} failed" if failed else ""
        self._bar.set_postfix_str(f"block {self._blocks}/{self._of}{bad}")

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
