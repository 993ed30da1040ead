"""Figures of an evaluation, drawn from its numbers alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xatmo.plot import confusion_matrix, figure
from xatmo.training.scores.spaces import LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "accuracy_figure",
    "confusion_figure",
    "curves_figure",
    "learning_figure",
    "ordering_figure",
    "panels_figure",
    "save_figure",
    "save_figures",
    "save_learning",
]

_BLUE, _RED, _GREY = "#1b6ca8", "#c8553d", "#8a8f98"
_GROUPS = {
    "all": "all triplets",
    "both_at_least_24h": "both lags ≥ 24 h",
    "shorter_below_24h": "shorter lag < 24 h",
}


def save_figures(scores: dict[str, Any], folder: str | Path) -> list[Path]:
    """Draw all figures of one evaluation as PNG files; return their paths."""
    drawn = {
        "confusion": confusion_figure(scores),
        "curves": curves_figure(scores),
        "accuracy": accuracy_figure(scores),
        "ordering": ordering_figure(scores),
    }
    return [
        save_figure(fig, Path(folder) / f"{name}.png") for name, fig in drawn.items()
    ]


def save_learning(curve: Sequence[dict[str, Any]], folder: str | Path) -> Path:
    """Draw the learning curve as ``learning.png``; return its path."""
    return save_figure(learning_figure(curve), Path(folder) / "learning.png")


def confusion_figure(scores: dict[str, Any]) -> Figure:
    """Which lags are taken for which."""
    c = scores["classification"]
    size = 2.6 + 0.3 * len(c["lags_hours"])
    fig = figure(figsize=(size + 0.8, 1.2 + 0.8 * (size - 1.2)), layout="constrained")
    ax = fig.subplots()
    confusion_matrix(ax, c["confusion"], c["lags_hours"])
    ax.set_title(
        f"{scores['model']}: {100 * c['accuracy']:.0f} % right, "
        f"{100 * c['within_one_class']:.0f} % within one class",
        fontsize=10, loc="left",
    )  # fmt: skip
    return fig


def curves_figure(scores: dict[str, Any]) -> Figure:
    """AtmoDist against lag, beside each plain distance on the same scale."""
    grown = scores["curves"]
    table = grown["metrics"]
    rivals = [n for n in table if not n.startswith("atmodist")]
    columns = 4
    rows = -(-len(rivals) // columns)
    fig = figure(figsize=(9, 0.6 + 2.0 * rows), layout="constrained")
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, rival in zip(axes.flat, rivals, strict=False):
        # A root is compared with a root: its spread is half that of its square.
        own = "atmodist_root" if rival.startswith("rmse") else "atmodist"
        for name, colour in ((rival, _RED), (own, _BLUE)):
            _band(ax, grown["lags_hours"], table[name], colour, LABELS[name])
        ax.legend(frameon=False, fontsize=8, loc="lower right", handlelength=1.2)
        ax.grid(alpha=0.25)
        if grown["lags_hours"][-1] >= 48:
            ax.set_xticks(range(0, grown["lags_hours"][-1] + 1, 24))
    for ax in axes.flat[len(rivals) :]:
        ax.set_visible(False)
    top = max(_top(table[name]) for name in table if name != "eof20")
    axes[0, 0].set_ylim(0, top)
    fig.supxlabel("time lag (h)", fontsize=9)
    fig.supylabel("distance times its own α", fontsize=9)
    fig.suptitle(
        "Mean ± one standard deviation over pairs", fontsize=10, x=0.01, ha="left"
    )
    return fig


def _band(
    ax: Axes, lag: list[float], curve: dict[str, Any], colour: str, label: str
) -> None:
    mean, std = np.array(curve["scaled_mean"]), np.array(curve["scaled_std"])
    ax.plot(lag, mean, color=colour, marker="o", markersize=2.5, lw=1.4, label=label)
    ax.fill_between(lag, mean - std, mean + std, color=colour, alpha=0.15, lw=0)


def _top(curve: dict[str, Any]) -> float:
    return 1.05 * max(np.add(curve["scaled_mean"], curve["scaled_std"]))


def accuracy_figure(scores: dict[str, Any]) -> Figure:
    """Accuracy by lag, season and latitude, with intervals."""
    c = scores["classification"]
    groups = [
        ("true lag (h)", {str(g["lag_hours"]): g for g in c["by_lag"]}),
        ("season", c["by_season"]),
        ("latitude (°)", c["by_band"]),
    ]
    widths = [max(2, len(g)) for _, g in groups]
    fig = figure(figsize=(9, 2.9), layout="constrained")
    axes = fig.subplots(1, 3, sharey=True, width_ratios=widths)
    for ax, (title, group) in zip(axes, groups, strict=True):
        _bars(ax, list(group), list(group.values()))
        ax.axhline(c["accuracy_chance"], color=_RED, lw=1, ls="--")
        ax.set_xlabel(title)
    axes[0].set_ylabel("accuracy")
    axes[0].set_ylim(0, 1)
    said = "Lags named right, with 95 %; light: within one class; dashed: chance"
    fig.suptitle(said, fontsize=10, x=0.01, ha="left")
    return fig


def _bars(ax: Axes, names: list[str], groups: list[dict[str, Any]]) -> None:
    x = np.arange(len(names))
    right = np.array([g["accuracy"] for g in groups])
    ax.bar(x, [g["within_one_class"] for g in groups], color=_BLUE, alpha=0.25)
    ax.bar(x, right, color=_BLUE)
    low, high = np.transpose([g["accuracy_95"] for g in groups])
    errors = np.maximum([right - low, high - right], 0)
    ax.errorbar(x, right, errors, fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
    long = len(names) > 3 and max(map(len, names)) > 3
    ax.set_xticks(x, names, fontsize=8, rotation=35 if long else 0)
    if len(names) == 1:  # one season: a bar, not a wall
        ax.set_xlim(-1, 1)
    ax.grid(axis="y", alpha=0.25)
    ax.set_axisbelow(True)


def ordering_figure(scores: dict[str, Any]) -> Figure:
    """How often each distance finds the longer lag farther away."""
    groups = scores["ordering"]
    names = [n for n in groups["all"] if isinstance(groups["all"][n], dict)]
    fig = figure(figsize=(9, 0.9 + 0.24 * len(names)), layout="constrained")
    axes = fig.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    y = np.arange(len(names))[::-1]
    for ax, (key, group) in zip(axes, groups.items(), strict=True):
        value = np.array([group[n]["accuracy"] for n in names])
        low, high = np.transpose([group[n]["95"] for n in names])
        for i, name in enumerate(names):
            colour = _BLUE if name == "atmodist" else _GREY
            ax.plot([low[i], high[i]], [y[i], y[i]], color=colour, lw=2)
            ax.plot(value[i], y[i], "o", color=colour, markersize=5)
        ax.axvline(value[0], color=_BLUE, lw=0.8, ls=":")
        said = _GROUPS.get(key, f"lags {key.partition('h')[0]} h apart")
        ax.set_title(said, fontsize=9, loc="left")
        ax.set_yticks(y, [LABELS[n] for n in names], fontsize=8)
        ax.grid(axis="x", alpha=0.25)
        ax.set_ylim(-0.6, len(names) - 0.4)
    fig.supxlabel("ordering accuracy (chance: 0.5), 95 % intervals", fontsize=9)
    return fig


def learning_figure(curve: Sequence[dict[str, Any]]) -> Figure:
    """Cross-entropy and accuracy by epoch, in training and on held-out pairs."""
    fig = figure(figsize=(7, 2.6), layout="constrained")
    axes = fig.subplots(1, 2)
    for ax, key, title in zip(
        axes, ("ce", "accuracy"), ("cross-entropy", "accuracy"), strict=True
    ):
        for part, colour, label in (
            ("train", _GREY, "training"),
            ("val", _BLUE, "held out"),
        ):
            rows = [r for r in curve if r.get(f"{part}_{key}") is not None]
            epochs = [r["epoch"] for r in rows]
            values = [r[f"{part}_{key}"] for r in rows]
            ax.plot(epochs, values, color=colour, marker=".", label=label)
        ax.set_xlabel("epoch")
        ax.set_title(title, fontsize=10, loc="left")
        ax.grid(alpha=0.25)
    axes[0].legend(frameon=False, fontsize=8)
    return fig


def panels_figure(
    curve: Sequence[dict[str, Any]],
    parts: Mapping[str, Sequence[str]],
    names: Mapping[str, str],
) -> Figure:
    """What a run has logged by epoch: a panel for each part, a line for each key."""
    colours = (_BLUE, _RED, "#3a7d44", "#7b4b94")
    fig = figure(figsize=(9.5, 2.7), layout="constrained")
    for ax, (title, keys) in zip(
        fig.subplots(1, len(parts)), parts.items(), strict=True
    ):
        for key, colour in zip(keys, colours, strict=False):
            rows = [r for r in curve if r.get(key) is not None]
            epochs, values = ([r[k] for r in rows] for k in ("epoch", key))
            label = names.get(key, key)
            ax.plot(epochs, values, color=colour, marker=".", label=label)
        ax.set_xlabel("epoch")
        ax.set_title(title, fontsize=10, loc="left")
        ax.grid(alpha=0.25)
        if len(keys) > 1:
            ax.legend(frameon=False, fontsize=8)
    return fig


def save_figure(fig: Figure, path: Path, colours: int | None = 128) -> Path:
    """Write a small PNG: line drawings need few colours, maps all of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    memory = io.BytesIO()
    fig.savefig(memory, dpi=100, format="png")
    from PIL import Image  # comes with matplotlib

    image = Image.open(memory).convert("RGB")
    if colours is not None:
        image = image.quantize(colors=colours, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    return path
