"""ClimaX checkpoints as models: from files, and from a server."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import xatmo
from xatmo.errors import (
    DownloadError,
    GridError,
    ModelNotFoundError,
    OptionError,
    WeightsError,
)
from xatmo.nets.climax import VARIABLES, ClimaX
from xatmo.zoo import constants_of, published
from xatmo.zoo.fetch import cache_folder, imported_folder
from xatmo.zoo.importers.climax_card import card_of_climax, era5_constants

NAME = "climax-5.625deg"
PATH = "/climax/5.625deg.ckpt"


@pytest.fixture
def tiny(reference):
    """Folder of the original's miniature model."""
    return reference / "climax" / "tiny_p4_32x64"


@pytest.fixture
def config(tiny):
    return json.loads((tiny / "config.json").read_text())


@pytest.fixture
def told(config):
    """What a miniature checkpoint does not tell of itself."""
    return {"variables": config["model_kwargs"]["default_vars"], "heads": 4}


@pytest.fixture
def remote(tiny, told, server, monkeypatch):
    """The authors' server, with the miniature checkpoint in place of the large one."""
    known = published.Known("for tests", options=told)
    models = published.PUBLISHERS["climax-"].models
    monkeypatch.setitem(models, "5.625deg", known)
    monkeypatch.setenv("XATMO_CLIMAX_URL", f"{server.url}/climax")
    content = (tiny / "checkpoint_like_published.ckpt").read_bytes()
    server.answers[PATH] = [server.body(content)]
    return content


def _record():
    return cache_folder() / "climax" / "5.625deg" / "5.625deg.json"


def _pinned(monkeypatch, told, sha256):
    known = published.Known("for tests", sha256, told)
    monkeypatch.setitem(published.PUBLISHERS["climax-"].models, "5.625deg", known)


# --- Files ----------------------------------------------------------------------------


@pytest.mark.parametrize("vintage", ["published", "current"])
def test_both_vintages_compute_what_the_original_does(tiny, config, told, vintage):
    file = tiny / f"checkpoint_like_{vintage}.ckpt"
    model = xatmo.import_model(file, **told)
    assert model.name == f"climax-checkpoint_like_{vintage}"
    with np.load(tiny / "io.npz") as io:
        fields, expected = (torch.from_numpy(io[k]) for k in ("input", "predictions"))
    hours = torch.tensor(config["lead_hours"])
    names = config["in_variables"], config["out_variables"]
    found = model.network()(fields, hours, *names)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_card_says_what_the_network_reads(tiny, told):
    model = xatmo.import_model(tiny / "checkpoint_like_published.ckpt", **told)
    card = model.card
    assert card.folder.parent == imported_folder()
    assert card.capabilities == ("embed", "forecast", "attention")
    assert (card.leads.step, card.leads.shortest, card.leads.longest) == ("6h", 6, 162)
    assert (card.grid.patch, card.grid.spacing) == ((32, 64), (5.625, 5.625))
    assert card.grid.northward
    levels = {lv.variable: (f, lv) for f in card.fields for lv in f.levels}
    assert set(levels) == set(told["variables"])
    field, level = levels["temperature_850"]
    assert (field.quantity, field.units, level.level) == (
        "air_temperature",
        "K",
        "850 hPa",
    )
    mean, std = era5_constants()["temperature_850"]
    constants = constants_of(model, field.name, level.level)
    assert (constants.mean.item(), constants.std.item()) == (mean, std)
    assert not levels["land_sea_mask"][1].trained
    assert "lead times" in repr(model) or "how far ahead" in repr(model)


def test_the_published_variables():
    options = {"variables": list(VARIABLES), "grid": [32, 64], "patch": 2, "width": 8}
    levels = {
        lv["variable"]: (f["quantity"], lv)
        for f in card_of_climax("x", options)["fields"]
        for lv in f["levels"]
    }
    trained = [name for name, (_, lv) in levels.items() if lv.get("trained", True)]
    # Surface 3, and 5 quantities on 7 levels; the 10 others say nothing.
    assert len(trained) == 3 + 5 * 7
    assert set(levels) - set(trained) == {"land_sea_mask", "orography"}
    assert levels["2m_temperature"][1]["level"] == "2 m"
    assert levels["orography"][1]["mean"] == [pytest.approx(378.15, abs=0.01)]


def test_constants_of_era5():
    known = {
        "2m_temperature": (278.51, 21.21),
        "10m_u_component_of_wind": (-0.051, 5.464),
        "mean_sea_level_pressure": (100957, 1330.8),
        "geopotential_500": (54116, 3354.1),
        "temperature_850": (274.57, 15.58),
        "u_component_of_wind_500": (6.563, 11.911),
        "v_component_of_wind_850": (0.144, 6.176),
        "specific_humidity_850": (4.577e-3, 4.073e-3),
        "land_sea_mask": (0.336, 0.451),
    }
    found = era5_constants()
    for name, (mean, std) in known.items():
        assert found[name] == (
            pytest.approx(mean, rel=1e-3, abs=5e-4),
            pytest.approx(std, rel=1e-3, abs=5e-4),
        )
    assert all(np.isfinite(pair).all() and pair[1] > 0 for pair in found.values())


def test_arguments_of_the_other_kind(tiny):
    file = tiny / "checkpoint_like_published.ckpt"
    with pytest.raises(OptionError, match=r"(?s)epoch= says nothing.*import_model"):
        xatmo.import_model(file, epoch=3)
    with pytest.raises(OptionError, match="heads= says nothing"):
        xatmo.import_model(tiny, heads=4)


def test_other_numbers_of_variables(tiny):
    with pytest.raises(WeightsError, match=r"(?s)as many variables.*48.*5 names"):
        xatmo.import_model(tiny / "checkpoint_like_published.ckpt", heads=4)
    with pytest.raises(WeightsError, match="None of the network's variables is known"):
        xatmo.import_model(
            tiny / "checkpoint_like_published.ckpt", variables=list("abcde"), heads=4
        )


class _Evil:
    def __reduce__(self):
        return print, ("code was run",)


def test_code_is_refused(tmp_path, capsys):
    torch.save({"state_dict": {}, "hook": _Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(WeightsError, match=r"(?s)refused.*print"):
        xatmo.import_model(tmp_path / "evil.ckpt")
    assert "code was run" not in capsys.readouterr().out
    torch.save({"state_dict": [1, 2]}, tmp_path / "list.ckpt")
    with pytest.raises(WeightsError, match=r"(?s)refused.*list"):
        xatmo.import_model(tmp_path / "list.ckpt")
    with pytest.raises(WeightsError, match=r"(?s)cannot be read.*FileNotFound"):
        xatmo.import_model(tmp_path / "absent.ckpt")
    assert not imported_folder().exists()


def test_numbers_that_are_none(tiny, told, tmp_path):
    state = torch.load(tiny / "checkpoint_like_current.ckpt", weights_only=True)
    next(iter(state["state_dict"].values())).view(-1)[0] = float("nan")
    torch.save(state, tmp_path / "broken.ckpt")
    with pytest.raises(WeightsError, match="not finite"):
        xatmo.import_model(tmp_path / "broken.ckpt", **told)


# --- From the authors -----------------------------------------------------------------


def test_fetched_once(remote, server):
    model = xatmo.load_model(NAME)
    assert model.card.folder == imported_folder() / NAME
    assert xatmo.load_model(NAME) == model
    assert server.asked == {PATH: 1}
    entry = json.loads(_record().read_text())
    assert (entry["size"], entry["url"]) == (len(remote), server.url + PATH)
    assert model.card.weights.file.endswith(".safetensors")


def test_another_file_than_the_first_time(remote, server):
    model = xatmo.load_model(NAME)
    shutil.rmtree(model.card.folder)
    file = _record().with_name("5.625deg.ckpt")
    file.unlink()
    server.answers[PATH] = [server.body(remote + b"\0")]
    with pytest.raises(DownloadError, match=r"(?s)another one than.*delete .*json"):
        xatmo.load_model(NAME)
    assert not file.exists()
    assert not (imported_folder() / NAME).exists()


def test_a_pinned_sum(remote, told, server, monkeypatch):
    import hashlib

    _pinned(monkeypatch, told, "0" * 64)
    with pytest.raises(DownloadError, match=r"(?s)not the one that was published.*000"):
        xatmo.load_model(NAME)
    assert not imported_folder().exists()
    _pinned(monkeypatch, told, hashlib.sha256(remote).hexdigest())
    assert xatmo.load_model(NAME).name == NAME


@pytest.mark.parametrize("said", [False, True])
def test_a_truncated_file(remote, server, impatient, said):
    half = remote[: len(remote) // 2]
    server.answers[PATH] = [server.body(half, len(remote) if said else None)]
    error = DownloadError if said else WeightsError
    with pytest.raises(error, match=r"cannot be fetched|cannot be read as weights"):
        xatmo.load_model(NAME)
    assert not _record().exists()
    server.answers[PATH] = [server.body(remote)]
    assert xatmo.load_model(NAME).name == NAME


def test_nothing_there(remote, server, impatient):
    server.answers[PATH] = [server.status(404)]
    with pytest.raises(DownloadError, match=r"(?s)HTTP 404.*models import"):
        xatmo.load_model(NAME)


def test_code_from_the_authors_is_refused(remote, server, tmp_path, capsys):
    torch.save({"state_dict": {"net.x": _Evil()}}, tmp_path / "evil.ckpt")
    server.answers[PATH] = [server.body((tmp_path / "evil.ckpt").read_bytes())]
    with pytest.raises(WeightsError, match="refused"):
        xatmo.load_model(NAME)
    assert "code was run" not in capsys.readouterr().out
    assert not _record().exists()
    assert not _record().with_name("5.625deg.ckpt").exists()


def test_an_id_that_nobody_knows(server, monkeypatch):
    monkeypatch.setenv("XATMO_CLIMAX_URL", server.url)
    with pytest.raises(ModelNotFoundError, match=r"(?s)ClimaX.*'3deg'.*climax-1\.4"):
        xatmo.load_model("climax-3deg")
    assert not server.asked


# --- Other grids ----------------------------------------------------------------------


def test_positions_for_another_grid(tiny, told, reference):
    from xatmo.nets.climax_position import resize_positions

    model = xatmo.import_model(tiny / "checkpoint_like_published.ckpt", **told)
    fine = model.with_grid(64, 128)
    assert fine.name == f"{model.name}-64x128"
    assert fine.card.grid.patch == (64, 128)
    assert fine.card.grid.spacing == (2.8125, 2.8125)
    before, after = (m.network().position for m in (model, fine))
    torch.testing.assert_close(after, resize_positions(before, (16, 32)))
    assert xatmo.load_model(fine.name) == fine
    assert model.with_grid(32, 64) == model
    assert isinstance(fine.network(), ClimaX)


def test_grids_that_do_not_divide(tiny, told):
    model = xatmo.import_model(tiny / "checkpoint_like_published.ckpt", **told)
    said = r"(?s)180 rows \(crop 1\) or 184 \(pad 3\).*with_grid\(180, 360\)"
    with pytest.raises(GridError, match=said):
        model.with_grid(181, 360)
    with pytest.raises(GridError, match="multiples of 4"):
        model.with_grid(0, 360)


def test_networks_of_any_grid_have_no_other(box_model):
    with pytest.raises(OptionError, match="not made for one grid alone"):
        box_model().with_grid(8, 8)
