"""``ds.atmo``: the verbs on every xarray object, and a repr that explains itself.

Each verb is imported when it is first called: all of them together would make
``import xatmo`` a third slower than ``import xarray``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from xatmo.summary import Summary
    from xatmo.zoo import Model

__all__ = ["AtmoAccessor"]


@xr.register_datatree_accessor("atmo")
@xr.register_dataset_accessor("atmo")
@xr.register_dataarray_accessor("atmo")
class AtmoAccessor:
    """Pretrained networks of the atmosphere on this object.

    Printed (or shown in a notebook) it says what was recognised in the data, which
    models fit, and what the others miss. Nothing is computed for that.

    Examples
    --------
    >>> import xatmo
    >>> ds = xatmo.open_sample(chunks={"time": 8})
    >>> z = ds.atmo.embed()
    >>> z.dims
    ('time', 'lat', 'lon', 'feature')
    """

    def __init__(self, obj: xr.Dataset | xr.DataArray | xr.DataTree) -> None:
        self._obj = obj

    def embed(
        self,
        model: str | Model | None = None,
        *,
        layer: str | None = None,
        level: Any = None,
        reduce: str | None = None,
    ) -> xr.DataArray:
        """Turn the fields into a map of vectors; see :func:`xatmo.embed`."""
        from xatmo.embedding import embed

        return embed(self._obj, model, layer=layer, level=level, reduce=reduce)

    def distance(
        self,
        other: xr.Dataset | xr.DataArray | xr.DataTree | None = None,
        model: str | Model | None = None,
        *,
        pairwise: bool = False,
        layer: str | None = None,
        level: Any = None,
        reduce: str | None = None,
        join: str = "exact",
    ) -> xr.DataArray:
        """Measure how far apart two states are; see :func:`xatmo.distance`."""
        from xatmo.distances import distance

        return distance(
            self._obj,
            other,
            model,
            pairwise=pairwise,
            layer=layer,
            level=level,
            reduce=reduce,
            join=join,
        )

    def downscale(
        self,
        factor: int = 4,
        realizations: int = 1,
        conserve: bool = True,
        model: str | Model | None = None,
        *,
        seed: int = 0,
        level: Any = None,
    ) -> xr.Dataset:
        """Refine the fields to a finer grid; see :func:`xatmo.downscale`."""
        from xatmo.downscaling import downscale

        return downscale(
            self._obj,
            factor,
            realizations,
            conserve,
            model,
            seed=seed,
            level=level,
        )

    def infill(
        self,
        method: str = "auto",
        spread: bool = True,
        mask: xr.DataArray | xr.Dataset | None = None,
        model: str | Model | None = None,
        *,
        seed: int = 0,
    ) -> xr.Dataset:
        """Fill gaps of any shape, with a spread; see :func:`xatmo.infill`."""
        from xatmo.infilling import infill

        return infill(self._obj, method, spread, mask, model, seed=seed)

    def forecast(
        self,
        lead: Any = "24h",
        model: str | Model | None = None,
        *,
        members: bool = True,
        level: Any = None,
        variables: str | Sequence[str] | None = None,
        steps: int | None = None,
    ) -> xr.Dataset:
        """Forecast the fields; see :func:`xatmo.forecast`."""
        from xatmo.forecasting import forecast

        return forecast(
            self._obj,
            lead,
            model,
            members=members,
            level=level,
            variables=variables,
            steps=steps,
        )

    def interpolate_time(
        self,
        freq: Any,
        model: str | Model | None = None,
        *,
        spread: bool = True,
        level: Any = None,
    ) -> xr.Dataset:
        """Interpolate the fields in time; see :func:`xatmo.interpolate_time`."""
        from xatmo.interpolation import interpolate_time

        return interpolate_time(self._obj, freq, model, spread=spread, level=level)

    def predictability(
        self,
        lag: Any = "48h",
        model: str | Model | None = None,
        *,
        by: str | None = "season",
        stride: int | None = None,
        level: Any = None,
    ) -> xr.Dataset:
        """Map how well time lags are told apart; see :func:`xatmo.predictability`."""
        from xatmo.predictability_maps import predictability

        return predictability(self._obj, lag, model, by=by, stride=stride, level=level)

    def attention(
        self,
        model: str | Model | None = None,
        *,
        layer: int | str | None = None,
        head: int | str | None = None,
        query: Any = None,
        part: str = "encoder",
        time: Any = None,
        level: Any = None,
    ) -> xr.DataArray:
        """Map what a network attends to at a place; see :func:`xatmo.attention`."""
        from xatmo.attention_maps import attention

        return attention(
            self._obj,
            model,
            layer=layer,
            head=head,
            query=query,
            part=part,
            time=time,
            level=level,
        )

    def summary(self) -> Summary:
        """Return what was recognised and which models fit, as data."""
        from xatmo.summary import summarize

        return summarize(self._obj)

    def __repr__(self) -> str:
        return self.summary().text()

    def _repr_html_(self) -> str:
        return self.summary().html()
