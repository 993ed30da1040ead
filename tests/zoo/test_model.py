import subprocess
import sys

import pytest

from xatmo.errors import (
    CardError,
    DownloadError,
    ModelNotFoundError,
    WeightsError,
)
from xatmo.zoo import Model, ModelKey, load_model, load_network, parse_card
from xatmo.zoo.describe import describe


def test_a_model_gives_its_network_ready_for_inference(tiny_model):
    import torch

    card, trained = tiny_model()
    model = load_model("tiny")
    network = model.network()
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    fields = torch.randn(1, 2, 8, 8)
    torch.testing.assert_close(network(fields), trained.eval()(fields))
    assert model.key == card.key()
    assert (model.name, model.version) == ("tiny", "1.0.0")


def test_every_network_is_a_new_one(tiny_model):
    tiny_model()
    model = load_model()
    assert model.network() is not model.network()


def test_workers_build_the_network_of_a_key(tiny_model):
    import torch

    card, trained = tiny_model()
    network = load_network(card.key())
    for name, tensor in trained.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor)
    half = load_network(card.key("float16"))
    assert half.conv.weight.dtype == torch.float16
    assert half.norm.num_batches_tracked.dtype == torch.int64


def test_workers_refuse_other_weights(tiny_model):
    card, _ = tiny_model()
    with pytest.raises(WeightsError, match="has other weights") as caught:
        load_network(ModelKey("tiny", "1.0.0", "f" * 64))
    assert card.weights.sha256 in caught.value.found
    assert "f" * 64 in caught.value.needed
    with pytest.raises(ModelNotFoundError, match=r"no version '3\.0'"):
        load_network(ModelKey("tiny", "3.0", card.weights.sha256))
    with pytest.raises(ModelNotFoundError, match="no model 'tinny'"):
        load_network(ModelKey("tinny", "1.0.0", card.weights.sha256))


def test_workers_take_the_key_s_weights_of_two(tiny_model, tmp_path, monkeypatch):
    import torch

    other = tmp_path / "other"
    monkeypatch.setenv("XATMO_MODELS_URL", str(other))
    networks = [tiny_model(), tiny_model(root=other)]
    for card, trained in networks:
        network = load_network(card.key())
        assert torch.equal(network.conv.weight, trained.conv.weight)


def test_the_default_is_taken_when_no_model_is_named(tiny_model):
    tiny_model("one")
    tiny_model("filler", capabilities=["infill"])
    assert load_model().name == "one"
    assert load_model(capability="distance").name == "one"
    assert load_model(capability="infill").name == "filler"


def test_a_model_in_hand_is_taken_as_it_is(tiny_model):
    tiny_model()
    model = load_model("tiny")
    assert load_model(model, capability="embed") is model
    with pytest.raises(ModelNotFoundError, match="'tiny' cannot infill"):
        load_model(model, capability="infill")


def test_a_model_that_cannot_is_told_from_one_that_can(tiny_model):
    tiny_model("one")
    with pytest.raises(ModelNotFoundError, match="'one' cannot infill") as caught:
        load_model("one", capability="infill")
    assert caught.value.needed.endswith("there is none yet")
    assert caught.value.hint == "xatmo.list_models()"
    tiny_model("filler", capabilities=["infill"])
    with pytest.raises(ModelNotFoundError, match="'one' cannot infill") as caught:
        load_model("one", capability="infill")
    assert caught.value.hint == "model='filler'"


def test_trouble_with_weights_shows_early(model_folder):
    model_folder("absent", here=False)
    with pytest.raises(DownloadError, match=r"'absent' 1\.0\.0 cannot be"):
        load_model("absent")
    damaged = model_folder("damaged")
    (damaged.folder / "weights.safetensors").write_bytes(b"damage")
    with pytest.raises(WeightsError, match="is damaged"):
        load_model("damaged")


def test_weights_damaged_after_loading_are_refused(tiny_model):
    card, _ = tiny_model()
    model = load_model("tiny")
    file = card.folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    with pytest.raises(WeightsError, match="is damaged"):
        model.network()


def test_an_unknown_architecture_is_named_early(model_folder):
    model_folder(architecture="perceptron")
    with pytest.raises(CardError, match="no architecture 'perceptron'") as caught:
        load_model("tiny")
    assert "'atmodist'" in caught.value.needed


def test_arguments_the_network_does_not_take_are_named(tiny_model):
    tiny_model(network={"depth": 3})
    with pytest.raises(CardError, match=r"(?s)\[network\] does not fit.*'depth'"):
        load_model("tiny").network()


def test_weights_of_another_width_are_named(tiny_model):
    tiny_model(network={"width": 5})
    with pytest.raises(WeightsError, match=r"conv.bias: \(4,\) float32 instead of"):
        load_model("tiny").network()


def test_the_repr_tells_what_the_model_is(tiny_model):
    card, _ = tiny_model()
    text = repr(load_model("tiny"))
    assert text.startswith("<xatmo model tiny 1.0.0>\nA model for tests\n")
    for part in (
        "embed, distance",
        "divergence_of_wind [s-1], atmosphere_relative_vorticity [s-1]",
        "10 m, 850 hPa (not trained)",
        "0.7 to 2 degrees, at least 32 x 32 points, sees 47 points around",
        "trained up to latitude 60, Gaussian grids too",
        "6, 12, 18 h",
        "layer block3",
        "128 features, every 8 grid points",
        "score ordering.6 h",
        "Apache-2.0",
        "Nobody (2026)",
        card.weights.sha256,
    ):
        assert part in text
    page = load_model("tiny")._repr_html_()
    assert page.count("<tr>") == page.count("</tr>") > 10
    assert "128 features, every 8 grid points" in page


def test_the_repr_leaves_out_what_a_card_leaves_out(tiny_model, values):
    grid = {"halo": "global", "spacing": [5.625, 5.625], "gaussian": False}
    contents = values(grid=grid)
    del contents["grid"]["latitude_limit"]
    card = parse_card({**contents, "time": {"step": "6h"}})
    assert (
        "5.625 to 5.625 degrees, at least 32 x 32 points, sees the whole field\n"
    ) in describe(card)
    assert "lags" not in describe(card)
    for key in ("layers", "distance", "time"):
        del contents[key]
    text = describe(parse_card({**contents, "capabilities": ["infill"]}))
    assert "layer" not in text
    assert "time step" not in text


def test_the_html_escapes_what_the_card_says(tiny_model):
    tiny_model(title="<script>alert(1)</script>", citation="A & B")
    page = load_model("tiny")._repr_html_()
    assert "<script>" not in page
    assert "A &amp; B" in page


def test_a_model_is_small_and_travels(tiny_model):
    import pickle

    tiny_model()
    model = load_model("tiny")
    assert isinstance(model, Model)
    assert len(pickle.dumps(model)) < 5000
    assert pickle.loads(pickle.dumps(model)) == model  # noqa: S301 - our own bytes


def test_torch_is_imported_only_for_a_network(models, model_folder, subprocess_env):
    model_folder()
    code = (
        "import sys, xatmo.zoo, xatmo.cli\n"
        "model = xatmo.zoo.load_model('tiny')\n"
        "repr(model), repr(xatmo.zoo.list_models()), model._repr_html_()\n"
        "heavy = {'torch', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    env = {**subprocess_env, "XATMO_MODELS_URL": str(models)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=120)
