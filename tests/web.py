"""A web server whose answers a test chooses, right and wrong."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

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


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    """A site that answers, for a while."""
    server = Site()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def certify(site: Site, folder: Path) -> None:
    """Have a site speak TLS, with a certificate that nobody has signed."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    site.socket = context.wrap_socket(site.socket, server_side=True, do_handshake_on_connect=False)
    site.url = site.url.replace("http:", "https:")


def forget_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of this machine's must not stand between a test and its site."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
