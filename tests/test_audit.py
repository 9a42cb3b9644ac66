"""`.ci/audit.py`, with the real pip-audit and a service of ours that knows of weaknesses."""

from __future__ import annotations

import importlib.util
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from web import forget_proxies

ROOT = Path(__file__).resolve().parents[1]
HASH = f"--hash=sha256:{'0' * 64}"
WEAK = {  # as OSV answers
    "id": "PYSEC-2026-1",
    "affected": [
        {
            "package": {"name": "weak", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
        }
    ],
}


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Service(BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # its name
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"vulns": [WEAK]} if asked["package"]["name"] == "weak" else {}).encode()
        self.send_response(503 if asked["package"]["name"] == "broken" else 200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[list[str]]:
    """Options that name it."""
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield ["--osv-url", f"http://127.0.0.1:{server.server_port}/"]
        server.shutdown()
        thread.join()


def lock(folder: Path, *lines: str) -> Path:
    path = folder / "some.txt"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def run(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Audits a lock of some lines, twice; the exit code and what is printed."""

    def audit(arguments: list[str], *lines: str) -> tuple[int, str]:
        monkeypatch.setattr(script, "LOCKS", [lock(tmp_path, *lines)] * 2)
        return script.main(arguments), capsys.readouterr().out

    return audit


def test_a_weakness_is_told_with_what_mends_it_and_fails(run: Callable[..., Any], service: list[str]) -> None:
    told = run(service, f"weak==1.0 {HASH}", f"sound==1.0 {HASH}")
    assert told == (1, "weak 1.0: PYSEC-2026-1, mended in 2.0\n")


def test_nothing_known_is_said_and_passes(run: Callable[..., Any], service: list[str]) -> None:
    code, printed = run(["--required", *service], f"sound==1.0 {HASH}")
    assert code == 0
    assert printed.startswith("no known weakness in what some.txt, some.txt install for Python 3.")


@pytest.mark.parametrize(("required", "name"), [(False, "sound"), (True, "broken")])
def test_where_nobody_can_be_asked_it_is_said_and_fails_only_if_required(
    run: Callable[..., Any], service: list[str], required: bool, name: str
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens there
        if name == "sound":
            service = ["--osv-url", f"http://127.0.0.1:{closed.getsockname()[1]}/"]
        code, printed = run(["--required"] * required + service, f"{name}==1.0 {HASH}")
    assert code == required
    assert "NOT audited: the service that knows of weaknesses cannot be reached" in printed


def test_an_audit_that_fails_is_one_line_and_fails(run: Callable[..., Any], service: list[str]) -> None:
    code, printed = run(service, "sound==1.0")
    assert code == 1
    assert printed.startswith("NOT audited: pip-audit failed on some.txt: ")
    assert len(printed.splitlines()) == 1


def test_a_lock_without_hashes_is_no_lock(script: ModuleType, service: list[str], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="hash"):
        script.audit(lock(tmp_path, "sound==1.0"), service)
