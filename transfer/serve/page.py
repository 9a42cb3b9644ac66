"""What the pages on this machine share: their look, and that a browser's other pages cannot use them.

A request must name this server (which ends DNS rebinding), and one that comes from a page must come from this one.
Errors are JSON: `{"error": one line}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from transfer.console import UserError
from transfer.report.pages import TEMPLATES as LOOK  # of the report's page, which these share

LARGEST = 10 << 20  # bytes of a request
PATIENCE = 20.0  # seconds that one may take
TEMPLATES = Path(__file__).parent / "templates"


def application(routes: Sequence[Route], hosts: Sequence[str]) -> Starlette:
    """An application with these routes, the styles and the programs of all pages.

    Args:
        routes: of the page.
        hosts: names that requests may call this server by; `*` stands for any.
    """
    shared = [Mount("/look", StaticFiles(directory=LOOK)), Mount("/page", StaticFiles(directory=TEMPLATES))]
    return Starlette(
        routes=[*routes, *shared],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={HTTPException: refuse, UserError: refuse, ClientDisconnect: refuse},
        max_body_size=LARGEST,
    )


async def read_body(request: Request, kinds: tuple[str, ...], wanted: str) -> bytes:
    """What is sent.

    Args:
        request: that brings it.
        kinds: how a Content-Type may begin; none that a foreign form can send.
        wanted: says which these are.

    Raises:
        HTTPException: 403 if another page asks, 415 for another kind, 413 if it is larger than `LARGEST`, 408 if it
            does not come in time.
        ClientDisconnect: if the client gave up.
    """
    origin = request.headers.get("origin")
    if origin and origin.partition("://")[2] != request.headers.get("host"):
        raise HTTPException(403, "requests from other pages are refused")
    if not request.headers.get("content-type", "").startswith(kinds):
        raise HTTPException(415, f"send {wanted}")
    try:
        async with asyncio.timeout(PATIENCE):
            return await request.body()
    except TimeoutError:
        raise HTTPException(408, f"the file did not arrive within {PATIENCE:g} s", {"Connection": "close"}) from None


async def refuse(_: Request, error: Exception) -> Response:
    """One line of JSON for what is wrong with a request."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": str(error)}, 400)
