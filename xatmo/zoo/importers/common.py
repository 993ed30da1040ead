"""What the importers share: files of torch, TensorFlow's array layout, refusals."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xatmo.errors import WeightsError

__all__ = [
    "check_names",
    "check_shape",
    "original_shape",
    "refused",
    "some",
    "to_torch_layout",
    "unpickled",
]

_CODE = re.compile(r"GLOBAL ([\w.]+)")


def unpickled(file: Path) -> Any:
    """Read a file of torch, in which nothing but tensors and plain values may be.

    Raises
    ------
    xatmo.errors.WeightsError
        If the file is damaged, or would run code.
    """
    import torch

    try:
        # From the file itself as far as it is needed: some have gigabytes.
        return torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
        )
    except Exception as error:
        # What torch says would tell to read it without care.
        code = _CODE.search(str(error))
        if code:
            raise refused(file, f"a call of {code[1]}") from None
        msg = f"{file} cannot be read as weights."
        raise _no_weights(msg, type(error).__name__) from None


def refused(file: Path, found: str) -> WeightsError:
    """Return the error for a file that holds more than weights."""
    return _no_weights(f"{file} holds more than weights: it is refused.", found)


def _no_weights(msg: str, found: str) -> WeightsError:
    needed = "tensors by name, as torch.save(network.state_dict(), file) writes them"
    hint = "download the model again, from its authors"
    return WeightsError(msg, found=found, needed=needed, hint=hint)


def original_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(out, in, h, w) -> (h, w, in, out); dense (out, in) -> (in, out)."""
    return shape if len(shape) == 1 else (*shape[2:], *shape[:2][::-1])


def to_torch_layout(array: np.ndarray) -> np.ndarray:
    """Undo :func:`original_shape`, in a copy: nothing of the caller's is shared."""
    array = np.asarray(array, dtype=np.float32)
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    return np.array(array.T if array.ndim == 2 else array, order="C")


def check_names(found: Mapping[str, object], wanted: set[str], network: str) -> None:
    """Refuse variables that are not those of a network.

    Raises
    ------
    xatmo.errors.WeightsError
    """
    missing, foreign = sorted(wanted - set(found)), sorted(set(found) - wanted)
    if not missing and not foreign:
        return
    said = [f"missing: {some(missing)}"] if missing else []
    said += [f"unknown: {some(foreign)}"] if foreign else []
    msg = f"The variables are not those of this {network}."
    raise WeightsError(
        msg,
        found="; ".join(said),
        needed=f"{len(wanted)} variables: {some(sorted(wanted))}",
        hint=f"pass network={network}(...) with the options these were trained with, "
        "and all of its variables",
    )


def check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuse a variable of another shape than the original layout of the network's.

    Raises
    ------
    xatmo.errors.WeightsError
    """
    if np.shape(array) == shape:
        return
    msg = f"The variable {name!r} has another shape than the network's."
    raise WeightsError(
        msg,
        found=f"{name} {np.shape(array)}",
        needed=f"{shape}, as (height, width, in, out) or (in, out)",
        hint="pass network= with the options that these weights were trained with",
    )


def some(names: Sequence[str]) -> str:
    """Name a few of many."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "")
