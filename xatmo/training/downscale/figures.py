"""Figures of an evaluation of downscaling, drawn from its numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xatmo.plot import figure
from xatmo.training.figures import panels_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "example_figure",
    "learning_figure",
    "rank_figure",
    "save_figures",
    "save_learning",
    "spectrum_figure",
    "variogram_figure",
]

# The truth, plain methods in greys, and the networks in colours.
_STYLE = {
    "truth": ("#000000", "-"),
    "bicubic": ("#8a8f98", ":"),
    "ridge": ("#8a8f98", "--"),
    "another_day": ("#c9a227", "-."),
}
_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94")


def save_figures(scores: dict[str, Any], folder: str | Path) -> list[Path]:
    """Draw all figures of one evaluation as PNG files; return their paths."""
    drawn = {
        "spectrum": spectrum_figure(scores),
        "variogram": variogram_figure(scores),
    }
    if any("rank_histogram" in m for m in scores["methods"].values()):
        drawn["ranks"] = rank_figure(scores)
    paths = [save_figure(fig, Path(folder) / f"{n}.png") for n, fig in drawn.items()]
    if scores.get("example"):
        path = Path(folder) / "example.png"
        paths.append(save_figure(example_figure(scores), path, colours=None))
    return paths


def save_learning(curve: Sequence[dict[str, Any]], folder: str | Path) -> Path:
    """Draw the learning curve as ``learning.png``; return its path."""
    return save_figure(learning_figure(curve), Path(folder) / "learning.png")


def spectrum_figure(scores: dict[str, Any]) -> Figure:
    """Zonal spectra of the truth and of what the methods make of its block means."""
    told = scores["spectra"]
    wavenumber = np.array(told["cycles_per_degree"])
    fig = figure(figsize=(6.4, 4.2), layout="constrained")
    ax = fig.subplots()
    for name, (colour, style) in _shown(scores).items():
        power = np.array(told["power"][name])
        ax.loglog(wavenumber, power, style, color=colour, label=_label(scores, name))
    ax.axvline(told["coarse_nyquist"], color="#cccccc", lw=6, zorder=0)
    ax.set_title("zonal spectrum; the band marks the coarse grid's limit",
                 fontsize=10, loc="left")  # fmt: skip
    ax.set_xlabel("waves per degree of longitude")
    ax.set_ylabel(f"variance ({scores['units']})²")
    ax.legend(frameon=False, fontsize=8, loc="lower left")
    ax.grid(alpha=0.25)
    return fig


def variogram_figure(scores: dict[str, Any]) -> Figure:
    """Semivariograms over that of the truth."""
    told = scores["semivariograms"]
    truth = np.array(told["value"]["truth"])
    fig = figure(figsize=(5.6, 3.6), layout="constrained")
    ax = fig.subplots()
    for name, (colour, style) in _shown(scores).items():
        ratio = np.array(told["value"][name]) / truth
        ax.semilogx(told["lags_km"], ratio, style, color=colour, marker=".",
                    label=_label(scores, name))  # fmt: skip
    ax.set_title("semivariogram over that of the truth", fontsize=10, loc="left")
    ax.set_xlabel("distance (km)")
    ax.legend(frameon=False, fontsize=8)
    ax.grid(alpha=0.25)
    return fig


def rank_figure(scores: dict[str, Any]) -> Figure:
    """How often the truth has each rank among the realizations."""
    fig = figure(figsize=(5.2, 3.0), layout="constrained")
    ax = fig.subplots()
    told = [m for m in scores["methods"].values() if "rank_histogram" in m]
    for method, colour in zip(told, _COLOURS, strict=False):
        share = method["rank_histogram"]
        label = f"{method['label']}: spread / error {method['spread_error']:.2f}"
        ax.stairs(share, np.arange(len(share) + 1) - 0.5, color=colour, label=label)
        ax.axhline(1 / len(share), color="#8a8f98", lw=0.8, ls=":")
    ax.set_ylim(bottom=0)
    ax.set_title("rank of the truth among the realizations", fontsize=10, loc="left")
    ax.legend(frameon=False, fontsize=8, loc="lower center")
    return fig


def example_figure(scores: dict[str, Any]) -> Figure:
    """The strongest field: truth, what was downscaled, and what was made of it."""
    told = scores["example"]
    names = [n for n in _example_names(scores) if n in told["maps"]]
    fig = figure(figsize=(0.8 + 2.6 * len(names), 3.0), layout="constrained")
    axes = fig.subplots(1, len(names), squeeze=False, sharex=True, sharey=True)[0]
    top = max(max(map(max, told["maps"][n])) for n in names)
    for ax, name in zip(axes, names, strict=True):
        y, x, field = _map(told, name, scores["factor"])
        mesh = ax.pcolormesh(x, y, field, shading="nearest", vmin=0, vmax=top)
        ax.set_title(_label(scores, name), fontsize=9, loc="left")
        ax.set_xlabel("longitude (°E)")
        ax.set_aspect("equal")
    axes[0].set_ylabel("latitude (°N)")
    label = f"{scores['magnitude']} ({scores['units']})"
    fig.colorbar(mesh, ax=axes, label=label, pad=0.01)
    return fig


def learning_figure(curve: Sequence[dict[str, Any]]) -> Figure:
    """Loss, held-out errors and held-out power by epoch."""
    parts = {
        "training loss": ("train_loss",),
        "held-out errors": ("val_rmse_member", "val_rmse", "val_crps"),
        "share of the fine scales' power": ("val_power", "val_power_mean"),
    }
    return panels_figure(curve, parts, _MEANING)


_MEANING = {
    "val_rmse": "RMSE of the mean",
    "val_rmse_member": "RMSE",
    "val_crps": "CRPS",
    "val_power": "one realization",
    "val_power_mean": "mean",
}


def _networks(scores: dict[str, Any]) -> list[str]:
    return [scores["model"].split()[0], *(m.split()[0] for m in scores["against"])]


def _shown(scores: dict[str, Any]) -> dict[str, tuple[str, str]]:
    own = dict(zip(_networks(scores), ((c, "-") for c in _COLOURS), strict=False))
    return {
        n: s for n, s in {**_STYLE, **own}.items() if n in scores["spectra"]["power"]
    }


def _example_names(scores: dict[str, Any]) -> list[str]:
    return ["truth", "coarse", "bicubic", *_networks(scores)]


def _label(scores: dict[str, Any], name: str) -> str:
    if name == "coarse":
        return "block means"
    return str(scores["methods"].get(name, {"label": name})["label"])


def _map(told: dict[str, Any], name: str, factor: int) -> tuple[np.ndarray, ...]:
    """Latitude, longitude and values."""
    y, x = (np.array(told[key]) for key in ("latitude", "longitude"))
    if name == "coarse":
        y, x = (a.reshape(-1, factor).mean(1) for a in (y, x))
    return y, x, np.array(told["maps"][name])
