"""The repr of ds.atmo: what was recognised, which models fit, what is missing."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo.testing import synthetic_winds


def test_says_what_was_recognised(globe):
    text = repr(globe.atmo)
    assert "2° x 2°" in text
    assert "global" in text
    assert "every 6 h (time)" in text
    assert "u10 [m s-1] at 10 m" in text
    assert "atmosphere_relative_vorticity" in text
    assert "Models that fit:" in text
    assert ".embed(), .distance()" in text


@pytest.mark.usefixtures("refiners")
def test_says_which_models_refine_the_grid(winds):
    fit, unfit = repr(winds.atmo).split("Models that do not:")
    assert any(line.split() == ["tiny", ".downscale()"] for line in fit.splitlines())
    assert "as fine already as what tiny-4deg makes" in unfit
    assert re.search(r"model='(tiny|downscale-winds)', which reads this grid", unfit)


@pytest.mark.usefixtures("infiller")
def test_says_that_gaps_are_filled_in_any_field(globe):
    field = globe["u10"].drop_attrs().rename("unheard_of")
    fit, _, unfit = repr(field.atmo).partition("Models that do not:")
    assert re.search(r"tiny-infill +\.infill\(\), whatever the fields are\n", fit)
    assert "tiny-infill" not in unfit


def test_says_what_is_missing_and_why():
    coarse = synthetic_winds(2, np.arange(90, -91, -5.0), np.arange(0, 360, 5.0))
    text = repr(coarse.atmo)
    assert "Models that do not:" in text
    assert "too coarse" in text
    assert "ds.regrid.linear(" in text


@pytest.mark.parametrize(
    "obj",
    [
        xr.Dataset(),
        xr.DataArray(np.zeros(3), dims="x"),
        xr.Dataset({"t": ("time", [1.0])}),
        xr.DataTree(),
    ],
)
def test_never_fails(obj):
    assert repr(obj.atmo).startswith("<xatmo")
    assert "Models that do not" in obj.atmo._repr_html_()


def test_html_escapes_names(globe):
    ds = globe.rename(u10="<u10>")
    assert "<u10>" not in ds.atmo._repr_html_().replace("&lt;u10&gt;", "")
    assert "Recognised" in ds.atmo._repr_html_()


def test_of_a_tree(globe):
    tree = xr.DataTree.from_dict({"/surface": globe})
    assert "u10" in repr(tree["surface"].atmo)


def test_verbs_have_signatures_for_editors():
    import inspect

    for name in ("embed", "distance", "downscale", "infill"):
        method = inspect.signature(getattr(xatmo.AtmoAccessor, name)).parameters
        function = inspect.signature(getattr(xatmo, name)).parameters
        assert list(method)[1:] == list(function)[1:]
