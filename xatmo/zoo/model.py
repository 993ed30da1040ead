"""A released model in hand: its card, its key, and on request its network."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xatmo.errors import CardError, ModelNotFoundError, OptionError, WeightsError
from xatmo.nets import ARCHITECTURES
from xatmo.zoo.boxnormalization import BoxNormalization
from xatmo.zoo.card import Card, ModelKey
from xatmo.zoo.cardfile import CARD_FILE
from xatmo.zoo.constants import constants_of
from xatmo.zoo.describe import describe, describe_html
from xatmo.zoo.fetch import weights_path
from xatmo.zoo.fitted import Normalization
from xatmo.zoo.registry import cards_of, default_model, get_card, list_models
from xatmo.zoo.weights import check_normalization, load_into, load_state

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Model", "build", "card_of", "load_model", "load_network"]


@dataclass(frozen=True, repr=False)
class Model:
    """A released model whose weights are on this machine and checked.

    Attributes
    ----------
    card : Card
        What is known of the model.
    key : ModelKey
        What stands for the weights in a Dask graph.
    normalization : BoxNormalization or None
        Constants that a user has given, of a model that reads boxes.
    """

    card: Card
    key: ModelKey
    normalization: BoxNormalization | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.card.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.card.version

    def network(self) -> nn.Module:
        """Build the network with its weights: on the CPU, for inference only.

        Raises
        ------
        xatmo.errors.WeightsError
            If the weights do not fit the network that the card describes.
        xatmo.errors.CardError
            If the card describes a network that cannot be built.
        """
        return build(self.card, self.key)

    def with_normalization(
        self,
        normalization: Normalization | Iterable[Normalization] | BoxNormalization,
    ) -> Model:
        """Return this model with constants fitted to the user's own data.

        The weights stay what they are. At the levels of the constants verbs use them
        in place of the release's; a level that the model did not know becomes one that
        it reads, though it was not trained there. Results say so in their attributes.

        Parameters
        ----------
        normalization : Normalization or several, or BoxNormalization
            From :func:`xatmo.fit_normalization`, one for each level; of a model that
            reads boxes, one for all fields and levels.

        Returns
        -------
        Model
            This one is not changed.

        Raises
        ------
        xatmo.errors.OptionError
            If the constants are for other inputs, or of another kind.

        Examples
        --------
        >>> import xatmo
        >>> ds = xatmo.open_sample()
        >>> norm = xatmo.fit_normalization(ds)
        >>> model = xatmo.load_model().with_normalization(norm)
        >>> ds.atmo.embed(model).attrs["comment"]
        "...; normalisation at sigma 0.95 fitted to the user's data"
        """
        if isinstance(normalization, BoxNormalization):
            normalization.check_fits(self.card)
            return replace(self, normalization=normalization)
        several = (
            [normalization]
            if isinstance(normalization, Normalization)
            else list(normalization)
        )
        known = {level.level: level for level in self.card.levels}
        for one in several:
            one.check_fits(self.card)
        card = self.card.with_levels(n.as_level(known.get(n.level)) for n in several)
        return Model(card, card.key(self.key.dtype))

    def with_fields(
        self,
        *,
        remove: str | Sequence[str] = (),
        add: str | Model | None = None,
        coupled: bool | Mapping[str, Sequence[str]] = True,
        name: str | None = None,
    ) -> Model:
        """Return a model with fewer or more fields, of the weights that are there.

        For models that read boxes, whose fields are networks of their own. A field that
        is removed is as if it had never been in the data. Fields that are added bring
        their own weights, and heads that say nothing yet: what fields predict is what
        they predicted before, until the model is trained on.

        The model is written once into ``imported`` in the cache folder
        (``XATMO_CACHE``), where every process finds it by its name.

        Parameters
        ----------
        remove : str or sequence of str
            Names of fields.
        add : str or Model, optional
            A model with other fields and the same sizes: all of its fields are added.
        coupled : bool or mapping of str to sequence of str
            Whether fields and added fields hear of each other; or which field hears of
            which.
        name : str, optional
            Of the new model; made of what was done if not given.

        Returns
        -------
        Model
            This one is not changed.

        Raises
        ------
        xatmo.errors.OptionError
            If there is no such field, nothing would be left, the networks do not fit
            each other, or another model has this name.

        References
        ----------
        Lessig, C. et al. (2023): AtmoRep: A stochastic model of atmosphere dynamics
        using large scale representation learning. https://arxiv.org/abs/2308.13280

        Examples
        --------
        >>> import xatmo
        >>> model = xatmo.load_model("multiformer-small")  # doctest: +SKIP
        >>> dry = model.with_fields(remove="q")  # doctest: +SKIP
        """
        from xatmo.zoo.derived import derived

        return derived(self, remove=remove, add=add, coupled=coupled, name=name)

    def with_grid(self, rows: int, columns: int, *, name: str | None = None) -> Model:
        """Return a model for another grid of the whole globe, of the same weights.

        For models with ``[leads]`` in their card, such as ClimaX, which learn where
        each patch of their grid is. What they know of places is interpolated, by cubic
        convolution; patches have as many points as before, so that they cover less or
        more of the Earth than those that the model was trained with. Regridding the
        data to the model's own grid is the safer way.

        The model is written once into ``imported`` in the cache folder
        (``XATMO_CACHE``), where every process finds it by its name.

        Parameters
        ----------
        rows, columns : int
            Latitudes and longitudes: multiples of the points in a patch.
        name : str, optional
            Of the new model; made of this one's and the grid if not given.

        Returns
        -------
        Model
            This one, which is not changed, if it is for that grid already.

        Raises
        ------
        xatmo.errors.GridError
            If such a grid cannot be cut into patches.
        xatmo.errors.OptionError
            If the model reads any grid, or another model has this name.

        References
        ----------
        Nguyen, T., Brandstetter, J., Kapoor, A., Gupta, J. K. and Grover, A. (2023):
        ClimaX: A foundation model for weather and climate.
        https://arxiv.org/abs/2301.10343

        Examples
        --------
        >>> import xatmo
        >>> model = xatmo.load_model("climax-5.625deg")  # doctest: +SKIP
        >>> fine = model.with_grid(180, 360)  # doctest: +SKIP
        """
        from xatmo.zoo.regridded import regridded

        return regridded(self, rows, columns, name=name)

    def has_constants(self, field: str, level: str) -> bool:
        """Whether there is something to normalise a field at a level with."""
        try:
            constants_of(self, field, level)
        except OptionError:
            return False
        return True

    def __repr__(self) -> str:
        return describe(self.card)

    def _repr_html_(self) -> str:
        return describe_html(self.card)


def load_model(
    name: str | Model | None = None, *, capability: str | None = None
) -> Model:
    """Return a released model, fetching its weights if they are not here yet.

    Parameters
    ----------
    name : str or Model, optional
        ``"name"`` or ``"name@version"``. Without it, the default model for the
        capability. ``"atmorep-<ID>"``, ``"climax-5.625deg"`` and
        ``"climax-1.40625deg"`` are downloaded from their authors and imported when
        they are first asked for: see :func:`xatmo.import_model`.
    capability : str, optional
        What the model has to be able to do: ``embed`` (assumed if neither is given),
        ``distance``, ``downscale``, ``infill``, ``forecast`` or ``attention``.

    Returns
    -------
    Model
        No network is built before :meth:`Model.network` is called.

    Raises
    ------
    xatmo.errors.ModelNotFoundError
        If there is no such model, or it lacks the capability.
    xatmo.errors.DownloadError
        If the weights are nowhere to be had.
    xatmo.errors.WeightsError
        If the weights on disk are damaged and cannot be replaced.
    xatmo.errors.CardError
        If the card is broken.
    """
    if isinstance(name, Model):
        _check_able(name.card, capability)
        return name
    card = default_model(capability or "embed") if name is None else _named(name)
    _check_able(card, capability)
    _architecture(card)
    weights_path(card)
    return Model(card, card.key())


def _named(name: str) -> Card:
    """Return the card of a name; published models are fetched when first named."""
    try:
        return get_card(name)
    except ModelNotFoundError:
        from xatmo.zoo.published import fetch_published, is_published

        if not is_published(name):
            raise
        fetch_published(name.partition("@")[0])
        return get_card(name)


def load_network(key: ModelKey) -> nn.Module:
    """Build the network that a key stands for: what a worker process calls.

    Parameters
    ----------
    key : ModelKey
        From :attr:`Model.key`, perhaps of another machine.

    Returns
    -------
    torch.nn.Module
        On the CPU, in the key's dtype, for inference only.

    Raises
    ------
    xatmo.errors.ModelNotFoundError
        If this machine has no such model.
    xatmo.errors.WeightsError
        If it has one with other weights: results would not be what the key says.
    """
    return build(card_of(key), key)


def card_of(key: ModelKey) -> Card:
    """Return the card that a key was made from; raises as :func:`load_network`."""
    cards = cards_of(key.name, key.version)
    for card in cards:
        if card.weights.sha256 == key.sha256:
            return card.with_levels(key.levels)
    have = ", ".join(f"{c.weights.sha256} in {c.folder}" for c in cards)
    msg = f"{key.name!r} {key.version} has other weights on this machine."
    raise WeightsError(
        msg,
        found=f"sha256 {have}",
        needed=f"sha256 {key.sha256}, which the result was planned with",
        hint="install the same xatmo, and set the same XATMO_MODELS_URL, on every "
        "machine of the cluster",
    )


def build(card: Card, key: ModelKey) -> nn.Module:
    """Build a card's network with its weights, for inference only."""
    import torch

    path = weights_path(card)
    network = _instance(card)
    load_into(network, load_state(path, key.sha256, name=card.name))
    check_normalization(path, card)
    network.to(getattr(torch, key.dtype))
    return network.eval().requires_grad_(False)


def _instance(card: Card) -> nn.Module:
    module, _, name = _architecture(card).partition(":")
    architecture = getattr(importlib.import_module(module), name)
    try:
        return architecture(**card.network)
    except (TypeError, ValueError) as error:
        msg = f"{_file(card)}: [network] does not fit {name}."
        raise CardError(
            msg,
            found=str(error),
            needed=f"the arguments of {module}.{name}",
            hint=f"help('{module}.{name}'), then correct {_file(card)}",
        ) from error


def _architecture(card: Card) -> str:
    if card.architecture in ARCHITECTURES:
        return ARCHITECTURES[card.architecture]
    msg = f"{_file(card)}: there is no architecture {card.architecture!r}."
    raise CardError(
        msg,
        found=f"architecture = {card.architecture!r}",
        needed=f"one of {', '.join(map(repr, ARCHITECTURES))}",
        hint=f"a newer xatmo may have it; else correct {_file(card)}",
    )


def _file(card: Card) -> Path:
    return (card.folder or Path(card.name)) / CARD_FILE


def _check_able(card: Card, capability: str | None) -> None:
    if capability is None or capability in card.capabilities:
        return
    able = [other.name for other in list_models(capability)]
    msg = f"The model {card.name!r} cannot {capability}."
    raise ModelNotFoundError(
        msg,
        found=f"{card.name!r} can {', '.join(card.capabilities)}",
        needed=f"a model with {capability!r}: {', '.join(able) or 'there is none yet'}",
        hint=f"model={able[0]!r}" if able else "xatmo.list_models()",
    )
