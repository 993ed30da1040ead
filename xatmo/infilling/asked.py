"""What is asked of infill(): a method, the network, and how far that may reach."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from xatmo.engine import Call, Network, Plan
from xatmo.errors import ModelNotFoundError, OptionError
from xatmo.infilling.methods import PLAIN, WHOLE_POINTS, Methods, sees_all_times
from xatmo.options import get_options
from xatmo.provenance import sign
from xatmo.zoo import Card, Model, default_model, list_models, load_model

__all__ = ["Asked", "check_length", "read_arguments"]

_PACKAGES = {"kriging": "gstools", "biharmonic": "scikit-image"}


@dataclass(frozen=True)
class Asked:
    """The arguments, checked, and the network if one has a part in it."""

    method: str
    spread: bool
    seed: int
    masked: bool
    card: Card | None
    recipe: Methods
    joint: Model | None = None  # of boxes: it fills all fields together

    def signed(
        self,
        result: Any,
        attrs: Mapping[str, Any],
        history: str,
        notes: tuple[str, ...] = (),
    ) -> Any:
        """Write into attributes where a result is from."""
        old = ("xatmo_model", "xatmo_model_sha256")
        said: dict[str, Any] = {"xatmo_method": _versions(self.method)}
        return sign(
            result,
            verb="infill",
            card=self.card,
            arguments={
                "method": self.method,
                "spread": self.spread,
                "mask": ... if self.masked else None,
                "seed": self.seed,
            },
            attrs={k: v for k, v in attrs.items() if k not in old} | said,
            notes=notes,
            history=history,
        )

    @property
    def parts(self) -> list[str]:
        """What is said of each variable beside its values."""
        spread = ["spread"] if self.spread else []
        return [*spread, "provenance", *(["scores"] if self.method == "auto" else [])]


def read_arguments(method: Any, spread: Any, mask: Any, model: Any, seed: Any) -> Asked:
    """Check the arguments of a call; raises as :func:`xatmo.infill` says."""
    if not isinstance(spread, bool | np.bool_):
        msg = f"spread is yes or no, not {spread!r}."
        raise OptionError(
            msg,
            found=f"spread={spread!r}",
            needed="True (give the standard deviation of the error) or False",
            hint="ds.atmo.infill(spread=True)",
        )
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool) or seed < 0:
        msg = f"seed cannot be {seed!r}."
        raise OptionError(
            msg,
            found=f"seed={seed!r} ({type(seed).__name__})",
            needed="a whole number of at least 0",
            hint="ds.atmo.infill(seed=0)",
        )
    found = _model(method, model)
    card = None if found is None else found.card
    joint = found if card is not None and card.box is not None else None
    if joint is not None or method not in ("auto", *PLAIN):
        method = "network"
    network = None if found is None or joint is not None else _network(found)
    recipe = Methods(method, network, bool(spread), int(seed), card)
    return Asked(method, bool(spread), int(seed), mask is not None, card, recipe, joint)


def _model(method: Any, model: str | Model | None) -> Model | None:
    """The model that has a part in it, if one has."""
    able = [card for card in list_models("infill") if not card.inputs]
    names = [card.name for card in able]
    if method in PLAIN:
        if model is None:
            return None
        msg = f"{method!r} is a plain method: no model has a part in it."
        raise OptionError(
            msg,
            found=f"method={method!r}, model={model!r}",
            needed="one of the two",
            hint=f"ds.atmo.infill(method={method!r}), or ds.atmo.infill('network')",
        )
    # One of boxes is not compared with others: it is taken if it is named.
    plain = [card for card in able if card.box is None]
    if method == "auto" and model is None:
        if not any(card.is_default("infill") for card in plain):
            return None
        if default_model("infill").box is not None:
            return None
    if method not in ("auto", "network"):
        if not isinstance(method, str) or method.partition("@")[0] not in names:
            raise _no_method(method, names)
        if model is not None and model != method:
            both = f"{method}, and model={model}"
            raise _no_method(both, names)
        model = method
    found = load_model(model, capability="infill")
    if found.card.inputs:
        msg = f"{found.card.name!r} reads one kind of field, on one kind of gap."
        raise ModelNotFoundError(
            msg,
            found=f"a model of {', '.join(i.quantity for i in found.card.inputs)}",
            needed=f"a model for any field: {', '.join(names) or 'there is none yet'}",
            hint=f"model={names[0]!r}" if names else "ds.atmo.infill(method='kriging')",
        )
    return found


def _network(model: Model) -> Network:
    options, card = get_options(), model.card
    assert isinstance(card.grid.halo, int)  # noqa: S101 - or the card is refused
    assert card.infill is not None  # noqa: S101 - cards that infill have one
    return Network(
        call=Call(
            key=model.key,
            method="forward",
            kwargs=(("level", None),),
            device=options.device,
            batch_size=options.batch_size,
        ),
        reach=card.grid.halo,
        stride=card.grid.stride,
        radius=card.infill.radius,
        factor=card.infill.factor,
    )


def _no_method(method: Any, models: list[str]) -> OptionError:
    msg = f"There is no method {method!r} to fill gaps."
    known = ("auto", "network", *PLAIN, *models)
    near = difflib.get_close_matches(str(method), known, n=1)
    return OptionError(
        msg,
        found=f"method={method!r}",
        needed=f"one of {', '.join(map(repr, known))}",
        hint=f"ds.atmo.infill(method={near[0] if near else 'auto'!r})",
    )


def check_length(method: str, plan: Plan) -> None:
    """Refuse a series that is too long for a method that sees all of its times."""
    size = math.prod(plan.shape)
    if not sees_all_times(method) or size <= WHOLE_POINTS:
        return
    most = max(1, WHOLE_POINTS // (size // plan.count))
    msg = f"{plan.name!r} is too long for {method!r}, which sees all times at once."
    raise OptionError(
        msg,
        found=f"{' x '.join(map(str, plan.shape))} values (time, latitude, longitude)",
        needed=f"at most {WHOLE_POINTS:,}: {most} times on this grid",
        hint="ds.atmo.infill(method='network'), which sees the times around a gap, or "
        f"a part of the series: ds.isel(time=slice({most}))",
    )


def _versions(method: str) -> str:
    """The method, and the package that it is from."""
    package = _PACKAGES.get(method)
    if package is None:
        return method
    try:
        return f"{method} ({package} {metadata.version(package)})"
    except metadata.PackageNotFoundError:
        return method
