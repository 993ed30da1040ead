"""fit_normalization(): the right constants, in one pass, and models that use them."""

from __future__ import annotations

import collections
import json
import threading

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize

import xatmo
from xatmo import errors
from xatmo.fields import read
from xatmo.moments import Sketch, sketch
from xatmo.testing import raise_if_computes
from xatmo.zoo import normalizer, read_card

pytestmark = pytest.mark.filterwarnings("ignore::xatmo.errors.ExtrapolationWarning")

CONSTANTS = ("mean", "std", "log_mean", "log_std")


class Counted:
    """An array that knows how often each part of it was read."""

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.reads, self.lock = collections.Counter(), threading.Lock()

    def __getitem__(self, key):
        if self.values[key].size:  # Dask looks at an empty part to learn the type
            with self.lock:
                self.reads[str(key)] += 1
        return self.values[key]


def _counted(ds, chunks):
    sources = {n: Counted(ds[n].values) for n in ds.data_vars}
    arrays = {
        n: ds[n].copy(data=da.from_array(s, chunks=chunks, asarray=True))
        for n, s in sources.items()
    }
    return ds.assign(arrays), sources


@pytest.fixture(scope="module")
def profile(winds):
    """The winds at three levels, the upper ones stronger."""
    ds = winds.rename(u10="u", v10="v")
    stronger = xr.DataArray([1, 2, 3], dims="level", coords={"level": [850, 700, 500]})
    ds = (ds * stronger.astype("float32")).transpose("time", "level", ...)
    for name in ds.data_vars:
        ds[name].attrs = {"units": "m s-1"}
    ds["level"].attrs = {"units": "hPa"}
    return ds


def _two_passes(x, alpha=0.2):
    x = np.asarray(x, dtype=float)
    mean, std = x.mean(), x.std()
    z = (x - mean) / std
    y = np.sign(z) * np.log1p(alpha * np.abs(z))
    return mean, std, y.mean(), y.std()


# --- The numbers --------------------------------------------------------------------

_RNG = np.random.default_rng(0)
FIELDS = {
    "vorticity": (1e-7 + 2e-5 * _RNG.standard_t(4, 200_000), 1e-10),
    "wind": (_RNG.normal(3, 8, 200_000), 1e-10),
    "humidity": (_RNG.gamma(2, 1e-3, 200_000), 1e-10),
    "coded in 0.1": (np.round(_RNG.normal(3, 8, 200_000), 1), 1e-10),
    "temperature": (_RNG.normal(280, 12, 200_000), 1e-8),
    "geopotential": (_RNG.normal(55_000, 3000, 200_000), 1e-8),
    "pressure": (_RNG.normal(101_325, 1000, 200_000), 1e-6),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("x", "tolerance"), FIELDS.values(), ids=FIELDS)
def test_one_pass_is_as_good_as_two(x, tolerance, dtype):
    x = x.astype(dtype)
    mean, std, log_mean, log_std = _two_passes(x)
    found = Sketch.of(x)
    assert abs(found.mean - mean) < 1e-12 * std + 1e-14 * abs(mean)
    assert abs(found.std / std - 1) < 1e-12
    got_mean, got_std = found.log_moments(0.2)
    assert abs(got_mean - log_mean) < tolerance * log_std
    assert abs(got_std / log_std - 1) < tolerance


def test_a_sketch_of_parts_is_that_of_the_whole():
    x = FIELDS["vorticity"][0].reshape(50, 40, 100)
    whole = Sketch.of(x)
    for chunks in ((50, 40, 100), (7, 11, 100), (1, 40, 33)):
        parts = sketch(da.from_array(x, chunks=chunks)).compute()
        np.testing.assert_array_equal(parts.bins, whole.bins)
        assert parts.std == pytest.approx(whole.std, rel=1e-13)
        assert parts.log_moments(0.2) == pytest.approx(whole.log_moments(0.2), rel=1e-9)
    assert whole.table.nbytes < 2e6


def test_is_what_the_published_formula_gives(winds):
    norm = xatmo.fit_normalization(winds)
    card = xatmo.load_model().card
    assert norm.quantities == tuple(i.quantity for i in card.inputs)
    assert (norm.kind, norm.alpha) == (
        card.normalization.kind,
        card.normalization.alpha,
    )
    assert (norm.level, norm.spacing) == ("10 m", (1.0, 1.0))
    assert norm.period == ("2020-01-01T00:00", "2020-01-02T00:00")
    fields = read(winds, norm.quantities).data
    for i, quantity in enumerate(norm.quantities):
        x = fields[quantity].values
        expected = _two_passes(x, norm.alpha)
        got = [getattr(norm, name)[i] for name in CONSTANTS]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)
        assert (norm.count[i], norm.missing[i]) == (x.size, 0)


def test_normalises_to_mean_nought_and_spread_one(winds):
    import torch

    norm = xatmo.fit_normalization(winds)
    fields = read(winds, norm.quantities).data
    x = np.stack([fields[q].values for q in norm.quantities], axis=1)
    y = norm.module()(torch.from_numpy(x).double())
    torch.testing.assert_close(
        y.mean((0, 2, 3)), torch.zeros(y.shape[1]).double(), atol=1e-6, rtol=0
    )
    spread = y.std((0, 2, 3), correction=0)
    torch.testing.assert_close(spread, torch.ones(y.shape[1]).double())


@pytest.mark.parametrize("chunks", [(1, 40, 48), (5, 40, 48), (2, 7, 11)])
def test_every_chunk_is_read_once(winds, chunks):
    lazy, sources = _counted(winds, chunks)
    norm = xatmo.fit_normalization(lazy)
    for name, source in sources.items():
        assert max(source.reads.values()) == 1
        assert source.reads.total() == lazy[name].data.npartitions
    eager = xatmo.fit_normalization(winds)
    for name in CONSTANTS:
        np.testing.assert_allclose(
            getattr(norm, name), getattr(eager, name), rtol=1e-9, atol=1e-16
        )


def test_many_levels_are_one_pass(profile):
    lazy, sources = _counted(profile, (2, 3, 40, 48))
    several = xatmo.fit_normalization(lazy, level=[850, 700, 500])
    assert [n.level for n in several] == ["850 hPa", "700 hPa", "500 hPa"]
    assert all(max(s.reads.values()) == 1 for s in sources.values())
    one = xatmo.fit_normalization(profile, level=700)
    np.testing.assert_allclose(several[1].std, one.std, rtol=1e-9)
    np.testing.assert_allclose(several[2].std, 3 * np.array(several[0].std), rtol=1e-5)


def test_orientation_and_units_make_no_difference(winds):
    norm = xatmo.fit_normalization(winds)
    other = winds.isel(latitude=slice(None, None, -1)).transpose("longitude", ...)
    other = other / 0.514444
    for name in other.data_vars:
        other[name].attrs = {"units": "knots"}
    got = xatmo.fit_normalization(other)
    np.testing.assert_allclose(got.std, norm.std, rtol=1e-5)


def test_processes_agree(winds):
    with dask.config.set(scheduler="processes", num_workers=1):
        got = xatmo.fit_normalization(winds.chunk(time=2))
    assert got.std == pytest.approx(xatmo.fit_normalization(winds).std)


def test_real_winds(data):
    ds = xr.open_dataset(data / "test/gfs_uv10_global_1deg_6h_2018_michael.nc")
    ds = ds.isel(time=slice(4))
    norm = xatmo.fit_normalization(ds.chunk(time=1))
    fields = read(ds, norm.quantities).data
    for i, quantity in enumerate(norm.quantities):
        expected = _two_passes(fields[quantity].values, norm.alpha)
        np.testing.assert_allclose(norm.std[i], expected[1], rtol=1e-10)
        assert abs(norm.log_mean[i] - expected[2]) < 1e-7 * expected[3]
        np.testing.assert_allclose(norm.log_std[i], expected[3], rtol=1e-7)


# --- Missing, constant, ambiguous ---------------------------------------------------


def _given(values, **changes):
    """Exactly what the model reads, at 10 m."""
    lat, lon = np.arange(50.0, 10, -1), np.arange(0.0, 40)
    ds = xr.Dataset(coords={"latitude": lat, "longitude": lon})
    for i, channel in enumerate(xatmo.load_model().card.inputs):
        field = changes.get(f"channel_{i}", values)
        attrs = {"standard_name": channel.quantity, "units": channel.units}
        ds[f"x{i}"] = ("latitude", "longitude"), field, {**attrs, "level": "10 m"}
    return ds


def test_gaps_are_left_out_and_counted():
    values = _RNG.normal(0, 1, (40, 40)).astype("float32")
    holed = values.copy()
    holed[3, :5] = np.nan
    holed[4, 0] = np.inf
    norm = xatmo.fit_normalization(_given(values, channel_1=holed), level="10 m")
    assert norm.missing == (0, 6)
    assert norm.count == (1600, 1594)
    expected = holed[np.isfinite(holed)].astype(float).std()
    assert norm.std[1] == pytest.approx(expected, rel=1e-10)


def test_nothing_but_gaps():
    values = _RNG.normal(0, 1, (40, 40))
    ds = _given(values, channel_1=np.full((40, 40), np.nan))
    with pytest.raises(errors.MissingValuesError, match=r"(?s)no finite.*x1: 1,600"):
        xatmo.fit_normalization(ds, level="10 m")


@pytest.mark.parametrize("value", [0.0, 280.1, -1e-5])
def test_a_constant_field_is_named(value):
    values = _RNG.normal(0, 1, (40, 40))
    ds = _given(values, channel_0=np.full((40, 40), value, "float32"))
    with pytest.raises(errors.FieldError, match=r"(?s)same everywhere.*x0: .*1,600"):
        xatmo.fit_normalization(ds, level="10 m")


def test_several_levels_need_a_choice(profile):
    with pytest.raises(errors.LevelError, match=r'(?s)hold several.*level="850 hPa"'):
        xatmo.fit_normalization(profile)


def test_a_level_that_is_not_said(winds):
    ds = winds.rename(u10="u", v10="v")
    with pytest.raises(errors.LevelError, match=r"(?s)do not say.*constants need one"):
        xatmo.fit_normalization(ds)
    assert xatmo.fit_normalization(ds, level=700).level == "700 hPa"


def test_a_grid_that_the_model_does_not_read_is_said():
    lat, lon = np.arange(60, 20, -0.25), np.arange(0, 40, 0.25)
    ds = xatmo.testing.synthetic_winds(1, lat, lon)
    with pytest.warns(errors.ExtrapolationWarning, match=r"too fine.*0\.25.*coarsen"):
        assert xatmo.fit_normalization(ds).spacing == (0.25, 0.25)


# --- To keep ------------------------------------------------------------------------


def test_kept_in_a_file(winds, tmp_path):
    norm = xatmo.fit_normalization(winds)
    assert xatmo.Normalization.load(norm.save(tmp_path / "norm.json")) == norm
    assert "divergence" in repr(norm) or norm.quantities[0] in repr(norm)
    assert norm.level in repr(norm)
    hash(norm)


@pytest.mark.parametrize(
    "text", ["", "[1]", "{}", '{"kind": "signlog"}', "\0\0", '{"strange": 1}']
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "norm.json"
    path.write_text(text)
    with pytest.raises(errors.OptionError, match=r"(?s)no normalisation.*save\("):
        xatmo.Normalization.load(path)


def test_as_many_numbers_as_quantities(winds):
    values = xatmo.fit_normalization(winds).to_dict()
    values["std"] = values["std"][:1]
    with pytest.raises(errors.OptionError, match=r"std = "):
        xatmo.Normalization.from_dict(values)


# --- In use -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(winds):
    """The default model with constants of twice the winds: far from the release's."""
    return xatmo.load_model().with_normalization(xatmo.fit_normalization(2 * winds))


@pytest.fixture(scope="module", autouse=True)
def keep_units():
    with xr.set_options(keep_attrs=True):
        yield


def test_the_network_sees_what_the_constants_say(winds, fitted):
    import torch

    level = next(lv for lv in fitted.card.levels if lv.fitted)
    fields = read(winds, [i.quantity for i in fitted.card.inputs]).data
    x = np.stack([fields[i.quantity].values for i in fitted.card.inputs], axis=1)
    with torch.inference_mode():
        scaled = normalizer(fitted.card, level)(torch.from_numpy(x))
        expected = fitted.network().encode(scaled).permute(0, 2, 3, 1).numpy()
    got = winds.atmo.embed(fitted)
    np.testing.assert_allclose(got, expected, atol=2e-5)
    assert np.abs(got - winds.atmo.embed()).max() > 0.01


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_lazy_results_carry_the_constants(winds, fitted, scheduler):
    lazy = winds.chunk(time=3)
    with raise_if_computes():
        z = lazy.atmo.embed(fitted)
        d = lazy.atmo.distance(lazy.isel(time=0), fitted)
    with dask.config.set(scheduler=scheduler, num_workers=1):
        z, d = dask.compute(z, d)
    np.testing.assert_allclose(z, winds.atmo.embed(fitted), atol=1e-5)
    expected = winds.atmo.distance(winds.isel(time=0), fitted)
    np.testing.assert_allclose(d, expected, atol=1e-5)


def test_the_release_is_not_touched(winds, fitted):
    before = xatmo.load_model()
    assert before.card.levels[0].fitted is None
    assert fitted.card.weights == before.card.weights
    assert fitted.key.sha256 == before.key.sha256
    assert tokenize(fitted.key) != tokenize(before.key)
    lazy = winds.chunk(time=2)
    assert lazy.atmo.embed(fitted).data.name != lazy.atmo.embed().data.name
    assert lazy.atmo.embed(fitted).data.name == lazy.atmo.embed(fitted).data.name
    assert "constants fitted to your data" in repr(fitted)


def test_results_say_so(winds, fitted):
    attrs = winds.atmo.embed(fitted).attrs
    assert "normalisation at 10 m fitted to the user's data" in attrs["comment"]
    assert "normalisation fitted to the user's data at 10 m" in attrs["history"]
    told = json.loads(attrs["xatmo_normalization"])["10 m"]
    assert tuple(told["std"]) == fitted.card.levels[0].std
    assert "xatmo_normalization" not in winds.atmo.embed().attrs


@pytest.mark.filterwarnings("default")
def test_a_level_that_no_card_knows(profile):
    ds = profile.sel(level=700)
    with pytest.raises(errors.LevelError, match="knows none of the levels") as caught:
        ds.atmo.embed()
    call = caught.value.hint.split("or measure its constants: model=")[1]
    model = eval(call, {"ds": ds, "xatmo": xatmo})  # noqa: S307 - the message's promise
    with pytest.warns(
        errors.ExtrapolationWarning, match="at 700 hPa only its normalisation was fit"
    ):
        z = ds.atmo.embed(model)
    assert z.attrs["level"] == "700 hPa"
    with pytest.raises(errors.LevelError, match=r"does not know 700 hPa.*"):
        profile.atmo.embed(level=700)


def test_a_list_of_levels(profile):
    norms = xatmo.fit_normalization(profile, level=[850, 700, 500])
    model = xatmo.load_model().with_normalization(norms)
    z = profile.atmo.embed(model)
    assert z.sizes["level"] == 3
    # The upper levels are multiples of the lowest: normalised they are the same.
    np.testing.assert_allclose(z.isel(level=1), z.isel(level=0), atol=1e-3)


@pytest.mark.filterwarnings("default")
def test_another_grid_than_it_was_fitted_on_is_said(winds, fitted):
    lat, lon = np.arange(60, 21, -1.2), np.arange(10, 57, 1.3)
    coarse = winds.interp(latitude=lat, longitude=lon)
    with pytest.warns(
        errors.ExtrapolationWarning, match=r"a grid of 1 x 1°.*1\.2 x 1\.3°"
    ):
        coarse.atmo.embed(fitted)


def test_constants_for_other_inputs_are_refused(winds):
    norm = xatmo.fit_normalization(winds)
    other = xatmo.Normalization.from_dict({**norm.to_dict(), "alpha": 0.5})
    with pytest.raises(errors.OptionError, match=r"(?s)not for the inputs.*alpha 0\.5"):
        xatmo.load_model().with_normalization(other)


def test_a_card_with_own_constants_can_be_written(fitted, tmp_path):
    folder = tmp_path / fitted.name
    folder.mkdir()
    (folder / "card.toml").write_text(fitted.card.to_toml(), "utf-8")
    assert read_card(folder) == fitted.card
