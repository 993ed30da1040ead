"""All distances of an evaluation, between the same patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xatmo.metrics.patches import eof_basis, psnr, ssim_distance
from xatmo.training.scores.draws import Draws
from xatmo.training.scores.scorer import Scorer

__all__ = ["DEFINITIONS", "LABELS", "ORDERED", "Spaces", "States"]

LABELS = {
    "atmodist": "AtmoDist",
    "atmodist_root": "√AtmoDist",
    "l2": "l2",
    "rmse": "RMSE",
    "l1": "l1",
    "psnr": "50 − PSNR",
    "ssim": "SSIM",
    "eof20": "20 EOFs",
    "rmse_wind": "RMSE of winds",
    "eof20_wind": "20 EOFs of winds",
}

DEFINITIONS = {
    "atmodist": "mean squared difference of the features",
    "atmodist_root": "root of atmodist, to compare with roots",
    "l2": "mean squared difference of the normalised fields",
    "rmse": "root of l2",
    "l1": "mean absolute difference of the normalised fields",
    "psnr": "50 minus 10 log10(peak^2 / l2), peak the largest |value| of a sample",
    "ssim": "1 - (1 + SSIM) / 2 of the normalised fields, windows of 11 points",
    "eof20": "squared difference in the space of the 20 leading EOFs of the normalised "
    "fields, per grid value",
    "rmse_wind": "root mean squared difference of the standardised wind components",
    "eof20_wind": "as eof20, of the standardised wind components",
}

# Those that can differ in the order of two pairs: l2 and PSNR follow the RMSE.
ORDERED = ("atmodist", "rmse", "l1", "eof20", "ssim", "rmse_wind", "eof20_wind")

_PSNR_CONSTANT = 50.0
_SAMPLES = 4096
_SAMPLE_NUMBERS = 2**25


@dataclass(frozen=True)
class States:
    """One state per row, in every space that distances are taken in."""

    features: np.ndarray
    fields: np.ndarray
    eofs: np.ndarray
    winds: np.ndarray | None
    wind_eofs: np.ndarray | None


class Spaces:
    """The spaces, set up on a sample of patches.

    Parameters
    ----------
    scorer : Scorer
    reference : Draws
        Where the EOFs, the range of the SSIM and the scales of the winds come from.
    channels : int
        The first ones are the network's inputs.
    winds : tuple of int, optional
        Which channels are the winds.
    components : int
        Number of EOFs.
    """

    def __init__(
        self,
        scorer: Scorer,
        reference: Draws,
        channels: int,
        winds: tuple[int, int] | None,
        components: int = 20,
    ) -> None:
        self.scorer, self.channels, self.components = scorer, channels, components
        self.winds = list(winds) if winds else None
        sample = _sample(reference, channels)
        fields = scorer.fields(sample[:, :channels])
        self.basis = eof_basis(fields.reshape(len(fields), -1), components)
        self.range = float(fields.max() - fields.min())
        self.peak = float(np.abs(fields).max())
        if self.winds:
            raw = sample[:, self.winds]
            axes = (0, 2, 3)
            self.mean = raw.mean(axes, keepdims=True)
            self.std = raw.std(axes, keepdims=True)
            scaled = (raw - self.mean) / self.std
            self.wind_basis = eof_basis(scaled.reshape(len(raw), -1), components)

    def states(self, x: np.ndarray) -> States:
        """Bring patches (n, C, h, w) in physical units into all spaces."""
        own = np.ascontiguousarray(x[:, : self.channels])
        fields = self.scorer.fields(own)
        features = self.scorer.encode(own).numpy()
        winds = wind_eofs = None
        if self.winds:
            winds = (x[:, self.winds] - self.mean) / self.std
            wind_eofs = _project(winds, self.wind_basis)
        return States(features, fields, _project(fields, self.basis), winds, wind_eofs)

    def between(self, a: States, b: States) -> dict[str, np.ndarray]:
        """Return every distance (n,) of two states, row by row; see DEFINITIONS."""
        atmodist = _mean_square(a.features, b.features)
        l2 = _mean_square(a.fields, b.fields)
        numbers = a.fields[0].size
        found = {
            "atmodist": atmodist,
            "atmodist_root": np.sqrt(atmodist),
            "l2": l2,
            "rmse": np.sqrt(l2),
            "l1": np.abs(a.fields - b.fields).reshape(len(l2), -1).mean(1),
            "psnr": _PSNR_CONSTANT - psnr(l2, self.peak),
            "ssim": ssim_distance(a.fields, b.fields, self.range),
            "eof20": ((a.eofs - b.eofs) ** 2).sum(1) / numbers,
        }
        if a.winds is not None and b.winds is not None:
            found["rmse_wind"] = np.sqrt(_mean_square(a.winds, b.winds))
            difference = a.wind_eofs - b.wind_eofs  # type: ignore[operator]
            found["eof20_wind"] = (difference**2).sum(1) / a.winds[0].size
        return found


def _sample(reference: Draws, channels: int) -> np.ndarray:
    h, w = reference.sampling.patch
    count = int(np.clip(_SAMPLE_NUMBERS // (channels * h * w), 256, _SAMPLES))
    drawn = reference.read(reference.pairs(count))
    return np.concatenate([d.states[0] for d in drawn])


def _project(x: np.ndarray, basis: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    vectors, mean = basis
    return (x.reshape(len(x), -1) - mean) @ vectors


def _mean_square(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    difference = (a - b).reshape(len(a), -1)
    return np.einsum("ij,ij->i", difference, difference) / difference.shape[1]
