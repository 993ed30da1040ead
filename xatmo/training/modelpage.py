"""A model's README, written from its card and its measured scores: nothing is typed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xatmo.training.scores.spaces import LABELS
from xatmo.zoo import Card

__all__ = [
    "assembled",
    "comparison",
    "facts",
    "figure_link",
    "learning_opening",
    "markdown_table",
    "model_page",
    "score_page",
]

_GROUPS = {
    "all": "all triplets",
    "both_at_least_24h": "both lags at least 24 h",
    "shorter_below_24h": "shorter lag below 24 h",
}
_FEW_BLOCKS = 6
# In the order of the page; square distances first, since their spread is larger.
_CURVES = (
    "atmodist", "l2", "eof20", "eof20_wind",
    "atmodist_root", "rmse", "l1", "ssim", "rmse_wind",
)  # fmt: skip


def model_page(
    card: Card,
    scores: dict[str, Any],
    recipe: str,
    *,
    figures: Mapping[str, Sequence[str]] | None = None,
    curve: Sequence[dict[str, Any]] = (),
    comparisons: Sequence[dict[str, Any]] = (),
) -> str:
    """Return the text of ``models/<name>/README.md``.

    Parameters
    ----------
    card : Card
    scores : dict
        Results of ``evaluate``, by a name of the data.
    recipe : str
        Path of the recipe.
    figures : dict, optional
        Paths of figures beside the page: for each of ``scores``, and ``learning``.
    curve : sequence of dict, optional
        One per epoch: ``epoch``, ``train_ce``, ``val_ce``, ...
    comparisons : sequence of dict, optional
        Tables: ``title``, ``columns``, ``rows``, ``note``.
    """
    head = [_use(card), facts(card), _reading(scores)]
    head += ["## Scores", _how_measured(card, recipe)]
    told = {key: score_page(table) for key, table in scores.items()}
    learnt = _learning(curve) if curve else ""
    return assembled(card, head, told, learnt, figures, comparisons)


def assembled(
    card: Card,
    head: Sequence[str],
    scores: Mapping[str, str],
    learning: str,
    figures: Mapping[str, Sequence[str]] | None,
    comparisons: Sequence[dict[str, Any]],
) -> str:
    """Put a model's page together, whatever the model is for.

    Parameters
    ----------
    card : Card
    head : sequence of str
        Paragraphs before the scores.
    scores : dict
        The text of each evaluation, by a name of the data.
    learning : str
        What is said of the learning curve; empty if there is none.
    figures, comparisons
        As for :func:`model_page`.
    """
    shown = figures or {}
    parts = [f"# {card.name} {card.version}\n\n{card.title}.", *head]
    for key, text in {**scores, "learning": learning}.items():
        if text:
            parts += [text, *map(figure_link, shown.get(key, ()))]
    return "\n\n".join([*parts, *map(comparison, comparisons)]) + "\n"


def score_page(scores: dict[str, Any]) -> str:
    """Return the tables of one evaluation as Markdown."""
    c = scores["classification"]
    level = f", {scores['level']}" if scores.get("level") else ""
    parts = [
        f"### {'; '.join(scores['data'])}{level}",
        *_left_out(scores),
        f"Naming the lag, {c['pairs']:,} pairs, {len(c['lags_hours'])} classes:",
        _naming(c),
        _by_group(c),
        _confusion(c),
        "Ordering accuracy: for lags a < b, how often d(t, t+a) < d(t, t+b):",
        _ordering(scores["ordering"]),
    ]
    if "curves" in scores:
        parts += [_curves_said(scores["curves"]), _curves(scores["curves"])]
    return "\n\n".join(parts)


# --- The model ----------------------------------------------------------------------


def _how_measured(card: Card, recipe: str) -> str:
    return (
        f"Measured by\n\n```\nxatmo release {recipe} --scores-only\n```\n\n"
        "on patches at random places (centres within "
        f"{card.grid.latitude_limit or 90:g}° of the equator) and times; the intervals "
        "are 95 % of a bootstrap over blocks of three days. All numbers, with the "
        "confusion matrices by season and latitude, are in `scores.json`."
    )


def _use(card: Card) -> str:
    return (
        "```python\nimport xarray as xr, xatmo\n\n"
        'ds = xr.open_dataset("winds.nc", chunks={"time": 16})\n'
        f'z = ds.atmo.embed("{card.name}")\n'
        f'd = ds.atmo.distance(ds.isel(time=0), "{card.name}")\n```'
    )


def facts(card: Card) -> str:
    """Return what a card says, as a table."""
    fine, coarse = card.grid.spacing
    trained = ", ".join(lv.level for lv in card.levels if lv.trained)
    measured = ", ".join(lv.level for lv in card.levels if not lv.trained)
    inputs = ", ".join(f"`{i.quantity}` ({i.units})" for i in card.inputs)
    if any("vorticity" in i.quantity for i in card.inputs):
        inputs += "; derived from winds where absent"
    if not card.fields:  # which have a table of their own
        inputs = inputs or "any quantity at any level, each on its own"
    levels = f"trained at {trained}" if trained else ""
    if measured:
        levels += f"; normalisation only at {measured} (a warning says so)"
    rows = [
        ("inputs", inputs),
        ("levels", levels),
        ("grid", f"{fine:g} to {coarse:g}°, at least {_by(card.grid.patch)} points"),
        (
            "weights",
            f"{card.weights.size / 1e6:.1f} MB, sha256 `{card.weights.sha256}`",
        ),
        ("trained on", card.training.get("data", "")),
        ("training", card.training.get("effort", "")),
        ("choices", card.training.get("choices", "")),
        ("credit", card.training.get("attribution", "")),
        ("licence", card.licence),
        ("cite", card.citation),
    ]
    return markdown_table(["", ""], ([name, value] for name, value in rows if value))


def _by(patch: tuple[int, int]) -> str:
    return f"{patch[0]} x {patch[1]}"


def learning_opening(curve: Sequence[dict[str, Any]], unit: str) -> str:
    """Begin to tell a learning curve: how many epochs, and how fast.

    Parameters
    ----------
    curve : sequence of dict
    unit : str
        What a sample is called, such as ``"boxes"``.
    """
    said = f"## Learning curve\n\n{len(curve)} epochs"
    key = f"{unit}_per_second"
    if rates := [row[key] for row in curve if row.get(key)]:
        said += f", {sorted(rates)[len(rates) // 2]:,.0f} {unit} a second"
    return said


def _learning(curve: Sequence[dict[str, Any]]) -> str:
    held = [row for row in curve if row.get("val_ce") is not None]
    said = learning_opening(curve, "pairs")
    said += f"; training cross-entropy {_number(curve[-1].get('train_ce'))} at the end"
    if held:
        best = min(held, key=lambda row: row["val_ce"])
        said += (
            f", held out {_number(held[-1]['val_ce'])} "
            f"(lowest {_number(best['val_ce'])} in epoch {best['epoch']})"
        )
    names = ("train_ce", "val_ce", "train_accuracy", "val_accuracy")
    some = held[:: max(1, len(held) // 8)] or list(curve[:: max(1, len(curve) // 8)])
    if held and some[-1] is not held[-1]:
        some.append(held[-1])
    heads = ["epoch", "cross-entropy", "held out", "accuracy", "held out"]
    rows = ([str(r["epoch"]), *(_number(r.get(n)) for n in names)] for r in some)
    return f"{said}.\n\n{markdown_table(heads, rows)}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def comparison(told: dict[str, Any]) -> str:
    """Return a table that a recipe adds, with its title and note."""
    table = markdown_table(
        told["columns"], ([_cell(v) for v in row] for row in told["rows"])
    )
    note = f"\n\n{told['note']}" if told.get("note") else ""
    return f"## {told['title']}\n\n{table}{note}"


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def figure_link(path: str) -> str:
    """Show a figure that lies beside the page."""
    return f"![{path.rpartition('/')[2].removesuffix('.png')}]({path})"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


# --- One evaluation -----------------------------------------------------------------


def _left_out(scores: dict[str, Any]) -> list[str]:
    """What a reader has to know before the numbers."""
    said = []
    if missing := scores.get("lags_missing_hours"):
        lags = ", ".join(map(str, missing))
        said.append(f"The data have no pairs {lags} h apart: those lags are left out.")
    if not scores.get("level_trained", True):
        said.append("The model was not trained at this level.")
    if (blocks := scores["classification"]["blocks"]) < _FEW_BLOCKS:
        said.append(
            f"With {blocks} block{'s' if blocks > 1 else ''} of three days the "
            "intervals are narrower than they should be."
        )
    if isinstance(scores.get("reference"), str):
        said.append("The EOFs are those of these data, which favours them.")
    return [" ".join(said)] if said else []


def _naming(c: dict[str, Any]) -> str:
    low, high = c["accuracy_95"]
    interval = f"{c['accuracy']:.3f} ({low:.3f} to {high:.3f})"
    rows = [
        ["accuracy", interval, f"{c['accuracy_chance']:.3f}"],
        [
            "within one class",
            f"{c['within_one_class']:.3f}",
            f"{c['within_one_class_chance']:.3f}",
        ],
        ["top-3 accuracy", f"{c['top3']:.3f}", f"{c['top3_chance']:.3f}"],
        [
            "cross-entropy",
            f"{c['cross_entropy']:.3f}",
            f"{c['cross_entropy_chance']:.3f}",
        ],
    ]
    return markdown_table(["", "model", "chance"], rows)


def _by_group(c: dict[str, Any]) -> str:
    groups = [(f"{g['lag_hours']} h", g) for g in c["by_lag"]]
    groups += [*c["by_season"].items(), *c["by_band"].items()]
    heads = ["", "pairs", "accuracy", "within one class", "top-3", "cross-entropy"]
    rows = []
    for name, g in groups:
        low, high = g["accuracy_95"]
        rows.append(
            [
                name,
                f"{g['pairs']:,}",
                f"{g['accuracy']:.3f} ({low:.3f} to {high:.3f})",
                f"{g['within_one_class']:.3f}",
                f"{g['top3']:.3f}",
                f"{g['cross_entropy']:.3f}",
            ]
        )
    said = (
        "By lag, by season of the first state (months; the same all over the globe), "
        f"and by latitude of the patch's centre; {c['blocks']} blocks of three days:"
    )
    return f"{said}\n\n{markdown_table(heads, rows)}"


def _confusion(c: dict[str, Any]) -> str:
    lags = c["lags_hours"]
    rows = []
    for lag, row in zip(lags, c["confusion"], strict=True):
        if sum(row):
            share = [str(round(100 * n / sum(row))) for n in row]
            rows.append([f"**{lag}**", *share])
    table = markdown_table(["true", *map(str, lags)], rows)
    return f"Confusion, per cent of each true lag (rows; h):\n\n{table}"


def _ordering(groups: dict[str, Any]) -> str:
    names = [n for n in LABELS if n in groups["all"]]
    rows = []
    for key, table in groups.items():
        cells = []
        for n in names:
            low, high = table[n]["95"]
            cells.append(f"{table[n]['accuracy']:.3f} ({low:.3f} to {high:.3f})")
        rows.append([_group_name(key), f"{table['triplets']:,}", *cells])
    return markdown_table(["", "triplets", *(LABELS[n] for n in names)], rows)


def _group_name(key: str) -> str:
    return _GROUPS.get(key, "lags one step apart")


def _curves_said(c: dict[str, Any]) -> str:
    return (
        "Distance against lag: what share of the value at the longest lag is reached "
        "at 24 h (less means that it keeps growing), and standard deviation over mean "
        f"at the shortest, at the middle and at the longest lag ({_three_lags(c)} h). "
        "A square spreads twice as widely as its root: compare like with like."
    )


def _three_lags(c: dict[str, Any]) -> str:
    lags = c["lags_hours"]
    return ", ".join(str(lags[i]) for i in (0, (len(lags) - 1) // 2, -1))


def _curves(c: dict[str, Any]) -> str:
    rows = []
    for name in _CURVES:
        curve = c["metrics"].get(name)
        if curve is None:
            continue
        share = curve.get("share_at_24h")
        spread = curve["variation"]
        some = [spread[i] for i in (0, (len(spread) - 1) // 2, -1)]
        squared = name in ("atmodist", "l2", "eof20", "eof20_wind")
        rows.append(
            [
                LABELS[name],
                "square" if squared else "" if name == "ssim" else "linear",
                f"{curve['alpha']:.4g}",
                "" if share is None else f"{share:.2f}",
                *(f"{v:.2f}" for v in some),
            ]
        )
    heads = ["", "", "α", "at 24 h", *(f"{h} h" for h in _three_lags(c).split(", "))]
    return markdown_table(heads, rows)


def _reading(scores: dict[str, Any]) -> str:
    """Say where AtmoDist wins and where it does not, by paired differences."""
    rows = []
    for table in scores.values():
        title = "; ".join(table["data"])
        for key, group in table["ordering"].items():
            plain = [n for n in LABELS if n != "atmodist" and n in group]
            rival = max(plain, key=lambda n: group[n]["accuracy"])
            low, high = group[rival]["atmodist_gain_95"]
            verdict = "wins" if low > 0 else "loses" if high < 0 else "level"
            rows.append(
                [
                    title,
                    _group_name(key),
                    f"{group['atmodist']['accuracy']:.3f}",
                    f"{group[rival]['accuracy']:.3f} ({LABELS[rival]})",
                    verdict,
                ]
            )
            title = ""
    heads = ["data", "triplets", "AtmoDist", "best plain distance", "verdict"]
    return (
        "## Where AtmoDist wins, and where not\n\n"
        "How often the longer of two lags gives the larger distance, against the best "
        "plain distance on the same triplets; a difference counts where its 95 % "
        f"interval excludes zero.\n\n{markdown_table(heads, rows)}"
    )
