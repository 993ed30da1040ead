"""Figures of an evaluation of a Multiformer, drawn from its numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xatmo.plot import figure
from xatmo.training.figures import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["forecast_figure", "learning_figure", "save_figures", "save_learning"]

_BLUE, _RED, _GREY = "#1b6ca8", "#c8553d", "#7a7a7a"
_KINDS = {
    "val_forecast": "forecasts",
    "val_between": "times between",
    "val_tokens": "tokens",
    "val_gaps": "gaps",
}
_COLOURS = (_BLUE, _RED, "#3a7d44", "#7b4b94")


def save_figures(scores: dict[str, Any], folder: str | Path) -> list[Path]:
    """Draw all figures of one evaluation as PNG files; return their paths."""
    return [save_figure(forecast_figure(scores), Path(folder) / "forecast.png")]


def save_learning(curve: Sequence[dict[str, Any]], folder: str | Path) -> Path:
    """Draw the learning curve as ``learning.png``; return its path."""
    return save_figure(learning_figure(curve), Path(folder) / "learning.png")


def forecast_figure(scores: dict[str, Any]) -> Figure:
    """Error and spread of forecasts against lead time, a panel for each variable."""
    rows = scores["forecast"]
    names = list(dict.fromkeys((r["variable"], r["level"]) for r in rows))[:6]
    fig = figure(figsize=(3.4 * len(names) + 0.6, 3.2), layout="constrained")
    panels = fig.subplots(1, len(names), squeeze=False)[0]
    for ax, name in zip(panels, names, strict=True):
        own = [r for r in rows if (r["variable"], r["level"]) == name]
        hours = [float(r["lead"].removesuffix("h")) for r in own]
        lines = {
            "climatology": ([r["climatology"] for r in own], _GREY, ":"),
            "persistence": ([r["persistence"] for r in own], _GREY, "--"),
            "ensemble mean": ([r["rmse"] for r in own], _BLUE, "-"),
            "its spread": ([r["rmse"] * r["spread_error"] for r in own], _RED, "-"),
        }
        for label, (values, colour, style) in lines.items():
            ax.plot(hours, values, style, color=colour, marker="o", ms=3, label=label)
        ax.set_title(" ".join(name).strip(), fontsize=9, loc="left")
        ax.set_xlabel("lead time (h)")
        ax.set_xticks(hours)
        ax.set_ylim(bottom=0)
    fig.axes[0].set_ylabel("root mean square")
    fig.axes[0].legend(fontsize=7, frameon=False)
    return fig


def learning_figure(curve: Sequence[dict[str, Any]]) -> Figure:
    """Held-out errors against epochs, for each kind of what is hidden."""
    fig = figure(figsize=(6.0, 3.4), layout="constrained")
    ax = fig.subplots()
    for (key, label), colour in zip(_KINDS.items(), _COLOURS, strict=True):
        told = [(r["epoch"] + 1, r[key]) for r in curve if r.get(key) is not None]
        if told:
            ax.plot(*zip(*told, strict=True), color=colour, label=label)
    ax.axhline(1.0, color=_GREY, lw=0.8, ls=":")
    ax.set_xlabel("epoch")
    ax.set_ylabel("error / error of the first guess")
    ax.legend(fontsize=8, frameon=False)
    return fig
