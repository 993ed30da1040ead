"""Which models there are: every folder with a card, read anew at each call.

Three folders are searched: the released models of the package, the folder that
``XATMO_MODELS_URL`` names, if it names one, and that of models which the user has
imported or derived. The others add models and never change what a call without a
version gives:

- a bare name means the packaged model, whatever version another folder has of it;
  ``"name@version"`` reaches the other;
- the default model of a capability is a packaged one if any of those is a default;
- two cards of one name and version with different weights are an error, never a choice.
"""

from __future__ import annotations

import difflib
import functools
import html
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, overload

from xatmo.errors import AtmoError, CardError, ModelNotFoundError
from xatmo.zoo.card import CAPABILITIES, Card
from xatmo.zoo.cardfile import CARD_FILE, read_card
from xatmo.zoo.fetch import imported_folder, models_folder, where

__all__ = [
    "BrokenCard",
    "ModelTable",
    "also_in",
    "cards_of",
    "default_model",
    "get_card",
    "list_models",
    "packaged_folder",
]


_drafts: list[Path] = []  # folders of models that are not released yet


@dataclass(frozen=True)
class BrokenCard:
    """A folder that claims to be a model and is not; the others are not affected."""

    name: str
    folder: Path
    error: AtmoError


class ModelTable(Sequence[Card]):
    """Cards in order of name, shown as a table; ``broken`` holds what is no card."""

    def __init__(self, cards: Sequence[Card], broken: Sequence[BrokenCard] = ()):
        self._cards = tuple(cards)
        self.broken = tuple(broken)

    @overload
    def __getitem__(self, index: int) -> Card: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Card]: ...
    def __getitem__(self, index: int | slice) -> Card | Sequence[Card]:
        return self._cards[index]

    def __len__(self) -> int:
        return len(self._cards)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the lines of the table as text, the heading first."""
        heading = ("name", "version", "capabilities", "size", "weights")
        taken = self._taken()
        return [heading, *(_row(card, card in taken) for card in self._cards)]

    def _taken(self) -> list[Card]:
        """The cards that verbs take when none is named: the first folder's defaults."""
        for root in _roots():
            own = [c for c in self._cards if _root(c) == root]
            if taken := [c for c in own if c.default or c.default_for]:
                return taken
        return []

    def __repr__(self) -> str:
        rows = self.rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if not self._cards:
            lines = [f"no models in {', '.join(map(str, _roots()))}"]
        if self._taken():
            lines.append("* taken when no model is named")
        lines += [f"! {broken.error.problem}" for broken in self.broken]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        heading, *body = ([html.escape(c) for c in row] for row in self.rows())
        head = "".join(f"<th>{cell}</th>" for cell in heading)
        lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in body]
        table = "".join(f"<tr>{line}</tr>" for line in lines)
        notes = "".join(
            f"<p>{html.escape(broken.error.problem)}</p>" for broken in self.broken
        )
        return f"<table><thead><tr>{head}</tr></thead>{table}</table>{notes}"


def _row(card: Card, taken: bool) -> tuple[str, ...]:
    name = f"{card.name} *" if taken else card.name
    size = f"{card.weights.size / 1e6:.1f} MB"
    return name, card.version, ", ".join(card.capabilities), size, where(card)


def list_models(capability: str | None = None) -> ModelTable:
    """Return the cards of all models, or of those with a capability.

    Parameters
    ----------
    capability : str, optional
        One of ``embed``, ``distance``, ``downscale``, ``infill``, ``forecast`` and
        ``attention``.

    Returns
    -------
    ModelTable
        A sequence of cards. Folders whose card is broken are in its ``broken``, and
        at the end of its repr.

    Examples
    --------
    >>> import xatmo
    >>> all("embed" in card.capabilities for card in xatmo.list_models("embed"))
    True
    """
    if capability is not None:
        _check_capability(capability)
    cards, broken = _scan()
    chosen = [c for c in cards if capability is None or capability in c.capabilities]
    return ModelTable(sorted(chosen, key=lambda c: (c.name, c.version)), broken)


def get_card(name: str) -> Card:
    """Return the card of a model.

    Parameters
    ----------
    name : str
        ``"name"`` or ``"name@version"``.

    Raises
    ------
    xatmo.errors.ModelNotFoundError
        If there is none, with names that are close.
    xatmo.errors.CardError
        If its card is broken, or another folder has different weights under the same
        name and version.
    """
    if not isinstance(name, str):
        msg = "A model is asked for by its name."
        raise ModelNotFoundError(
            msg,
            found=f"{name!r}, {type(name).__name__}",
            needed="a name, or what xatmo.load_model() returns",
            hint="xatmo.list_models()",
        )
    wanted, _, version = name.partition("@")
    found = cards_of(wanted, version or None)
    # Packaged cards come first, and one folder has one version of a name.
    card = found[0]
    for other in found[1:]:
        if other.version == card.version:
            _check_same(card, other)
    return card


def cards_of(name: str, version: str | None = None) -> list[Card]:
    """Return every card of a name, of one version if given, packaged ones first.

    Raises
    ------
    xatmo.errors.ModelNotFoundError
        If there is none.
    xatmo.errors.CardError
        If there is one and it is broken.
    """
    cards, broken = _scan()
    named = [card for card in cards if card.name == name]
    found = [card for card in named if version in (None, card.version)]
    # A broken packaged card hides behind no other folder's.
    for bad in broken:
        if bad.name == name and (not found or bad.folder.parent == packaged_folder()):
            raise bad.error
    if not found:
        _not_found(name, version, named, cards)
    return found


def default_model(capability: str) -> Card:
    """Return the card of the model that a verb takes when none is named.

    Parameters
    ----------
    capability : str
        What the verb needs, such as ``"embed"``.

    Raises
    ------
    xatmo.errors.ModelNotFoundError
        If no model is the default for it.
    xatmo.errors.CardError
        If two are.
    """
    able = list(list_models(capability))
    for root in _roots():
        defaults = [c for c in able if c.is_default(capability) and _root(c) == root]
        if len(defaults) > 1:
            _two_defaults(capability, defaults)
        if defaults:
            return get_card(f"{defaults[0].name}@{defaults[0].version}")
    names = ", ".join(card.name for card in able)
    msg = f"No model is the default for {capability!r}."
    raise ModelNotFoundError(
        msg,
        found=f"models with {capability!r}: {names or 'none'}",
        needed=f"one with default = true in its {CARD_FILE}, or a name",
        hint=f"model={able[0].name!r}" if able else "xatmo.list_models()",
    )


def packaged_folder() -> Path:
    """Return the folder of the released models.

    They are inside the installed package; in a source checkout, beside it.
    """
    here = _resolved(__file__)
    inside = here.parent / "models"
    return inside if inside.is_dir() else here.parents[2] / "models"


@functools.lru_cache(maxsize=8)
def _resolved(file: str) -> Path:
    return Path(file).resolve()  # every verb asks, and links do not move


def _roots() -> list[Path]:
    extra = models_folder()
    roots = [packaged_folder()] + ([extra.resolve()] if extra is not None else [])
    own = imported_folder().absolute()
    roots += [own] if own.is_dir() else []
    return list(dict.fromkeys([*roots, *_drafts]))


@contextmanager
def also_in(folder: Path) -> Iterator[None]:
    """Find the models of another folder as well, in this process, inside the block.

    For models that are scored before they are released.
    """
    _drafts.append(folder.resolve())
    try:
        yield
    finally:
        _drafts.remove(folder.resolve())


def _root(card: Card) -> Path | None:
    return card.folder.parent if card.folder else None


def _scan() -> tuple[list[Card], list[BrokenCard]]:
    cards, broken = [], []
    for folder in _folders():
        try:
            cards.append(read_card(folder))
        except AtmoError as error:
            broken.append(BrokenCard(folder.name, folder, error))
    extra = models_folder()
    if extra is not None and not extra.is_dir():
        broken.append(BrokenCard("XATMO_MODELS_URL", extra, _no_folder(extra)))
    return cards, broken


def _folders() -> Iterator[Path]:
    for root in _roots():
        if root.is_dir():
            yield from sorted(card.parent for card in root.glob(f"*/{CARD_FILE}"))


def _no_folder(folder: Path) -> CardError:
    msg = f"XATMO_MODELS_URL names a folder that does not exist: {folder}."
    return CardError(
        msg,
        found=f"XATMO_MODELS_URL={folder}",
        needed="a folder of models, or a web address such as https://...",
        hint="unset XATMO_MODELS_URL, or name the folder that holds NAME/card.toml",
    )


def _check_same(card: Card, other: Card) -> None:
    if card.weights.sha256 == other.weights.sha256:
        return
    msg = f"Two different models are called {card.name!r} {card.version}."
    raise CardError(
        msg,
        found=f"sha256 {card.weights.sha256[:12]}... in {card.folder}, and "
        f"{other.weights.sha256[:12]}... in {other.folder}",
        needed="another version for other weights",
        hint=f"change `version` in {other.folder}/{CARD_FILE}, or unset "
        "XATMO_MODELS_URL",
    )


def _check_capability(capability: str) -> None:
    if capability in CAPABILITIES:
        return
    msg = f"There is no capability {capability!r}."
    raise ModelNotFoundError(
        msg,
        found=repr(capability),
        needed=f"one of {', '.join(CAPABILITIES)}",
        hint="xatmo.list_models()",
    )


def _two_defaults(capability: str, cards: Sequence[Card]) -> NoReturn:
    names = " and ".join(repr(card.name) for card in cards)
    msg = f"{names} both claim to be the default for {capability!r}."
    raise CardError(
        msg,
        found="; ".join(f"default = true in {c.folder}/{CARD_FILE}" for c in cards),
        needed=f"one default for {capability!r} in a folder of models",
        hint=f"model={cards[0].name!r}, or take `default` out of one of the cards",
    )


def _not_found(
    name: str, version: str | None, named: Sequence[Card], cards: Sequence[Card]
) -> NoReturn:
    if named:
        have = ", ".join(f"{card.name}@{card.version}" for card in named)
        msg = f"There is no version {version!r} of the model {name!r}."
        raise ModelNotFoundError(
            msg,
            found=have,
            needed=f"{name}@{version}: another version has other weights",
            hint=f"model={f'{name}@{named[0].version}'!r}, or another release of "
            f"xatmo, or XATMO_MODELS_URL=FOLDER with {version} in FOLDER/{name}/",
        )
    have = ", ".join(sorted({card.name for card in cards})) or "no models at all"
    msg = f"There is no model {name!r}."
    close = difflib.get_close_matches(name, {card.name for card in cards}, n=3)
    guess = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise ModelNotFoundError(
        msg,
        found=have,
        needed=f"a folder {name}/ with a {CARD_FILE} in "
        f"{' or '.join(map(str, _roots()))}",
        hint=f"{guess}xatmo.list_models() shows all",
    )
