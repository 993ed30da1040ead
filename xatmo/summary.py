"""What ``ds.atmo`` prints: what was recognised, which models fit, what is missing."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from xatmo.boxes import why_not as why_not_boxes
from xatmo.errors import AtmoError
from xatmo.fields import Found, Recognised, recognise
from xatmo.fields.levels import describe_levels
from xatmo.fieldsets import why_not as why_not_fieldset
from xatmo.matching import why_not
from xatmo.zoo import Card, list_models

__all__ = ["Summary", "summarize"]

_VERBS = {"interpolate": "interpolate_time"}  # where they are not called alike


@dataclass(frozen=True)
class Summary:
    """What was found in an object.

    Parameters
    ----------
    found : Recognised
        Axes, grid, time step and quantities.
    models : tuple of (Card, AtmoError or None)
        Every model, with what keeps it from reading the object.
    """

    found: Recognised
    models: tuple[tuple[Card, AtmoError | None], ...]

    def sections(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return titles with rows of (name, value)."""
        parts = [
            ("Recognised", _recognised(self.found)),
            ("Models that fit", [(c.name, _verbs(c)) for c, e in self.models if not e]),
            (
                "Models that do not",
                [(c.name, _reason(e)) for c, e in self.models if e],
            ),
            ("Beware", [("", problem) for problem in self.found.problems]),
        ]
        return [(title, rows) for title, rows in parts if rows]

    def text(self) -> str:
        """Return the summary as lines of text."""
        sections = self.sections()
        width = max((len(name) for _, rows in sections for name, _ in rows), default=0)
        lines = ["<xatmo: ds.atmo>"]
        for title, rows in sections:
            lines.append(f"{title}:")
            for name, value in rows:
                indent = "\n" + " " * (width + 6)
                lines.append(f"    {name:<{width}}  {value.replace(chr(10), indent)}")
        return "\n".join(lines)

    def html(self) -> str:
        """Return the summary as HTML, for notebooks."""
        left = "style='text-align:left; vertical-align:top; white-space:pre-line'"
        parts = ["<div><b>xatmo</b>"]
        for title, rows in self.sections():
            body = "".join(
                f"<tr><td {left}><code>{html.escape(name)}</code></td>"
                f"<td {left}>{html.escape(value)}</td></tr>"
                for name, value in rows
            )
            parts.append(
                f"<details open><summary>{html.escape(title)}</summary>"
                f"<table>{body}</table></details>"
            )
        return "".join([*parts, "</div>"])


def summarize(obj: Any) -> Summary:
    """Find out what an object holds and who can read it; computes nothing."""
    cards = list(list_models())
    return Summary(recognise(obj), tuple((card, _why_not(obj, card)) for card in cards))


def _why_not(obj: Any, card: Card) -> AtmoError | None:
    if card.leads is not None:
        return why_not_fieldset(obj, card)
    return why_not(obj, card) if card.box is None else why_not_boxes(obj, card)


def _recognised(found: Recognised) -> list[tuple[str, str]]:
    rows = []
    if found.axes is not None:
        names = (found.axes.latitude, found.axes.longitude)
        rows.append(("grid", f"{found.spacing or 'not regular'} ({', '.join(names)})"))
    if found.time is not None:
        rows.append(("time", _time(found)))
    for quantity, variables in found.quantities.items():
        rows.append((quantity, "; ".join(map(_variable, variables))))
    rows += [(quantity, "can be derived") for quantity in found.derivable]
    if found.unrecognised:
        rows.append(("not known", ", ".join(found.unrecognised)))
    return rows


def _variable(found: Found) -> str:
    levels = describe_levels(found.levels)
    units = f" [{found.units}]" if found.units else " [no units]"
    return f"{found.name}{units}" + (f" at {levels}" if levels else "")


def _time(found: Recognised) -> str:
    time = found.time
    assert time is not None  # noqa: S101 - asked by the caller
    if time.start is None:
        return f"{_count(time.size, 'step')} without dates ({time.name})"
    text = f"{_count(time.size, 'time')}, {time.start}"
    if time.size > 1:
        text += f" to {time.stop}"
    if time.step is not None:
        hours = time.step.total_seconds() / 3600
        text += (
            f", every {hours:g} h" if time.regular else f", mostly every {hours:g} h"
        )
    return f"{text} ({time.name})"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _verbs(card: Card) -> str:
    verbs = list(card.capabilities)
    if "distance" in verbs and card.time is not None and card.time.lags:
        verbs.append("predictability")
    said = ", ".join(f".{_VERBS.get(verb, verb)}()" for verb in verbs)
    plain = card.inputs or card.fields
    return said if plain else f"{said}, whatever the fields are"


def _reason(error: AtmoError | None) -> str:
    if error is None:
        return ""
    return f"{error.problem}\nneeded: {error.needed}\ntry: {error.hint}"
