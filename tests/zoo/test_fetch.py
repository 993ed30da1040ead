import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from xatmo.errors import DownloadError, WeightsError
from xatmo.options import set_options
from xatmo.zoo import fetch, weights_path
from xatmo.zoo.fetch import cache_folder, local_copies, where

CONTENT = bytes(range(256)) * 40
FETCH = "import sys; from xatmo.zoo import read_card, weights_path\n"
FETCH += "print(weights_path(read_card(sys.argv[1])))"


@pytest.fixture(autouse=True)
def quiet():
    with set_options(progress=False):
        yield


@pytest.fixture
def remote(model_folder, server):
    """A model whose weights are only on the server."""
    card = model_folder(
        content=CONTENT, here=False, weights={"urls": [f"{server.url}/weights"]}
    )
    server.answers["/weights"] = [server.body(CONTENT)]
    return card


def cached_files():
    return sorted(
        path.name
        for path in cache_folder().rglob("*")
        if path.is_file() and path.suffix != ".lock"
    )


def test_weights_beside_the_card_need_no_network(model_folder):
    card = model_folder(content=CONTENT, weights={"urls": ["https://127.0.0.1:9/x"]})
    assert weights_path(card) == card.folder / "weights.safetensors"
    assert where(card) == "on disk"
    assert not cache_folder().exists()


def test_a_download_goes_to_the_cache_once(remote, server):
    assert where(remote) == "to download"
    path = weights_path(remote)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(cache_folder())
    assert where(remote) == "in the cache"
    assert weights_path(remote) == path
    assert server.asked == {"/weights": 1}
    assert cached_files() == ["weights.safetensors"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o644


def test_force_downloads_again(remote, server):
    path = weights_path(remote)
    assert weights_path(remote, force=True) == path
    assert server.asked["/weights"] == 2


def test_force_keeps_the_good_copy_when_the_download_fails(remote, server, impatient):
    path = weights_path(remote)
    server.answers["/weights"] = [server.body(b"bad")]
    with pytest.raises(DownloadError, match="another sha256"):
        weights_path(remote, force=True)
    assert path.read_bytes() == CONTENT
    assert cached_files() == ["weights.safetensors"]


def test_force_without_an_address_reads_the_copy_again(model_folder):
    card = model_folder(content=CONTENT)
    assert weights_path(card, force=True) == card.folder / "weights.safetensors"


def test_another_release_has_its_own_place(model_folder, server):
    urls = {"urls": [f"{server.url}/weights"]}
    paths = set()
    for content in (CONTENT, CONTENT[::-1]):
        server.answers["/weights"] = [server.body(content)]
        card = model_folder(content=content, here=False, weights=urls)
        path = weights_path(card)
        assert path.read_bytes() == content
        paths.add(path)
    assert len(paths) == 2


@pytest.mark.parametrize("as_url", [False, True])
def test_the_models_url_may_be_a_folder(
    model_folder, tmp_path, monkeypatch, server, as_url
):
    card = model_folder(content=CONTENT, here=False)
    folder = tmp_path / "shared disk"
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "weights.safetensors").write_bytes(CONTENT)
    monkeypatch.setenv("XATMO_MODELS_URL", folder.as_uri() if as_url else str(folder))
    assert weights_path(card) == folder / "tiny" / "weights.safetensors"
    assert not cache_folder().exists()


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_models_url_may_be_a_web_address(remote, server, monkeypatch, slash):
    monkeypatch.setenv("XATMO_MODELS_URL", server.url + "/zoo" + slash)
    server.answers["/zoo/tiny/weights.safetensors"] = [server.body(CONTENT)]
    assert weights_path(remote).read_bytes() == CONTENT
    assert server.asked == {"/zoo/tiny/weights.safetensors": 1}


def test_our_own_address_comes_before_the_card_s(remote, server, monkeypatch):
    monkeypatch.setattr(fetch, "DEFAULT_MODELS_URL", server.url + "/ours")
    server.answers["/ours/tiny/weights.safetensors"] = [server.body(CONTENT)]
    weights_path(remote)
    assert server.asked == {"/ours/tiny/weights.safetensors": 1}


def test_the_next_address_is_tried(model_folder, server, impatient):
    answers = {
        "/gone": server.status(404),
        "/other": server.body(b"something else"),
        "/short": server.body(CONTENT[:99], length=len(CONTENT)),
        "/good": server.body(CONTENT),
    }
    server.answers = {path: [answer] for path, answer in answers.items()}
    urls = [server.url + path for path in answers]
    card = model_folder(content=CONTENT, here=False, weights={"urls": urls})
    assert weights_path(card).read_bytes() == CONTENT
    # What is gone is not asked for again; the rest may have been bad luck.
    tries = 1 + fetch.RETRIES
    assert server.asked == {"/gone": 1, "/other": tries, "/short": tries, "/good": 1}


@pytest.mark.parametrize("first", ["status", "short", "other"])
def test_bad_luck_is_retried(remote, server, impatient, first):
    bad = {
        "status": server.status(503),
        "short": server.body(CONTENT[:99], length=len(CONTENT)),
        "other": server.body(CONTENT[:99]),
    }
    server.answers["/weights"] = [bad[first], server.body(CONTENT)]
    assert weights_path(remote).read_bytes() == CONTENT
    assert server.asked["/weights"] == 2


def test_the_error_lists_every_place_and_its_failure(model_folder, server, impatient):
    answers = {
        "/gone": server.status(404),
        "/broken": server.status(500),
        "/other": server.body(b"something else"),
        "/short": server.body(CONTENT[:99], length=len(CONTENT)),
    }
    server.answers = {path: [answer] for path, answer in answers.items()}
    urls = [server.url + path for path in answers] + ["http://127.0.0.1:9/refused"]
    card = model_folder(content=CONTENT, here=False, weights={"urls": urls})
    with pytest.raises(DownloadError, match=r"'tiny' 1\.0\.0 cannot be") as caught:
        weights_path(card)
    found = caught.value.found
    assert f"{card.folder}/weights.safetensors: no such file" in found
    assert "/gone: HTTP 404 Not Found" in found
    assert "/broken: HTTP 500 Internal Server Error" in found
    assert "/other: the file there has another sha256" in found
    assert "/short: ChunkedEncodingError" in found
    assert "/refused: ConnectionError" in found
    assert card.weights.sha256 in caught.value.needed
    assert "xatmo models fetch tiny" in caught.value.hint
    assert "XATMO_MODELS_URL" in caught.value.hint
    assert cached_files() == []


def test_a_silent_server_is_given_up(remote, server, impatient, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.2)
    server.answers["/weights"] = [server.half(CONTENT)]
    with pytest.raises(DownloadError, match=r"timed out|no answer for 0\.2 sec"):
        weights_path(remote)
    assert cached_files() == []


def test_no_address_at_all_is_said(model_folder):
    card = model_folder(content=CONTENT, here=False)
    assert where(card) == "not available"
    with pytest.raises(DownloadError, match="no web address: the card has none"):
        weights_path(card)


def test_a_damaged_copy_is_replaced(remote, server):
    path = weights_path(remote)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert weights_path(remote).read_bytes() == CONTENT
    assert server.asked["/weights"] == 2


def test_a_damaged_copy_beside_the_card_is_passed_over(remote):
    (remote.folder / "weights.safetensors").write_bytes(b"damaged")
    path = weights_path(remote)
    assert path.is_relative_to(cache_folder())
    assert path.read_bytes() == CONTENT


def test_a_damaged_copy_without_network_is_said(remote, server, impatient):
    path = weights_path(remote)
    path.write_bytes(b"damaged")
    server.close()
    with pytest.raises(DownloadError, match=r"(?s)damaged, its sha256 is.*Connection"):
        weights_path(remote)
    assert str(path) in str(local_copies(remote))


def test_a_damaged_copy_without_an_address_is_a_weights_error(model_folder):
    card = model_folder(content=CONTENT)
    (card.folder / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="models fetch tiny --force"):
        weights_path(card)


@pytest.mark.parametrize("made_before", [False, True])
def test_a_read_only_cache_is_named(remote, request, made_before):
    folder = fetch._cache_path(remote).parent if made_before else cache_folder()
    folder.mkdir(parents=True)
    request.addfinalizer(lambda: folder.chmod(0o700))
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write into folders that are read-only")
    with pytest.raises(DownloadError, match=r"(?s)cannot take.*XATMO_CACHE"):
        weights_path(remote)


def test_a_cache_that_is_no_folder_is_named(remote):
    cache_folder().write_text("a file")
    with pytest.raises(DownloadError, match=r"(?s)cannot take.*XATMO_CACHE") as caught:
        weights_path(remote)
    assert str(cache_folder()) in caught.value.problem


def test_too_little_space_is_said_before_the_download(remote, server, monkeypatch):
    free = SimpleNamespace(free=len(CONTENT) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(DownloadError, match=r"10,239 bytes free, the file has 10,240"):
        weights_path(remote)
    assert server.asked == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_fails_in_the_middle_is_named(remote, monkeypatch, number):
    import pooch

    def write(self, url, output_file, keeper):
        with open(output_file, "wb") as stream:
            stream.write(CONTENT[:100])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", write)
    with pytest.raises(DownloadError, match=os.strerror(number)) as caught:
        weights_path(remote)
    assert "XATMO_CACHE" in caught.value.hint
    assert cached_files() == []


def test_a_file_that_cannot_be_read_is_passed_over(remote, monkeypatch):
    (remote.folder / "weights.safetensors").write_bytes(CONTENT)

    def broken(path, *, afresh=False):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fetch, "file_sha256", broken)
    assert weights_path(remote) == fetch._cache_path(remote)


@pytest.mark.parametrize("progress", [True, False])
def test_the_progress_bar_is_an_option(remote, capsys, progress):
    with set_options(progress=progress):
        weights_path(remote)
    assert ("100%" in capsys.readouterr().err) is progress


@pytest.mark.parametrize("address", ["doi:10.5281/zenodo.1/w", "ftp://a.b/w"])
def test_archives_have_their_own_downloaders(address):
    assert type(fetch._downloader(address)).__module__ == "pooch.downloaders"


def test_a_lock_held_too_long_is_named(remote, monkeypatch):
    from filelock import FileLock

    monkeypatch.setattr(fetch, "LOCK_TIMEOUT", 0.1)
    target = fetch._cache_path(remote)
    target.parent.mkdir(parents=True)
    lock = f"{target}.lock"
    with (
        FileLock(lock),
        pytest.raises(DownloadError, match=r"is held for 0\.1") as caught,
    ):
        weights_path(remote)
    assert lock in caught.value.hint


def test_no_fault_of_a_server_gives_a_bad_file(remote, server, impatient):
    random_ = random.Random(0)
    target = fetch._cache_path(remote)
    faults = good = 0

    def damaged():
        at = random_.randrange(len(CONTENT))
        flipped = bytearray(CONTENT)
        flipped[at] ^= 1 << random_.randrange(8)
        kinds = {
            "short": server.body(CONTENT[:at], length=len(CONTENT)),
            "shorter": server.body(CONTENT[:at]),
            "flipped": server.body(bytes(flipped)),
            "longer": server.body(CONTENT + b"x" * (at + 1)),
            "nothing": lambda handler: None,
            "error": server.status(random_.choice([404, 429, 500, 503])),
        }
        return kinds[random_.choice(list(kinds))]

    while faults < 500:
        answers = [damaged() for _ in range(random_.randrange(1, 5))]
        faults += min(len(answers), 1 + fetch.RETRIES)
        server.answers["/weights"] = [*answers, server.body(CONTENT)]
        try:
            assert weights_path(remote).read_bytes() == CONTENT
            good += 1
            target.unlink()
        except DownloadError:
            assert cached_files() == []
    assert good > 50


def test_no_connection_that_breaks_down_gives_a_bad_file(remote, server, impatient):
    """A hundred resets after some bytes, as of a network that drops."""
    random_ = random.Random(1)
    target = fetch._cache_path(remote)
    tries = 1 + fetch.RETRIES
    drops = [random_.randrange(1, 5) for _ in range(50)]  # before it works
    assert sum(min(count, tries) for count in drops) >= 100
    for count in drops:
        cuts = [random_.randrange(len(CONTENT)) for _ in range(count)]
        answers = [server.cut(CONTENT, at) for at in cuts]
        server.answers["/weights"] = [*answers, server.body(CONTENT)]
        if count < tries:
            assert weights_path(remote).read_bytes() == CONTENT
            target.unlink()
        else:
            with pytest.raises(DownloadError, match="Connection"):
                weights_path(remote)
            assert cached_files() == []


def start(card, env):
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(card.folder)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip().splitlines()[-1]


def test_eight_processes_make_one_download(remote, server, subprocess_env):
    processes = [start(remote, subprocess_env) for _ in range(8)]
    paths = {finish(process) for process in processes}
    assert paths == {str(fetch._cache_path(remote))}
    assert fetch._cache_path(remote).read_bytes() == CONTENT
    assert server.asked["/weights"] == 1
    assert cached_files() == ["weights.safetensors"]


def test_eight_threads_make_one_download(remote, server):
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(weights_path, [remote] * 8))
    assert paths == {fetch._cache_path(remote)}
    assert server.asked["/weights"] == 1


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_killed_download_leaves_nothing_that_is_trusted(
    remote, server, subprocess_env
):
    server.answers["/weights"] = [server.half(CONTENT), server.body(CONTENT)]
    victim = start(remote, subprocess_env)
    try:
        assert server.half_sent.wait(60)
        # One that waits for the lock, and takes over.
        heir = start(remote, subprocess_env)
        time.sleep(0.5)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    assert finish(heir) == str(fetch._cache_path(remote))
    assert weights_path(remote).read_bytes() == CONTENT
    assert cached_files() == ["weights.safetensors"]
    assert server.asked["/weights"] == 2


def test_leftovers_are_never_taken_for_weights(remote):
    target = fetch._cache_path(remote)
    target.parent.mkdir(parents=True)
    for name in ("tmpabcdef", "weights.safetensors.checked", "weights.safetensors"):
        (target.parent / name).write_bytes(CONTENT[:100])
    assert weights_path(remote).read_bytes() == CONTENT
    assert cached_files() == ["weights.safetensors"]


def test_the_cache_is_the_system_s_unless_named(monkeypatch):
    import pooch

    monkeypatch.setenv("XATMO_CACHE", "~/somewhere")
    assert cache_folder() == fetch.Path.home() / "somewhere"
    monkeypatch.delenv("XATMO_CACHE")
    assert cache_folder() == fetch.Path(pooch.os_cache("xatmo"))
