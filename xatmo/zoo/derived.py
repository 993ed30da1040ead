"""Models with other fields than a released one, made of its weights."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xatmo.errors import OptionError
from xatmo.zoo.boxnormalization import BoxNormalization
from xatmo.zoo.card import Card
from xatmo.zoo.fetch import weights_path
from xatmo.zoo.imported import NewModel, place, readme_of
from xatmo.zoo.model import Model, load_model
from xatmo.zoo.weights import check_sha256, load_state

if TYPE_CHECKING:
    from torch import Tensor

    from xatmo.nets.multiformer_fields import FieldSpec

__all__ = ["derived"]

# What networks may differ in whose fields are put together.
_OWN = {"self", "fields", "predicted", "level_numbers", "dropout", "options"}


def derived(
    model: Model,
    *,
    remove: str | Sequence[str] = (),
    add: str | Model | None = None,
    coupled: bool | Mapping[str, Sequence[str]] = True,
    name: str | None = None,
) -> Model:
    """Make a model with other fields: see :meth:`xatmo.Model.with_fields`."""
    gone = [remove] if isinstance(remove, str) else list(remove)
    other = load_model(add) if add is not None else None
    _check(model, gone, other)
    parts = _without(_Parts.of(model), gone)
    if other is not None:
        parts = _with(parts, model, other, coupled)
    contents = _contents(model, other, parts, gone, name)
    both = [one for one in (model, other) if one is not None]
    left = [spec.name for spec in parts.specs]
    local = _local([one.card for one in both], left)
    readme = readme_of(contents, _how(contents))
    card = place(NewModel(contents, parts.state, local, readme))
    return Model(card, card.key(model.key.dtype), _normalization(both, left))


@dataclass(frozen=True)
class _Parts:
    """Arguments of a network, defaults included, its fields and its weights."""

    options: dict[str, Any]
    specs: list[FieldSpec]
    state: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: Model) -> _Parts:
        from xatmo.nets.multiformer_fields import FieldSpec

        path, sha256 = weights_path(model.card), model.key.sha256
        options = _options(model.card)
        specs = [FieldSpec.of(table) for table in options["fields"]]
        return cls(options, specs, load_state(path, sha256, name=model.name))

    @property
    def coupled(self) -> bool:
        """Whether some field hears of another."""
        return any(spec.sources for spec in self.specs)

    def rebuilt(
        self,
        state: Mapping[str, Tensor],
        before: list[FieldSpec],
        after: list[FieldSpec],
        **changes: Any,
    ) -> _Parts:
        from xatmo.nets.multiformer_surgery import couple

        options = self.options | changes
        heads = {key: options[key] for key in ("encoder_heads", "coupling_heads")}
        return _Parts(options, after, couple(state, before, after, **heads))


def _without(parts: _Parts, gone: Sequence[str]) -> _Parts:
    from xatmo.nets.multiformer_surgery import fields_without

    predicted = [n for n in parts.options["predicted"] if n not in gone]
    after = fields_without(parts.specs, gone)
    return parts.rebuilt(parts.state, parts.specs, after, predicted=predicted)


def _with(
    ours: _Parts,
    model: Model,
    other: Model,
    coupled: bool | Mapping[str, Sequence[str]],
) -> _Parts:
    from xatmo.nets.multiformer_surgery import coupled_fields

    theirs = _Parts.of(other)
    if not ours.coupled:  # then the number of heads on others is free
        ours.options["coupling_heads"] = theirs.options["coupling_heads"]
    _check_same(model, other, ours, theirs)
    _check_new(ours.specs, theirs.specs, other)
    return ours.rebuilt(
        {**ours.state, **theirs.state},
        [*ours.specs, *theirs.specs],
        coupled_fields(ours.specs, theirs.specs, coupled),
        predicted=ours.options["predicted"] + theirs.options["predicted"],
        level_numbers=ours.options["level_numbers"] | theirs.options["level_numbers"],
    )


# --- What is put together -------------------------------------------------------------


def _options(card: Card) -> dict[str, Any]:
    """All arguments of the network, defaults included, to be changed."""
    from xatmo.nets.multiformer import Multiformer
    from xatmo.nets.multiformer_box import BoxMultiformer

    known: dict[str, Any] = {}
    for network in (Multiformer, BoxMultiformer):
        parameters = inspect.signature(network.__init__).parameters
        known |= {key: parameter.default for key, parameter in parameters.items()}
    told = known | card.network
    told["level_numbers"] = dict(told["level_numbers"])
    names = [table["name"] for table in told["fields"]]
    told["predicted"] = list(names if told["predicted"] is None else told["predicted"])
    return told


def _table(spec: FieldSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "width": spec.width,
        "levels": spec.levels,
        "tokens": list(spec.tokens),
        "token_size": list(spec.token_size),
        "sources": list(spec.sources),
    }


def _network(card: Card, parts: _Parts) -> dict[str, Any]:
    """Return the arguments that stand in the card."""
    names = [spec.name for spec in parts.specs]
    options = parts.options
    return {
        **{key: options[key] for key in card.network},
        "coupling_heads": options["coupling_heads"],
        "fields": [_table(spec) for spec in parts.specs],
        "predicted": options["predicted"],
        "level_numbers": {n: options["level_numbers"][n] for n in names},
    }


def _contents(
    model: Model,
    other: Model | None,
    parts: _Parts,
    gone: Sequence[str],
    name: str | None,
) -> dict[str, Any]:
    """Return the contents of the card, but for its weights."""
    contents, added = tomllib.loads(model.card.to_toml()), []
    for key in ("default", "default_for", "weights", "distance", "scores"):
        contents.pop(key, None)
    how = f"{model.name} {model.version}"
    how += f" without {', '.join(gone)}" if gone else ""
    if other is not None:
        theirs = tomllib.loads(other.card.to_toml())
        added = theirs["fields"]
        contents |= _shared(contents, theirs)
        how += f", with the fields of {other.name} {other.version}"
    made = "".join(f"-without-{field}" for field in gone)
    made += "".join(f"-with-{field['name']}" for field in added)
    fields = {f["name"]: f for f in [*contents["fields"], *added]}
    names = [spec.name for spec in parts.specs]
    contents |= {
        "name": name or f"{model.name}{made}",
        "title": f"{', '.join(names)}: {how}",
        "network": _network(model.card, parts),
        "fields": [fields[n] for n in names],
        "box": {key: contents["box"][key] for key in ("step", "ahead")},
        "training": contents.get("training", {}) | {"derived": how},
    }
    if "layers" in contents:
        width = sum(spec.width for spec in parts.specs)
        layers = contents["layers"]
        layers["features"] = dict.fromkeys(layers["names"], width)
    return contents


def _shared(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of both models together."""
    able = [c for c in ours["capabilities"] if c in theirs["capabilities"]]
    spacing = zip(ours["grid"]["spacing"], theirs["grid"]["spacing"], strict=True)
    low, high = spacing
    return {
        "capabilities": able,
        "licence": "; ".join(dict.fromkeys((ours["licence"], theirs["licence"]))),
        "citation": "; ".join(dict.fromkeys((ours["citation"], theirs["citation"]))),
        "grid": ours["grid"] | {"spacing": [max(low), min(high)]},
    }


def _how(contents: Mapping[str, Any]) -> str:
    return (
        f"Made of the weights of {contents['training']['derived']}; not trained since"
    )


def _local(cards: Sequence[Card], left: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the constants of places of the fields that are left."""
    from safetensors.numpy import load_file

    found: dict[str, np.ndarray] = {}
    for card in cards:
        if card.box is None or card.box.local is None or card.folder is None:
            continue
        path = card.folder / card.box.local
        check_sha256(path, card.box.local_sha256 or "", name=card.name)
        tensors = load_file(path)
        kept = {k: t for k, t in tensors.items() if k.split("/")[0] in left}
        if not kept:
            continue
        axes = {k: tensors[k] for k in ("latitude", "longitude")}
        for key, axis in axes.items():
            if key in found and not np.array_equal(found[key], axis):
                msg = "The models have constants on different places."
                said = f"{key}: {len(found[key])} and {len(axis)} points"
                hint = "fit them on your data: model.with_normalization(...)"
                raise OptionError(msg, found=said, needed="the same places", hint=hint)
        found |= kept | axes
    return found


def _normalization(
    models: Sequence[Model], left: Sequence[str]
) -> BoxNormalization | None:
    """Put together what users have given of the fields that are left."""
    given = [m.normalization for m in models if m.normalization is not None]
    if not given:
        return None
    told = [{k: c for k, c in g.constants.items() if k[0] in left} for g in given]
    merged = {key: found for table in told for key, found in table.items()}
    names = {name for name, _ in merged}
    tables = [
        {n: v for g in given for n, v in getattr(g, what).items() if n in names}
        for what in ("quantities", "units")
    ]
    return replace(given[0], constants=merged, quantities=tables[0], units=tables[1])


# --- What cannot be -------------------------------------------------------------------


def _check(model: Model, gone: Sequence[str], other: Model | None) -> None:
    for one in (model, other):
        if one is not None and one.card.box is None:
            msg = f"{one.name} does not read boxes: it has no fields to add or remove."
            hint = 'xatmo.list_models("forecast")'
            found = f"architecture = {one.card.architecture!r}"
            needed = "a model of fields that are networks of their own"
            raise OptionError(msg, found=found, needed=needed, hint=hint)
    names = [field.name for field in model.card.fields]
    strange = [name for name in gone if name not in names]
    if strange or set(gone) >= set(names) or not (gone or other):
        msg = f"These are no fields to remove from {model.name}."
        found = ", ".join(map(repr, gone)) or "nothing to remove or to add"
        needed = f"some of {', '.join(names)}, not all"
        hint = f"model.with_fields(remove=[{names[-1]!r}])"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
    predicted = _options(model.card)["predicted"]
    if set(gone) >= set(predicted):
        msg = "No field would be left that is predicted."
        found, needed = f"without {', '.join(gone)}", f"one of {', '.join(predicted)}"
        raise OptionError(msg, found=found, needed=needed, hint="remove fewer fields")


def _check_new(
    after: Sequence[FieldSpec], new: Sequence[FieldSpec], other: Model
) -> None:
    ours = [spec.name for spec in after]
    twice = [spec.name for spec in new if spec.name in ours]
    if twice:
        msg = f"{', '.join(twice)} would be there twice."
        needed = "fields of different names"
        hint = f"model.with_fields(remove={twice!r}, add={other.name!r})"
        raise OptionError(msg, found=", ".join(ours), needed=needed, hint=hint)
    if new[0].box != after[0].box:
        msg = "Fields of a network cover the same box."
        found, needed = f"{other.name}: {new[0].box}", f"{after[0].box}"
        hint = "train the new field on boxes of that size"
        raise OptionError(msg, found=found, needed=needed, hint=hint)


def _check_same(model: Model, other: Model, ours: _Parts, theirs: _Parts) -> None:
    """Refuse networks that differ in more than fields, or data of another step."""
    free = _OWN | (set() if theirs.coupled else {"coupling_heads"})
    pairs: dict[str, tuple[Any, Any]] = {
        key: (ours.options[key], theirs.options[key])
        for key in ours.options
        if key not in free
    }
    boxes = model.card.box, other.card.box
    first, second = (box.step if box else None for box in boxes)
    pairs["step"] = first, second
    different = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    spacing = model.card.grid.spacing, other.card.grid.spacing
    if max(s[0] for s in spacing) > min(s[1] for s in spacing):
        different["spacing"] = spacing
    if different:
        msg = f"{model.name} and {other.name} are networks of different kinds."
        found = "; ".join(f"{k}: {a!r} and {b!r}" for k, (a, b) in different.items())
        needed, hint = "the same sizes but for fields", "train both with one recipe"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
