"""Figures of an evaluation of a ClimaX, drawn from its numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xatmo.plot import figure
from xatmo.training.figures import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["forecast_figure", "learning_figure", "save_figures", "save_learning"]

_BLUE, _RED, _GREY, _GREEN = "#1b6ca8", "#c8553d", "#7a7a7a", "#3a7d44"
_LINES = {
    "climatology": ("climatology", _GREY, ":"),
    "linear": ("linear regression", _GREEN, "-"),
    "rmse": ("network", _BLUE, "-"),
}
_RIVALS = ("#7b4b94", _RED)


def save_figures(scores: dict[str, Any], folder: str | Path) -> list[Path]:
    """Draw all figures of one evaluation as PNG files; return their paths."""
    return [save_figure(forecast_figure(scores), Path(folder) / "forecast.png")]


def save_learning(curve: Sequence[dict[str, Any]], folder: str | Path) -> Path:
    """Draw the learning curve as ``learning.png``; return its path."""
    return save_figure(learning_figure(curve), Path(folder) / "learning.png")


def forecast_figure(scores: dict[str, Any]) -> Figure:
    """Errors over those of persistence, a panel for each variable at each level."""
    rows = scores["forecast"]
    names = list(dict.fromkeys((r["variable"], r["level"]) for r in rows))
    across = min(4, len(names))
    down = -(-len(names) // across)
    size = (2.3 * across + 1.6, 1.9 * down + 0.9)
    fig = figure(figsize=size, layout="constrained")
    panels = fig.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    lines = dict(_LINES)
    for rival, colour in zip(scores["against"], _RIVALS, strict=False):
        lines[rival.split()[0]] = (rival.split()[0], colour, "-")
    for ax, name in zip(panels.flat, names, strict=False):
        own = [r for r in rows if (r["variable"], r["level"]) == name]
        hours = [int(r["lead"].removesuffix("h")) for r in own]
        for key, (label, colour, style) in lines.items():
            if all(key in r for r in own):
                ratios = [r[key] / r["persistence"] for r in own]
                ax.plot(
                    hours, ratios, style, color=colour, marker="o", ms=3, label=label
                )
        ax.axhline(1, color="0.8", lw=0.8, zorder=0)
        ax.set_title(" ".join(name).strip(), fontsize=9, loc="left")
        ax.set_xticks(hours)
    for ax in list(panels.flat)[len(names) :]:
        ax.set_axis_off()
    rows_of_axes = panels[:, 0]
    rows_of_axes[len(rows_of_axes) // 2].set_ylabel("RMSE / RMSE of persistence")
    panels.flat[0].set_ylim(0.4, 1.3)
    fig.supxlabel("lead time (h)", fontsize=9)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return fig


def learning_figure(curve: Sequence[dict[str, Any]]) -> Figure:
    """Held-out errors against epochs, over those of persistence, by lead time."""
    fig = figure(figsize=(6.0, 3.4), layout="constrained")
    ax = fig.subplots()
    keys = sorted(
        {k for r in curve for k in r if k.startswith("val_") and k.endswith("h")},
        key=lambda k: int(k[4:-1]),
    )
    for key, colour in zip(keys, (_GREY, _BLUE, _GREEN, _RED), strict=False):
        told = [(r["epoch"] + 1, r[key]) for r in curve if r.get(key) is not None]
        if told:
            ax.plot(*zip(*told, strict=True), color=colour, label=f"{key[4:-1]} h")
    ax.axhline(1.0, color="0.8", lw=0.8)
    ax.set_xlabel("epoch")
    ax.set_ylabel("RMSE / RMSE of persistence")
    if ax.get_legend_handles_labels()[0]:  # not of a run without held-out data
        ax.legend(fontsize=8, frameon=False, title="lead time", title_fontsize=8)
    return fig
