"""Sections out of a template of prose; and as a page: as Markdown with charts beside it, and as one HTML file."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from transfer.report.blocks import MARKS, Bullets, Section, Table, Text, plain

TEMPLATES = Path(__file__).parent / "templates"
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=jinja2.select_autoescape(),  # of HTML
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
SECONDS = (
    "Seconds of one run as last trained here, by labels per class: to train / to predict 1,000 images; without the "
    "frozen backbone, the graph and the trainings that pseudo-labels come from"
)
_EDGE = r"(?<![^\W_])_|_(?![^\W_])"  # an underscore that is not inside a word: emphasis in Markdown


def written(name: str, **values: Any) -> list[Section]:
    """Sections that a template tells: each line is a title, an item of a list or a paragraph.

    Args:
        name: of the template.
        values: that stand in it.
    """
    sections: list[Section] = []
    for line in ENVIRONMENT.get_template(f"{name}.md").render(values).splitlines():
        kind, _, text = line.partition(" ")
        if kind == "#":
            sections.append(Section(text.split()[0].lower(), text))
        elif kind != "-":
            sections[-1].blocks.append(Text(line))
        elif sections[-1].blocks and isinstance(sections[-1].blocks[-1], Bullets):
            sections[-1].blocks[-1].items.append(text)
        else:
            sections[-1].blocks.append(Bullets([text]))
    return sections


def markdown(title: str, sections: Sequence[Section], charts: str = "") -> str:
    """The page as Markdown.

    Args:
        title: of the page.
        sections: what it says.
        charts: the folder of the charts, relative to the page; empty where there is none.
    """
    page = ENVIRONMENT.get_template("page.md").render(title=title, sections=sections, charts=charts, marks=MARKS)
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


def _markdown_cell(text: object) -> str:
    """Text that cannot break out of a table, nor be taken for HTML."""
    return re.sub(rf"([|\\<>*&\[\]]|{_EDGE})", r"\\\1", " ".join(str(text).split()))


def _markdown_prose(text: object) -> str:
    """Text whose `code` and **strong** words stay marked, but in which nothing is taken for HTML or a link."""
    return re.sub(rf"([<>&\[\]]|{_EDGE})", r"\\\1", " ".join(str(text).split()))


def html(title: str, sections: Sequence[Section], strategies: Sequence[str] = ()) -> str:
    """The page as one HTML file: styles, programs, charts and images are inside.

    It shows the seconds in `seconds.js` beside it, if there are any, and fetches nothing else.

    Args:
        title: of the page.
        sections: what it says.
        strategies: names in their order, for the key of the charts; none where there is no chart.
    """
    key, program, seconds = [], "", None
    if strategies:
        from transfer.report.charts import Looks  # Altair takes half a second, which a page without charts need not

        key, program = Looks(strategies).key, _charts_program()
        seconds = Table(SECONDS, ["strategy"], [[plain(name)] for name in strategies])
    page = ENVIRONMENT.get_template("page.html")
    return page.render(title=title, sections=sections, key=key, marks=MARKS, seconds=seconds, charts_program=program)


def png_address(image: np.ndarray) -> str:
    """An image, (height, width, 1 or 3) uint8, as the `data:` address of a PNG."""
    stream = io.BytesIO()
    Image.fromarray(image.squeeze()).save(stream, "PNG", optimize=True)
    return _data_address(stream.getvalue(), "png")


def _data_address(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


@cache
def _charts_program() -> str:
    """The program for charts with the chart library inside."""
    import vl_convert

    return vl_convert.javascript_bundle((TEMPLATES / "charts.js").read_text(encoding="utf-8"))


def _inline(text: object) -> str:
    """HTML of a text in which `code` and **strong** words are marked as in Markdown."""
    said = escape(str(text)).replace("± ", "±\u00a0")  # a line does not end there
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", said)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", marked)


ENVIRONMENT.filters |= {
    "address": lambda svg: _data_address(svg.encode(), "svg+xml"),
    "cell": _markdown_cell,
    "inline": _inline,
    "kind": lambda block: type(block).__name__,
    "prose": _markdown_prose,
    "thousands": "{:,}".format,
}
