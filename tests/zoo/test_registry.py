import shutil
from pathlib import Path

import pytest

from xatmo.errors import CardError, ModelNotFoundError
from xatmo.zoo import default_model, get_card, list_models, registry


@pytest.fixture
def extra(tmp_path, monkeypatch):
    """A second folder of models, named by XATMO_MODELS_URL."""
    folder = tmp_path / "more models"
    folder.mkdir()
    monkeypatch.setenv("XATMO_MODELS_URL", str(folder))
    return folder


def test_a_model_is_a_folder(models, model_folder):
    assert len(list_models()) == 0
    assert repr(list_models()) == f"no models in {models}"
    model_folder("two")
    model_folder("one")
    (models / "README.md").write_text("not a model")
    (models / "notes").mkdir()
    assert [card.name for card in list_models()] == ["one", "two"]
    assert [card.name for card in list_models()[:1]] == ["one"]
    assert get_card("two").folder == models / "two"


def test_the_table_says_what_one_needs_to_choose(models, model_folder):
    model_folder("here", default=True, content=b"x" * 1_500_000)
    model_folder("there", here=False, weights={"urls": ["https://a.b/c"]})
    model_folder("nowhere", here=False)
    (models / "broken").mkdir()
    (models / "broken" / "card.toml").write_text("name = 'broken'")
    table = list_models()
    assert repr(table).splitlines() == [
        "name     version  capabilities     size    weights",
        "here *   1.0.0    embed, distance  1.5 MB  on disk",
        "nowhere  1.0.0    embed, distance  0.0 MB  not available",
        "there    1.0.0    embed, distance  0.0 MB  to download",
        "* taken when no model is named",
        f"! {models}/broken/card.toml: key 'inputs' is missing.",
    ]
    page = table._repr_html_()
    assert "<td>here *</td>" in page
    assert "&#x27;inputs&#x27; is missing" in page


def test_models_are_chosen_by_capability(model_folder):
    model_folder("one", capabilities=["embed"])
    model_folder("two", capabilities=["embed", "distance"])
    assert [card.name for card in list_models("distance")] == ["two"]
    assert len(list_models("infill")) == 0
    with pytest.raises(ModelNotFoundError, match="There is no capability 'flying'"):
        list_models("flying")


def test_an_unknown_name_gets_close_ones(model_folder):
    model_folder("atmodist-small")
    model_folder("climax")
    with pytest.raises(ModelNotFoundError, match="no model 'atmodist-smal'") as caught:
        get_card("atmodist-smal")
    assert "did you mean 'atmodist-small'?" in caught.value.hint
    assert "xatmo.list_models()" in caught.value.hint
    assert caught.value.found == "atmodist-small, climax"
    with pytest.raises(KeyError, match=r"no version '2\.0' of the model") as c:
        get_card("climax@2.0")
    assert c.value.found == "climax@1.0.0"
    assert c.value.hint.startswith("model='climax@1.0.0', or another release")


def test_a_broken_card_takes_down_only_itself(models, model_folder):
    model_folder("good", default=True)
    (models / "bad").mkdir()
    (models / "bad" / "card.toml").write_text("name = 'bad'\nname = 'worse'")
    assert [card.name for card in list_models()] == ["good"]
    assert [broken.name for broken in list_models().broken] == ["bad"]
    assert default_model("embed").name == "good"
    with pytest.raises(CardError, match=r"bad/card\.toml: the card cannot be read"):
        get_card("bad")
    with pytest.raises(CardError, match=r"bad/card\.toml: the card cannot be read"):
        get_card("bad@1.0.0")


def test_the_default_is_found_by_capability(model_folder):
    model_folder("one", capabilities=["embed"])
    with pytest.raises(ModelNotFoundError, match="is the default for 'embed'") as c:
        default_model("embed")
    assert c.value.hint == "model='one'"
    with pytest.raises(ModelNotFoundError, match="is the default for 'infill'") as c:
        default_model("infill")
    assert c.value.hint == "xatmo.list_models()"
    model_folder("two", capabilities=["embed"], default=True)
    model_folder("three", capabilities=["infill"], default=True)
    assert default_model("embed").name == "two"
    assert default_model("infill").name == "three"


def test_two_defaults_are_an_error_that_names_both(model_folder):
    model_folder("one", capabilities=["embed", "distance"], default=True)
    model_folder("two", capabilities=["distance"], default=True)
    assert default_model("embed").name == "one"
    with pytest.raises(CardError, match="'one' and 'two' both claim") as caught:
        default_model("distance")
    assert "one/card.toml" in caught.value.found
    assert "two/card.toml" in caught.value.found


def test_a_second_folder_adds_models(models, model_folder, extra):
    model_folder("ours", default=True)
    model_folder("yours", root=extra, default=True)
    model_folder("filler", root=extra, default=True, capabilities=["infill"])
    assert [card.name for card in list_models()] == ["filler", "ours", "yours"]
    assert get_card("yours").folder == extra / "yours"
    # A default of the second folder counts only where the package has none.
    assert default_model("embed").name == "ours"
    assert default_model("infill").name == "filler"


def test_a_bare_name_is_the_packaged_model(models, model_folder, extra):
    model_folder("tiny", content=b"one")
    model_folder("tiny", content=b"two", root=extra, version="2.0.0")
    assert get_card("tiny").version == "1.0.0"
    assert get_card("tiny@2.0.0").folder == extra / "tiny"


def test_the_same_model_twice_is_one(models, model_folder, extra):
    model_folder("tiny")
    model_folder("tiny", root=extra)
    assert get_card("tiny").folder == models / "tiny"


def test_two_models_of_one_name_are_never_mixed_up(models, model_folder, extra):
    model_folder("tiny", content=b"one", default=True)
    model_folder("tiny", content=b"two", root=extra)
    for ask in (
        lambda: get_card("tiny"),
        lambda: get_card("tiny@1.0.0"),
        lambda: default_model("embed"),
    ):
        with pytest.raises(CardError, match="Two different models are called 'tiny'"):
            ask()


def test_a_broken_packaged_card_is_not_replaced_in_silence(models, model_folder, extra):
    model_folder("tiny", root=extra)
    (models / "tiny").mkdir()
    (models / "tiny" / "card.toml").write_text("")
    with pytest.raises(CardError, match=r"tiny/card\.toml: key 'inputs' is missing"):
        get_card("tiny")


def test_the_package_s_own_folder_may_be_named(models, model_folder, monkeypatch):
    model_folder("tiny", default=True)
    monkeypatch.setenv("XATMO_MODELS_URL", str(models))
    assert len(list_models()) == 1
    assert default_model("embed").name == "tiny"


def test_a_folder_that_does_not_exist_is_said(model_folder, monkeypatch):
    model_folder("tiny")
    monkeypatch.setenv("XATMO_MODELS_URL", "/no/such/folder")
    assert get_card("tiny").name == "tiny"
    assert "! XATMO_MODELS_URL names a folder that does not exist: /no/such" in repr(
        list_models()
    )


def test_a_web_address_is_no_folder(model_folder, monkeypatch):
    model_folder("tiny")
    monkeypatch.setenv("XATMO_MODELS_URL", "https://127.0.0.1:9/models")
    assert not list_models().broken


def test_models_are_packaged_or_beside_the_package(monkeypatch, tmp_path):
    monkeypatch.undo()
    checkout = tmp_path / "checkout"
    module = checkout / "xatmo" / "zoo" / "registry.py"
    module.parent.mkdir(parents=True)
    monkeypatch.setattr(registry, "__file__", str(module))
    assert registry.packaged_folder() == checkout / "models"
    (module.parent / "models").mkdir()
    assert registry.packaged_folder() == module.parent / "models"


def test_a_copy_elsewhere_is_not_called_the_default(tmp_path, monkeypatch):
    """The packaged default wins, and the table says so."""
    source = Path(__file__).parents[2] / "models" / "atmodist-small"
    shutil.copytree(source, tmp_path / "mine")
    card = tmp_path / "mine" / "card.toml"
    card.write_text(
        card.read_text().replace('name = "atmodist-small"', 'name = "mine"')
    )
    monkeypatch.setattr(registry, "packaged_folder", lambda: source.parent)
    monkeypatch.setenv("XATMO_MODELS_URL", str(tmp_path))
    text = repr(registry.list_models())
    assert "atmodist-small *" in text
    assert "mine *" not in text
    assert "mine" in text
