"""Figures of an evaluation of filled gaps, drawn from its numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xatmo.plot import figure
from xatmo.training.figures import panels_figure, save_figure
from xatmo.training.infill.estimates import LABELS
from xatmo.training.infill.evaluate import EXAMPLE
from xatmo.training.infill.page import best_plain, own_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "families_figure",
    "learning_figure",
    "reliability_figure",
    "save_figures",
    "save_learning",
    "spectrum_figure",
]

_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94", "#c9a227", "#4d4d4d", "#d186b5")
_MEANING = {
    "train_crps": "training CRPS",
    "val_crps": "held-out CRPS",
    "train_mse": "training squared error",
    "val_rmse": "held-out RMSE",
}


def save_figures(scores: dict[str, Any], folder: str | Path) -> list[Path]:
    """Draw all figures of one evaluation as PNG files; return their paths."""
    paths = []
    if scores.get(EXAMPLE):
        path = Path(folder) / "families.png"
        paths.append(save_figure(families_figure(scores), path, colours=256))
    drawn = {"reliability": reliability_figure(scores)}
    if any(table["spectra"] for table in scores["tables"]):
        drawn["spectrum"] = spectrum_figure(scores)
    return paths + [
        save_figure(fig, Path(folder) / f"{name}.png") for name, fig in drawn.items()
    ]


def save_learning(curve: Sequence[dict[str, Any]], folder: str | Path) -> Path:
    """Draw the learning curve as ``learning.png``; return its path."""
    return save_figure(learning_figure(curve), Path(folder) / "learning.png")


def families_figure(scores: dict[str, Any]) -> Figure:
    """The same field under every family of gaps, and what was made of it."""
    told, own, table = scores[EXAMPLE], own_name(scores), scores["tables"][0]
    one = next(iter(told.values()))
    x, y = one["longitude"], one["latitude"]
    x = x - 360.0 if x[0] >= 180.0 else x
    height = 0.3 + 1.85 * y.size / x.size
    fig = figure(figsize=(11.5, 0.5 + height * len(told)), layout="constrained")
    axes = fig.subplots(len(told), 6, squeeze=False, sharex=True, sharey=True)
    values = _limits([one["truth"]], 0.5)
    errors = [np.abs(m["filled"][own] - m["truth"])[m["gaps"]] for m in told.values()]
    sizes = {**_limits(errors, 2.0), "vmin": 0.0, "cmap": "magma"}
    for row, (family, maps) in zip(axes, told.items(), strict=True):
        rival = best_plain(table["families"][family])
        panels = _panels(family, own, rival, maps)
        for i, (ax, (title, field)) in enumerate(zip(row, panels, strict=True)):
            ax.set_facecolor("#dddddd")
            colours = sizes if i > 3 else values
            mesh = ax.pcolormesh(x, y, field, shading="nearest", **colours)
            ax.set_title(title, fontsize=8, loc="left")
            ax.tick_params(labelsize=7)
            if i in (3, 5):
                bar = fig.colorbar(mesh, ax=ax, shrink=0.9, pad=0.02)
                bar.ax.tick_params(labelsize=7)
    fig.supxlabel(f"{table['quantity']} ({table['units']})", fontsize=9)
    return fig


def _panels(
    family: str, own: str, rival: str | None, maps: dict[str, Any]
) -> list[tuple[str, np.ndarray]]:
    """Titles and maps of a row."""
    truth, filled = maps["truth"], maps["filled"]
    nothing = np.full(truth.shape, np.nan)
    return [
        (f"{family}: truth", truth),
        ("observed", np.where(maps["gaps"], np.nan, truth)),
        (own, filled[own]),
        (_text(LABELS[rival]), filled[rival]) if rival else ("", nothing),
        (f"spread of {own}", maps["spread"].get(own, nothing)),
        (f"error of {own}", np.abs(filled[own] - truth)),
    ]


def _limits(values: Sequence[np.ndarray], tail: float) -> dict[str, Any]:
    """Of a scale of colours: all but the tails."""
    every = np.concatenate([v.ravel() for v in values])
    low, high = np.nanpercentile(every, (tail, 100 - tail))
    return {"vmin": low, "vmax": high}


def _text(label: str) -> str:
    return label.replace("`", "")


def reliability_figure(scores: dict[str, Any]) -> Figure:
    """Error against spread, in bins of the spread, for every family of gaps."""
    table = scores["tables"][0]
    families = list(table["families"].values())
    names = [
        name
        for name in scores["labels"]
        if any("curve" in methods.get(name, ()) for methods in families)
    ]
    names.sort(key=lambda n: n in LABELS)  # networks first
    fig = figure(figsize=(0.6 + 2.9 * max(1, len(names)), 3.2), layout="constrained")
    axes = fig.subplots(1, max(1, len(names)), squeeze=False, sharex=True, sharey=True)
    for ax, name in zip(axes[0], names, strict=False):
        for (family, methods), colour in zip(
            table["families"].items(), _COLOURS, strict=False
        ):
            told = methods.get(name, {}).get("curve")
            if told:
                ax.plot(told["spread"], told["error"], ".-", ms=4, lw=1.2,
                        color=colour, label=family)  # fmt: skip
        ax.set_title(_text(scores["labels"][name]), fontsize=10, loc="left")
        ax.set_xlabel("spread", fontsize=9)
        ax.grid(alpha=0.25)
    for ax in axes[0]:
        ax.axline((0, 0), slope=1, color="#8a8f98", lw=0.8, ls=":")
    axes[0, 0].set_xlim(left=0)
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel(f"error ({table['units']})", fontsize=9)
    if names:
        axes[0, 0].legend(frameon=False, fontsize=7)
    return fig


def spectrum_figure(scores: dict[str, Any]) -> Figure:
    """Zonal spectra of the truth and of what fills a large hole."""
    tables = [t for t in scores["tables"] if t["spectra"]]
    tables = [t for t in tables if t["quantity"] == tables[0]["quantity"]]
    fig = figure(figsize=(0.6 + 4.4 * len(tables), 3.6), layout="constrained")
    axes = fig.subplots(1, len(tables), squeeze=False, sharey=True)[0]
    for ax, table in zip(axes, tables, strict=True):
        told = table["spectra"]
        for name, colour in zip(_by_interest(told["power"]), _LINES, strict=False):
            label = _text(scores["labels"].get(name, name))
            ax.loglog(told["cycles_per_degree"], told["power"][name], color=colour,
                      ls="--" if name in LABELS else "-", label=label)  # fmt: skip
        alone = "one time alone" if table["kind"] == "single" else "in its series"
        ax.set_title(f"inside the centre hole, {alone}", fontsize=10, loc="left")
        ax.set_xlabel("waves per degree of longitude", fontsize=9)
        ax.tick_params(axis="x", which="minor", labelbottom=False)
        ax.grid(alpha=0.25)
        ax.legend(frameon=False, fontsize=7)
    low = min(min(t["spectra"]["power"]["truth"]) for t in tables)
    axes[0].set_ylim(bottom=0.01 * low)
    axes[0].set_ylabel(f"variance ({tables[0]['units']})²", fontsize=9)
    return fig


_LINES = ("#000000", *_COLOURS)


def _by_interest(names: dict[str, Any]) -> list[str]:
    """The truth, networks, then plain methods."""
    return sorted(names, key=lambda n: (n != "truth", n in LABELS))


def learning_figure(curve: Sequence[dict[str, Any]]) -> Figure:
    """Loss, held-out errors and held-out spread by epoch."""
    parts = {
        "training loss": ("train_loss",),
        "in units of the anomalies": ("train_crps", "val_crps", "val_rmse"),
        "held-out spread over error": ("val_spread_error",),
    }
    return panels_figure(curve, parts, _MEANING)
