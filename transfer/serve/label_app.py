"""The application behind `transfer label`.

`GET /` is the page, `GET /state` says which image waits, `GET /file/<number>` is one, as a browser can show it. `POST
/state` takes JSON: `{"answer": name, "number": image}`, `{"skip": image}` or `{"undo": true}`, and says which image
waits now. Errors are JSON too, and a browser's other pages cannot use it: see `page`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from transfer.data.folders import has_recordings, read_file
from transfer.data.images import FORMATS
from transfer.data.preprocessing import Preprocessing
from transfer.serve.labelling import Labelling
from transfer.serve.page import TEMPLATES, application, read_body

# What browsers show, by Pillow's name; an MPO is a JPEG with, say, a preview.
SHOWN = {"PNG": "png", "JPEG": "jpeg", "MPO": "jpeg", "GIF": "gif", "WEBP": "webp", "BMP": "bmp"}
ANY = Preprocessing(height=1, width=1, channels=3, fit="stretch", polarity="same")


def build(labelling: Labelling, hosts: Sequence[str]) -> Starlette:
    """The application.

    Args:
        labelling: that is shown and changed.
        hosts: names that requests may call this server by; `*` stands for any.
    """
    templates = Jinja2Templates(TEMPLATES)

    async def page(request: Request) -> Response:
        return templates.TemplateResponse(request, "label.html", {"folder": str(labelling.folder)})

    async def state(request: Request) -> Response:
        if request.method == "POST":
            content = await read_body(request, ("application/json",), "application/json")
            try:
                said = json.loads(content)
            except ValueError:
                said = None
            match said:
                case {"answer": str(name), "number": int(number)}:
                    labelling.answer(number, name)
                case {"skip": int(number)}:
                    labelling.skip(number)
                case {"undo": True}:
                    labelling.undo()
                case _:
                    raise HTTPException(
                        400, 'send {"answer": name, "number": image}, {"skip": image} or {"undo": true}'
                    )
        return JSONResponse(labelling.state())

    def file(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(labelling.paths):
            raise HTTPException(404, "there is no such image")
        return response(labelling.folder, labelling.paths[number])

    return application(
        [Route("/", page), Route("/state", state, methods=["GET", "POST"]), Route("/file/{number:int}", file)], hosts
    )


def response(folder: Path, name: str) -> Response:
    """A recording, or an image as browsers can show it: as it is, or what a study makes of it, as a PNG.

    Raises:
        UserError: if a study could not read the image.
    """
    path = folder / name
    if has_recordings([path]):
        return FileResponse(path)
    read: list[Image.Image] = []

    def keep(image: Image.Image) -> Image.Image:
        read.append(image)
        return image

    read_file(path, ANY, name, adjust=keep)
    with Image.open(path, formats=FORMATS) as image:
        if image.format in SHOWN and not image.mode.startswith("I;16"):
            return FileResponse(path, media_type=f"image/{SHOWN[image.format]}")
    stream = io.BytesIO()
    read[0].save(stream, "PNG")
    return Response(stream.getvalue(), media_type="image/png")
