"""The page of a model that fills gaps: every number on it was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from xatmo.training.infill.estimates import LABELS
from xatmo.training.infill.evaluate import SINGLE
from xatmo.training.modelpage import assembled, facts, learning_opening, markdown_table
from xatmo.zoo import Card

__all__ = [
    "best_plain",
    "learning_said",
    "model_page",
    "own_name",
    "score_page",
    "short",
    "tables_of",
    "verdicts",
]

_LARGE = ("clouds", "centre_hole")  # where a network has to be this much better:
_GAIN = 0.85
_SLOPE = (0.8, 1.25)


class _Column(NamedTuple):
    """How a score is shown, and how far from right a value is; best is the nearest."""

    key: str
    show: Callable[[float], str]
    off: Callable[[float], float]


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _two(value: float) -> str:
    return f"{value:.2f}"


def _from_one(value: float) -> float:
    return abs(value - 1.0)


_COLUMNS = {
    "RMSE": _Column("rmse", _plain, abs),
    "RMSE, all times": _Column("rmse_all_times", _plain, abs),
    "CRPS": _Column("crps", _plain, abs),
    "deviation": _Column("std_ratio", _two, _from_one),
    "short waves": _Column("power_small", _two, _from_one),
    "all waves": _Column("power_total", _two, _from_one),
    "slope": _Column("slope", _two, _from_one),
    "spread / error": _Column("spread_ratio", _two, _from_one),
}


def model_page(
    card: Card,
    scores: dict[str, Any],
    recipe: str,
    *,
    figures: Mapping[str, Sequence[str]] | None = None,
    curve: Sequence[dict[str, Any]] = (),
    comparisons: Sequence[dict[str, Any]] = (),
) -> str:
    """Return the text of ``models/<name>/README.md``; arguments as for AtmoDist's."""
    head = [_use(card), facts(card), _reading(scores)]
    head += ["## Scores", _how_measured(recipe)]
    told = {key: score_page(value) for key, value in scores.items()}
    learnt = learning_said(curve) if curve else ""
    return assembled(card, head, told, learnt, figures, comparisons)


def score_page(scores: dict[str, Any]) -> str:
    """Return the tables of one evaluation as Markdown."""
    parts = [f"### {'; '.join(scores['data'])}"]
    for table in scores["tables"]:
        parts += [f"#### {_title(table)}", _said(table, scores)]
        parts.append(markdown_table(*_rows(table, scores["labels"])))
    return "\n\n".join(parts)


def tables_of(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tables of one evaluation as a recipe's ``comparison`` has them."""
    found = []
    for table in scores["tables"]:
        columns, rows = _rows(table, scores["labels"])
        title = f"{'; '.join(scores['data'])}: {_title(table)}"
        note = _said(table, scores)
        found.append({"title": title, "columns": columns, "rows": rows, "note": note})
    return found


def own_name(scores: dict[str, Any]) -> str:
    """Return the name of the model that is scored."""
    return str(scores["model"].split()[0])


def best_plain(methods: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the plain method with the least error."""
    able = {n: m["rmse"] for n, m in methods.items() if n in LABELS and m.get("rmse")}
    return min(able, key=lambda n: able[n]) if able else None


def verdicts(scores: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Compare the model with the best plain method: each family of each table."""
    for table in scores["tables"]:
        for family, methods in table["families"].items():
            own, rival = methods[own_name(scores)], best_plain(methods)
            if rival is None or own.get("rmse") is None:
                continue
            ratio, slope = own["rmse"] / methods[rival]["rmse"], own.get("slope")
            yield {
                "title": _title(table),
                "family": family,
                "rival": rival,
                "ratio": ratio,
                "slope": slope,
                "better": ratio < 1.0,
                "much_better": ratio <= _GAIN if family in _LARGE else None,
                "honest": slope is not None and _SLOPE[0] <= slope <= _SLOPE[1],
            }


def short(scores: dict[str, Any]) -> dict[str, Any]:
    """The numbers that go into the card itself: of clouds, and then all of them."""
    told: dict[str, Any] = {"data": scores["data"]}
    own = own_name(scores)
    for table in scores["tables"]:
        families = {family: m[own] for family, m in table["families"].items()}
        place = told.setdefault(table["quantity"], {"units": table["units"]})
        place.setdefault("clouds", _of_model(families.get("clouds", {})))
        every = {family: _of_model(m) for family, m in families.items()}
        place.setdefault("methods", {})[table["kind"]] = every
    return told


def _of_model(told: Mapping[str, Any]) -> dict[str, float]:
    keys = ("rmse", "crps", "slope")
    return {k: float(f"{told[k]:.4g}") for k in keys if told.get(k) is not None}


# --- The model ----------------------------------------------------------------------


def _use(card: Card) -> str:
    return (
        "```python\nimport xarray as xr, xatmo\n\n"
        'ds = xr.open_dataset("gappy.nc", chunks={"time": 64})\n'
        f'full = ds.atmo.infill(model="{card.name}")\n```'
    )


def _reading(scores: dict[str, Any]) -> str:
    """Whether the model is better than plain methods, before the numbers."""
    rows, misses = [], []
    for told in scores.values():
        for v in verdicts(told):
            slope = "" if v["slope"] is None else _two(v["slope"])
            where = f"{'; '.join(told['data'])}: {v['title']}"
            rows.append(
                [where, v["family"], LABELS[v["rival"]], _two(v["ratio"]), slope]
            )
            if not v["better"]:
                misses.append(f"{where}, {v['family']}: {LABELS[v['rival']]} is better")
            elif v["much_better"] is False:
                gain = f"{100 * (1 - v['ratio']):.0f} %"
                misses.append(f"{where}, {v['family']}: {gain} better, not 15 %")
            if not v["honest"]:
                misses.append(f"{where}, {v['family']}: slope {slope or 'unknown'}")
    heads = ["data", "gaps", "best plain method", "RMSE / its RMSE", "slope"]
    text = (
        "## What it reaches, and what not\n\n"
        "The error of this model over that of the best plain method, which is another "
        "one from case to case and which nobody knows before. In clouds and in the "
        f"hole it should be at most {_GAIN}; the slope of the error over the spread "
        f"should be {_SLOPE[0]} to {_SLOPE[1]}.\n\n{markdown_table(heads, rows)}"
    )
    if not misses:
        return f"{text}\n\nAll of that is met."
    return f"{text}\n\nNot met:\n\n" + "\n".join(f"- {miss}" for miss in misses)


def _how_measured(recipe: str) -> str:
    return (
        f"Measured by\n\n```\nxatmo release {recipe} --scores-only\n```\n\n"
        "Gaps of the families of `xatmo.testing.gaps`, as they are by default, are cut "
        "into fields that have none; all methods see the same series with the same "
        "gaps and are scored in the gaps alone, weighted by area. Kriging and the "
        "biharmonic surface take seconds for a map: so all methods are scored on the "
        "same few times, spread over the series; what is quick is scored on all times "
        "as well. Where a method leaves more than a tenth of the gaps unfilled it has "
        "no scores. Deviation, short waves (less than four points) and all waves are "
        "what there is in the gaps over what should be: 1 is right, and a mean of what "
        "may be there has to be below it. The CRPS of a method without a spread is "
        "its mean absolute error. The slope is that of the error over the spread, from "
        "ten bins of the spread. Anomalies are those from the climatology that the "
        "network reads its series relative to. Bold is best. All numbers are in "
        "`scores.json`."
    )


def learning_said(curve: Sequence[dict[str, Any]]) -> str:
    """Tell the learning curve: a sentence and a table."""
    held = [row for row in curve if row.get("val_crps") is not None]
    said = learning_opening(curve, "pieces")
    if not held:
        return f"{said}."
    said += f"; held-out CRPS {held[-1]['val_crps']:.4g} at the end."
    some = held[:: max(1, len(held) // 8)]
    some = some if some[-1] is held[-1] else [*some, held[-1]]
    keys = ("train_loss", "val_rmse", "val_crps", "val_spread_error")
    rows = (
        [
            str(r["epoch"]),
            *("" if r.get(k) is None else _plain(r[k]) for k in keys),
        ]
        for r in some
    )
    heads = [
        "epoch",
        "loss",
        "RMSE / that of the climatology",
        "CRPS",
        "spread / error",
    ]
    return f"{said}\n\n{markdown_table(heads, rows)}"


# --- One evaluation -----------------------------------------------------------------


def _title(table: dict[str, Any]) -> str:
    level = f" at {table['level']}" if table["level"] else ""
    alone = ", one time alone" if table["kind"] == SINGLE else ""
    return f"`{table['quantity']}`{level}{alone}"


def _said(table: dict[str, Any], scores: dict[str, Any]) -> str:
    rows, columns = table["points"]
    times = "each time alone" if table["kind"] == SINGLE else "filled as one series"
    first = f" (the first of {table['held']})" if table["held"] > table["times"] else ""
    return (
        f"{table['times']} times{first} of {rows} x {columns} points at "
        f"{table['spacing'][0]:.3g}°, {times}; scored on {table['scored']} of them; "
        f"errors in {table['units']}; seed {scores['seed']}."
    )


def _rows(
    table: dict[str, Any], labels: Mapping[str, str]
) -> tuple[list[str], list[list[str]]]:
    families = table["families"]
    every = [m for methods in families.values() for m in methods.values()]
    shown = {
        head: column
        for head, column in _COLUMNS.items()
        if any(m.get(column.key) is not None for m in every)
    }
    rows = []
    for family, methods in families.items():
        name = family
        best = {column.key: _best(methods, column) for column in shown.values()}
        for method, told in methods.items():
            cells = [_cell(told, c, best[c.key]) for c in shown.values()]
            left = f"{100 * told['unfilled']:.1f} %" if told["unfilled"] else ""
            rows.append([name, labels[method], *cells, left])
            name = ""
    return ["gaps", "", *shown, "unfilled"], rows


def _best(methods: Mapping[str, Mapping[str, Any]], column: _Column) -> float | None:
    values = [m[column.key] for m in methods.values() if m.get(column.key) is not None]
    return min(values, key=column.off) if len(values) > 1 else None


def _cell(told: Mapping[str, Any], column: _Column, best: float | None) -> str:
    value = told.get(column.key)
    if value is None:
        return ""
    text = column.show(value)
    return f"**{text}**" if best is not None and text == column.show(best) else text
