"""Read TOML tables strictly, and write them.

``tomllib`` gives dictionaries and cannot write. A card has to be checked key by key, so
that a slip of the pen is named by file and key instead of surfacing in a worker.
"""

from __future__ import annotations

import datetime
import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from xatmo.errors import CardError

_REQUIRED: Any = object()
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Kind:
    """What a value has to be, in words, and the function that accepts it.

    ``accept`` returns the value in its Python form or raises ``ValueError``.
    """

    needed: str
    accept: Callable[[Any], Any]


def _accept_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _accept_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _accept_number(value: Any) -> float:
    # In Python a bool is an int: `trained = 1` and `alpha = true` are slips of the pen.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    if not math.isfinite(value):
        raise ValueError
    return float(value)


def number(*, above: float = -math.inf, to: float = math.inf) -> Kind:
    """A finite number greater than `above` and not greater than `to`."""

    def accept(value: Any) -> float:
        result = _accept_number(value)
        if not above < result <= to:
            raise ValueError
        return result

    limits = f" above {above:g}" if above > -math.inf else ""
    limits += f" and up to {to:g}" if to < math.inf else ""
    return Kind(f"a finite number{limits}", accept)


def whole(*, least: int = 0) -> Kind:
    """A whole number of at least `least`."""

    def accept(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError
        return value

    return Kind(f"a whole number of at least {least}", accept)


def pattern(regex: str, needed: str) -> Kind:
    """A text that matches `regex` from end to end."""
    compiled = re.compile(regex)

    def accept(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError
        return value

    return Kind(needed, accept)


def choice(*options: str) -> Kind:
    """One of the given texts."""

    def accept(value: Any) -> str:
        if not isinstance(value, str) or value not in options:
            raise ValueError
        return value

    return Kind(f"one of {', '.join(map(repr, options))}", accept)


def either(first: Kind, second: Kind) -> Kind:
    """Whichever of two kinds accepts the value."""

    def accept(value: Any) -> Any:
        try:
            return first.accept(value)
        except ValueError:
            return second.accept(value)

    return Kind(f"{first.needed}, or {second.needed}", accept)


def listed(kind: Kind, *, length: int | None = None, least: int = 0) -> Kind:
    """A list of values of one kind, returned as a tuple."""

    def accept(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) < least:
            raise ValueError
        if length is not None and len(value) != length:
            raise ValueError
        return tuple(kind.accept(item) for item in value)

    count = f"exactly {length}" if length is not None else f"at least {least}"
    return Kind(f"a list of {count}, each {kind.needed}", accept)


TEXT = Kind("a text that is not empty", _accept_text)
FLAG = Kind("true or false", _accept_flag)
NUMBER = number()


@dataclass
class Table:
    """One table of a card: hands out checked values, then complains of the rest."""

    values: Mapping[str, Any]
    source: str
    path: str = ""
    asked: set[str] = field(default_factory=set)

    def take(self, key: str, kind: Kind, default: Any = _REQUIRED) -> Any:
        """Return the value of `key`, checked; `default` if it may be missing."""
        self.asked.add(key)
        if key not in self.values:
            if default is not _REQUIRED:
                return default
            self.lacks(key, kind.needed)
        try:
            return kind.accept(self.values[key])
        except ValueError:
            return self.refuse(key, kind.needed)

    def free(self, key: str) -> dict[str, Any]:
        """Return a table whose keys are not prescribed; empty if there is none."""
        self.asked.add(key)
        value = self.values.get(key, {})
        if not isinstance(value, Mapping):
            self.refuse(key, f"a table, [{self.full(key)}]")
        return dict(value)

    def mapping(
        self, key: str, kind: Kind, names: tuple[str, ...], *, every: bool = True
    ) -> dict[str, Any]:
        """Return a table with one value for each of `names` (or for some of them)."""
        with self.table(key) as table:
            taken = {
                name: table.take(name, kind)
                for name in names
                if every or name in table.values
            }
        if not taken:
            self.refuse(key, f"a value for at least one of {', '.join(names)}")
        return taken

    @contextmanager
    def table(self, key: str) -> Iterator[Table]:
        """Open the table `key`; on leaving, every key of it must have been read."""
        self.asked.add(key)
        full = self.full(key)
        if key not in self.values:
            self.lacks(key, f"a table, [{full}]")
        if not isinstance(self.values[key], Mapping):
            self.refuse(key, f"a table, [{full}]")
        table = Table(self.values[key], self.source, full)
        yield table
        table.close()

    def tables(self, key: str) -> Iterator[Table]:
        """Walk through an array of tables, ``[[key]]``, of at least one."""
        self.asked.add(key)
        full = self.full(key)
        if key not in self.values:
            self.lacks(key, f"at least one table, [[{full}]]")
        rows = self.values[key]
        if (
            not isinstance(rows, list | tuple)
            or not rows
            or not all(isinstance(row, Mapping) for row in rows)
        ):
            self.refuse(key, f"at least one table, [[{full}]]")
        for index, row in enumerate(rows):
            table = Table(row, self.source, f"{full}[{index}]")
            yield table
            table.close()

    def close(self) -> None:
        """Raise if there is a key that nobody asked for."""
        for key in self.values:
            if key not in self.asked:
                self._unknown(key)

    def full(self, key: str) -> str:
        """Return the dotted name of a key, as it is written in messages."""
        return f"{self.path}.{key}" if self.path else key

    def lacks(self, key: str, needed: str) -> NoReturn:
        """Raise the error for a key that is not there."""
        problem = f"{self.source}: key '{self.full(key)}' is missing."
        keys = ", ".join(map(str, self.values)) or "no key at all"
        where = f"table '{self.path}' has" if self.path else "the file has"
        self._fail(problem, f"{where} {keys}", needed)

    def refuse(self, key: str, needed: str) -> NoReturn:
        """Raise the error for a value that cannot be."""
        problem = f"{self.source}: key '{self.full(key)}' has a value it cannot have."
        found = repr(self.values.get(key))
        found = found if len(found) <= 90 else found[:87] + "..."
        self._fail(problem, f"{key} = {found}", needed)

    def _unknown(self, key: str) -> NoReturn:
        problem = f"{self.source}: key '{self.full(key)}' is not part of a card."
        close = difflib.get_close_matches(key, sorted(self.asked), n=1)
        found = f"{key} (did you mean {close[0]}?)" if close else str(key)
        self._fail(problem, found, f"only {', '.join(sorted(self.asked))}")

    def _fail(self, problem: str, found: str, needed: str) -> NoReturn:
        hint = f"help('xatmo.zoo.card') shows a whole card; then correct {self.source}"
        raise CardError(problem, found=found, needed=needed, hint=hint) from None


def dumps(mapping: Mapping[str, Any]) -> str:
    """Write a mapping as TOML, in the order given.

    Parameters
    ----------
    mapping : mapping
        Texts, numbers, truth values, dates, lists and mappings; NumPy scalars and
        arrays are written as the Python values they hold.

    Returns
    -------
    str
        TOML that :func:`tomllib.loads` reads back to an equal dictionary.

    Raises
    ------
    TypeError
        For a value TOML has no form for, such as None.
    """
    return "\n".join(_lines(mapping, ())).strip("\n") + "\n"


def _lines(mapping: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    # Plain values come first: below a sub-table's header they would belong to it.
    nested = {k: v for k, v in mapping.items() if _is_table(v) or _is_array(v)}
    for key, value in mapping.items():
        if key not in nested:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in nested.items():
        inner = (*path, key)
        name = ".".join(map(_key, inner))
        for row in (value,) if _is_table(value) else value:
            yield from ("", f"[{name}]" if _is_table(value) else f"[[{name}]]")
            yield from _lines(row, inner)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_array(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(map(_is_table, value))


def _key(key: Any) -> str:
    if not isinstance(key, str):
        msg = f"A TOML key is a text, not {key!r}."
        raise TypeError(msg)
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _text(value: str) -> str:
    # JSON's escapes are TOML's, except that TOML escapes the delete character too.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _value(value: Any) -> str:
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        value = value.tolist()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{_key(k)} = {_value(v)}" for k, v in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    msg = f"TOML has no form for {value!r}."
    raise TypeError(msg)
