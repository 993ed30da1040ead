"""Models with fewer or more fields, made of the weights that are there."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import xatmo
from xatmo.errors import ModelNotFoundError, OptionError
from xatmo.zoo import BoxNormalization, Constants, constants_of, read_card
from xatmo.zoo.fetch import cache_folder, imported_folder
from xatmo.zoo.files import file_sha256
from xatmo.zoo.model import card_of


@pytest.fixture
def wind(box_model, box_values, box_network):
    """A model of winds alone."""
    fields = box_values()["fields"][:1]
    return box_model("wind", fields=fields, network=box_network(u=[]))


@pytest.fixture
def heat(box_model, box_values, box_network):
    """A model of temperature alone."""
    fields = box_values()["fields"][1:]
    return box_model("heat", fields=fields, network=box_network(t=[]))


def _box(channels):
    torch.manual_seed(1)
    x = torch.randn(2, channels, 2, 8, 8)
    x[:, :, -1:] = torch.nan
    when = torch.tensor([[2001.0, 40, 6], [2001, 40, 12]]).expand(2, -1, -1)
    where = torch.linspace(50, 43, 8), torch.linspace(10, 17, 8)
    return x, when, *(axis.expand(2, -1) for axis in where), 1.0


def test_added_fields_change_nothing_at_first(wind, heat):
    both = wind.with_fields(add=heat)
    assert both.name == "wind-with-t"
    assert [f["sources"] for f in both.card.network["fields"]] == [["t"], ["u"]]
    x, *where = _box(3)
    with torch.no_grad():
        found = both.network().predict(x, *where)
        winds = wind.network().predict(x[:, :2], *where)
        temperature = heat.network().predict(x[:, 2:], *where)
    late = found[:, :, :, -1]
    assert late.isfinite().all()
    expected = torch.cat([winds, temperature], 2)[:, :, :, -1]
    torch.testing.assert_close(late, expected, atol=1e-5, rtol=1e-5)
    keys = both.network().state_dict()
    heads = keys["networks.u.encoder.0.attention.out.weight"]
    assert (heads[:, -4:] == 0).all()  # one head of four features
    assert (heads[:, :-4] != 0).all()


def test_removed_fields_are_as_if_they_were_not_there(box_model):
    model = box_model()
    left = model.with_fields(remove=["t"])
    assert left.name == "boxes-without-t"
    x, *where = _box(2)
    present = (("u", (0, 1)),)
    with torch.no_grad():
        found = left.network().predict(x, *where)
        expected = model.network().predict(x, *where, present=present)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5, equal_nan=True)
    assert [f.name for f in left.card.fields] == ["u"]
    assert left.card.network["level_numbers"] == {"u": [0, 1]}
    assert left.card.fields[0] == model.card.fields[0]
    assert not left.card.default_for
    assert "without t" in left.card.training["derived"]
    assert "not trained since" in (left.card.folder / "README.md").read_text()


def test_there_and_back(wind, heat):
    back = wind.with_fields(add=heat).with_fields(remove="t", name="back")
    state = wind.network().state_dict()
    for key, tensor in back.network().state_dict().items():
        assert torch.equal(tensor, state[key])


def test_a_field_may_be_replaced(box_model, heat):
    model = box_model()
    other = model.with_fields(remove="t", add="heat")
    assert other.name == "boxes-without-t-with-t"
    x, *where = _box(3)
    with torch.no_grad():
        found = other.network().predict(x, *where)
        without = model.with_fields(remove="t").network().predict(x[:, :2], *where)
    # What u has learnt to hear of the old field says nothing of the new one.
    torch.testing.assert_close(
        found[:, :, :2], without, atol=1e-5, rtol=1e-5, equal_nan=True
    )


@pytest.mark.parametrize(
    ("coupled", "sources"),
    [(False, [[], []]), ({"u": ["t"]}, [["t"], []]), (True, [["t"], ["u"]])],
)
def test_couplings_are_chosen(wind, heat, coupled, sources):
    both = wind.with_fields(add=heat, coupled=coupled, name="both")
    assert [f["sources"] for f in both.card.network["fields"]] == sources
    both.network()


def test_the_same_call_gives_the_same_model(wind, heat, subprocess_env):
    first = wind.with_fields(add=heat)
    stamp = (first.card.folder / "weights.safetensors").stat().st_mtime_ns
    assert wind.with_fields(add="heat") == first
    assert (first.card.folder / "weights.safetensors").stat().st_mtime_ns == stamp
    assert first.card.folder == imported_folder() / "wind-with-t"
    assert card_of(first.key) == first.card
    assert first.key.sha256 not in (wind.key.sha256, heat.key.sha256)
    code = "import xatmo; print(xatmo.load_model('wind-with-t').key.sha256)"
    env = {**subprocess_env, "XATMO_CACHE": str(cache_folder())}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert first.key.sha256 in done.stdout


def test_a_name_that_is_taken(wind, heat, box_model):
    box_model()
    with pytest.raises(OptionError, match=r"(?s)another model.*'boxes'"):
        wind.with_fields(add=heat, name="boxes")
    with pytest.raises(ModelNotFoundError, match="no model 'cold'"):
        wind.with_fields(add="cold")


def test_what_both_models_say(box_model, box_values, wind, box_network):
    contents = box_values()
    cold = box_model(
        "cold",
        fields=contents["fields"][1:],
        network=box_network(t=[]),
        licence="CC BY 4.0",
        capabilities=["infill", "interpolate"],
        grid=contents["grid"] | {"spacing": [1.5, 3.0]},
        layers={"names": ["e2"], "stride": {"e2": 4}, "features": {"e2": 8}},
    )
    card = cold.with_fields(add=wind).card
    assert card.licence == "CC BY 4.0; Apache-2.0"
    assert card.capabilities == ("infill",)
    assert card.grid.spacing == (1.5, 2.1)
    assert card.layers.features == {"e2": 16}
    assert card.citation == "Nobody (2026)"


# --- Constants ------------------------------------------------------------------------


def _with_places(models, name, field, shift=0.0):
    axes = {"latitude": np.arange(60.0, 20, -10) + shift, "longitude": np.arange(4.0)}
    shape = (1, 4, 4)
    tensors = {f"{field}/850 hPa/mean": np.full(shape, 3.0, "f4"), **axes}
    tensors[f"{field}/850 hPa/std"] = np.full(shape, 2.0, "f4")
    (models / name).mkdir(exist_ok=True)
    save_file(tensors, models / name / "local.safetensors")
    sha256 = file_sha256(models / name / "local.safetensors", afresh=True)
    local = {"local": "local.safetensors", "local_sha256": sha256}
    return {"step": "6h", "ahead": 1, **local}


def test_constants_come_along(models, box_model, box_values, wind, box_network):
    fields = box_values()["fields"][1:]
    box = _with_places(models, "heat", "t")
    heat = box_model("heat", fields=fields, network=box_network(t=[]), box=box)
    both = wind.with_fields(add=heat)
    found = constants_of(both, "t", "850 hPa")
    assert found.local
    assert found.mean.shape == (1, 4, 4)
    assert constants_of(both, "u", "10 m").std.item() == 4.0
    assert both.with_fields(remove="t").card.box.local is None
    assert set(load_file(both.card.folder / "local.safetensors")) == {
        "t/850 hPa/mean",
        "t/850 hPa/std",
        "latitude",
        "longitude",
    }


def test_places_have_to_be_the_same(models, box_model, box_values, box_network):
    parts = []
    for name, field, i, shift in (("a", "u", 0, 0.0), ("b", "t", 1, 1.0)):
        fields = box_values()["fields"][i : i + 1]
        network = box_network(**{field: []})
        box = _with_places(models, name, field, shift)
        parts.append(box_model(name, fields=fields, network=network, box=box))
    with pytest.raises(OptionError, match=r"(?s)different places.*latitude"):
        parts[0].with_fields(add=parts[1])


def test_what_the_user_has_given_stays(wind, heat):
    given = [
        model.with_normalization(
            BoxNormalization(
                {(name, "850 hPa"): Constants.of([1.0], [7.0])},
                {name: model.card.fields[0].quantity},
                {name: model.card.fields[0].units},
            )
        )
        for model, name in ((wind, "u"), (heat, "t"))
    ]
    both = given[0].with_fields(add=given[1])
    assert constants_of(both, "u", "850 hPa").std.item() == 7.0
    assert constants_of(both, "t", "850 hPa").std.item() == 7.0
    left = both.with_fields(remove="t", name="left")
    assert set(left.normalization.constants) == {("u", "850 hPa")}
    assert xatmo.load_model("wind-with-t").normalization is None


# --- What cannot be -------------------------------------------------------------------


def test_fields_that_cannot_be_removed_or_added(box_model, wind, heat, box_network):
    model = box_model()
    with pytest.raises(OptionError, match=r"(?s)no fields to remove.*'q'.*u, t, not"):
        model.with_fields(remove="q")
    with pytest.raises(OptionError, match=r"(?s)no fields to remove.*not all"):
        model.with_fields(remove=["u", "t"])
    with pytest.raises(OptionError, match=r"(?s)nothing to remove or to add"):
        model.with_fields()
    with pytest.raises(OptionError, match=r"(?s)u, t would be there twice.*remove="):
        model.with_fields(add=model)
    with pytest.raises(OptionError, match=r"(?s)coupled to what is not there.*q"):
        wind.with_fields(add=heat, coupled={"u": ["q"]})
    read_only = box_model("only", network=box_network() | {"predicted": ["t"]})
    with pytest.raises(OptionError, match=r"(?s)is predicted.*one of t"):
        read_only.with_fields(remove="t")
    assert not imported_folder().exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"network": {"members": 4}}, r"members: 3 and 4"),
        ({"network": {"guess": "time"}}, r"guess: 'zero' and 'time'"),
        ({"network": {"encoder_layers": 3}}, r"encoder_layers: 2 and 3"),
        ({"box": {"step": "1h", "ahead": 1}}, r"step: '6h' and '1h'"),
        ({"grid": {"spacing": [3.0, 4.0]}}, r"spacing: \(0\.9, 2\.1\) and"),
    ],
)
def test_networks_of_other_kinds(
    wind, box_model, box_values, changes, match, box_network
):
    contents = box_values()
    network = box_network(t=[]) | changes.pop("network", {})
    changes = {k: contents[k] | v for k, v in changes.items()}
    fields = contents["fields"][1:]
    other = box_model("other", fields=fields, network=network, **changes)
    with pytest.raises(OptionError, match=f"(?s)different kinds.*{match}"):
        wind.with_fields(add=other)


def test_boxes_of_other_sizes(wind, box_model, box_values, box_network):
    network = box_network(t=[])
    network["fields"][0]["tokens"] = [2, 2, 3]
    other = box_model("other", fields=box_values()["fields"][1:], network=network)
    with pytest.raises(OptionError, match=r"(?s)same box.*\(2, 8, 12\).*\(2, 8, 8\)"):
        wind.with_fields(add=other)


def test_models_without_fields(wind, model_folder):
    model_folder("grid")
    grid = xatmo.zoo.Model(card := xatmo.zoo.get_card("grid"), card.key())
    with pytest.raises(OptionError, match=r"(?s)grid does not read boxes"):
        grid.with_fields(remove="u")
    with pytest.raises(OptionError, match=r"(?s)grid does not read boxes"):
        wind.with_fields(add=grid)


def test_cards_are_whole(wind, heat):
    card = wind.with_fields(add=heat).card
    assert read_card(card.folder) == card
