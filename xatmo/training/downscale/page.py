"""The page of a model that downscales: every number on it was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xatmo.training.modelpage import assembled, facts, learning_opening, markdown_table
from xatmo.zoo import Card

__all__ = ["model_page", "score_page", "short", "tables_of", "verdict_lines"]

_Cell = Callable[[dict[str, Any]], str]
_Table = tuple[list[str], list[list[str]]]  # heads and rows
_FEW_DAYS = 14


def model_page(
    card: Card,
    scores: dict[str, Any],
    recipe: str,
    *,
    figures: Mapping[str, Sequence[str]] | None = None,
    curve: Sequence[dict[str, Any]] = (),
    comparisons: Sequence[dict[str, Any]] = (),
    about: Sequence[str] = (),
    unit: str = "crops",
) -> str:
    """Return the text of ``models/<name>/README.md``; arguments as for AtmoDist's.

    ``about`` are paragraphs about the model, ``unit`` what it was trained on.
    """
    head = [_use(card), facts(card), *about, _reading(scores)]
    head += ["## Scores", _how_measured(recipe)]
    told = {key: score_page(value) for key, value in scores.items()}
    learnt = _learning(curve, unit) if curve else ""
    return assembled(card, head, told, learnt, figures, comparisons)


def score_page(scores: dict[str, Any]) -> str:
    """Return the tables of one evaluation as Markdown."""
    parts = [f"### {_title(scores)}", _said(scores), *verdict_lines(scores)]
    parts += [markdown_table(*t) for t in (_errors(scores), _statistics(scores))]
    return "\n\n".join(parts + _ensembles(scores))


def tables_of(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tables of one evaluation as a recipe's ``comparison`` has them."""
    named = {"errors": _errors(scores), "statistics": _statistics(scores)}
    return [
        {
            "title": f"{_title(scores)}: {name}",
            "columns": columns,
            "rows": rows,
            "note": _said(scores),
        }
        for name, (columns, rows) in named.items()
    ]


def verdict_lines(scores: dict[str, Any]) -> list[str]:
    """Say of each target whether it is met."""
    return [
        f"- **{'met' if v['met'] else 'not met'}**: {v['target']}: "
        f"{v['ratio']:.3f} with {v['power']:.2f}."
        for v in scores["verdicts"]
    ]


def short(scores: dict[str, Any]) -> dict[str, Any]:
    """The numbers that go into the card itself; results carry those of the model."""
    keys = ("rmse", "mae", "crps", "rmse_ratio", "crps_ratio", "power_high",
            "wasserstein", "spread_error")  # fmt: skip
    return {
        "data": scores["data"],
        "units": scores["units"],
        **_of_model(scores),
        "targets_met": [v["met"] for v in scores["verdicts"]],
        "methods": {
            name: {k: _rounded(m[k]) for k in keys if m.get(k) is not None}
            for name, m in scores["methods"].items()
        },
    }


def _of_model(scores: dict[str, Any]) -> dict[str, float]:
    """A realization's error and power, and the score of the ensemble if it is one."""
    methods, name = scores["methods"], scores["model"].split()[0]
    one = methods[name]
    whole = methods.get(f"{name} ensemble", one)
    told = {
        "rmse": one["rmse"],
        "rmse_over_ridge": one["rmse_ratio"],
        "crps": whole["crps"],
        "crps_over_ridge": whole["crps_ratio"],
        "power_above_coarse_nyquist": one["power_high"],
        "spread_over_error": whole.get("spread_error"),
    }
    return {key: _rounded(value) for key, value in told.items() if value is not None}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


# --- The model ----------------------------------------------------------------------


def _use(card: Card) -> str:
    count = card.network.get("members", 16) if card.box else 8
    several = f", realizations={count}" if card.noise or card.box else ""
    return (
        "```python\nimport xarray as xr, xatmo\n\n"
        'ds = xr.open_dataset("winds.nc", chunks={"time": 16})\n'
        f'fine = ds.atmo.downscale(model="{card.name}"{several})\n```'
    )


def _reading(scores: dict[str, Any]) -> str:
    """The verdicts of all data, before the numbers they are taken from."""
    lines = ["## What it reaches, and what not", ""]
    for told in scores.values():
        lines += [f"On {_title(told)}:", "", *verdict_lines(told), ""]
    lines.append(
        "Ratios are to a ridge regression that was fitted to the other half of the "
        "same data: a rival that a user does not have, and a hard one."
    )
    return "\n".join(lines)


def _how_measured(recipe: str) -> str:
    return (
        f"Measured by\n\n```\nxatmo release {recipe} --scores-only\n```\n\n"
        "Truth are the fields of the file; what is downscaled are their block means. "
        "Errors are weighted by area, all inputs together; intervals are 95 % of a "
        "bootstrap over moving blocks of three days. Power is that of zonal spectra "
        "(up to 80° north and south, in a region under a Hann window) over that of the "
        "truth: in the octave below the coarse Nyquist wavenumber, and above it. "
        "Semivariogram, total variation and percentiles are over those of the truth: 1 "
        "is right. W1 is the Wasserstein-1 distance of distributions. The control adds "
        "what interpolation missed on another day: it shows which scores can be had "
        "without any skill. All numbers are in `scores.json`."
    )


def _learning(curve: Sequence[dict[str, Any]], unit: str) -> str:
    held = [row for row in curve if row.get("val_rmse") is not None]
    said = learning_opening(curve, unit)
    if not held:
        return f"{said}."
    best = min(held, key=lambda row: row["val_crps"])
    said += (
        f"; held-out CRPS {held[-1]['val_crps']:.4g} at the end (lowest "
        f"{best['val_crps']:.4g} in epoch {best['epoch']})."
    )
    some = held[:: max(1, len(held) // 8)]
    some = some if some[-1] is held[-1] else [*some, held[-1]]
    heads = ["epoch", "loss", "RMSE of the mean", "RMSE", "CRPS", "power"]
    keys = ("train_loss", "val_rmse", "val_rmse_member", "val_crps", "val_power")
    rows = ([str(r["epoch"]), *(_plain(r.get(k)) for k in keys)] for r in some)
    return f"{said}\n\n{markdown_table(heads, rows)}"


# --- One evaluation -----------------------------------------------------------------


def _title(scores: dict[str, Any]) -> str:
    level = f", {scores['level']}" if scores.get("level") else ""
    return f"{'; '.join(scores['data'])}{level}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _said(scores: dict[str, Any]) -> str:
    rows, columns = scores["points"]
    spacing, factor = scores["spacing"], scores["factor"]
    said = (
        f"{_count(scores['times'], 'time')} on {_count(scores['days'], 'day')}, "
        f"{rows} x {columns} points "
        f"at {spacing[0]:g}°, from means of {factor} x {factor} of them; errors in "
        f"{scores['units']}; distributions of the {scores['magnitude']}."
    )
    if scores["days"] < _FEW_DAYS:
        said += " So few days are few cases: intervals are too narrow, or missing."
    if not scores["level_trained"]:
        said += " The model was not trained at this level."
    return said


def _errors(scores: dict[str, Any]) -> _Table:
    cells: dict[str, _Cell] = {
        "RMSE": lambda m: _plain(m.get("rmse")),
        "MAE": lambda m: _plain(m.get("mae")),
        "CRPS": lambda m: _plain(m.get("crps")),
        "RMSE / ridge": lambda m: _ratio(m, "rmse"),
        "CRPS / ridge": lambda m: _ratio(m, "crps"),
        "bias": lambda m: ", ".join(f"{b:.2g}" for b in m.get("bias", ())),
    }
    return _rows(scores, cells)


def _statistics(scores: dict[str, Any]) -> _Table:
    lags = scores["semivariograms"]["lags_km"]

    def of_lag(i: int) -> _Cell:
        return lambda m: _two(m["semivariogram"][i])

    def of_share(q: str) -> _Cell:
        return lambda m: _two(m["percentiles"][q], 3)

    cells: dict[str, _Cell] = {
        "power below": lambda m: _two(m["power_middle"]),
        "power above": lambda m: _two(m["power_high"]),
        **{f"variogram {lags[i]:.0f} km": of_lag(i) for i in (0, 2)},
        "W1": lambda m: _plain(m["wasserstein"], 2),
        "W1 at cities": lambda m: _plain(m["wasserstein_cities"], 2),
        "total variation": lambda m: _two(m["total_variation"]),
        **{f"q{q}": of_share(q) for q in ("1", "50", "99", "99.9")},
        "block means off": lambda m: _plain(m["block_violation"], 1),
    }
    if not scores["global"]:
        del cells["W1 at cities"]
    methods = {n: m for n, m in scores["methods"].items() if "power_high" in m}
    return _rows({**scores, "methods": methods}, cells)


def _ensembles(scores: dict[str, Any]) -> list[str]:
    return [
        f"{m['label']}: spread {_plain(m['spread'])}, over the error of the mean "
        f"{_two(m['spread_error'])}; rank histogram "
        f"{', '.join(f'{100 * r:.1f}' for r in m['rank_histogram'])} %, "
        f"{m['rank_flatness']:.3f} from flat."
        for m in scores["methods"].values()
        if "rank_histogram" in m
    ]


def _rows(scores: dict[str, Any], cells: Mapping[str, _Cell]) -> _Table:
    rows = [
        [m["label"], *(cell(m) for cell in cells.values())]
        for m in scores["methods"].values()
    ]
    return ["", *cells], rows


def _ratio(method: dict[str, Any], name: str) -> str:
    value, interval = method.get(f"{name}_ratio"), method.get(f"{name}_ratio_95")
    if value is None:
        return ""
    if interval is None or value == 1.0:
        return f"{value:.3f}"
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _plain(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def _two(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"
