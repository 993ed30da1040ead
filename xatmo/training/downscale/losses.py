"""What downscaled fields are scored by while a network learns."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

__all__ = ["crps", "differences", "ensemble_loss", "ring_of", "waves"]


def crps(members: Tensor, truth: Tensor, fairness: float = 1.0) -> Tensor:
    """Continuous ranked probability score, averaged over everything.

    Parameters
    ----------
    members : Tensor, shape (M, ...)
    truth : Tensor, shape (...)
    fairness : float
        1 for the fair score, whose mean does not depend on the number of members; 0
        for the mean absolute error of the members.

    Returns
    -------
    Tensor
        A scalar, in the units of the fields.
    """
    count = len(members)
    score = (members - truth).abs().mean()
    if count == 1:
        return score
    pairs = combinations(range(count), 2)
    apart = torch.stack([(members[i] - members[j]).abs().mean() for i, j in pairs])
    return score - 0.5 * fairness * apart.mean()


def differences(x: Tensor) -> list[Tensor]:
    """Finite differences of (..., H, W).

    Along rows and columns between points one and two apart, and the mixed second one.
    """
    east, south = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
    far = x[..., 2:] - x[..., :-2], x[..., 2:, :] - x[..., :-2, :]
    return [east, south, *far, east[..., 1:, :] - east[..., :-1, :]]


def waves(x: Tensor, rings: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Fourier coefficients of fine fields, each in units of its size in the truth.

    Parameters
    ----------
    x : Tensor, shape (..., H, W)
        Tapered by a Hann window.
    rings : Tensor, shape (K,), optional
        What :func:`waves` has given for the truth; the sizes in ``x`` itself if absent.

    Returns
    -------
    coefficients : Tensor, shape (..., H, W // 2 + 1, 2)
        Real and imaginary parts over the size of their ring of wavenumbers.
    rings : Tensor, shape (K,)
        Root mean square of the parts in each ring.
    """
    height, width = x.shape[-2:]
    taper = [
        torch.hann_window(n, periodic=False, device=x.device) for n in (height, width)
    ]
    parts = torch.view_as_real(
        torch.fft.rfft2(x * taper[0][:, None] * taper[1], norm="ortho")
    )
    ring = ring_of(height, width).to(x.device)
    if rings is None:
        power = parts.square().mean(-1).flatten(0, -3).mean(0)
        sums = torch.zeros(int(ring.max()) + 1, device=x.device)
        counts = sums.scatter_add(0, ring.flatten(), torch.ones_like(power).flatten())
        sums = sums.scatter_add(0, ring.flatten(), power.flatten())
        rings = (sums / counts.clamp(min=1)).sqrt().clamp(min=1e-6)
    return parts / rings[ring][..., None], rings


def ring_of(height: int, width: int) -> Tensor:
    """Which ring of the wavenumber plane each coefficient of ``rfft2`` is in."""
    rows, columns = torch.fft.fftfreq(height), torch.fft.rfftfreq(width)
    wavenumber = (rows[:, None] ** 2 + columns**2).sqrt()
    return (wavenumber * min(height, width)).round().long()


def ensemble_loss(
    members: Tensor,
    truth: Tensor,
    *,
    fairness: float,
    weight: float,
    spectrum: float = 0.0,
) -> Tensor:
    """CRPS of the values, of their differences, and of their waves, each weighted.

    Differences make neighbours agree: by values alone, each point could be drawn for
    itself. Waves give every scale its share of what is drawn: in differences, some
    scales may make up for others.
    """
    loss = crps(members, truth, fairness)
    if weight:
        parts = zip(differences(members), differences(truth), strict=True)
        scores = [crps(m, t, fairness) for m, t in parts]
        loss = loss + weight * torch.stack(scores).sum()
    if spectrum:
        true, rings = waves(truth)
        loss = loss + spectrum * crps(waves(members, rings)[0], true, fairness)
    return loss
