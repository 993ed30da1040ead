import json
import re
import subprocess
import sys

import pytest

from xatmo.cli import main


def test_list(models, model_folder, capsys):
    model_folder("one", default=True)
    (models / "broken").mkdir()
    (models / "broken" / "card.toml").write_text("")
    assert main(["models", "list"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"one \* +1\.0\.0 +embed, distance", out)
    assert "! " in out
    assert "broken/card.toml" in out


def test_list_json(models, model_folder, capsys):
    card = model_folder("one")
    (models / "broken").mkdir()
    (models / "broken" / "card.toml").write_text("")
    assert main(["models", "list", "--json"]) == 0
    one, broken = json.loads(capsys.readouterr().out)
    assert one["name"] == "one"
    assert one["sha256"] == card.weights.sha256
    assert one["weights"] == "on disk"
    assert one["capabilities"] == ["embed", "distance"]
    assert broken["name"] == "broken"
    assert "'inputs' is missing" in broken["error"]


def test_show(model_folder, capsys):
    model_folder("one", here=False)
    assert main(["models", "show", "one@1.0.0"]) == 0
    assert "<xatmo model one 1.0.0>" in capsys.readouterr().out


def test_an_error_is_printed_without_a_traceback(model_folder, capsys):
    model_folder("one")
    assert main(["models", "show", "onne"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ModelNotFoundError: There is no model 'onne'.\n  found:")
    assert "did you mean 'one'?" in err
    assert "Traceback" not in err


def test_fetch(model_folder, server, capsys):
    from xatmo.options import set_options

    content = b"x" * 1000
    server.answers["/w"] = [server.body(content)]
    model_folder(
        "one", content=content, here=False, weights={"urls": [server.url + "/w"]}
    )
    with set_options(progress=False):
        assert main(["models", "fetch", "one"]) == 0
        assert capsys.readouterr().out.strip().endswith("weights.safetensors")
        assert main(["models", "fetch", "one", "--force"]) == 0
    assert server.asked["/w"] == 2


def test_verify(models, model_folder, capsys):
    model_folder("one")
    model_folder("two", here=False)
    assert main(["models", "verify"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ok +one +.*weights\.safetensors$", out, re.M)
    assert re.search(r"^not fetched +two", out, re.M)
    (models / "one" / "weights.safetensors").write_bytes(b"the Weights")
    assert main(["models", "verify"]) == 1
    assert main(["models", "verify", "one"]) == 1
    assert main(["models", "verify", "two"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^DAMAGED +one +.*: sha256 \w{64}, the card says", out, re.M)


def test_verify_names_a_broken_card(models, model_folder, capsys):
    model_folder("one")
    (models / "two").mkdir()
    (models / "two" / "card.toml").write_text("")
    assert main(["models", "verify"]) == 1
    assert re.search(r"^BAD CARD +two", capsys.readouterr().out, re.M)
    assert main(["models", "verify", "two"]) == 2


@pytest.mark.parametrize("line", [[], ["models"], ["fly"], ["models", "show"]])
def test_an_incomplete_line_gets_the_usage(line, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(line)
    assert "usage: xatmo" in capsys.readouterr().err


def test_python_m_xatmo(subprocess_env):
    line = [sys.executable, "-m", "xatmo", "models", "--help"]
    done = subprocess.run(
        line, env=subprocess_env, capture_output=True, text=True, check=True
    )
    assert "compare weight files with their cards" in done.stdout


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert re.match(r"xatmo \d+\.", capsys.readouterr().out)
