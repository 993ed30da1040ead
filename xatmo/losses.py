"""The AtmoDist distance as a training loss: torch alone, no xarray.

A module of its own beside the verbs, so that who trains a network on tensors need not
load anything else: ``from xatmo.losses import AtmoDistLoss``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NoReturn

import torch
from torch import Tensor, nn

from xatmo.errors import GridError, LevelError, ModelNotFoundError, OptionError
from xatmo.nets.atmodist import Encoder
from xatmo.nets.losses import FrozenEncoder, FrozenNormalization
from xatmo.nets.normalization import SignLog, ZScore
from xatmo.zoo.card import Card, Input, Level
from xatmo.zoo.fitted import Normalization
from xatmo.zoo.layers import check_layer, distance_scale
from xatmo.zoo.model import Model, load_model
from xatmo.zoo.runtime import normalizer

__all__ = ["AtmoDistLoss"]


# Without matrix units (AMX), a CPU loses more by the conversions than it gains. Asked
# here, once: torch.compile does not trace the question.
_CPU_HAS_MATRIX_UNITS = bool(
    getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
)


class AtmoDistLoss(nn.Module):
    """How far apart two batches of fields are to a pretrained network.

    For normalised fields *p* (prediction) and *t* (target), and the features *F* of the
    frozen encoder of an AtmoDist model,

        loss = alpha * mean((F(p) - F(t))**2) + pixel_weight * mean((p - t)**2)

    The first term is what :func:`xatmo.distance` gives, averaged over the cells. It is
    zero for equal fields, symmetric, and differentiable; the weights are constants.

    Parameters
    ----------
    model : str or Model, optional
        As for :func:`xatmo.load_model`; the default model for distances if not given.
    layer : str, optional
        Layer whose features are compared; the model's default one if not given.
    alpha : float, optional
        Factor of the first term. If not given, the model's own, with which the distance
        comes near the mean squared error of the fields *as described by*
        ``loss.alpha_space`` (usually of the normalised fields, at long time lags); 1 if
        none was fitted for this layer.
    level : str or number, optional
        Level whose constants normalise the fields, such as ``"10 m"`` or 850 (hPa); the
        first one that the model was trained at if not given.
    normalized : bool
        Say that the fields are normalised already, with the model's constants.
    normalization : Normalization or callable, optional
        In place of the model's constants: those that :func:`xatmo.fit_normalization`
        found, or a differentiable function from (B, C, H, W) in physical units to the
        same shape.
    pixel_weight : float
        Factor of the second term, the mean squared error of the *normalised* fields.
        The published downscaling used none.
    periodic : bool
        Whether columns close on themselves, as longitudes of a whole globe do.
    reduction : {"mean", "none"}
        Mean over the batch, or one number for each of its members.
    autocast : {"auto", True, False}
        Whether convolutions run in bfloat16. ``"auto"``: where that is what the
        hardware is made for, which is GPUs from Ampere on, and CPUs with AMX.

    Attributes
    ----------
    inputs : tuple
        What the channels have to be, in this order: each has ``quantity`` (a CF
        standard name) and ``units``.
    layer, level : str
    alpha, pixel_weight : float
    alpha_space : str
        What alpha was fitted on.
    normalize : callable or None
        From physical units to normalised fields; None with ``normalized=True``.

    Raises
    ------
    xatmo.errors.OptionError
        If an argument has a value it cannot have, and in a call if the tensors are not
        (B, C, H, W) floats of the same shape, on the loss's device.
    xatmo.errors.LevelError
        If the model has no constants for the level.
    xatmo.errors.ModelNotFoundError
        If there is no such model, or it has no distance.
    xatmo.errors.GridError
        In a call, if the fields are smaller than one cell of the layer.

    Notes
    -----
    *Orientation*: rows run from north to south, columns eastward, and the grid spacing
    is one of those on the model's card. The verbs see to that by themselves; a tensor
    does not say how it lies.

    *Target*: gets no gradient and no graph unless it requires one.

    *Weights* are no parameters: no optimizer sees them, ``state_dict()`` is empty (a
    checkpoint of yours does not grow; the model comes by name and sha256), ``.train()``
    changes nothing, and ``.to(device)`` moves them.

    *Accuracy*: in float32 the loss is the distance of the model within rounding. In
    bfloat16 the value is off by up to some 0.3 %, the gradient by 5 % of its norm, and
    values below 1e-3 are mostly rounding: set ``autocast=False`` to compare numbers.

    *Missing values* are not looked for, since that would stop a GPU at every step: NaN
    in gives NaN out.

    References
    ----------
    Hoffmann, S. and Lessig, C. (2023): AtmoDist: Self-supervised representation
    learning for atmospheric dynamics. Environmental Data Science 2, e6.

    Examples
    --------
    >>> import torch
    >>> from xatmo.losses import AtmoDistLoss
    >>> loss = AtmoDistLoss(normalized=True)
    >>> target = torch.randn(2, len(loss.inputs), 64, 64)
    >>> prediction = torch.zeros_like(target, requires_grad=True)
    >>> loss(prediction, target).backward()
    >>> bool(prediction.grad.abs().sum() > 0)
    True
    >>> float(loss(target, target))
    0.0
    """

    def __init__(
        self,
        model: str | Model | None = None,
        layer: str | None = None,
        alpha: float | None = None,
        *,
        level: str | float | None = None,
        normalized: bool = False,
        normalization: Normalization | Callable[[Tensor], Tensor] | None = None,
        pixel_weight: float = 0.0,
        periodic: bool = False,
        reduction: Literal["mean", "none"] = "mean",
        autocast: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        _check_arguments(level, normalized, normalization, reduction, autocast)
        found = load_model(model, capability="distance")
        if isinstance(normalization, Normalization):
            level, found = normalization.level, found.with_normalization(normalization)
            normalization = None
        card = found.card
        self.model = found
        self.layer = check_layer(card, layer)
        fitted, space = distance_scale(card, self.layer)
        self.alpha = fitted if alpha is None else _factor("alpha", alpha, above=True)
        self.alpha_space = space if alpha is None else "given by the caller"
        self.pixel_weight = _factor("pixel_weight", pixel_weight)
        self.reduction, self.autocast, self.periodic = reduction, autocast, periodic
        self.level: str | None = None
        self.normalize: Callable[[Tensor], Tensor] | None = None
        if not normalized:
            if normalization is None:
                entry = _level(card, level)
                self.level, normalization = entry.level, normalizer(card, entry)
            self.normalize = _as_module(normalization)
        self.encoder = FrozenEncoder(_encoder(found), self.layer)
        assert card.layers is not None  # noqa: S101 - as check_layer has found
        self._stride = card.layers.stride[self.layer]

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What the channels have to be, in this order: quantity and units."""
        return self.model.card.inputs

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare two batches.

        Parameters
        ----------
        prediction, target : Tensor
            (B, C, H, W), floating point, with the channels of ``inputs``; in their
            units, or normalised.

        Returns
        -------
        Tensor
            A scalar, or (B,) with ``reduction="none"``; float32, or float64 for a loss
            that was converted by ``.double()``.
        """
        self._check(prediction, target)
        p, features_p = self._encode(prediction)
        # A target that asks for no gradient needs no graph, and keeps no activations.
        with torch.set_grad_enabled(torch.is_grad_enabled() and target.requires_grad):
            t, features_t = self._encode(target)
        loss = self.alpha * self._mean_square(features_p - features_t)
        if self.pixel_weight:
            loss = loss + self.pixel_weight * self._mean_square(p - t)
        return loss

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> the normalised fields and their features (B, F, h, w)."""
        device, weights = x.device.type, self.encoder.stem.weight
        # Whatever the surrounding precision is: logarithms want their digits.
        with torch.autocast(device, enabled=False):
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            if self.normalize is not None:
                x = self.normalize(x)
        use = self.autocast if self.autocast != "auto" else _made_for_bfloat16(weights)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bool(use)):
            features = self.encoder(x, self.periodic)
        return x, features.to(torch.promote_types(features.dtype, torch.float32))

    def _mean_square(self, difference: Tensor) -> Tensor:
        squares = difference.square().flatten(1)
        return squares.mean(1) if self.reduction == "none" else squares.mean()

    def _check(self, prediction: Tensor, target: Tensor) -> None:
        for name, x in (("prediction", prediction), ("target", target)):
            if not isinstance(x, Tensor) or not x.is_floating_point():
                _refuse_kind(name, x)
            if x.ndim != 4 or x.shape[1] != len(self.inputs):
                _refuse_shape(name, x, self.inputs)
            if x.device != self.encoder.stem.weight.device:
                _refuse_device(name, x, self.encoder.stem.weight.device)
        if prediction.shape != target.shape:
            msg = "prediction and target have different shapes."
            raise OptionError(
                msg,
                found=f"{tuple(prediction.shape)} and {tuple(target.shape)}",
                needed="the same (B, C, H, W): nothing is broadcast",
                hint="loss(prediction, target.expand_as(prediction)), if that is meant",
            )
        if min(prediction.shape[-2:]) < self._stride:
            _refuse_size(prediction, self.layer, self._stride)

    def extra_repr(self) -> str:
        """Say what the repr of the module shows."""
        model = f"{self.model.name}@{self.model.version}"
        channels = ", ".join(f"{i.quantity} [{i.units}]" for i in self.inputs)
        fields = self.level or ("normalised" if self.normalize is None else "by caller")
        return (
            f"{model!r}, layer={self.layer!r}, alpha={self.alpha:.4g} "
            f"({self.alpha_space}),\npixel_weight={self.pixel_weight:g}, "
            f"level={fields!r}, inputs: {channels}"
        )


def _made_for_bfloat16(weights: Tensor) -> bool:
    """Whether bfloat16 convolutions are what this device is fast at."""
    if weights.dtype != torch.float32:
        return False
    if weights.device.type == "cuda":
        return torch.cuda.get_device_properties(weights.device).major >= 8
    return weights.device.type == "cpu" and _CPU_HAS_MATRIX_UNITS


def _as_module(normalization: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    if isinstance(normalization, SignLog | ZScore):
        return FrozenNormalization(normalization)
    return normalization


def _encoder(model: Model) -> Encoder:
    encoder = getattr(model.network(), "encoder", None)
    if isinstance(encoder, Encoder):
        return encoder
    msg = f"The network of {model.name!r} has no encoder that can be a loss."
    raise ModelNotFoundError(
        msg,
        found=f"architecture {model.card.architecture!r}",
        needed="a model of the architecture 'atmodist'",
        hint="AtmoDistLoss(), with the default model",
    )


def _level(card: Card, level: str | float | None) -> Level:
    """Return the card's entry for a level, or the first that it was trained at."""
    if level is None:
        trained = [entry for entry in card.levels if entry.trained]
        return (trained or list(card.levels))[0]
    for entry in card.levels:
        if _plain(entry.level) in (_plain(level), f"{_plain(level)}hpa"):
            return entry
    names = ", ".join(repr(entry.level) for entry in card.levels)
    msg = f"{card.name} has no constants for the level {level!r}."
    raise LevelError(
        msg,
        found=f"level={level!r}",
        needed=f"one of {names}",
        hint="AtmoDistLoss(normalization=xatmo.fit_normalization(ds)), or "
        f"AtmoDistLoss(level={card.levels[0].level!r})",
    )


def _plain(level: str | float) -> str:
    """Write a level without what varies: 850, "850 hPa" and "850hpa" are the same."""
    if isinstance(level, str):
        return level.lower().replace(" ", "")
    return f"{level:g}hpa"


def _factor(name: str, value: float, *, above: bool = False) -> float:
    """Return a factor of the loss; it has to be finite and not negative."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number) and (number > 0 if above else number >= 0):
        return number
    msg = f"{name} cannot be {value!r}."
    raise OptionError(
        msg,
        found=f"{name}={value!r}",
        needed="a finite number above 0" if above else "a finite number, 0 or above",
        hint=f"AtmoDistLoss({name}=1.0)",
    )


def _check_arguments(
    level: object,
    normalized: object,
    normalization: object,
    reduction: object,
    autocast: object,
) -> None:
    said = {"level": level, "normalized": normalized or None}
    said["normalization"] = normalization
    given = [name for name, value in said.items() if value is not None]
    if len(given) > 1:
        msg = f"{' and '.join(given)} exclude each other."
        raise OptionError(
            msg,
            found=", ".join(f"{name}={said[name]!r}" for name in given),
            needed="one way to normalise the fields",
            hint="AtmoDistLoss(level='10 m'), or AtmoDistLoss(normalized=True)",
        )
    fitted = isinstance(normalization, Normalization)
    if not (normalization is None or fitted or callable(normalization)):
        needed = "what xatmo.fit_normalization(ds) returns, or a callable on tensors"
        _refuse_option("normalization", normalization, needed)
    if reduction not in ("mean", "none"):
        _refuse_option("reduction", reduction, "'mean' or 'none' (one for each field)")
    if autocast not in ("auto", True, False):
        _refuse_option("autocast", autocast, "'auto', True or False")


def _refuse_option(name: str, value: object, needed: str) -> NoReturn:
    msg = f"{name} cannot be {value!r}."
    good = {"reduction": "'mean'", "autocast": "'auto'"}.get(name, "None")
    hint = f"AtmoDistLoss({name}={good})"
    raise OptionError(msg, found=f"{name}={value!r}", needed=needed, hint=hint)


def _refuse_kind(name: str, x: object) -> NoReturn:
    kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
    msg = f"{name} is not a tensor of floating point numbers."
    hint = f"{name}.float()" if isinstance(x, Tensor) else f"torch.as_tensor({name})"
    raise OptionError(msg, found=kind, needed="float32, say", hint=hint)


def _refuse_shape(name: str, x: Tensor, inputs: tuple[Input, ...]) -> NoReturn:
    channels = ", ".join(f"{i.quantity} [{i.units}]" for i in inputs)
    msg = f"{name} does not have the shape of a batch of fields."
    raise OptionError(
        msg,
        found=f"shape {tuple(x.shape)}",
        needed=f"(B, {len(inputs)}, H, W), the channels being {channels}",
        hint=f"{name}[None] adds a batch of one; {name}.movedim(-1, 1) moves channels "
        "from the end",
    )


def _refuse_device(name: str, x: Tensor, device: torch.device) -> NoReturn:
    msg = f"{name} and the loss are on different devices."
    raise OptionError(
        msg,
        found=f"{name} on {x.device}, the loss on {device}",
        needed="the same device",
        hint=f"loss.to({str(x.device)!r})",
    )


def _refuse_size(x: Tensor, layer: str, stride: int) -> NoReturn:
    msg = "The fields are smaller than one cell of the network."
    raise GridError(
        msg,
        found=f"{x.shape[-2]} x {x.shape[-1]} points",
        needed=f"at least {stride} x {stride}, a cell of layer {layer!r}",
        hint="larger fields; the model's patch is in loss.model.card.grid.patch",
    )
