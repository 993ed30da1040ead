"""Block means, and the interpolations back, against closed forms and torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from xatmo.nets.resample import block_mean, conserve, interpolate, repeat


def normal(*shape, dtype=torch.float64):
    random = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=random, dtype=dtype)


def centres(size, factor):
    """Where fine centres lie, in coarse points."""
    return (torch.arange(size * factor, dtype=torch.float64) + 0.5) / factor - 0.5


@pytest.mark.parametrize("factor", [1, 2, 4, 5])
def test_block_mean_is_the_mean_of_blocks(factor):
    x = normal(2, 3, 4 * factor, 3 * factor)
    blocks = x.numpy().reshape(2, 3, 4, factor, 3, factor)
    np.testing.assert_allclose(block_mean(x, factor), blocks.mean((3, 5)), atol=1e-15)


@pytest.mark.parametrize("shape", [(9, 8), (8, 10), (1, 1)])
def test_what_is_left_over_is_refused(shape):
    text = f"{shape[0]} x {shape[1]} points cannot be cut into blocks of 4"
    with pytest.raises(ValueError, match=text):
        block_mean(normal(1, 1, *shape), 4)


def test_repeat_is_undone_by_the_mean():
    x = normal(2, 3, 5, 1)
    assert repeat(x, 4).shape == (2, 3, 20, 4)
    assert torch.equal(repeat(x, 4)[..., 4:8, :4], x[..., 1:2, :1].expand(2, 3, 4, 4))
    torch.testing.assert_close(block_mean(repeat(x, 4), 4), x)


@pytest.mark.parametrize("method", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("shape", [(7, 9), (1, 6), (1, 1)])
def test_interpolation_is_torchs(method, shape):
    x = normal(2, 3, *shape)
    centred = {} if method == "nearest" else {"align_corners": False}
    size = 4 * shape[0], 4 * shape[1]
    expected = F.interpolate(x, size=size, mode=method, **centred)
    torch.testing.assert_close(interpolate(x, 4, method), expected)


@pytest.mark.parametrize("method", ["bicubic", "bilinear", "nearest"])
def test_constants_stay(method):
    x = torch.full((1, 2, 3, 5), 7.25, dtype=torch.float64)
    expected = torch.full((1, 2, 12, 20), 7.25, dtype=torch.float64)
    torch.testing.assert_close(interpolate(x, 4, method), expected)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(("method", "off"), [("bilinear", 1e-14), ("bicubic", 0.047)])
def test_linear_fields_away_from_edges(method, off, factor):
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    x = (2 * columns - rows).double()[None, None]
    fine = 2 * centres(9, factor)[None] - centres(8, factor)[:, None]
    inner = slice(2 * factor, -2 * factor)
    error = (interpolate(x, factor, method)[0, 0] - fine)[inner, inner].abs().max()
    assert error <= off * 3  # the steps along both axes
    if method == "bicubic":
        # Its blocks' means are exact all the same: the error changes sign within.
        means = block_mean(interpolate(x, factor, method), factor)
        torch.testing.assert_close(means[..., 2:-2, 2:-2], x[..., 2:-2, 2:-2])


def test_edges_continue_as_constants():
    x = normal(1, 1, 6, 7)
    padded = F.pad(x, (3, 3, 3, 3), mode="replicate")
    for method in ("bicubic", "bilinear", "nearest"):
        inner = interpolate(padded, 4, method)[..., 12:-12, 12:-12]
        torch.testing.assert_close(interpolate(x, 4, method), inner)


def test_no_such_method():
    with pytest.raises(ValueError, match=r"'bilinear' or 'nearest', not 'spline'"):
        interpolate(normal(1, 1, 2, 2), 4, "spline")


@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float32, 1e-6), (torch.float64, 1e-14)]
)
def test_conserve_is_exact(dtype, atol):
    fine, coarse = normal(2, 2, 20, 28, dtype=dtype), normal(2, 2, 5, 7, dtype=dtype)
    found = conserve(fine, coarse, 4)
    torch.testing.assert_close(block_mean(found, 4), coarse, rtol=0, atol=atol)
    torch.testing.assert_close(conserve(found, coarse, 4), found, rtol=0, atol=2 * atol)
    # A block is shifted as a whole: what varies within stays.
    shift = (found - fine).unflatten(3, (7, 4)).unflatten(2, (5, 4))
    torch.testing.assert_close(shift, shift[:, :, :, :1, :, :1].expand_as(shift))


def test_conserve_leaves_a_gradient_within_blocks():
    fine, coarse = normal(1, 1, 8, 8).requires_grad_(), normal(1, 1, 2, 2)
    weights = normal(1, 1, 8, 8).flip(-1)
    (conserve(fine, coarse, 4) * weights).sum().backward()
    expected = weights - repeat(block_mean(weights, 4), 4)
    torch.testing.assert_close(fine.grad, expected)
