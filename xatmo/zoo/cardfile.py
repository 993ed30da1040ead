"""Read, check and write ``card.toml``, key by key."""

from __future__ import annotations

import functools
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xatmo.errors import CardError
from xatmo.zoo.card import (
    CAPABILITIES,
    STATICS,
    Card,
    Distance,
    Downscale,
    Grid,
    Infill,
    Input,
    Layers,
    Level,
    Normalization,
    Time,
    Weights,
)
from xatmo.zoo.cardfields import box_of, check_finer, fields_of, leads_of
from xatmo.zoo.files import draft
from xatmo.zoo.tables import (
    FLAG,
    NUMBER,
    TEXT,
    Table,
    choice,
    dumps,
    either,
    listed,
    number,
    pattern,
    whole,
)

__all__ = ["CARD_FILE", "parse_card", "read_card", "write_card"]

CARD_FILE = "card.toml"

_NAME = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, '-', '_' and '.'")
_VERSION = pattern(r"\d+(\.\d+)*[0-9A-Za-z.+-]*", "a version such as '1.0.0'")
_FILE = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors", "a bare '*.safetensors'")
_SHA256 = pattern(r"[0-9a-f]{64}", "64 hexadecimal digits in lower case")
_URL = pattern(r"(https?|ftp)://\S+|doi:\S+", "an address: https://, ftp:// or doi:")
_STEP = pattern(r"[1-9]\d*(min|h|d)", "a duration such as '6h', '30min' or '1d'")
_POSITIVE = number(above=0)
_COUNT = whole(least=1)


def read_card(path: str | os.PathLike[str]) -> Card:
    """Read and check the card of a model.

    Parameters
    ----------
    path : path
        A ``card.toml`` or the folder that holds it.

    Raises
    ------
    xatmo.errors.CardError
        If the file cannot be read, is not TOML, breaks the schema, or stands in a
        folder of another name than the model's.
    """
    file = _card_file(path)
    try:
        status = file.stat()
    except OSError:
        return _read(file)  # which says what is wrong
    # Every verb asks for the cards: they are parsed again only if they have changed.
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return _remembered(file.absolute(), stamp)


@functools.lru_cache(maxsize=256)
def _remembered(file: Path, stamp: tuple[int, ...]) -> Card:
    return _read(file)


def _read(file: Path) -> Card:
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"{file}: the card cannot be read."
        raise CardError(
            msg,
            found=str(error),
            needed="a TOML file in UTF-8",
            hint=f"help('xatmo.zoo.card') shows a whole card; then correct {file}",
        ) from error
    return parse_card(values, source=str(file), folder=file.parent)


def write_card(path: str | os.PathLike[str], values: Mapping[str, Any]) -> Card:
    """Check a mapping and write it as a card, in one step or not at all.

    Parameters
    ----------
    path : path
        The ``card.toml`` to write, or the folder it belongs into.
    values : mapping
        The card's contents (see :mod:`xatmo.zoo.card`); NumPy numbers are accepted.

    Returns
    -------
    Card
        The card, read back from the file.

    Raises
    ------
    xatmo.errors.CardError
        If the contents break the schema; nothing is written then.
    """
    file = _card_file(path)
    text = dumps(values)
    parse_card(tomllib.loads(text), source=str(file), folder=file.parent)
    with draft(file) as unfinished:
        unfinished.write_text(text, "utf-8")
    return read_card(file)


def parse_card(
    values: Mapping[str, Any], *, source: str = CARD_FILE, folder: Path | None = None
) -> Card:
    """Check a mapping of the card's schema and make a card of it.

    Parameters
    ----------
    values : mapping
        What :func:`tomllib.load` gives for a ``card.toml``.
    source : str
        The file that error messages name.
    folder : path, optional
        Where the card stands; its name has to be the model's.

    Raises
    ------
    xatmo.errors.CardError
        If a key is missing, unknown or has a value it cannot have.
    """
    root = Table(values, source)
    fields = fields_of(root)
    inputs = () if fields or _reads_anything(root) else _inputs(root)
    normalization = _normalization(root, bool(inputs or fields))
    layers = _layers(root)
    card = Card(
        name=root.take("name", _NAME),
        version=root.take("version", _VERSION),
        title=root.take("title", TEXT),
        architecture=root.take("architecture", TEXT),
        capabilities=_capabilities(root),
        default=root.take("default", FLAG, default=False),
        default_for=root.take("default_for", listed(choice(*CAPABILITIES)), ()),
        licence=root.take("licence", TEXT),
        citation=root.take("citation", TEXT),
        network=_network(root),
        inputs=inputs,
        levels=_levels(root, len(inputs), normalization.kind) if inputs else (),
        normalization=normalization,
        grid=_grid(root),
        time=_time(root),
        layers=layers,
        distance=_distance(root, layers),
        downscale=_downscale(root),
        infill=_infill(root),
        fields=fields,
        box=box_of(root, fields),
        leads=leads_of(root, fields),
        weights=_weights(root),
        training=root.free("training"),
        scores=root.free("scores"),
        folder=folder,
    )
    root.close()
    if folder is not None and card.name != folder.name:
        root.refuse("name", f"the name of the folder, {folder.name!r}")
    if "downscale" in card.capabilities and card.grid.halo == "global" and not card.box:
        root.refuse("downscale", "a network with a finite halo in [grid]")
    if card.box is not None:
        check_finer(root, card)
    if not (card.inputs or card.fields) and card.grid.halo == "global":
        root.refuse("grid", "a finite halo, for a network that fills gaps anywhere")
    return card


def _card_file(path: str | os.PathLike[str]) -> Path:
    # Absolute, but links are kept: the folder is called as the user calls it.
    path = Path(os.path.abspath(path))
    return path if path.name == CARD_FILE else path / CARD_FILE


def _capabilities(root: Table) -> tuple[str, ...]:
    names = root.take("capabilities", listed(choice(*CAPABILITIES), least=1))
    if "embed" in names and "layers" not in root.values:
        root.lacks("layers", "a table, [layers]: 'embed' needs layer names")
    if "downscale" in names and "downscale" not in root.values:
        root.lacks("downscale", "a table, [downscale]: 'downscale' needs a factor")
    return names


def _network(root: Table) -> dict[str, Any]:
    arguments = root.free("network")
    for key in arguments:
        if not key.isidentifier():
            table = Table(arguments, root.source, "network")
            table.refuse(key, "a key that is a Python argument name")
    return arguments


def _inputs(root: Table) -> tuple[Input, ...]:
    return tuple(
        Input(quantity=table.take("quantity", TEXT), units=table.take("units", TEXT))
        for table in root.tables("inputs")
    )


def _reads_anything(root: Table) -> bool:
    """Whether a card names no inputs because its network fills gaps in whatever it is.

    Such a network brings each series to its own scale: there are no constants either.
    """
    tables = {"inputs", "levels"}
    able = root.values.get("capabilities")
    if list(able or ()) != ["infill"] or tables & set(root.values):
        return False
    root.asked |= tables
    return True


def _normalization(root: Table, constants: bool) -> Normalization:
    with root.table("normalization") as table:
        kinds = ("signlog", "zscore") if constants else ("none",)
        kind = table.take("kind", choice(*kinds))
        alpha = table.take("alpha", _POSITIVE) if kind == "signlog" else None
    return Normalization(kind, alpha)


def _levels(root: Table, inputs: int, kind: str) -> tuple[Level, ...]:
    means = listed(NUMBER, length=inputs)
    stds = listed(_POSITIVE, length=inputs)
    logarithmic = kind == "signlog"
    levels = tuple(
        Level(
            level=table.take("level", TEXT),
            trained=table.take("trained", FLAG, default=True),
            mean=table.take("mean", means),
            std=table.take("std", stds),
            log_mean=table.take("log_mean", means) if logarithmic else None,
            log_std=table.take("log_std", stds) if logarithmic else None,
            fitted=table.take("fitted", listed(_POSITIVE, length=2), None),
        )
        for table in root.tables("levels")
    )
    if len({level.level for level in levels}) < len(levels):
        root.refuse("levels", "every level once")
    return levels


def _grid(root: Table) -> Grid:
    with root.table("grid") as table:
        spacing = table.take("spacing", listed(_POSITIVE, length=2))
        if spacing[0] > spacing[1]:
            table.refuse("spacing", "the smallest spacing, then the largest")
        grid = Grid(
            spacing=spacing,
            patch=table.take("patch", listed(_COUNT, length=2)),
            stride=table.take("stride", _COUNT),
            halo=table.take("halo", either(choice("global"), whole())),
            latitude_limit=table.take("latitude_limit", number(above=0, to=90), None),
            gaussian=table.take("gaussian", FLAG, default=False),
            northward=table.take("northward", FLAG, default=False),
            latitude=table.take("latitude", listed(NUMBER, length=2), None),
            longitude=table.take("longitude", listed(NUMBER, length=2), None),
        )
        north, east = grid.latitude, grid.longitude
        if (north is None) != (east is None) or (north and "leads" not in root.values):
            table.refuse("latitude", "latitude and longitude together, with [leads]")
        if north and north[0] <= north[1]:
            table.refuse("latitude", "the northern row first")
        if east and not 0 < east[1] - east[0] <= 360:
            table.refuse("longitude", "the western column first, the eastern beyond it")
        return grid


def _time(root: Table) -> Time | None:
    root.asked.add("time")
    if "time" not in root.values:
        return None
    with root.table("time") as table:
        return Time(step=table.take("step", _STEP), lags=_lags(table))


def _lags(table: Table) -> tuple[int, ...]:
    lags = table.take("lags", listed(_COUNT), ())
    if list(lags) != sorted(set(lags)):
        table.refuse("lags", "hours in rising order, each once")
    return lags


def _layers(root: Table) -> Layers | None:
    root.asked.add("layers")
    if "layers" not in root.values:
        return None
    with root.table("layers") as table:
        names = table.take("names", listed(TEXT, least=1))
        if len(set(names)) < len(names):
            table.refuse("names", "every layer once")
        return Layers(
            names=names,
            stride=table.mapping("stride", _COUNT, names),
            features=table.mapping("features", _COUNT, names),
        )


def _distance(root: Table, layers: Layers | None) -> Distance | None:
    root.asked.add("distance")
    if "distance" not in root.values:
        return None
    if layers is None:
        root.lacks("layers", "a table, [layers], since there is a [distance]")
    with root.table("distance") as table:
        return Distance(
            space=table.take("space", TEXT),
            alpha=table.mapping("alpha", _POSITIVE, layers.names, every=False),
            lags=_lags(table),
        )


def _downscale(root: Table) -> Downscale | None:
    root.asked.add("downscale")
    if "downscale" not in root.values:
        return None
    with root.table("downscale") as table:
        return Downscale(
            factor=table.take("factor", whole(least=2)),
            statics=table.take("statics", listed(choice(*STATICS)), ()),
        )


def _infill(root: Table) -> Infill | None:
    root.asked.add("infill")
    if "infill" not in root.values:
        return Infill() if "infill" in root.values["capabilities"] else None
    with root.table("infill") as table:
        seen = table.free("seen")
        ranges = Table(seen, root.source, "infill.seen")
        return Infill(
            radius=table.take("radius", _COUNT, Infill.radius),
            factor=table.take("factor", _POSITIVE, Infill.factor),
            seen={name: ranges.take(name, listed(NUMBER, length=2)) for name in seen},
        )


def _weights(root: Table) -> Weights:
    with root.table("weights") as table:
        return Weights(
            file=table.take("file", _FILE),
            sha256=table.take("sha256", _SHA256),
            size=table.take("size", _COUNT),
            urls=table.take("urls", listed(_URL), ()),
        )
