"""A model's README, written from its card and its measured scores: nothing is typed."""

from __future__ import annotations

from typing import Any

from xatmo.zoo import Card

__all__ = ["model_page", "score_page"]

_NAMES = {"atmodist": "AtmoDist", "rmse": "RMSE", "eof20": "20 EOFs", "ssim": "SSIM"}
_GROUPS = {
    "all": "all triplets",
    "both_at_least_24h": "both lags at least 24 h",
    "shorter_below_24h": "shorter lag below 24 h",
    "6h_apart": "lags one step apart",
}


def model_page(card: Card, scores: dict[str, Any], recipe: str) -> str:
    """Return the text of ``models/<name>/README.md``."""
    parts = [
        f"# {card.name} {card.version}\n\n{card.title}.",
        _use(card),
        _facts(card),
        "## Scores",
        _how_measured(card, recipe),
    ]
    parts += [score_page(table) for table in scores.values()]
    parts.append(_reading(scores))
    return "\n\n".join(parts) + "\n"


def _how_measured(card: Card, recipe: str) -> str:
    return (
        f"Measured by\n\n```\nxatmo release {recipe}\n```\n\n"
        "on patches at random places (centres within "
        f"{card.grid.latitude_limit:g}° of the equator) and times; the intervals are "
        "95 % of a bootstrap over blocks of three days. All numbers, with the "
        "confusion matrices, are in `scores.json`."
    )


def _use(card: Card) -> str:
    return (
        "```python\nimport xarray as xr, xatmo\n\n"
        'ds = xr.open_dataset("winds.nc", chunks={"time": 16})\n'
        f'z = ds.atmo.embed("{card.name}")\n'
        f'd = ds.atmo.distance(ds.isel(time=0), "{card.name}")\n```'
    )


def _facts(card: Card) -> str:
    fine, coarse = card.grid.spacing
    trained = ", ".join(lv.level for lv in card.levels if lv.trained)
    measured = ", ".join(lv.level for lv in card.levels if not lv.trained)
    inputs = ", ".join(f"`{i.quantity}` ({i.units})" for i in card.inputs)
    rows = [
        ("inputs", f"{inputs}; derived from winds where absent"),
        ("levels", f"trained at {trained}"),
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
    if measured:
        text = f"; normalisation only at {measured} (a warning says so)"
        rows[1] = ("levels", rows[1][1] + text)
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows if value)
    return f"| | |\n|---|---|\n{lines}"


def _by(patch: tuple[int, int]) -> str:
    return f"{patch[0]} x {patch[1]}"


def score_page(scores: dict[str, Any]) -> str:
    """Return the tables of one evaluation as Markdown."""
    c = scores["classification"]
    low, high = c["accuracy_95"]
    head = f"### {'; '.join(scores['data'])}\n\n"
    table = (
        f"Naming the lag, {c['pairs']:,} pairs, {len(c['lags_hours'])} classes:\n\n"
        "| | model | chance |\n|---|---|---|\n"
        f"| accuracy | {c['accuracy']:.3f} ({low:.3f} to {high:.3f}) | "
        f"{c['accuracy_chance']:.3f} |\n"
        f"| within one class | {c['within_one_class']:.3f} | "
        f"{_within_chance(len(c['lags_hours'])):.3f} |\n"
        f"| top-3 accuracy | {c['top3']:.3f} | {c['top3_chance']:.3f} |\n"
        f"| cross-entropy | {c['cross_entropy']:.3f} | "
        f"{c['cross_entropy_chance']:.3f} |\n\n"
    )
    return head + table + _confusion(c) + "\n\n" + _ordering(scores["ordering"])


def _within_chance(n: int) -> float:
    return (3 * n - 2) / n**2


def _confusion(c: dict[str, Any]) -> str:
    lags = c["lags_hours"]
    lines = [
        "Confusion, per cent of each true lag (rows; h):",
        "",
        "| true | " + " | ".join(map(str, lags)) + " |",
        "|---" * (len(lags) + 1) + "|",
    ]
    for lag, row in zip(lags, c["confusion"], strict=True):
        share = [round(100 * n / max(1, sum(row))) for n in row]
        lines.append(f"| **{lag}** | " + " | ".join(map(str, share)) + " |")
    return "\n".join(lines)


def _ordering(groups: dict[str, Any]) -> str:
    names = [n for n in _NAMES if n in groups["all"]]
    lines = [
        "Ordering accuracy: for lags a < b, how often d(t, t+a) < d(t, t+b):",
        "",
        "| | triplets | " + " | ".join(_NAMES[n] for n in names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for key, table in groups.items():
        cells = []
        for n in names:
            low, high = table[n]["95"]
            cells.append(f"{table[n]['accuracy']:.3f} ({low:.3f} to {high:.3f})")
        lines.append(
            f"| {_GROUPS[key]} | {table['triplets']:,} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def _reading(scores: dict[str, Any]) -> str:
    """Say where AtmoDist wins and where it does not, by paired differences."""
    how = (
        "Against the best plain distance on the same triplets; a difference counts "
        "where its 95 % interval excludes zero."
    )
    lines = [
        "## Where AtmoDist wins, and where not",
        "",
        how,
        "",
        "| data | triplets | AtmoDist | best plain distance | verdict |",
        "|---|---|---|---|---|",
    ]
    for table in scores.values():
        title = "; ".join(table["data"])
        for key, group in table["ordering"].items():
            plain = [n for n in _NAMES if n != "atmodist" and n in group]
            rival = max(plain, key=lambda n: group[n]["accuracy"])
            low, high = group[rival]["atmodist_gain_95"]
            verdict = "wins" if low > 0 else "loses" if high < 0 else "level"
            lines.append(
                f"| {title} | {_GROUPS[key]} | {group['atmodist']['accuracy']:.3f} | "
                f"{group[rival]['accuracy']:.3f} ({_NAMES[rival]}) | {verdict} |"
            )
            title = ""
    return "\n".join(lines)
