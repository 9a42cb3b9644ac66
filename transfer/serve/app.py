"""A page on which models answer what is drawn or dropped, and the address that answers programs; nothing is kept.

`GET /` is the page. `POST /predict` takes the bytes of one image or recording and gives, as JSON, every strategy's
classes with their probabilities, what is doubtful of the image, and the image as the models see it; with `?invert=1`
and `?centre=1` light and dark are turned round and content is centred first. `GET /health` says that all is well.
Errors are JSON too, and a browser's other pages cannot use it: see `page`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from transfer.report.pages import png_address
from transfer.serve.models import Model, ranked, unfamiliar
from transfer.serve.page import LARGEST, TEMPLATES, application, read_body
from transfer.serve.reading import read

KINDS = ("image/", "audio/", "application/octet-stream")  # of what is asked about
NAMED = 20  # classes that the page names, of more
THREADS = 2  # that answer at a time; more images wait


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
        content = await read_body(request, KINDS, "the bytes of a file as image/*, audio/* or application/octet-stream")
        wanted = {name: request.query_params.get(name) == "1" for name in ("invert", "centre")}
        asking = partial(answer, models, content, **wanted)
        return JSONResponse(await asyncio.get_running_loop().run_in_executor(threads, asking))

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "models": [model.metadata.strategy for model in models]})

    routes = [Route("/", page), Route("/predict", predict, methods=["POST"]), Route("/health", health)]
    return application(routes, hosts)


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
