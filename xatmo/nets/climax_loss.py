"""The loss that ClimaX is trained with: squared errors, weighted by latitude."""

from __future__ import annotations

import torch
from torch import Tensor

from xatmo.errors import OptionError

__all__ = ["latitude_mse", "latitude_weights"]


def latitude_weights(latitude: Tensor) -> Tensor:
    """Cosine of the latitude, relative to its mean.

    Parameters
    ----------
    latitude : Tensor, shape (H,)
        Degrees, of the rows that are compared: of a part of the globe, of that part.

    Returns
    -------
    Tensor, shape (H,)
        Of mean 1, in the precision of the latitudes or better.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.climax_loss import latitude_weights
    >>> latitude_weights(torch.tensor([-60.0, 0.0, 60.0])).round(decimals=3).tolist()
    [0.75, 1.5, 0.75]
    """
    weights = latitude.to(torch.promote_types(latitude.dtype, torch.float32))
    weights = weights.deg2rad().cos().clamp(min=0)  # at a pole it may be -4e-8
    return weights / weights.mean()


def latitude_mse(
    prediction: Tensor, target: Tensor, latitude: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean squared error, weighted by the area that a row of a regular grid stands for.

    Parameters
    ----------
    prediction, target : Tensor, shapes (..., H, W)
        Normalised, so that variables count alike.
    latitude : Tensor, shape (H,)
        Degrees, of the rows.
    mask : Tensor, shape (H, W) or one that broadcasts to the fields', optional
        What counts (1) and what does not (0); anything between, as a share.

    Returns
    -------
    Tensor
        A number.

    Raises
    ------
    xatmo.errors.OptionError
        If shapes do not fit.

    Notes
    -----
    With a mask the mean is over what counts. The published code divides by the sum of
    the mask over the grid alone, so that its loss grows with the size of the batch.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.climax_loss import latitude_mse
    >>> prediction, target = torch.zeros(2, 1, 3, 4), torch.ones(2, 1, 3, 4)
    >>> float(latitude_mse(prediction, target, torch.tensor([-60.0, 0.0, 60.0])))
    1.0
    """
    if prediction.shape != target.shape or latitude.shape != target.shape[-2:-1]:
        msg = (
            "The fields do not have the same points, or not as many rows as latitudes."
        )
        found = (
            f"{tuple(prediction.shape)}, {tuple(target.shape)}, {len(latitude)} rows"
        )
        needed = "prediction and target (..., H, W), latitude (H,)"
        hint = "pass the latitudes of the rows that are compared"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
    weights = latitude_weights(latitude).to(prediction)  # (H,)
    error = (prediction - target).square() * weights[:, None]
    if mask is None:
        return error.mean()
    mask = mask.to(error).expand_as(error)
    return (error * mask).sum() / mask.sum()
