"""A page on which models answer what is drawn or dropped, and the address that answers programs; nothing is kept.

`GET /` is the page, `POST /predict` takes the bytes of one image or recording and gives, as JSON, every strategy's
classes with their probabilities, `GET /health` says that all is well. Errors are JSON too: `{"error": one line}`.

A browser's other pages cannot use it: a request must name this server (which ends DNS rebinding), and one that comes
from a page must come from this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import numpy as np
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transfer.console import UserError
from transfer.data.folders import read_file
from transfer.serve.models import Model, ranked

LARGEST = 10 << 20  # bytes of an image
DRAINED = 4 * LARGEST  # bytes that are read, and dropped, before a larger upload is cut off without an answer
HEAD = 16 << 10  # bytes of a request's address and headers
PATIENCE = 20.0  # seconds that an upload may take
THREADS = 2  # that answer at a time; more images wait
TEMPLATES = Path(__file__).parent / "templates"
LOOK = Path(__file__).parents[1] / "report" / "templates"  # of the report's page, which this one shares
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def build(models: Sequence[Model], best: str, host: str) -> Starlette:
    """The application.

    Args:
        models: that answer, one per strategy; each is asked once now, so that the first answer takes no longer.
        best: the strategy that is marked as the best, empty if none is.
        host: that the server is asked to listen on.
    """
    for model in models:
        model.probabilities(np.zeros((1, *model.preprocessing.shape), np.uint8))
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="answer")

    async def predict(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.startswith(("image/", "audio/")) and kind != "application/octet-stream":
            raise HTTPException(415, "send the bytes of a file as image/*, audio/* or application/octet-stream")
        try:
            content = await read_body(request)
            loop = asyncio.get_running_loop()
            return JSONResponse(await loop.run_in_executor(threads, answer, models, content))
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody is there to read

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "models": [model.metadata.strategy for model in models]})

    routes = [Route("/predict", predict, methods=["POST"]), Route("/health", health)]
    for address, kind, text in [
        ("/", "text/html", page(models, best)),
        ("/page.css", "text/css", "".join(_text(folder / "page.css") for folder in (LOOK, TEMPLATES))),
        ("/look.js", "text/javascript", _text(LOOK / "page.js")),
        ("/page.js", "text/javascript", _text(TEMPLATES / "page.js")),
    ]:
        routes.append(Route(address, _always(Response(text, media_type=kind))))
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={HTTPException: _refuse, Exception: _fail},
    )
    app.router.redirect_slashes = False
    return app


def page(models: Sequence[Model], best: str) -> str:
    """The page as HTML; its canvas has the form that the first model takes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        models=[model.metadata for model in models],
        best=best,
        preprocessing=models[0].preprocessing,
        largest=LARGEST,
    )


def answer(models: Sequence[Model], content: bytes) -> dict[str, list[dict[str, Any]]]:
    """What every model says of one file, all classes of each, most probable first.

    Raises:
        UserError: if it cannot be read.
    """
    images: dict[str, np.ndarray] = {}  # by preprocessing, which models share as a rule
    for model in models:
        if model.metadata.preprocessing not in images:
            images[model.metadata.preprocessing] = read_file(content, model.preprocessing)[np.newaxis]
    return {
        model.metadata.strategy: ranked(
            model.probabilities(images[model.metadata.preprocessing])[0], model.metadata.classes
        )
        for model in models
    }


async def read_body(request: Request) -> bytes:
    """All that is sent, of which no more than `LARGEST` bytes are ever held.

    What is too large is read on for a while, and dropped: many clients look for an answer only when all is sent.

    Raises:
        HTTPException: 413 if it is too large, 408 if it does not come in time.
        ClientDisconnect: if the client gave up.
    """
    content, size = bytearray(), 0
    try:
        async with asyncio.timeout(PATIENCE):
            async for part in request.stream():
                size += len(part)
                if size <= LARGEST:
                    content += part
                elif size <= DRAINED:
                    content.clear()
                else:
                    break
    except TimeoutError:
        raise HTTPException(408, f"the file did not arrive within {PATIENCE:g} s", {"Connection": "close"}) from None
    if size > LARGEST:
        raise HTTPException(413, f"the file is larger than {LARGEST >> 20} MB", {"Connection": "close"})
    return bytes(content)


class Guard:
    """Lets through what was meant for this server and comes from no foreign page; adds headers to every answer."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app = app
        self.host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        headers = Headers(scope=scope)
        head = [scope["raw_path"], scope["query_string"], *(part for header in headers.raw for part in header)]
        if sum(map(len, head)) > HEAD:
            refusal = JSONResponse({"error": f"address and headers are larger than {HEAD >> 10} KB"}, 431)
            await refusal(scope, receive, send_guarded)
        elif not is_meant(headers.get("host", ""), self.host):
            refusal = JSONResponse({"error": "this server goes by another name: see --host"}, 403)
            await refusal(scope, receive, send_guarded)
        elif not all(is_own(origin, headers.get("host", "")) for origin in headers.getlist("origin")):
            await JSONResponse({"error": "another page may not ask"}, 403)(scope, receive, send_guarded)
        else:
            await self.app(scope, receive, send_guarded)


def is_meant(named: str, host: str) -> bool:
    """Whether a `Host` header names the server: as a name of this machine, or as what it listens on.

    Args:
        named: the header, with a port or without.
        host: that the server listens on; if that is every address, any address will do, but no name: it might be one
            that a foreign page has made to lead here.
    """
    try:
        name = urlsplit(f"//{named}").hostname or ""
    except ValueError:
        return False
    if name in (*LOOPBACK, host.lower()):
        return True
    try:
        return ip_address(host).is_unspecified and bool(ip_address(name))
    except ValueError:
        return False


def is_own(origin: str, named: str) -> bool:
    """Whether the page that a request comes from is this server's; `named` is its `Host` header."""
    return origin.lower() in (f"http://{named.lower()}", f"https://{named.lower()}")


def _always(response: Response) -> Callable[[Request], Any]:
    async def respond(_: Request) -> Response:
        return response

    return respond


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _fail(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"this should not happen ({type(error).__name__})"}, 500)
