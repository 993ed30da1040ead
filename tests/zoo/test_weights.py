import hashlib
import json
import os
import re
import struct
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import xatmo.errors
from xatmo.errors import WeightsError
from xatmo.zoo import (
    files,
    load_into,
    load_model,
    load_state,
    save_state,
    write_card,
)
from xatmo.zoo.weights import check_normalization, check_sha256

PACKAGE = Path(xatmo.errors.__file__).parent


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def saved(tmp_path, tiny_architecture):
    """A network, the file of its weights and the file's sum."""
    network = tiny_architecture()
    path = tmp_path / "weights.safetensors"
    return network, path, save_state(network, path)


def forged(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def test_what_is_saved_is_loaded(saved, tiny_architecture):
    network, path, digest = saved
    assert digest == sha256(path.read_bytes())
    other = tiny_architecture()
    load_into(other, load_state(path, digest))
    for name, tensor in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_the_same_weights_give_the_same_file(saved, tmp_path):
    network, _, digest = saved
    assert save_state(network, tmp_path / "again.safetensors") == digest


def test_tied_and_transposed_weights_are_saved(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    network[1].weight = network[0].weight
    network[0].bias.data = torch.arange(6.0)[::2]
    digest = save_state(network, tmp_path / "w.safetensors")
    state = load_state(tmp_path / "w.safetensors", digest)
    assert torch.equal(state["1.weight"], network[0].weight)
    assert torch.equal(state["0.bias"], torch.tensor([0.0, 2.0, 4.0]))


def test_a_failed_save_keeps_the_old_file(saved, monkeypatch):
    network, path, digest = saved

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_state(network, path)
    assert sha256(path.read_bytes()) == digest
    assert [file.name for file in path.parent.glob("*weights*")] == [path.name]


def test_every_flipped_bit_is_caught(tmp_path):
    network = torch.nn.Linear(2, 1)
    path = tmp_path / "weights.safetensors"
    digest = save_state(network, path)
    good = path.read_bytes()
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(WeightsError, match="is damaged"):
            load_state(path, digest)
    path.write_bytes(good)
    assert load_state(path, digest)


def test_the_error_names_file_sums_and_remedy(saved):
    _, path, digest = saved
    path.write_bytes(b"x" * 1500)
    with pytest.raises(WeightsError, match="is damaged") as caught:
        load_state(path, digest, name="tiny")
    text = str(caught.value)
    for part in (str(path), digest, sha256(b"x" * 1500), "1,500 bytes"):
        assert part in text
    assert caught.value.hint.startswith("xatmo models fetch tiny --force; ")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"(?s)none.*cannot be read.*No such file"):
        check_sha256(tmp_path / "none", "0" * 64)


def test_truncated_files_are_refused_even_with_their_own_sum(saved):
    _, path, _ = saved
    good = path.read_bytes()
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        with pytest.raises(WeightsError, match="is not a safetensors file"):
            load_state(path, sha256(good[:length]))


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
FORGED = {
    "empty": b"",
    "header longer than the file": forged({"a": ONE}, b"\0" * 4, length=10**6),
    "header of 2**63 bytes": forged({"a": ONE}, b"\0" * 4, length=2**63),
    "header is no JSON": forged(b"[" * 64),
    "header is no UTF-8": forged(b"\xff" * 16),
    "offsets beyond the end": forged({"a": {**ONE, "data_offsets": [0, 400]}}, b"\0"),
    "offsets backwards": forged({"a": {**ONE, "data_offsets": [4, 0]}}, b"\0" * 4),
    "negative shape": forged({"a": {**ONE, "shape": [-1]}}, b"\0" * 4),
    "shape overflows": forged({"a": {**ONE, "shape": [2**62, 8]}}, b"\0" * 4),
    "shape against offsets": forged({"a": {**ONE, "shape": [2]}}, b"\0" * 4),
    "unknown dtype": forged({"a": {**ONE, "dtype": "OBJECT"}}, b"\0" * 4),
    "overlap": forged({"a": ONE, "b": ONE}, b"\0" * 4),
    "hole": forged({"a": {**ONE, "data_offsets": [4, 8]}}, b"\0" * 8),
    "more data than described": forged({"a": ONE}, b"\0" * 12),
}


@pytest.mark.parametrize("content", FORGED.values(), ids=FORGED)
def test_forged_headers_are_refused(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        load_state(path, sha256(content))


class Evil:
    """Unpickling it creates a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("kind", ["pickle", "checkpoint"])
def test_a_pickle_in_disguise_is_never_executed(tmp_path, kind):
    import pickle

    marker, path = tmp_path / "executed", tmp_path / "weights.safetensors"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"conv.weight": Evil(marker)}))
    else:
        torch.save({"conv.weight": Evil(marker)}, path)
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        load_state(path, sha256(path.read_bytes()))
    assert not marker.exists()


def test_nothing_in_the_package_unpickles():
    unsafe = re.compile(
        r"pickle\.loads?\b|weights_only\s*=\s*False|allow_pickle\s*=\s*True"
        r"|joblib\.load|\bmarshal\.load|torch\.jit\.load"
        r"|torch\.load\((?![^)]*weights_only\s*=\s*True)"
    )
    sources = list(PACKAGE.rglob("*.py"))
    assert len(sources) > 10
    for source in sources:
        found = unsafe.search(source.read_text("utf-8"))
        assert not found, f"{source}: {found.group()}"


def differing(state, change):
    state = dict(state)
    change(state)
    return state


DIFFERENT = {
    "missing": (lambda s: s.pop("conv.bias"), r"1 of 7.*conv.bias: missing instead of"),
    "extra": (
        lambda s: s.update(more=torch.zeros(1)),
        r"more: \(1,\) float32 instead of nothing",
    ),
    "shape": (
        lambda s: s.update({"conv.bias": torch.zeros(5)}),
        r"conv.bias: \(5,\) float32 instead of \(4,\) float32",
    ),
    "dtype": (
        lambda s: s.update({"conv.bias": torch.zeros(4, dtype=torch.float64)}),
        r"conv.bias: \(4,\) float64 instead of \(4,\) float32",
    ),
    "all": (lambda s: s.clear(), r"7 of 7 tensors differ"),
}


@pytest.mark.parametrize(("change", "match"), DIFFERENT.values(), ids=DIFFERENT)
def test_weights_that_do_not_fit_are_listed(tiny_architecture, change, match):
    network = tiny_architecture()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items()}
    with pytest.raises(WeightsError, match=match) as caught:
        load_into(network, differing(state, change))
    assert "do not fit into Tiny" in caught.value.problem
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_half_precision_is_taken_for_single(tiny_architecture):
    network = tiny_architecture()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    half = tiny_architecture().half().state_dict()
    load_into(network, half)
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, half[name].to(tensor.dtype))


def test_long_lists_of_differences_are_cut():
    network = torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(10)))
    with pytest.raises(WeightsError, match="and 12 more"):
        load_into(network, {})


def test_a_file_is_hashed_once_per_process(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    settled = time.time() - 60
    os.utime(path, (settled, settled))
    reads = []
    digest = files._digest
    monkeypatch.setattr(files, "_digest", lambda f: reads.append(f) or digest(f))
    assert {files.file_sha256(path) for _ in range(5)} == {sha256(b"one")}
    assert len(reads) == 1
    assert files.file_sha256(path, afresh=True) == sha256(b"one")
    assert len(reads) == 2


def test_a_file_just_written_is_never_remembered(tmp_path):
    # Same inode, same size, and often the same time stamps.
    path = tmp_path / "file"
    for number in range(200):
        content = f"{number:04}".encode()
        path.write_bytes(content)
        assert files.file_sha256(path) == sha256(content)


def test_a_replaced_file_is_hashed_again(tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    settled = time.time() - 60
    for file, content in ((path, b"one"), (other, b"two")):
        file.write_bytes(content)
        os.utime(file, (settled, settled))
    assert files.file_sha256(path) == sha256(b"one")
    os.replace(other, path)
    assert files.file_sha256(path) == sha256(b"two")


@pytest.fixture
def with_constants(tiny_model):
    """A model whose weight file carries the constants of its card."""
    card, network = tiny_model()
    path = card.folder / card.weights.file
    sha256 = save_state(network, path, card=card)
    weights = replace(card.weights, sha256=sha256, size=path.stat().st_size)
    card = replace(card, weights=weights)
    return write_card(card.folder, tomllib.loads(card.to_toml()))


def test_constants_are_in_the_header(with_constants):
    path = with_constants.folder / with_constants.weights.file
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["normalization"])
    assert told["10 m"]["std"] == list(with_constants.levels[0].std)
    assert load_model("tiny").network() is not None


def test_a_card_with_other_constants_is_refused(with_constants):
    card = with_constants
    other = replace(card.levels[0], std=(1e-5, 1e-5))
    values = tomllib.loads(card.with_levels([other]).to_toml())
    write_card(card.folder, values)
    with pytest.raises(WeightsError, match=r"(?s)other constants for 10 m.*1e-05"):
        load_model("tiny").network()


def test_constants_of_the_user_are_no_contradiction(with_constants):
    card = with_constants
    own = replace(card.levels[0], std=(1e-5, 1e-5), fitted=(1.0, 1.0))
    more = replace(card.levels[0], level="700 hPa")
    check_normalization(card.folder / card.weights.file, card.with_levels([own, more]))


def test_the_same_constants_make_the_same_file(with_constants, tmp_path):
    network = load_model("tiny").network()
    sums = {save_state(network, tmp_path / "w", card=with_constants) for _ in range(9)}
    assert sums == {with_constants.weights.sha256}
