"""The journal of a job: lines that are only ever added, each of them on disk at once.

The first line says what was asked and of which input; each further one that a region
is done or has failed. A process that is killed leaves a torn last line at most, which
is cut off when the job goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Journal"]


@dataclass
class Journal:
    """What is known of the regions of a job.

    Parameters
    ----------
    path : Path
    header : dict
        What was asked.
    done : dict of int to int
        Regions whose data are on disk, and how many bytes these are.
    failed : dict of int to str
        Error of each region that could not be computed and has not been since.
    notes : dict
        What else was written down: ``finished``, ``changed``.
    """

    path: Path
    header: Mapping[str, Any]
    done: dict[int, int] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> Journal:
        """Begin a journal."""
        journal = cls(path, header)
        journal._add({"job": dict(header)})
        return journal

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Read a journal, to go on with it; a torn last line is cut off.

        Raises
        ------
        ValueError
            If the file does not begin as a journal does.
        """
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with path.open("rb+") as stream:
                stream.truncate(len(whole))
                os.fsync(stream.fileno())
        lines = whole.splitlines()
        header = json.loads(lines[0])["job"] if lines else None
        if not isinstance(header, dict):
            msg = f"{path} does not begin with what was asked"
            raise ValueError(msg)
        journal = cls(path, header)
        for line in lines[1:]:
            journal._take(line)
        return journal

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if "done" in entry:
                self.done[int(entry["done"])] = int(entry["bytes"])
                self.failed.pop(int(entry["done"]), None)
            elif "failed" in entry:
                self.failed[int(entry["failed"])] = str(entry["error"])
            else:
                self.notes |= entry
        except (ValueError, KeyError, TypeError):
            return  # damaged: at worst a region is computed once more

    def record_done(self, region: int, size: int) -> None:
        """Write down that a region's data are on disk, so many bytes of them."""
        self._add({"done": region, "bytes": size})
        self.done[region] = size
        self.failed.pop(region, None)

    def record_failed(self, region: int, error: str) -> None:
        """Write down that a region could not be computed."""
        self._add({"failed": region, "error": error})
        self.failed[region] = error

    def note(self, **said: Any) -> None:
        """Write down something else."""
        self._add(said)
        self.notes |= said

    def _add(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        # One write for one line; opened each time, so that no handle is left behind.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            before = os.fstat(file).st_size
            if os.write(file, line) != len(line):
                os.ftruncate(file, before)
                raise OSError(28, "No space left on device", str(self.path))
            os.fsync(file)
        finally:
            os.close(file)
