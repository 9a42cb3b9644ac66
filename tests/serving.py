"""A server of `transfer serve` or `label` in a thread of this process, asked by programs and by a browser."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from starlette.applications import Starlette

from transfer.serve.command import bind, server_of

Open = Callable[..., Page]


@dataclass
class Server:
    """One that is running."""

    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer; names of headers to send have _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named, encode_chunked="Transfer-Encoding" in named)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


@contextlib.contextmanager
def served(application: Starlette) -> Iterator[Server]:
    with bind("127.0.0.1", 0) as listener:
        server = server_of(application)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield Server(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens a server's page, which must ask this server alone, and complain of nothing."""
    contexts = []
    asked, complaints = list[str](), list[str]()

    def open_page(at: Server, width: int = 1280, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(at.address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert {re.sub(r"^blob:|:\d+/.*", "", address) for address in asked} == {"http://127.0.0.1"}
