"""Models on workers that have neither a network nor a folder in common with us."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest

import xatmo
import xatmo.cluster
from xatmo import errors
from xatmo.cluster import sending
from xatmo.cluster.plugin import ModelPlugin, received
from xatmo.zoo import load_network, registry
from xatmo.zoo.fetch import weights_path


@pytest.fixture(scope="module")
def lazy():
    """Four steps of the sample."""
    return xatmo.open_sample(chunks={"time": 1}).isel(time=slice(0, 4))


@contextlib.contextmanager
def cluster_of(workers, folder, far):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit="1.5GB",
            local_directory=str(folder),
            dashboard_address=None,
            env=far,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield cluster, client


@pytest.mark.slow
def test_workers_get_weights_once_each(own_model, far, far_env, lazy):
    ds = lazy
    expected = ds.compute().atmo.embed("mine", reduce="mean")
    z = ds.atmo.embed("mine", reduce="mean")
    with cluster_of(4, far, far_env) as (cluster, client):
        # Nobody has it, nobody can fetch it: the error says which call is missing.
        hint = r"(?s)no model 'mine'.*send_models\(client, 'mine'\)"
        with pytest.raises(errors.ModelNotFoundError, match=hint):
            z.compute()
        xatmo.cluster.send_models(client, "mine")
        xatmo.cluster.send_models(client, own_model)  # again: nothing is sent
        for _ in range(2):
            np.testing.assert_allclose(z.compute(), expected, rtol=0, atol=1e-5)
        assert (
            sorted(map(str, client.run(received).values())) == ["{'mine@1.1.0': 1}"] * 4
        )
        # One machine, one file; and no task carries the weights.
        weights = weights_path(own_model.card).stat().st_size
        files = list(far.rglob("weights.safetensors"))
        assert [f.stat().st_size for f in files] == [weights]
        assert len(cloudpickle.dumps(z.data.dask)) < weights / 20
        # A worker that dies and one that comes later have it too.
        address, pid = next(iter(client.run(os.getpid).items()))
        os.kill(pid, signal.SIGKILL)
        while address in client.nthreads():
            time.sleep(0.1)
        cluster.scale(5)
        client.wait_for_workers(5, timeout=300)
        client.run(load_network, own_model.key)
        assert list(client.run(received).values()) == [{"mine@1.1.0": 1}] * 5
        np.testing.assert_allclose(z.compute(), expected, rtol=0, atol=1e-5)
        assert list(far.rglob("weights.safetensors")) == files


@pytest.fixture
def plugin(own_model) -> ModelPlugin:
    return sending._plugin(own_model)


@pytest.fixture
def alone(monkeypatch, plugin):
    """This process as a worker that has no models of its own."""
    monkeypatch.delenv("XATMO_MODELS_URL")
    plugin = again(plugin)
    yield plugin
    plugin.teardown(None)


@pytest.fixture
def node(tmp_path) -> Path:
    """The local folder of a machine's workers."""
    return tmp_path / "node"


def again(plugin: ModelPlugin) -> ModelPlugin:
    """What the scheduler hands to the next worker."""
    return pickle.loads(pickle.dumps(plugin))  # noqa: S301 - our own


def test_arrival_makes_the_model_known(alone, tmp_path):
    with pytest.raises(errors.ModelNotFoundError):
        load_network(alone.key)
    alone.arrive(tmp_path)
    assert not load_network(alone.key).training
    alone.teardown(None)
    with pytest.raises(errors.ModelNotFoundError):
        load_network(alone.key)


def test_a_folder_is_written_once(alone, node):
    alone.arrive(node)
    (weights,) = node.rglob("weights.safetensors")
    before = weights.stat()
    other = again(alone)
    alone.teardown(None)
    other.arrive(node)
    assert weights.stat().st_mtime_ns == before.st_mtime_ns
    other.teardown(None)


@pytest.mark.parametrize("damage", ["short", "flipped", "absent", "leftover"])
def test_a_damaged_copy_is_replaced(alone, node, damage):
    alone.arrive(node)
    alone.teardown(None)
    (weights,) = node.rglob("weights.safetensors")
    content = weights.read_bytes()
    if damage == "short":
        weights.write_bytes(content[:100])
    elif damage == "flipped":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        weights.unlink()
    if damage == "leftover":
        (weights.parent.parent / ".draft-killed").mkdir()
    other = again(alone)  # kept: what is forgotten takes its models along
    other.arrive(node)
    assert weights.read_bytes() == content
    load_network(alone.key)


def test_other_bytes_are_refused(alone, tmp_path):
    content = alone.files["weights.safetensors"]
    alone.files["weights.safetensors"] = content[:-1] + b"x"
    with pytest.raises(errors.WeightsError, match="changed on its way"):
        alone.arrive(tmp_path)
    assert list(tmp_path.rglob("weights.safetensors")) == [
        tmp_path / "models" / "mine" / "weights.safetensors"  # the sender's own
    ]


def test_a_folder_that_cannot_be_written_is_named(alone, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(errors.DownloadError, match=r"(?s)cannot take.*file"):
        alone.arrive(tmp_path / "file")


def test_a_worker_that_has_the_model_keeps_its_own(plugin, tmp_path):
    plugin.arrive(tmp_path / "node")
    assert not (tmp_path / "node").exists()


def test_other_weights_of_the_same_name_are_no_obstacle(alone, tmp_path, monkeypatch):
    """The worker has another release; the key says which one is meant."""
    folder = tmp_path / "theirs"
    source = tmp_path / "models" / "mine"
    folder.mkdir()
    text = (source / "card.toml").read_text("utf-8")
    other = "0" * 64
    (folder / "mine").mkdir()
    text = text.replace(alone.key.sha256, other)
    (folder / "mine" / "card.toml").write_text(text, "utf-8")
    monkeypatch.setenv("XATMO_MODELS_URL", str(folder))
    with pytest.raises(errors.WeightsError, match=other):
        load_network(alone.key)
    alone.arrive(tmp_path / "node")
    load_network(alone.key)


def test_levels_of_the_user_travel_in_the_key(own_model, tmp_path, monkeypatch, winds):
    fitted = own_model.with_normalization(xatmo.fit_normalization(winds))
    plugin = sending._plugin(fitted)
    monkeypatch.delenv("XATMO_MODELS_URL")
    with contextlib.ExitStack() as stack:
        stack.callback(plugin.teardown, None)
        plugin.arrive(tmp_path / "node")
        assert registry.cards_of("mine")[0].weights.sha256 == fitted.key.sha256
        assert not load_network(fitted.key).training


def test_constants_of_places_travel_too(tmp_path):
    local = tmp_path / "local.safetensors"
    local.write_bytes(b"places")
    weights = tmp_path / "w"
    weights.write_bytes(b"weights")
    card = SimpleNamespace(
        folder=tmp_path,
        box=SimpleNamespace(local=local.name),
        weights=SimpleNamespace(file="w"),
        to_toml=lambda: "the card",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sending, "weights_path", lambda card: Path(weights))
        files = sending._files(card)
    assert files == {
        "card.toml": b"the card",
        "w": b"weights",
        "local.safetensors": b"places",
    }


def test_some_model_has_to_be_named():
    with pytest.raises(errors.OptionError, match="No model is named"):
        xatmo.cluster.send_models(None)


def test_what_no_message_holds_is_refused(own_model, monkeypatch):
    monkeypatch.setattr(sending, "_LARGEST", 1000)
    with pytest.raises(errors.OptionError, match="XATMO_MODELS_URL"):
        sending._plugin(own_model)


def test_a_failure_leaves_nothing_behind(own_model):
    """Else the next call would find the model known, and not send it."""
    told = []

    class Client:
        def register_plugin(self, plugin, name):
            raise errors.DownloadError("a", found="b", needed="c", hint="d")

        def unregister_worker_plugin(self, name):
            told.append(name)

    with pytest.raises(errors.DownloadError):
        xatmo.cluster.send_models(Client(), own_model)
    assert told == [sending._plugin(own_model).name]
