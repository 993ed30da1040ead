"""Published AtmoRep models become ours: from a folder, an archive, the authors."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import xatmo
from xatmo.cli import main
from xatmo.errors import (
    CardError,
    DownloadError,
    ModelNotFoundError,
    OptionError,
    WeightsError,
)
from xatmo.options import set_options
from xatmo.zoo import constants_of, get_card, published, read_card
from xatmo.zoo.fetch import cache_folder, imported_folder
from xatmo.zoo.model import card_of

CASES = ("tiny1f", "tiny2f", "legacy1f")


@pytest.fixture(autouse=True)
def quiet():
    with set_options(progress=False):
        yield


@pytest.fixture
def originals(reference):
    return reference / "atmorep"


@pytest.fixture
def original(originals, tmp_path):
    """A copy of a published folder, to spoil."""

    def make(case="tiny2f"):
        folder = tmp_path / "copies" / f"id{case}"
        shutil.copytree(originals / case / "models" / f"id{case}", folder)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755)
        return folder

    return make


# --- The numbers ----------------------------------------------------------------------


def _inputs(folder, network):
    given, wanted = (load_file(folder / f"{k}puts.safetensors") for k in ("in", "out"))
    tokens, info, targets = {}, {}, {}
    for i, (name, spec) in enumerate(network.fields.items()):
        tokens[name], info[name] = given[f"source_masked.{i}"], given[f"token_info.{i}"]
        mask = torch.zeros(spec.levels, 2 * spec.count // spec.levels).bool()
        for level in range(spec.levels):
            mask[level, given[f"masked_idx.{i}.{level}"]] = True
        targets[name] = mask.view(spec.levels, 2, *spec.tokens).transpose(0, 1)
    return tokens, info, targets, wanted


@pytest.mark.parametrize("case", CASES)
def test_computes_what_the_original_computes(originals, case):
    model = xatmo.import_model(originals / case)
    network = model.network()
    *inputs, wanted = _inputs(originals / case, network)
    with torch.no_grad():
        found = network(*inputs)
    for i, (name, spec) in enumerate(network.fields.items()):
        given = load_file(originals / case / "inputs.safetensors")
        members = found[name].flatten(2)
        expected = wanted[f"pred_ens.{i}"]  # by level, then box; ours by box
        mask = inputs[2][name].flatten(2)
        place = torch.zeros(2, spec.levels, mask.shape[2]).long()
        place[mask] = torch.arange(len(members))
        order = torch.cat(
            [
                place[:, v].flatten()[given[f"masked_idx.{i}.{v}"]]
                for v in range(spec.levels)
            ]
        )
        torch.testing.assert_close(members[order], expected, atol=1e-5, rtol=0)


def test_the_card_says_what_it_is(originals):
    card = xatmo.import_model(originals / "tiny2f").card
    assert card.name == "atmorep-tiny2f"
    assert card.folder == imported_folder() / card.name
    assert [(f.name, f.quantity, f.units) for f in card.fields] == [
        ("velocity_u", "eastward_wind", "m s-1"),
        ("temperature", "air_temperature", "K"),
    ]
    levels = [(lv.level, lv.slot, lv.mean) for lv in card.fields[1].levels]
    assert levels == [
        ("model level 96", 0, None),
        ("model level 114", 1, None),
        ("model level 137", 2, None),
    ]
    assert (card.box.step, card.box.ahead, card.box.local) == ("1h", 3, None)
    assert card.grid.spacing == (0.25, 0.25)
    assert card.grid.patch == (18, 36)
    assert card.layers.names == ("encoder2", "encoder1")
    assert card.layers.features == {"encoder2": 80, "encoder1": 80}
    assert "MIT" in card.licence
    assert not any(card.is_default(c) for c in card.capabilities)
    assert "atmorep-tiny2f" in (card.folder / "README.md").read_text()
    assert sorted(p.name for p in card.folder.iterdir()) == [
        "README.md",
        "card.toml",
        "weights.safetensors",
    ]


def test_generations_differ_in_how_they_count_days(originals):
    network = {
        case: xatmo.import_model(originals / case).card.network for case in CASES
    }
    assert network["legacy1f"]["fractional_day"]
    assert network["legacy1f"]["cross_query_norm"]
    assert not network["tiny1f"]["fractional_day"]
    assert network["tiny1f"]["guess"] == "zero"
    assert network["tiny1f"]["level_numbers"] == {"velocity_u": [114, 137]}


def test_the_model_reads_boxes(originals):
    network = xatmo.import_model(originals / "tiny2f").network()
    x = torch.randn(1, 5, *network.box)
    x[:, :, -3:] = torch.nan
    when = torch.tensor([[[2021.0, 40, h] for h in range(12)]])
    where = torch.linspace(50, 45.75, 18)[None], torch.linspace(10, 18.75, 36)[None]
    found = network.predict(x, when, *where, 0.25, frames=3)
    assert found.shape == (1, 4, 5, 3, 18, 36)
    assert found.isfinite().all()


def test_other_processes_find_it(originals, subprocess_env):
    model = xatmo.import_model(originals / "tiny1f")
    code = "import sys, xatmo; m = xatmo.load_model('atmorep-tiny1f'); print(m.key)"
    env = {**subprocess_env, "XATMO_CACHE": str(cache_folder())}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert model.key.sha256 in done.stdout
    assert card_of(model.key) == model.card
    assert "atmorep-tiny1f" in repr(xatmo.list_models("forecast"))


# --- What is in a folder --------------------------------------------------------------


def test_all_files_give_the_same_model(original):
    folder = original()
    whole = xatmo.import_model(folder, name="whole")
    single = folder.with_name("single")
    single.mkdir()
    for path in [*folder.glob("AtmoRep_[de]*"), *folder.glob("AtmoRep_tail*")]:
        path.rename(single / path.name)
    shutil.copy(folder / "model_idtiny2f.json", single)
    file = folder / "AtmoRep_idtiny2f.mod"
    file.rename(folder / "AtmoRep_idtiny2f_epoch00007.mod")
    torch.save({"x": torch.zeros(1)}, folder / "AtmoRep_idtiny2f_epoch00003.mod")
    last = xatmo.import_model(folder, name="last")
    assert last.card.training["epoch"] == 7
    named = xatmo.import_model(folder, epoch=7)
    assert named.name == "atmorep-tiny2f-epoch7"
    parts = xatmo.import_model(single, name="parts")
    sums = {m.card.weights.sha256 for m in (whole, last, named, parts)}
    assert len(sums) == 1
    (single / "AtmoRep_tail_temperature_idtiny2f.mod").unlink()
    with pytest.raises(WeightsError, match=r"(?s)Parts.*missing.*tail of each field"):
        xatmo.import_model(single, name="fewer")


def test_an_epoch_that_is_not_there(original):
    with pytest.raises(OptionError, match=r"(?s)no weights of epoch 3.*no epochs"):
        xatmo.import_model(original(), epoch=3)


def test_an_archive_is_read_as_it_is(original, tmp_path):
    folder = original("tiny1f")
    archive = tmp_path / "model_idtiny1f.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "idtiny1f")
    packed = xatmo.import_model(archive, name="packed")
    plain = xatmo.import_model(folder)
    assert packed.card.weights.sha256 == plain.card.weights.sha256
    assert not any((cache_folder() / "unfinished").iterdir())


def test_folders_that_hold_no_model_or_several(originals, tmp_path):
    with pytest.raises(OptionError, match=r"(?s)no AtmoRep model.*no such folder"):
        xatmo.import_model(tmp_path / "nowhere")
    with pytest.raises(OptionError, match=r"(?s)no AtmoRep model.*found:  models"):
        xatmo.import_model(tmp_path)
    folder = tmp_path / "both"
    for case in CASES[:2]:
        shutil.copytree(originals / case / "models" / f"id{case}", folder / f"id{case}")
    with pytest.raises(
        OptionError, match=r"(?s)several.*tiny1f, tiny2f.*models import"
    ):
        xatmo.import_model(folder)
    assert not imported_folder().exists()


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"fields": 1}', "\0"])
def test_settings_that_are_none(original, text):
    folder = original("tiny1f")
    (folder / "model_idtiny1f.json").write_text(text)
    with pytest.raises(WeightsError, match=r"json does not hold the settings"):
        xatmo.import_model(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"fields": [["velocity_u"]]}, "settings of tiny1f are not those"),
        ({"encoder_att_type": "axial"}, "no published model is: encoder_att_type"),
        ({"net_tail_num_nets": 8}, "which has more parts"),
        ({"encoder_num_layers": 4}, r"heads\.3\.\S+ is missing"),
        ({"encoder_num_layers": 2}, "network that cannot be built"),
        ({"encoder_num_heads": 5}, "network that cannot be built"),
    ],
)
def test_settings_of_other_networks(original, change, match):
    folder = original("tiny1f")
    file = folder / "model_idtiny1f.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(WeightsError, match=match):
        xatmo.import_model(folder)
    assert not imported_folder().exists() or not list(imported_folder().glob("*/*"))


def test_a_field_that_nobody_knows(original):
    folder = original("tiny1f")
    file = folder / "model_idtiny1f.json"
    file.write_text(file.read_text().replace("velocity_u", "radar_precip"))
    with pytest.raises(
        WeightsError, match=r"(?s)not known what.*radar_precip.*velocity_u"
    ):
        xatmo.import_model(folder)


class Evil:
    """An object whose pickle runs code, which leaves a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch '{self.mark}'",)


@pytest.fixture
def evil(original, tmp_path):
    """A published folder that would run code; the file that would tell."""
    folder, mark = original("tiny1f"), tmp_path / "was here"
    torch.save({"embeds.0.weight": Evil(mark)}, folder / "AtmoRep_idtiny1f.mod")
    yield folder
    assert not mark.exists()


def test_code_is_refused(evil):
    with pytest.raises(WeightsError, match=r"(?s)refused.*system") as caught:
        xatmo.import_model(evil)
    assert "weights_only" not in str(caught.value)
    assert not imported_folder().exists()


def test_other_things_than_weights_are_refused(original):
    folder = original("tiny1f")
    torch.save([torch.zeros(3)], folder / "AtmoRep_idtiny1f.mod")
    with pytest.raises(WeightsError, match=r"(?s)more than weights.*list"):
        xatmo.import_model(folder)


@pytest.mark.parametrize("keep", [0, 100, 600_000])
def test_damaged_weights_are_refused(original, keep):
    file = original("tiny1f") / "AtmoRep_idtiny1f.mod"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"cannot be read as weights"):
        xatmo.import_model(file.parent)


def test_weights_that_are_no_numbers(original):
    file = original("tiny1f") / "AtmoRep_idtiny1f.mod"
    state = torch.load(file, weights_only=True)
    state["encoders.0.embed.weight"][0, 0] = torch.nan
    torch.save(state, file)
    with pytest.raises(WeightsError, match=r"(?s)not finite.*values\.weight"):
        xatmo.import_model(file.parent)


def _tar(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    "name", ["../../evil.json", "/evil.json", "idx/../../../evil.mod"]
)
def test_archives_stay_in_their_folder(tmp_path, name):
    _tar(tmp_path / "x.tar.gz", {name: b"x"})
    with pytest.raises(WeightsError, match=r"(?s)refused.*evil"):
        xatmo.import_model(tmp_path / "x.tar.gz")
    assert not list(tmp_path.rglob("evil*"))
    _tar(tmp_path / "y.tar.gz", {"idx/model_idx.json": None})
    with pytest.raises(WeightsError, match=r"refused"):
        xatmo.import_model(tmp_path / "y.tar.gz")


# --- Again, and others of the name ----------------------------------------------------


def test_again_is_the_same_model(originals):
    first = xatmo.import_model(originals / "tiny1f")
    stamp = (first.card.folder / "weights.safetensors").stat().st_mtime_ns
    again = xatmo.import_model(originals / "tiny1f")
    assert again == first
    assert (first.card.folder / "weights.safetensors").stat().st_mtime_ns == stamp


def test_other_weights_of_that_name_are_not_overwritten(originals, model_folder):
    first = xatmo.import_model(originals / "tiny1f", name="mine")
    with pytest.raises(OptionError, match=r'(?s)another model.*mine.*name="mine-2"'):
        xatmo.import_model(originals / "legacy1f", name="mine")
    assert read_card(first.card.folder) == first.card
    model_folder("packaged")
    with pytest.raises(OptionError, match="another model"):
        xatmo.import_model(originals / "tiny1f", name="packaged")
    with pytest.raises(CardError, match="'name'"):
        xatmo.import_model(originals / "tiny1f", name="no/name")


def test_a_cache_that_cannot_be_written(originals, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XATMO_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=r"(?s)cache folder.*XATMO_CACHE="):
        xatmo.import_model(originals / "tiny1f")


# --- Statistics -----------------------------------------------------------------------


def _global_file(folder, field, level, years=(2001, 2002), months=range(1, 13)):
    """Numbers of the whole globe: mean = month + year / 1000, spread = month."""
    rows = [[y, m, m + (y - 2000) / 10, m] for y in years for m in months]
    path = folder / f"global_normalization_mean_var_{field}_ml{level}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.array(rows, "<f4").tofile(path)
    return path


def _local_files(folder, field, level, years=(2001, 2002), months=range(1, 13)):
    for year in years:
        for month in months:
            x = np.zeros((5, 8, 2))
            x[..., 0] = month + np.arange(5)[:, None] + (year - 2000) / 10
            x[..., 1] = month + np.arange(8)
            name = f"normalization_mean_var_{field}_y{year}_m{month:02}_ml{level}.bin"
            (folder / field).mkdir(parents=True, exist_ok=True)
            x.astype("<f4").tofile(folder / field / name)


def test_statistics_of_the_globe(originals, tmp_path):
    for level in (114, 137):
        _global_file(tmp_path / "stats" / "velocity_u", "velocity_u", level)
    model = xatmo.import_model(originals / "tiny1f", normalization=tmp_path / "stats")
    found = constants_of(model, "velocity_u", "model level 137")
    month = np.arange(1.0, 13)
    np.testing.assert_allclose(found.mean.ravel(), month + 0.15, rtol=1e-6)
    spread = np.sqrt(month**2 + 0.05**2)  # of the years, and between them
    np.testing.assert_allclose(found.std.ravel(), spread, rtol=1e-6)
    # The same model again, without statistics, keeps those it has.
    again = xatmo.import_model(originals / "tiny1f")
    assert constants_of(again, "velocity_u", "model level 137").monthly


@pytest.mark.parametrize("case", ["tiny2f", "legacy1f"])
def test_statistics_of_places(original, tmp_path, case):
    folder = original(case)
    file = folder / f"model_id{case}.json"
    config = json.loads(file.read_text())
    for entry in config["fields"]:
        entry.append("local")
    file.write_text(json.dumps(config))
    plain = xatmo.import_model(folder)
    assert plain.card.box.local is None
    _local_files(tmp_path / "stats", "velocity_u", 137)
    model = xatmo.import_model(folder, normalization=tmp_path / "stats")
    assert model.card.box.local == "local.safetensors"
    assert model.card.weights == plain.card.weights
    found = constants_of(model, "velocity_u", "model level 137")
    # The first generation was trained with the numbers of the next month.
    month = np.roll(np.arange(1.0, 13), -1 if case == "legacy1f" else 0)
    expected = month[:, None, None] + np.arange(5)[:, None] + 0.15
    np.testing.assert_allclose(found.mean, expected + np.zeros(8), rtol=1e-6)
    np.testing.assert_array_equal(found.latitude, [90, 45, 0, -45, -90])
    np.testing.assert_array_equal(found.longitude, np.arange(8) * 45)
    mean, _ = found.at(np.array([12]), np.array([0.0]), np.array([359.0]))
    assert mean.item() == pytest.approx(month[11] + 2.15)
    assert not model.has_constants("velocity_u", "model level 114")


def test_statistics_that_are_none(originals, tmp_path):
    stats = tmp_path / "stats"
    stats.mkdir()
    with pytest.raises(OptionError, match=r"(?s)no statistics.*found:  none"):
        xatmo.import_model(originals / "tiny1f", normalization=stats)
    path = _global_file(stats, "velocity_u", 137, months=range(1, 12))
    with pytest.raises(OptionError, match=r"(?s)damaged.*all months"):
        xatmo.import_model(originals / "tiny1f", normalization=stats)
    path.write_bytes(b"\0" * 13)
    with pytest.raises(OptionError, match=r"(?s)damaged.*13 bytes"):
        xatmo.import_model(originals / "tiny1f", normalization=stats)


def test_statistics_of_places_that_are_damaged(original, tmp_path):
    folder = original("tiny1f")
    file = folder / "model_idtiny1f.json"
    config = json.loads(file.read_text())
    config["fields"][0].append("Local")
    file.write_text(json.dumps(config))
    stats = tmp_path / "stats"
    _local_files(stats, "velocity_u", 137, months=range(1, 12))
    with pytest.raises(OptionError, match=r"(?s)files of all months, not of 11"):
        xatmo.import_model(folder, normalization=stats)
    _local_files(stats, "velocity_u", 137)
    bad = next(stats.rglob("*_y2002_m05_ml137.bin"))
    bad.write_bytes(bad.read_bytes()[:-8])
    with pytest.raises(OptionError, match=r"(?s)m05_ml137.*global grid"):
        xatmo.import_model(folder, normalization=stats)


# --- From the authors -----------------------------------------------------------------


@pytest.fixture
def remote(originals, server, tmp_path, monkeypatch):
    """The authors' server with one model, whose id is known."""
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(originals / "tiny1f" / "models" / "idtiny1f", "idtiny1f")
    known = published.PUBLISHERS["atmorep-"].models
    monkeypatch.setitem(known, "tiny1f", published.Known("for tests"))
    monkeypatch.setenv("XATMO_ATMOREP_URL", f"{server.url}/models/")
    content = archive.read_bytes()
    server.answers[PATH] = [server.body(content)]
    return content


PATH = "/models/model_idtiny1f.tar.gz"
NAME = "atmorep-tiny1f"


def _record():
    return cache_folder() / "atmorep" / "tiny1f" / "model_idtiny1f.json"


def test_fetched_once(remote, server, originals):
    model = xatmo.load_model(NAME)
    assert model.card.folder == imported_folder() / NAME
    assert xatmo.load_model(f"{NAME}@1.0.0") == model
    assert server.asked == {PATH: 1}
    entry = json.loads(_record().read_text())
    assert entry["size"] == len(remote)
    assert entry["url"] == server.url + PATH
    same = xatmo.import_model(originals / "tiny1f")
    assert same.card.weights == model.card.weights
    # The archive may serve again.
    shutil.rmtree(model.card.folder)
    assert xatmo.load_model(NAME).card == model.card
    assert server.asked == {PATH: 1}


def test_another_file_than_the_first_time(remote, server):
    model = xatmo.load_model(NAME)
    shutil.rmtree(model.card.folder)
    archive = _record().with_name("model_idtiny1f.tar.gz")
    archive.unlink()
    server.answers[PATH] = [server.body(remote + b"\0")]
    with pytest.raises(DownloadError, match=r"(?s)another one than.*delete .*json"):
        xatmo.load_model(NAME)
    assert not archive.exists()
    assert not imported_folder().joinpath(NAME).exists()
    _record().unlink()  # as the message says
    assert xatmo.load_model(NAME).card == model.card


def test_a_damaged_archive_is_fetched_again(remote, server):
    model = xatmo.load_model(NAME)
    shutil.rmtree(model.card.folder)
    _record().with_name("model_idtiny1f.tar.gz").write_bytes(remote[:-5])
    assert xatmo.load_model(NAME).card == model.card
    assert server.asked == {PATH: 2}


def test_a_record_that_cannot_be_read(remote):
    _record().parent.mkdir(parents=True)
    _record().write_text("[]")
    with pytest.raises(DownloadError, match=r"(?s)json cannot be read.*delete"):
        xatmo.load_model(NAME)


@pytest.mark.parametrize("said", [False, True])
def test_a_truncated_archive(remote, server, impatient, said):
    half = remote[: len(remote) // 2]
    server.answers[PATH] = [server.body(half, len(remote) if said else None)]
    error = DownloadError if said else WeightsError
    with pytest.raises(error, match=r"cannot be fetched|not a whole archive"):
        xatmo.load_model(NAME)
    assert not _record().exists()
    server.answers[PATH] = [server.body(remote)]
    assert xatmo.load_model(NAME).name == NAME


def test_nothing_there(remote, server, impatient):
    server.answers[PATH] = [server.status(404)]
    with pytest.raises(DownloadError, match=r"(?s)HTTP 404.*models import"):
        xatmo.load_model(NAME)
    assert not _record().exists()


def test_code_from_the_authors_is_refused(remote, server, evil, tmp_path):
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        tar.add(evil, "idtiny1f")
    server.answers[PATH] = [server.body((tmp_path / "evil.tar.gz").read_bytes())]
    with pytest.raises(WeightsError, match="refused"):
        xatmo.load_model(NAME)
    assert not _record().exists()
    assert not imported_folder().exists()


def test_an_id_that_nobody_knows(server, monkeypatch):
    monkeypatch.setenv("XATMO_ATMOREP_URL", server.url)
    with pytest.raises(ModelNotFoundError, match=r"(?s)'nosuchid'.*atmorep-wc5e2i3t"):
        xatmo.load_model("atmorep-nosuchid")
    assert not server.asked
    with pytest.raises(ModelNotFoundError, match="no model 'atmorap"):
        xatmo.load_model("atmorap-tiny1f")
    with pytest.raises(ModelNotFoundError):
        get_card("atmorep-wc5e2i3t")  # only loading fetches


# --- The command ----------------------------------------------------------------------


def test_the_command(originals, capsys, tmp_path):
    assert main(["models", "import", str(originals / "tiny2f")]) == 0
    told = capsys.readouterr().out
    assert "imported atmorep-tiny2f, 0.7 MB" in told
    assert "temperature: air_temperature [K] at model level 96, model level 114" in told
    assert 'xatmo.load_model("atmorep-tiny2f")' in told
    assert "with_normalization(xatmo.fit_normalization(ds" in told
    for level in (114, 137):
        _global_file(tmp_path, "velocity_u", level)
    path = str(originals / "tiny1f")
    code = main(["models", "import", path, "--normalization", str(tmp_path)])
    assert code == 0
    assert "fit_normalization" not in capsys.readouterr().out
    assert main(["models", "import", path, "--epoch", "4"]) == 2
    assert "no weights of epoch 4" in capsys.readouterr().err
    assert main(["models", "verify", "atmorep-tiny2f"]) == 0
