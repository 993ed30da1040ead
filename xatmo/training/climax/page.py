"""The page of a ClimaX: every number on it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xatmo.training.modelpage import assembled, facts, learning_opening, markdown_table
from xatmo.zoo import Card

__all__ = ["model_page", "score_page", "short_scores"]

_RIVALS = ("persistence", "climatology", "linear")


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
    head = [_use(card), facts(card), _variables(card), _reading(scores)]
    head += ["## Scores", _how_measured(recipe)]
    told = {key: score_page(value) for key, value in scores.items()}
    learnt = _learning(curve) if curve else ""
    return assembled(card, head, told, learnt, figures, comparisons)


def score_page(scores: dict[str, Any]) -> str:
    """Return the tables of one evaluation as Markdown."""
    rows = scores["forecast"]
    others = [name.split()[0] for name in scores["against"]]
    rivals = [r for r in (*_RIVALS, *others) if any(r in row for row in rows)]
    heads = ["variable", "lead", "RMSE", *map(_called, rivals), "ACC", "of persistence"]
    if any("acc_linear" in row for row in rows):
        heads.append("of linear regression")
    table, before = [], ""
    for row in rows:
        name = f"{row['variable']} {row['level']}".strip()
        units = f" ({row['units']})" if row["units"] else ""
        told = (f"{row[r]:.4g}" if r in row else "" for r in rivals)
        numbers = [f"{row['rmse']:.4g}", *told]
        scored = ("acc", "acc_persistence", "acc_linear")
        accs = [f"{row[key]:.3f}" for key in scored if key in row]
        shown = "" if name == before else f"{name}{units}"
        table.append([shown, row["lead"], *numbers, *accs])
        before = name
    most = max(row["times"] for row in rows)
    said = f"Up to {most} forecasts for each lead time. "
    said += f"The climatology is the mean of {scores['climatology']}."
    data = f"### {'; '.join(scores['data'])}"
    return "\n\n".join([data, said, markdown_table(heads, table)])


def short_scores(scores: dict[str, Any]) -> dict[str, Any]:
    """The numbers that go into the card itself."""
    told: dict[str, Any] = {}
    for row in scores["forecast"]:
        key = f"{row['variable']} {row['level']}".strip()
        key = key.replace(" ", "_").replace(".", "_")
        numbers = {k: float(f"{row[k]:.4g}") for k in ("rmse", "acc", "persistence")}
        told.setdefault(key, {})[row["lead"]] = numbers
    return {"data": scores["data"], "forecast": told}


def _use(card: Card) -> str:
    rows, columns = card.grid.patch
    return (
        "```python\nimport xarray as xr, xatmo\n\n"
        f'ds = xr.open_dataset("states.nc", chunks={{"time": 16}})  # {rows} x '
        f"{columns} cells\n"
        f'fc = ds.atmo.forecast("24h", model="{card.name}")\n'
        f'z = ds.atmo.embed("{card.name}")\n```'
    )


def _variables(card: Card) -> str:
    rows = [
        [f"`{f.quantity}` ({f.units})", ", ".join(level.level for level in f.levels)]
        for f in card.fields
    ]
    text = "What it reads and forecasts; any of it, at any of these levels, may be "
    return f"{text}missing.\n\n{markdown_table(['quantity', 'levels'], rows)}"


def _reading(scores: dict[str, Any]) -> str:
    """Whether the model is better than plain forecasts, before the numbers."""
    table, misses = [], []
    for told in scores.values():
        data = shown = "; ".join(told["data"])
        for lead, rows in _by_lead(told["forecast"]):
            cells = []
            for rival in _RIVALS:
                ratios = [row["rmse"] / row[rival] for row in rows if rival in row]
                cells.append(f"{_mean(ratios):.2f}" if ratios else "")
                worse = [row for row in rows if rival in row]
                worse = [row for row in worse if row["rmse"] >= row[rival]]
                if worse:
                    names = ", ".join(
                        f"{r['variable']} {r['level']}".strip() for r in worse
                    )
                    misses.append(
                        f"{data}, {lead}: no better than {_called(rival)} for {names}"
                    )
            table.append([shown, lead, str(len(rows)), *cells])
            shown = ""
    heads = ["data", "lead", "variables", *(f"/ {_called(r)}" for r in _RIVALS)]
    text = (
        "## What it reaches, and what not\n\nThe RMSE over that of plain forecasts, "
        f"the mean over variables.\n\n{markdown_table(heads, table)}"
    )
    if not misses:
        return f"{text}\n\nIt is better than each of them for every variable."
    return f"{text}\n\nMissed:\n\n" + "\n".join(f"- {miss}" for miss in misses)


def _by_lead(
    rows: Sequence[dict[str, Any]],
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for lead in dict.fromkeys(row["lead"] for row in rows):
        yield lead, [row for row in rows if row["lead"] == lead]


def _how_measured(recipe: str) -> str:
    return (
        f"Measured by\n\n```\nxatmo release {recipe} --scores-only\n```\n\n"
        "through `forecast()`, on the whole domain, weighted by area. RMSE: the mean "
        "of the errors of single forecasts; ACC: the anomaly correlation over all of "
        "them. Persistence is the state that a forecast starts from; linear regression "
        "predicts each variable in a cell from all variables there and in the eight "
        "cells around, with coefficients for each 30° of latitude, fitted to the "
        "training data that the climatology is the mean of. All numbers are in "
        "`scores.json`."
    )


def _learning(curve: Sequence[dict[str, Any]]) -> str:
    held = [row for row in curve if row.get("val_rmse") is not None]
    said = learning_opening(curve, "samples")
    if not held:
        return f"{said}."
    last = {k: v for k, v in held[-1].items() if k.endswith("h") and v is not None}
    ratios = ", ".join(f"{v:.2f} at {k[4:-1]} h" for k, v in last.items())
    return f"{said}; at the end the held-out error was {ratios} of persistence."


def _called(rival: str) -> str:
    return "linear regression" if rival == "linear" else rival


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
