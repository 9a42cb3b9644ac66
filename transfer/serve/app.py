"""A page on which models answer what is drawn or dropped, and the address that answers programs; nothing is kept.

`GET /` is the page. `POST /predict` takes the bytes of one image or recording and gives, as JSON, every strategy's
classes with their probabilities, what is doubtful of the image, and the image as the models see it; with `?invert=1`
and `?centre=1` light and dark are turned round and content is centred first. `GET /health` says that all is well.
Errors are JSON too: `{"error": one line}`.

A browser's other pages cannot use it: a request must name this server (which ends DNS rebinding), and one that comes
from a page must come from this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from transfer.console import UserError
from transfer.report.pages import TEMPLATES as LOOK  # of the report's page, which this one shares
from transfer.report.pages import png_address
from transfer.serve.models import Model, ranked, unfamiliar
from transfer.serve.reading import read

LARGEST = 10 << 20  # bytes of a file
PATIENCE = 20.0  # seconds that an upload may take
NAMED = 20  # classes that the page names, of more
THREADS = 2  # that answer at a time; more images wait
TEMPLATES = Path(__file__).parent / "templates"


def build(models: Sequence[Model], best: str, hosts: Sequence[str]) -> Starlette:
    """The application.

    Args:
        models: that answer, one per strategy; each is asked once now, so that the first answer takes no longer.
        best: the strategy that is marked as the best, empty if none is.
        hosts: names that requests may call this server by; `*` stands for any.
    """
    for model in models:
        model.answer(np.zeros((1, *model.preprocessing.shape), np.uint8))
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="answer")
    templates = Jinja2Templates(TEMPLATES)

    async def page(request: Request) -> Response:
        shown = {
            "models": [model.metadata for model in models],
            "best": best,
            "first": models[0],  # which gives the canvas its form and background
            "largest": LARGEST,
            "named": NAMED,
        }
        return templates.TemplateResponse(request, "page.html", shown)

    async def predict(request: Request) -> Response:
        content = await read_body(request)
        wanted = {name: request.query_params.get(name) == "1" for name in ("invert", "centre")}
        asking = partial(answer, models, content, **wanted)
        return JSONResponse(await asyncio.get_running_loop().run_in_executor(threads, asking))

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "models": [model.metadata.strategy for model in models]})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/predict", predict, methods=["POST"]),
            Route("/health", health),
            Mount("/look", StaticFiles(directory=LOOK)),
            Mount("/page", StaticFiles(directory=TEMPLATES)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={HTTPException: refuse, UserError: refuse, ClientDisconnect: refuse},
        max_body_size=LARGEST,
    )


async def read_body(request: Request) -> bytes:
    """The file that is sent.

    Raises:
        HTTPException: 403 if another page asks, 415 for a kind that a foreign form can send, 413 if the file is larger
            than `LARGEST`, 408 if it does not come in time.
        ClientDisconnect: if the client gave up.
    """
    origin = request.headers.get("origin")
    if origin and origin.partition("://")[2] != request.headers.get("host"):
        raise HTTPException(403, "requests from other pages are refused")
    kind = request.headers.get("content-type", "")
    if not kind.startswith(("image/", "audio/", "application/octet-stream")):
        raise HTTPException(415, "send the bytes of a file as image/*, audio/* or application/octet-stream")
    try:
        async with asyncio.timeout(PATIENCE):
            return await request.body()
    except TimeoutError:
        raise HTTPException(408, f"the file did not arrive within {PATIENCE:g} s", {"Connection": "close"}) from None


def answer(models: Sequence[Model], content: bytes, *, invert: bool, centre: bool) -> dict[str, Any]:
    """What every model says of one file.

    Args:
        models: to ask.
        content: of the file.
        invert, centre: as `reading.read`.

    Returns:
        `answers`, of each strategy all classes, most probable first; `warnings`, lines that follow the words "the image
        is"; `unfamiliar`, whether one of them says that all models together find it unlike their training images;
        `seen`, what the first model is given, as the address of a PNG.

    Raises:
        UserError: if it cannot be read.
    """
    read_as: dict[str, tuple[np.ndarray, list[str]]] = {}  # by preprocessing, which models of a study share
    answers = {}
    doubted: dict[str, None] = {}  # each once, in order
    p_values = []
    for model in models:
        form = model.metadata.preprocessing
        if form not in read_as:
            read_as[form] = read(content, model, invert=invert, centre=centre)
        image, doubts = read_as[form]
        [row], [p_value], [unlike] = model.answer(image[np.newaxis])
        answers[model.metadata.strategy] = ranked(row, model.metadata.classes)
        p_values.append(p_value)
        doubted |= dict.fromkeys([*doubts, *unlike])
    strange = unfamiliar(p_values)
    seen = png_address(read_as[models[0].metadata.preprocessing][0])
    return {"answers": answers, "warnings": [*doubted, *strange], "unfamiliar": bool(strange), "seen": seen}


async def refuse(_: Request, error: Exception) -> Response:
    """One line of JSON for what is wrong with a request."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": str(error)}, 400)
