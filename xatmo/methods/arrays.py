"""The numbers behind the plain methods: arrays of maps in, finer maps out.

Maps are ``(..., latitude, longitude)``. Rows and columns at an edge continue as
constants; the columns of a global map close on themselves.
"""

from __future__ import annotations

import numpy as np

from xatmo.blocks import split

__all__ = ["gram", "predict", "solve", "upsample"]

_REACH = 2  # of bicubic interpolation, in coarse points


def upsample(
    coarse: np.ndarray, factor: int, method: str, *, periodic: bool
) -> np.ndarray:
    """Interpolate maps to the centres of cells ``factor`` times finer.

    Parameters
    ----------
    coarse : ndarray, shape (..., h, w)
    factor : int
    method : {"nearest", "bilinear", "bicubic"}
    periodic : bool
        Whether the last column is the first one's neighbour.

    Returns
    -------
    ndarray, shape (..., factor h, factor w)
    """
    import torch

    from xatmo.nets.resample import interpolate

    *batch, h, w = coarse.shape
    x = coarse.reshape(-1, 1, h, w)
    if periodic:
        x = _wrapped(x, _REACH)
    fine = interpolate(torch.from_numpy(np.ascontiguousarray(x)), factor, method)
    if periodic:
        fine = fine[..., factor * _REACH : -factor * _REACH]
    return fine.numpy().reshape(*batch, factor * h, factor * w)


# --- Ridge regression: a window of coarse points to the fine points of its centre ---


def gram(
    coarse: np.ndarray, fine: np.ndarray, factor: int, window: int, *, periodic: bool
) -> np.ndarray:
    """Sums that a regression needs, in float64; those of several maps add up.

    Parameters
    ----------
    coarse : ndarray, shape (..., C, h, w)
    fine : ndarray, shape (..., C, factor h, factor w)
    window : int
        Points on a side of the window that is read; odd.

    Returns
    -------
    ndarray, shape (p, p + C factor**2)
        Products of the p = C window**2 + 1 predictors with each other, and with what
        they are to predict. Points with missing values are left out.
    """
    total = 0.0
    maps = coarse.reshape(-1, *coarse.shape[-3:])
    targets = fine.reshape(-1, *fine.shape[-3:])
    for x, y in zip(maps, targets, strict=True):
        both = np.concatenate(
            [_predictors(x, window, periodic), _packed(y, factor)], axis=1
        )
        both = both[np.isfinite(both).all(axis=1)]
        count = x.shape[0] * window**2 + 1
        total = total + both[:, :count].T @ both
    return np.asarray(total)


def solve(sums: np.ndarray, penalty: float) -> np.ndarray:
    """Coefficients (p, C factor**2) from the sums of :func:`gram`.

    The penalty is relative: it is added to the mean square of each predictor, so that
    units do not matter; the constant is free of it.
    """
    count = sums.shape[0]
    own, wanted = sums[:, :count].copy(), sums[:, count:]
    # Predictors differ by ten orders where a wind stands beside the constant.
    scale = np.sqrt(np.diag(own))
    scale[scale == 0] = 1.0
    own /= np.outer(scale, scale)
    own[np.arange(count - 1), np.arange(count - 1)] += penalty
    found = np.linalg.lstsq(own, wanted / scale[:, None], rcond=None)[0]
    return found / scale[:, None]


def predict(
    coarse: np.ndarray, coefficients: np.ndarray, factor: int, *, periodic: bool
) -> np.ndarray:
    """Apply a regression: (..., C, h, w) -> (..., C, factor h, factor w)."""
    *batch, channels, h, w = coarse.shape
    window = round(((coefficients.shape[0] - 1) / channels) ** 0.5)
    out = np.empty((*batch, channels, factor * h, factor * w), coarse.dtype)
    maps, found = coarse.reshape(-1, channels, h, w), out.reshape(-1, *out.shape[-3:])
    for x, y in zip(maps, found, strict=True):
        packed = _predictors(x, window, periodic) @ coefficients
        parts = packed.reshape(h, w, channels, factor, factor)
        y[:] = parts.transpose(2, 0, 3, 1, 4).reshape(y.shape)
    return out


def _predictors(x: np.ndarray, window: int, periodic: bool) -> np.ndarray:
    """(C, h, w) -> (h w, C window**2 + 1): a window around each point, and one."""
    half = window // 2
    x = np.pad(x.astype(np.float64), ((0, 0), (half, half), (0, 0)), mode="edge")
    if periodic:
        x = _wrapped(x, half)
    else:
        x = np.pad(x, ((0, 0), (0, 0), (half, half)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(x, (window, window), (1, 2))
    rows = windows.transpose(1, 2, 0, 3, 4).reshape(
        windows.shape[1] * windows.shape[2], -1
    )
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def _packed(y: np.ndarray, factor: int) -> np.ndarray:
    """(C, f h, f w) -> (h w, C f**2): the fine points of each coarse one."""
    blocks = split(y.astype(np.float64), factor)  # (C, h, f, w, f)
    count = blocks.shape[1] * blocks.shape[3]
    return blocks.transpose(1, 3, 0, 2, 4).reshape(count, -1)


def _wrapped(x: np.ndarray, columns: int) -> np.ndarray:
    edges = [(0, 0)] * (x.ndim - 1) + [(columns, columns)]
    return np.pad(x, edges, mode="wrap")
