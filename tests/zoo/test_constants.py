"""Mean and spread of box models: of the card, of places, of the user."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from safetensors.numpy import save_file

import xatmo
from xatmo.errors import (
    FieldError,
    FieldNotFoundError,
    GridError,
    MissingValuesError,
    OptionError,
    TimeAxisError,
    WeightsError,
)
from xatmo.testing import raise_if_computes
from xatmo.zoo import BoxNormalization, Constants, constants_of
from xatmo.zoo.files import file_sha256

LATITUDE, LONGITUDE = np.arange(60.0, 44, -2), np.arange(0.0, 32, 2)


@pytest.fixture
def weather():
    """Two years of days: a wind at two levels and a temperature, drifting by month."""
    rng = np.random.default_rng(0)
    time = xr.date_range("2001-01-01", "2002-12-31", freq="D")
    shape = (len(time), len(LATITUDE), len(LONGITUDE))
    month = np.asarray(time.month)[:, None, None]
    place = np.arange(8)[:, None] * np.ones(16)
    dims = ("time", "latitude", "longitude")
    wind = month + rng.normal(0, 1 + 0.1 * place, shape)
    ds = xr.Dataset(
        {
            "u10": (dims, wind, {"units": "m s-1"}),
            "u": (
                ("time", "level", *dims[1:]),
                np.stack([3 * wind, 9 * wind], 1),
                {"units": "m s-1"},
            ),
            "t850": (dims, 280 + 5 * wind, {"units": "K"}),
        },
        {"time": time, "latitude": LATITUDE, "longitude": LONGITUDE},
    ).assign_coords(level=("level", [850, 500], {"units": "hPa"}))
    return ds.astype("float32")


# --- Of the card ----------------------------------------------------------------------


def test_constants_of_the_card(box_model):
    model = box_model()
    one = constants_of(model, "u", "10 m")
    assert (one.mean.shape, one.mean.item(), one.std.item()) == ((1, 1, 1), 0.5, 4.0)
    assert not one.monthly
    assert not one.local
    monthly = constants_of(model, "u", "850 hPa")
    assert monthly.mean.shape == (12, 1, 1)
    mean, std = monthly.at(np.array([1, 12]), LATITUDE, LONGITUDE)
    np.testing.assert_array_equal(mean, np.ones((2, 1, 1)))
    np.testing.assert_array_equal(std, np.full((2, 1, 1), 8.0))


def test_a_release_without_constants_says_how_to_get_some(box_model):
    with pytest.raises(OptionError, match=r"(?s)'t' at 850 hPa.*fit_normalization\("):
        constants_of(box_model(), "t", "850 hPa")
    with pytest.raises(OptionError, match=r"(?s)does not read 't' at 10 m.*u: 10 m"):
        constants_of(box_model(), "t", "10 m")
    with pytest.raises(OptionError, match="does not read 'q'"):
        constants_of(box_model(), "q", "10 m")


@pytest.fixture
def local(models):
    """Constants of places beside the card of a model that is about to be made."""
    rng = np.random.default_rng(1)
    tensors = {
        "t/850 hPa/mean": rng.normal(280, 5, (12, 8, 16)).astype("float32"),
        "t/850 hPa/std": rng.uniform(1, 9, (12, 8, 16)).astype("float32"),
        "latitude": LATITUDE,
        "longitude": LONGITUDE,
    }
    (models / "boxes").mkdir()
    path = models / "boxes" / "local.safetensors"
    save_file(tensors, path)
    sha256 = file_sha256(path, afresh=True)
    box = {"step": "6h", "ahead": 1, "local": path.name, "local_sha256": sha256}
    return path, tensors, box


def test_constants_of_places(box_model, local):
    _, tensors, box = local
    model = box_model(box=box)
    found = constants_of(model, "t", "850 hPa")
    assert found.monthly
    assert found.local
    np.testing.assert_array_equal(found.mean, tensors["t/850 hPa/mean"])
    mean, std = found.at(np.array([3]), LATITUDE[2:4], np.array([4.3, 359.1]))
    index = np.ix_([2], [2, 3], [2, 0])
    np.testing.assert_array_equal(mean, tensors["t/850 hPa/mean"][index])
    np.testing.assert_array_equal(std, tensors["t/850 hPa/std"][index])
    with pytest.raises(GridError, match=r"(?s)cover the latitude.*46 to 60"):
        found.at(np.array([3]), np.array([-30.0]), LONGITUDE)
    with pytest.raises(GridError, match=r"(?s)cover the longitude.*0 to 30"):
        found.at(np.array([3]), LATITUDE, np.array([200.0]))
    # What the file does not hold comes from the card.
    assert constants_of(model, "u", "10 m").std.item() == 4.0


def test_a_damaged_file_of_places_is_refused(box_model, local):
    path, tensors, box = local
    model = box_model(box=box)
    save_file({**tensors, "t/850 hPa/std": -tensors["t/850 hPa/std"]}, path)
    with pytest.raises(WeightsError, match="damaged"):
        constants_of(model, "t", "850 hPa")
    box = box | {"local_sha256": file_sha256(path, afresh=True)}
    with pytest.raises(WeightsError, match=r"(?s)constants of places.*least std -"):
        constants_of(box_model(box=box), "t", "850 hPa")
    path.unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        constants_of(model, "t", "850 hPa")


@pytest.mark.parametrize(
    ("mean", "std", "axes"),
    [
        (np.zeros((1, 1, 1)), np.zeros((1, 1, 1)), ()),
        (np.zeros((2, 1, 1)), np.ones((2, 1, 1)), ()),
        (np.zeros((1, 1, 1)), np.ones((12, 1, 1)), ()),
        (np.zeros((1, 8, 16)), np.ones((1, 8, 16)), ()),
        (np.zeros((1, 8, 1)), np.ones((1, 8, 1)), (LATITUDE,)),
        (np.full((1, 1, 1), np.nan), np.ones((1, 1, 1)), ()),
    ],
)
def test_what_are_no_constants(mean, std, axes):
    with pytest.raises(OptionError, match="no constants"):
        Constants(mean, std, *axes)


# --- Of the user's data ---------------------------------------------------------------


def _expected(x, months, month):
    x = np.asarray(x, dtype=float)
    x = x if month is None else x[months == month]
    return x.mean(), x.std()


@pytest.mark.parametrize("by", [None, "month"])
def test_fitted_on_data(box_model, weather, by):
    model = box_model()
    norm = xatmo.fit_normalization(weather, model, by=by)
    assert set(norm.constants) == {("u", "10 m"), ("u", "850 hPa"), ("t", "850 hPa")}
    months = np.asarray(weather.time.dt.month)
    data = {"10 m": weather.u10, "850 hPa": weather.u.isel(level=0)}
    for level, x in data.items():
        found = norm.constants["u", level]
        for index, month in enumerate(range(1, 13) if by else [None]):
            mean, std = _expected(x, months, month)
            np.testing.assert_allclose(found.mean[index].item(), mean, rtol=1e-10)
            np.testing.assert_allclose(found.std[index].item(), std, rtol=1e-10)
    assert norm.count["u", "10 m"] == weather.u10.size
    assert norm.period == ("2001-01-01T00:00", "2002-12-31T00:00")
    fitted = model.with_normalization(norm)
    np.testing.assert_array_equal(
        constants_of(fitted, "t", "850 hPa").mean, norm.constants["t", "850 hPa"].mean
    )
    assert model.normalization is None
    # What was not measured is that of the card.
    partly = xatmo.fit_normalization(weather, model, level="850 hPa")
    other = constants_of(model.with_normalization(partly), "u", "10 m")
    assert other.std.item() == 4.0


def test_fitted_for_places(box_model, weather):
    turned = weather.assign_coords(longitude=weather.longitude - 14).isel(
        latitude=slice(None, None, -1)
    )
    norm = xatmo.fit_normalization(turned, box_model(), by="month", local=True)
    found = norm.constants["u", "10 m"]
    assert found.mean.shape == (12, 8, 16)
    np.testing.assert_array_equal(found.latitude, LATITUDE)
    assert (np.diff(found.longitude) > 0).all()
    assert found.longitude[0] == 0
    june = weather.u10.isel(time=weather.time.dt.month == 6).astype(float)
    expected = np.roll(june.std("time"), -7, axis=1)
    np.testing.assert_allclose(found.std[5], expected, rtol=1e-10)
    # The spread that was put in grows towards the south.
    assert found.std[5, -1].mean() > 1.3 * found.std[5, 0].mean()


@pytest.mark.parametrize("local", [False, True])
def test_lazy_data_are_read_once(box_model, weather, local):
    reads = []

    def counted(block, block_info=None):
        if block_info:
            reads.append(tuple(block_info[0]["chunk-location"]))
        return block

    x = da.from_array(weather.u10.values, chunks=(100, 4, 9))
    lazy = weather[["u10"]].copy(data={"u10": x.map_blocks(counted, dtype=x.dtype)})
    model = box_model()
    norm = xatmo.fit_normalization(lazy, model, by="month", local=local)
    assert len(reads) == len(set(reads)) == x.npartitions
    eager = xatmo.fit_normalization(weather[["u10"]], model, by="month", local=local)
    for what in ("mean", "std"):
        got, want = (getattr(n.constants["u", "10 m"], what) for n in (norm, eager))
        np.testing.assert_allclose(got, want, rtol=1e-10)


def test_gaps_are_left_out(box_model, weather):
    holed = weather.copy(deep=True)
    holed.u10[:, 0, 0] = np.nan
    holed.u10[5, 1, 1] = np.inf
    norm = xatmo.fit_normalization(holed, box_model())
    assert norm.missing["u", "10 m"] == len(weather.time) + 1
    x = holed.u10.values.astype(float)
    expected = x[np.isfinite(x)].std()
    np.testing.assert_allclose(norm.constants["u", "10 m"].std.item(), expected)
    local = xatmo.fit_normalization(holed, box_model(), local=True)
    found = local.constants["u", "10 m"]
    assert np.isnan([found.mean[0, 0, 0], found.std[0, 0, 0]]).all()
    assert np.isfinite(found.std).sum() == found.std.size - 1
    with pytest.raises(MissingValuesError, match="no finite value of eastward_wind"):
        xatmo.fit_normalization(weather[["u10"]] * np.nan, box_model())


def test_what_cannot_be_fitted(box_model, weather):
    model = box_model()
    with pytest.raises(TimeAxisError, match=r"(?s)all months.*1, 2, 3.*by=None"):
        xatmo.fit_normalization(weather.isel(time=slice(100, 200)), model, by="month")
    undated = weather.assign_coords(time=np.arange(weather.sizes["time"]))
    with pytest.raises(TimeAxisError, match="need dates"):
        xatmo.fit_normalization(undated, model, by="month")
    with pytest.raises(OptionError, match=r"(?s)by 'year'"):
        xatmo.fit_normalization(weather, model, by="year")
    with pytest.raises(
        FieldNotFoundError, match=r"(?s)no field of boxes.*t at|850 hPa"
    ):
        xatmo.fit_normalization(weather[["u"]].sel(level=[500]), model)
    flat = weather[["u10"]].copy(deep=True)
    flat.u10[:] = 280.1
    with pytest.raises(FieldError, match=r"(?s)same everywhere.*u10: 280"):
        xatmo.fit_normalization(flat, model)


def test_a_level_that_the_user_says(box_model, weather):
    silent = weather[["u10"]].rename(u10="u")
    with pytest.raises(FieldNotFoundError):
        xatmo.fit_normalization(silent, box_model())
    norm = xatmo.fit_normalization(silent, box_model(), level="10 m")
    assert list(norm.constants) == [("u", "10 m")]


def test_other_models_have_one_set_of_constants(weather, monkeypatch):
    monkeypatch.undo()  # the packaged models again
    with pytest.raises(OptionError, match="one set of constants for all months"):
        xatmo.fit_normalization(weather, by="month")
    with pytest.raises(OptionError, match="local=True"):
        xatmo.fit_normalization(weather, local=True)


# --- To keep and to hand on -----------------------------------------------------------


@pytest.mark.parametrize("local", [False, True])
def test_kept_in_a_file(box_model, weather, tmp_path, local):
    norm = xatmo.fit_normalization(weather, box_model(), by="month", local=local)
    path = norm.save(tmp_path / "constants.safetensors")
    again = BoxNormalization.load(path)
    assert again == norm
    assert hash(again) == hash(norm)
    assert tokenize(again) == tokenize(norm)
    assert (again.count, again.period) == (norm.count, norm.period)
    assert again.spacing == norm.spacing
    other = xatmo.fit_normalization(2 * weather, box_model(), by="month", local=local)
    assert other != norm
    assert tokenize(other) != tokenize(norm)
    assert "u at 10 m: mean about 6.49" in repr(norm)
    assert ("8 x 16 places" in repr(norm)) is local


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08" + b"\0" * 7 + b"{}      "])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "constants.safetensors"
    path.write_bytes(content)
    with pytest.raises(OptionError, match=r"(?s)no normalisation of boxes.*save\("):
        BoxNormalization.load(path)
    with pytest.raises(OptionError, match="no normalisation of boxes"):
        BoxNormalization.load(tmp_path / "absent")
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(OptionError, match="no normalisation of boxes"):
        BoxNormalization.load(path)


@pytest.mark.parametrize("local", [False, True])
def test_numbers_that_are_known_already(box_model, weather, local):
    model = box_model()
    norm = xatmo.fit_normalization(weather, model, by="month", local=local)
    ds = norm.to_dataset()
    assert ds.u_mean.attrs["units"] == "m s-1"
    shuffled = ds.isel(level=slice(None, None, -1), month=slice(None, None, -1))
    if local:
        shuffled = shuffled.isel(latitude=slice(None, None, -1)).roll(longitude=5)
        shuffled["longitude"] = ds.longitude.roll(longitude=5)
    shuffled = shuffled.transpose()
    with raise_if_computes():
        again = BoxNormalization.from_dataset(shuffled, model)
    assert again == norm
    one = BoxNormalization.from_dataset(xr.Dataset({"u_mean": 1.0, "u_std": 8}), model)
    assert {key[1] for key in one.constants} == {"10 m", "sigma 0.95", "850 hPa"}
    assert constants_of(model.with_normalization(one), "u", "10 m").std.item() == 8.0


@pytest.mark.parametrize(
    ("ds", "match"),
    [
        (xr.Dataset({"q_mean": 1.0, "q_std": 2.0}), r"(?s)q_mean.*u_mean, t_mean"),
        (xr.Dataset({"u_mean": 1.0}), "u_mean"),
        (xr.Dataset({"u_mean": 1.0, "u_std": ("x", [1.0])}), r"u_std \('x',\)"),
        (
            xr.Dataset(
                {"u_mean": ("level", [1.0]), "u_std": ("level", [1.0])},
                {"level": ["500 hPa"]},
            ),
            r"(?s)500 hPa.*10 m, sigma 0\.95",
        ),
        (xr.Dataset({"u_mean": 1.0, "u_std": 0.0}), "std above 0"),
        (xr.Dataset({"u_mean": 1.0, "u_std": ("month", [1.0, 2.0])}), "1 or 12 months"),
    ],
)
def test_other_numbers_are_refused(box_model, ds, match):
    with pytest.raises(OptionError, match=match):
        BoxNormalization.from_dataset(ds, box_model())


def test_constants_of_another_model_are_refused(box_model, box_values, weather):
    norm = xatmo.fit_normalization(weather, box_model())
    fields = box_values()["fields"][:1]
    with pytest.raises(OptionError, match=r"(?s)not for the fields of other.*t \(air_"):
        box_model("other", fields=fields).with_normalization(norm)
