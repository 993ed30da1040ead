"""The page of a Multiformer: every number on it was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from xatmo.training.infill.page import score_page as gaps_page
from xatmo.training.modelpage import assembled, facts, learning_opening, markdown_table
from xatmo.training.multiformer.masked import KINDS, PLAIN
from xatmo.zoo import Card

__all__ = ["fields_table", "model_page", "score_page", "short_scores", "verdicts"]

_HONEST = (0.8, 1.25)
_HOLES = ("hole", "hole_day")
_MUCH = 0.7  # of the error of a biharmonic surface, in a large hole


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
    head = [_use(card), facts(card), _fields(card), _reading(scores)]
    head += ["## Scores", _how_measured(card, recipe)]
    told = {key: score_page(value) for key, value in scores.items()}
    learnt = _learning(curve) if curve else ""
    return assembled(card, head, told, learnt, figures, comparisons)


def score_page(scores: dict[str, Any]) -> str:
    """Return the tables of one evaluation as Markdown."""
    parts = [f"### {'; '.join(scores['data'])}", "#### Forecasts"]
    parts.append(markdown_table(*_forecasts(scores["forecast"])))
    if scores["between"]:
        parts += ["#### Times between", markdown_table(*_betweens(scores["between"]))]
    if scores["masked"]:
        parts += ["#### Hidden parts of boxes", _kinds_said(scores["masked"])]
        parts.append(markdown_table(*_masked(scores["masked"])))
    if scores["gaps"]:
        # The gaps' own heading names the same data again.
        parts.append(gaps_page(scores["gaps"]).partition("\n\n")[2])
    return "\n\n".join(parts)


def verdicts(scores: dict[str, Any]) -> Iterator[tuple[str, str, float, bool, float]]:
    """Say of each score what it is compared with: what, rival, ratio, met, honesty."""
    for row in scores["forecast"]:
        rival = min(("persistence", "climatology"), key=lambda key: row[key])
        what = f"{_called(row)}, forecast of {row['lead']}"
        ratio = row["rmse"] / row[rival]
        yield what, rival, ratio, ratio < 1, row["spread_error"]
    for row in scores["between"]:
        what = f"{_called(row)}, gaps of {row['hours']:g} h in time"
        ratio = row["rmse"] / row["linear"]
        yield what, "straight lines", ratio, ratio < 1, row["spread_error"]
    for row in scores["masked"]:
        what = f"{_called(row)}, {row['kind'].replace('_', ' of a ')} in boxes"
        ratio = row["rmse"] / row["biharmonic"]
        met = ratio <= (_MUCH if row["kind"] in _HOLES else 1)
        yield what, "biharmonic", ratio, met, row["spread_error"]
    own = scores["model"].split()[0]
    for table in scores["gaps"]["tables"] if scores["gaps"] else ():
        for family, methods in table["families"].items():
            rmse = methods[own].get("rmse")
            rival = methods.get("biharmonic", {}).get("rmse")
            if rmse is None or rival is None:
                continue
            ratio = rmse / rival
            met = ratio <= 1
            alone = ", one time alone" if table["kind"] == "single" else ""
            what = f"{table['quantity']}, {family}{alone}"
            honest = methods[own].get("spread_ratio", float("nan"))
            yield what, "biharmonic", ratio, met, honest


def short_scores(scores: dict[str, Any]) -> dict[str, Any]:
    """The numbers that go into the card itself."""
    keys = ("rmse", "crps", "spread_error")

    def short(row: Mapping[str, Any]) -> dict[str, float]:
        return {key: float(f"{row[key]:.4g}") for key in keys}

    ahead: dict[str, Any] = {}
    for row in scores["forecast"]:
        ahead.setdefault(_key(row), {})[row["lead"]] = short(row)
    between: dict[str, Any] = {}
    for row in scores["between"]:
        between.setdefault(_key(row), {})[f"{row['hours']:g}h"] = short(row)
    hidden: dict[str, Any] = {}
    for row in scores["masked"]:
        hidden.setdefault(_key(row), {})[row["kind"]] = short(row)
    told = {"forecast": ahead, "between": between, "masked": hidden}
    return {"data": scores["data"], **{k: v for k, v in told.items() if v}}


def _key(row: Mapping[str, Any]) -> str:
    return _called(row).replace(" ", "_").replace(".", "_")


def _called(row: Mapping[str, Any]) -> str:
    return f"{row['variable']} {row['level']}".strip()


# --- The model ------------------------------------------------------------------------


def _use(card: Card) -> str:
    return (
        "```python\nimport xarray as xr, xatmo\n\n"
        'ds = xr.open_dataset("winds.nc", chunks={"time": 16})\n'
        f'fc = ds.atmo.forecast("24h", model="{card.name}")\n'
        f'full = ds.atmo.infill(model="{card.name}")\n'
        f'six = ds.atmo.interpolate_time("6h", model="{card.name}")\n```'
    )


def fields_table(card: Card) -> str:
    """Return what the fields of a network are, as a table."""
    rows = [
        [f"`{f.name}`", f"`{f.quantity}` ({f.units})", ", ".join(_levels(f.levels))]
        for f in card.fields
    ]
    return markdown_table(["field", "quantity", "levels"], rows)


def _fields(card: Card) -> str:
    ahead = card.box.ahead if card.box else 0
    step = card.box.step if card.box else ""
    return (
        f"Fields; any of them, at any of their levels, may be missing. Step {step}, "
        f"{ahead} of them are forecast at once.\n\n" + fields_table(card)
    )


def _levels(levels: Iterable[Any]) -> list[str]:
    """Levels that stand for the same of the network's are joined."""
    slots: dict[int, list[str]] = {}
    for level in levels:
        slots.setdefault(level.slot, []).append(level.level)
    return [" or ".join(names) for names in slots.values()]


def _reading(scores: dict[str, Any]) -> str:
    """Whether the model is better than plain methods, before the numbers."""
    rows, misses = [], []
    for told in scores.values():
        data = shown = "; ".join(told["data"])
        for what, rival, ratio, met, honest in verdicts(told):
            rows.append([shown, what, rival, f"{ratio:.2f}", f"{honest:.2f}"])
            if not met:
                misses.append(f"{data}, {what}: {ratio:.2f} of {rival}")
            if not _HONEST[0] <= honest <= _HONEST[1]:
                misses.append(f"{data}, {what}: spread over error {honest:.2f}")
            shown = ""
    heads = ["data", "what", "rival", "RMSE / its RMSE", "spread / error"]
    text = (
        "## What it reaches, and what not\n\n"
        "The error of the ensemble's mean over that of the best plain method: of "
        "persistence and climatology for forecasts, straight lines for times between, "
        f"a biharmonic surface for gaps, of which {_MUCH} is asked for in holes. "
        f"The spread of the ensemble over its error should be {_HONEST[0]} to "
        f"{_HONEST[1]}.\n\n{markdown_table(heads, rows)}"
    )
    if not misses:
        return f"{text}\n\nAll of that is met."
    return f"{text}\n\nNot met:\n\n" + "\n".join(f"- {miss}" for miss in misses)


def _how_measured(card: Card, recipe: str) -> str:
    return (
        f"Measured by\n\n```\nxatmo release {recipe} --scores-only\n```\n\n"
        "through the verbs, on whole domains, weighted by area. Forecasts start at "
        "times spread over the series; persistence is the state that they start from, "
        "the climatology the mean of each cell over the series itself, which favours "
        "it. The CRPS is that of the members as they are; beside it the mean "
        "absolute error of persistence, which is its CRPS. Times between others are "
        "found from every second and every fourth time of the longest stretch without "
        "a gap. Parts of boxes are hidden of boxes cut at random, as in training. Gaps "
        "in whole domains are those of `xatmo.testing.gaps`, each quantity filled by "
        "itself. All numbers are in `scores.json`."
    )


def _learning(curve: Sequence[dict[str, Any]]) -> str:
    held = [row for row in curve if row.get("val_crps") is not None]
    said = learning_opening(curve, "boxes")
    if not held:
        return f"{said}."
    said += (
        f"; held-out CRPS {held[-1]['val_crps']:.4g} at the end. By kind, the "
        "error over that of what lies between the times before and after, or of the "
        "last time."
    )
    some = held[:: max(1, len(held) // 8)]
    some = some if some[-1] is held[-1] else [*some, held[-1]]
    kinds = ("val_forecast", "val_between", "val_tokens", "val_gaps")
    keys = ("train_loss", "val_crps", "val_spread_error", *kinds)
    rows = (
        [str(r["epoch"]), *("" if r.get(k) is None else f"{r[k]:.3f}" for k in keys)]
        for r in some
    )
    heads = ["epoch", "loss", "CRPS", "spread / error"]
    heads += ["forecasts", "times between", "tokens", "gaps"]
    return f"{said}\n\n{markdown_table(heads, rows)}"


# --- Tables ---------------------------------------------------------------------------


def _forecasts(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    heads = ["variable", "lead", "RMSE", "persistence", "climatology", "CRPS"]
    heads += ["persistence", "spread / error"]
    keys = ("rmse", "persistence", "climatology", "crps", "persistence_mae")
    return heads, [
        [_called(r), r["lead"], *_three(r, keys, 3), f"{r['spread_error']:.2f}"]
        for r in rows
    ]


def _betweens(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    heads = ["variable", "gap", "RMSE", "straight lines", "CRPS", "straight lines"]
    heads.append("spread / error")
    keys = ("rmse", "linear", "crps", "linear_mae")
    return heads, [
        [
            _called(r),
            f"{r['hours']:g} h",
            *_three(r, keys, 2),
            f"{r['spread_error']:.2f}",
        ]
        for r in rows
    ]


def _kinds_said(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is hidden, in words."""
    said = "; ".join(f"{kind.replace('_', ' of a ')}: {t}" for kind, t in KINDS.items())
    return f"{rows[0]['boxes']} boxes of each kind. {said}."


def _masked(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    heads = ["hidden", "variable", "RMSE", *PLAIN, "CRPS", "spread / error"]
    keys = ("rmse", *PLAIN, "crps")
    return heads, [
        [
            r["kind"].replace("_", " of a "),
            _called(r),
            *_three(r, keys, 1 + len(PLAIN)),
            f"{r['spread_error']:.2f}",
        ]
        for r in rows
    ]


def _three(row: Mapping[str, Any], keys: Sequence[str], errors: int) -> list[str]:
    """Errors and scores, the best of each kind bold."""
    cells = {key: f"{row[key]:.4g}" for key in keys}
    for group in (keys[:errors], keys[errors:]):
        best = min(group, key=lambda key: row[key])
        cells[best] = f"**{cells[best]}**"
    return [cells[key] for key in keys]
