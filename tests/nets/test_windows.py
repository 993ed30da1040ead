"""Windows of fields are encoded, and their lags named, as single patches are."""

from __future__ import annotations

import pytest
import torch

from xatmo.nets import atmodist
from xatmo.nets.atmodist import AtmoDist

# Patches that are not square, and do not divide by the strides.
SMALL = {
    "n_classes": 5,
    "patch": [20, 12],
    "head_width": 8,
    "stem": [5, 1],
    "pool": False,
    "widths": (4, 6),
    "depths": (1, 1),
    "strides": (2, 3),
}


@pytest.fixture(params=["plain", "fast"])
def network(request) -> AtmoDist:
    torch.manual_seed(0)
    network = AtmoDist(**SMALL).eval()
    return network if request.param == "plain" else network.for_inference()


@pytest.fixture
def fields() -> torch.Tensor:
    return torch.randn(2, 2, 33, 40, generator=torch.Generator().manual_seed(1))


def patch(field: torch.Tensor, row: int, column: int) -> torch.Tensor:
    columns = [(column + i) % 40 for i in range(12)]
    return field[:, row : row + 20][:, :, columns][None]


@torch.inference_mode()
@pytest.mark.parametrize("together", [1, 3, 1000])
def test_as_single_patches(network, fields, together, monkeypatch):
    points = dict.fromkeys((False, True), together * 20 * 12)
    monkeypatch.setattr(atmodist, "_POINTS", points)
    rows, columns = (0, 7, 13), (5, 28, 39)  # the last one goes on at the first
    features = network.window_features(fields, rows, columns)
    found = network.lag_probabilities(features[None])
    assert found.shape == (1, 3, 3, 5)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            first, second = (patch(field, row, column) for field in fields)
            vector = network.encode(first).flatten(1)[0]
            torch.testing.assert_close(features[0, i, j], vector)
            expected = network(first, second).softmax(1)[0]
            torch.testing.assert_close(found[0, i, j], expected)


@torch.inference_mode()
def test_a_field_gets_the_same_bits_in_any_company(network, fields):
    both = network.window_features(fields, (0, 4), (0, 9, 20))
    alone = network.window_features(fields[1:], (0, 4), (0, 9, 20))
    assert torch.equal(both[1:], alone)
    pairs = torch.stack([both, both.flip(0)])
    each = [network.lag_probabilities(pair[None]) for pair in pairs]
    assert torch.equal(network.lag_probabilities(pairs), torch.cat(each))


def test_the_parameters_are_the_same_as_ever():
    names = AtmoDist(**SMALL).state_dict()
    assert not [n for n in names if n.split(".")[0] not in ("encoder", "head")]
