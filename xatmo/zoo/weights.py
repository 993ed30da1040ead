"""Weight files: safetensors and sha256, both checked, and nothing else.

A safetensors file cannot run code, but it lets many flipped bits pass as other numbers;
the sha256 does not. Pickled checkpoints are not read here at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from xatmo.errors import WeightsError
from xatmo.zoo.card import Card
from xatmo.zoo.files import draft, file_sha256

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "check_normalization",
    "check_sha256",
    "load_into",
    "load_state",
    "normalization_text",
    "save_state",
    "save_tensors",
]

_NORMALIZATION = "normalization"  # key in the header of a weight file
_SHOWN = 8  # differences listed in full in an error message


def check_sha256(
    path: str | os.PathLike[str], sha256: str, *, name: str = "NAME"
) -> None:
    """Raise unless a file has the given sha256.

    Parameters
    ----------
    path : path
        A weight file.
    sha256 : str
        What its card says, 64 hexadecimal digits.
    name : str
        The model's name, for the error message.

    Raises
    ------
    xatmo.errors.WeightsError
        If the file is absent, unreadable or a different one.
    """
    try:
        found = file_sha256(path)
    except OSError as error:
        _refuse(path, name, "cannot be read", str(error), f"sha256 {sha256}")
    if found != sha256:
        size = Path(path).stat().st_size
        _refuse(
            path,
            name,
            "is damaged, or belongs to another card",
            f"sha256 {found} ({size:,} bytes)",
            f"sha256 {sha256}",
        )


def load_state(
    path: str | os.PathLike[str], sha256: str, *, name: str = "NAME"
) -> dict[str, Tensor]:
    """Read the tensors of a weight file after checking that it is the right file.

    Parameters
    ----------
    path : path
        A safetensors file.
    sha256 : str
        What its card says, 64 hexadecimal digits.
    name : str
        The model's name, for the error message.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, in the file's dtypes.

    Raises
    ------
    xatmo.errors.WeightsError
        If the file is absent, a different one, or no safetensors file.
    """
    check_sha256(path, sha256, name=name)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        # The sum is right, so the file was no safetensors when it was released.
        _refuse(
            path,
            name,
            "is not a safetensors file",
            str(error),
            "tensors written by xatmo.zoo.weights.save_state(module, path)",
        )


def _refuse(
    path: str | os.PathLike[str], name: str, what: str, found: str, needed: str
) -> NoReturn:
    msg = f"The weight file {os.fspath(path)} {what}."
    raise WeightsError(
        msg,
        found=found,
        needed=needed,
        hint=f"xatmo models fetch {name} --force; weights that came with the package "
        "return with pip install --force-reinstall xatmo",
    ) from None


def load_into(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put tensors into a network, only if every name, shape and dtype agrees.

    Half precision is taken for single: files of half the size, of larger networks.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place, or left alone if an error is raised.
    state : mapping of str to torch.Tensor
        As from :func:`load_state`.

    Raises
    ------
    xatmo.errors.WeightsError
        Listing what differs.
    """
    wanted = {name: _form(tensor) for name, tensor in module.state_dict().items()}
    given = {name: _form(_single(tensor)) for name, tensor in state.items()}
    differences = [
        f"{name}: {given.get(name, 'missing')} instead of {wanted.get(name, 'nothing')}"
        for name in {**wanted, **given}
        if wanted.get(name) != given.get(name)
    ]
    if differences:
        more = len(differences) - _SHOWN
        listing = "; ".join(differences[:_SHOWN])
        listing += f"; and {more} more" if more > 0 else ""
        msg = f"The weights do not fit into {type(module).__name__}."
        raise WeightsError(
            msg,
            found=f"{len(differences)} of {len(wanted)} tensors differ: {listing}",
            needed="the names, shapes and dtypes of the network",
            hint="compare [network] in the model's card.toml with the release, and "
            "see the card by `xatmo models show NAME`",
        )
    module.load_state_dict(state, strict=True)


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if str(tensor.dtype) == "torch.float16" else tensor


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def check_normalization(path: str | os.PathLike[str], card: Card) -> None:
    """Raise if a weight file carries other constants than its card states.

    Weights and constants belong together: with the constants of another release the
    network would give numbers, and wrong ones. A file without constants is accepted, as
    is a card that knows further levels, or levels whose constants a user has fitted.

    Parameters
    ----------
    path : path
        A safetensors file whose sha256 has been checked.
    card : Card

    Raises
    ------
    xatmo.errors.WeightsError
        Naming the first level that differs.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(_NORMALIZATION)
    if text is None:
        return
    carried, stated = json.loads(text), json.loads(normalization_text(card))
    own = {level.level for level in card.levels if level.fitted}
    for name, constants in carried.items():
        if name not in own and stated.get(name) != constants:
            msg = f"{card.name}: weights and card state other constants for {name}."
            raise WeightsError(
                msg,
                found=f"{os.fspath(path)}: {constants}",
                needed=f"card.toml: {stated.get(name)}",
                hint=f"xatmo models fetch {card.name} --force, or restore its card",
            )


def normalization_text(card: Card) -> str:
    """Return a card's constants as they stand in its weight file."""
    kind = asdict(card.normalization)
    names = ("mean", "std", "log_mean", "log_std")
    levels = {
        level.level: {name: getattr(level, name) for name in names}
        for level in card.levels
    }
    return json.dumps({"kind": kind, **levels})


def save_state(
    module: nn.Module, path: str | os.PathLike[str], *, card: Card | None = None
) -> str:
    """Write a network's tensors, completely or not at all.

    Parameters
    ----------
    module : torch.nn.Module
        On any device; it stays as it is.
    path : path
        The safetensors file to write or replace.
    card : Card, optional
        Whose normalisation constants to write beside the tensors; they are compared
        with the card's whenever the weights are loaded.

    Returns
    -------
    str
        The sha256 of the file: the same for the same tensors.
    """
    return save_tensors(module.state_dict(), path, card=card)


def save_tensors(
    state: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    card: Card | None = None,
) -> str:
    """Write tensors by name, completely or not at all; see :func:`save_state`."""
    from safetensors.torch import save_file

    # One entry only: several would be written in an order that differs from run to run.
    metadata = {"format": "pt"}
    if card is not None:
        metadata = {_NORMALIZATION: normalization_text(card)}
    with draft(path) as unfinished:
        save_file(_apart(state), unfinished, metadata=metadata)
        unfinished.chmod(0o644)  # safetensors leaves it to its owner alone
    return file_sha256(path, afresh=True)


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give each tensor memory of its own, which safetensors asks for."""
    apart, seen = {}, set()
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage()
        if memory.data_ptr() in seen or memory.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        apart[name] = tensor
    return apart
