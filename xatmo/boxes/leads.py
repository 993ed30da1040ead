"""Lead times: as people write them, and as coordinates of forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from xatmo.boxes.times import Times
from xatmo.errors import OptionError
from xatmo.lags import as_hours

__all__ = ["LEAD", "lead_hours", "with_lead_times"]

LEAD = "lead_time"
_VALID = "valid_time"
_START = {
    "standard_name": "forecast_reference_time",
    "long_name": "time that a forecast starts from",
}


def lead_hours(lead: Any) -> list[float]:
    """Return one lead time, or those in a list, in hours.

    Raises
    ------
    xatmo.errors.OptionError
        If there is none, or one is no length of time.

    Examples
    --------
    >>> from xatmo.boxes.leads import lead_hours
    >>> lead_hours("3d"), lead_hours(["6h", "1d"])
    ([72.0], [6.0, 24.0])
    """
    single = isinstance(lead, str) or np.ndim(lead) == 0
    hours = [_hours(one) for one in ([lead] if single else list(lead))]
    if not hours:
        msg = "There is no lead time in the list."
        raise OptionError(
            msg, found=f"lead={lead!r}", needed="at least one", hint='lead="24h"'
        )
    return hours


def with_lead_times(
    ds: xr.Dataset, hours: Sequence[float], times: Times | None, *, timeless: bool
) -> xr.Dataset:
    """Name times: when forecasts start, how far they reach and what they are for.

    Parameters
    ----------
    ds : Dataset
        With a dimension ``lead_time``, and that of ``times`` unless ``timeless``. If
        that one is called ``valid_time`` it becomes ``time``.
    hours : sequence of float
        Along ``lead_time``.
    times : Times or None
        That forecasts start from; None if there are no dates.
    timeless : bool
    """
    seconds = np.round(np.asarray(hours, float) * 3600)
    lead = seconds.astype("timedelta64[s]").astype("timedelta64[ns]")
    said = {"standard_name": "forecast_period", "long_name": "time since the start"}
    ds = ds.assign_coords({LEAD: (LEAD, lead, said)})
    if times is None:
        return ds
    # In whole seconds: hours as fractions would leave noise in the dates.
    several = times.after(seconds.tolist(), 1 / 3600)
    valid = np.stack([np.asarray(index) for index in several], -1)
    name = times.name
    if name == _VALID:
        # What is left to be called so is another time.
        ds = ds.drop_vars("time", errors="ignore")
        there = {*ds.variables, *ds.dims}
        ds, name = ds.rename({_VALID: "time"}) if _VALID in there else ds, "time"
    ds = ds.drop_vars(_VALID, errors="ignore")
    if name in ds.coords and ds[name].dtype.kind in "MO":
        ds = ds.assign_coords({name: ds[name].assign_attrs(_START)})
    about = {"standard_name": "time", "long_name": "time that a forecast is for"}
    if timeless:
        return ds.assign_coords({_VALID: (LEAD, valid[0], about)})
    return ds.assign_coords({_VALID: ((name, LEAD), valid, about)})


def _hours(lead: Any) -> float:
    try:
        return as_hours(lead)
    except OptionError as error:
        msg = f"{lead!r} is no lead time."
        raise OptionError(
            msg,
            found=f"lead={lead!r}",
            needed="a length of time: text such as '24h', a timedelta, or a list of "
            "them",
            hint=error.hint.replace("lag=", "lead="),
        ) from None
