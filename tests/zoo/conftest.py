"""Models made for one test: cards, weights of a tiny network, and a web server."""

import contextlib
import hashlib
import http.server
import os
import socket
import struct
import sys
import threading
import types
from collections import defaultdict
from pathlib import Path

import pytest

from xatmo.nets import ARCHITECTURES
from xatmo.zoo import registry, write_card

REPO = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """The folder of packaged models, empty; cache and environment are the test's."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setattr(registry, "packaged_folder", lambda: folder)
    monkeypatch.setenv("XATMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("XATMO_MODELS_URL", raising=False)
    return folder


@pytest.fixture
def values():
    """Contents of a valid card; change what the test is about."""

    def make(name="tiny", content=b"the weights", **changes):
        card = {
            "name": name,
            "version": "1.0.0",
            "title": "A model for tests",
            "architecture": "atmodist",
            "capabilities": ["embed", "distance"],
            "licence": "Apache-2.0",
            "citation": "Nobody (2026)",
            "network": {"width": 4},
            "inputs": [
                {"quantity": "divergence_of_wind", "units": "s-1"},
                {"quantity": "atmosphere_relative_vorticity", "units": "s-1"},
            ],
            "levels": [
                {
                    "level": level,
                    "trained": trained,
                    "mean": [1e-8, 2e-7],
                    "std": [2.9e-5, 5.1e-5],
                    "log_mean": [9e-4, 3e-4],
                    "log_std": [0.158, 0.160],
                }
                for level, trained in (("10 m", True), ("850 hPa", False))
            ],
            "normalization": {"kind": "signlog", "alpha": 0.2},
            "grid": {
                "spacing": [0.7, 2.0],
                "patch": [32, 32],
                "stride": 8,
                "halo": 47,
                "latitude_limit": 60.0,
                "gaussian": True,
            },
            "time": {"step": "6h", "lags": [6, 12, 18]},
            "layers": {
                "names": ["block3", "block2"],
                "stride": {"block3": 8, "block2": 4},
                "features": {"block3": 128, "block2": 64},
            },
            "distance": {
                "space": "log-normalised",
                "lags": [6, 12],
                "alpha": {"block3": 1.23},
            },
            "weights": {
                "file": "weights.safetensors",
                "sha256": hashlib.sha256(content).hexdigest(),
                "size": len(content),
                "urls": [],
            },
            "training": {"data": "made up", "attribution": "nobody"},
            "scores": {"ordering": {"6 h": 0.51, "12 h": 0.62}},
        }
        for key, value in changes.items():
            if isinstance(value, dict) and isinstance(card.get(key), dict):
                card[key] = {**card[key], **value}
            else:
                card[key] = value
        return card

    return make


@pytest.fixture
def model_folder(models, values):
    """Make a model folder whose weight file is just some bytes; returns its card."""

    def make(name="tiny", content=b"the weights", root=None, here=True, **changes):
        folder = (root or models) / name
        card = write_card(folder, values(name, content, **changes))
        if here:
            (folder / card.weights.file).write_bytes(content)
        return card

    return make


@pytest.fixture
def tiny_architecture(monkeypatch):
    """Register a network of two layers as architecture "tiny"."""
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.conv = torch.nn.Conv2d(2, width, 3)
            self.norm = torch.nn.BatchNorm2d(width)

        def forward(self, x):
            return self.norm(self.conv(x))

    module = types.ModuleType("xatmo_tiny_network")
    module.Tiny = Tiny
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(ARCHITECTURES, "tiny", "xatmo_tiny_network:Tiny")
    return Tiny


@pytest.fixture
def tiny_model(models, values, tiny_architecture):
    """Make a model folder with a real network's weights; returns (card, network)."""
    from xatmo.zoo import save_state

    def make(name="tiny", root=None, **changes):
        folder = (root or models) / name
        network = tiny_architecture()
        sha256 = save_state(network, folder / "weights.safetensors")
        size = (folder / "weights.safetensors").stat().st_size
        changes.setdefault("default", True)
        weights = {"sha256": sha256, "size": size}
        contents = values(name, architecture="tiny", weights=weights, **changes)
        return write_card(folder, contents), network

    return make


class Server:
    """A web server that answers as it is told and counts what it was asked.

    ``answers[path]`` is a list of functions of the request's handler, one for each
    request; the last one stays.
    """

    def __init__(self):
        self.answers = {}
        self.asked = defaultdict(int)
        self.released = threading.Event()
        self.half_sent = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked[self.path] += 1
                answers = server.answers.get(self.path) or [status(404)]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                with contextlib.suppress(ConnectionError):
                    answer(self)

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self):
        self.released.set()
        self._http.shutdown()
        self._http.server_close()

    def half(self, content):
        """Send half of the content, then nothing until the test is over."""

        def answer(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content[: len(content) // 2])
            handler.wfile.flush()
            self.half_sent.set()
            self.released.wait(60)

        return answer

    body = staticmethod(lambda content, length=None: body(content, length))
    cut = staticmethod(lambda content, at: cut(content, at))
    status = staticmethod(lambda code: status(code))


def body(content, length=None):
    """Send `content`, and claim that it is `length` bytes."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(length or len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def cut(content, at):
    """Send `at` bytes of the content, then let the connection break down."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:at])
        handler.wfile.flush()
        # A reset, not an end: what a network does that drops a connection.
        no_linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        handler.close_connection = True
        handler.wfile.close()
        handler.rfile.close()
        handler.connection.close()

    return answer


def status(code):
    """Send an error."""

    def answer(handler):
        handler.send_error(code)

    return answer


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


@pytest.fixture
def impatient(monkeypatch):
    """Retry at once."""
    pytest.importorskip("pooch")
    clock = types.SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr("pooch.core.time", clock)


@pytest.fixture
def subprocess_env(tmp_path):
    """Environment for another Python that imports this xatmo."""
    paths = [str(REPO), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _box_network(**fields):
    """Arguments of a small network that reads boxes of 2 x 8 x 8 points."""
    sizes = {"width": 8, "tokens": [2, 2, 2], "token_size": [1, 4, 4]}
    levels = {"u": 2, "t": 1}
    tables = [
        {"name": name, "levels": levels[name], **sizes, "sources": sources}
        for name, sources in (fields or {"u": ["t"], "t": []}).items()
    ]
    return {
        "fields": tables,
        "level_numbers": {t["name"]: list(range(t["levels"])) for t in tables},
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_heads": 2,
        "decoder_heads": 2,
        "members": 3,
        "info_width": 2,
    }


@pytest.fixture
def box_network():
    """Arguments of a small network: sources of each field that it shall have."""
    return _box_network


@pytest.fixture
def box_values(values):
    """Contents of a valid card of a network that reads boxes."""

    def make(name="boxes", **changes):
        wind = {"name": "u", "quantity": "eastward_wind", "units": "m s-1"}
        heat = {"name": "t", "quantity": "air_temperature", "units": "K"}
        wind["levels"] = [
            {"level": "10 m", "slot": 0, "mean": [0.5], "std": [4.0]},
            {"level": "sigma 0.95", "slot": 0, "trained": False},
            {"level": "850 hPa", "slot": 1, "mean": [1.0] * 12, "std": [8.0] * 12},
        ]
        heat["levels"] = [{"level": "850 hPa", "slot": 0}]
        contents = values(
            name,
            architecture="multiformer",
            capabilities=["forecast", "infill"],
            default_for=["forecast"],
            fields=[wind, heat],
        )
        contents["network"] = _box_network()
        contents["normalization"] = {"kind": "zscore"}
        contents["box"] = {"step": "6h", "ahead": 1}
        contents["grid"] |= {"spacing": [0.9, 2.1], "patch": [8, 8], "halo": "global"}
        for key in ("inputs", "levels", "layers", "distance", "time"):
            del contents[key]
        return contents | changes

    return make


@pytest.fixture
def box_model(models, box_values):
    """Make a folder of a model that reads boxes, of random weights; returns it."""
    import torch

    from xatmo.nets.multiformer_box import BoxMultiformer
    from xatmo.zoo import Model, save_state

    def make(name="boxes", **changes):
        contents = box_values(name, **changes)
        torch.manual_seed(0)
        file = models / name / "weights.safetensors"
        network = BoxMultiformer(**contents["network"])
        sha256 = save_state(network, file)
        size = file.stat().st_size
        contents["weights"] |= {"sha256": sha256, "size": size}
        card = write_card(models / name, contents)
        return Model(card, card.key())

    return make
