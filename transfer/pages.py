"""The report as Markdown with charts beside it, and as one HTML file that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup, escape

from transfer.blocks import MARKS, Section
from transfer.charts import Looks

TEMPLATES = Path(__file__).parent / "templates"
TITLE = "Which way to transfer"


def markdown(sections: Sequence[Section], charts: str) -> str:
    """The report as Markdown.

    Args:
        sections: what it says.
        charts: the folder of the charts, relative to the page.
    """
    environment = _environment(autoescape=False)
    environment.filters["cell"] = _markdown_cell
    environment.filters["prose"] = _markdown_prose
    page = environment.get_template("report.md").render(title=TITLE, sections=sections, charts=charts, marks=MARKS)
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


def _markdown_cell(text: object) -> str:
    """Text that cannot break out of a table, nor be taken for HTML."""
    return re.sub(r"([|\\<>*\[\]])", r"\\\1", " ".join(str(text).split()))


def _markdown_prose(text: object) -> str:
    """Text whose `code` and **strong** words stay marked, but in which nothing is taken for HTML or a link."""
    return re.sub(r"([<>\[\]])", r"\\\1", " ".join(str(text).split()))


def html(sections: Sequence[Section], strategies: Sequence[str]) -> str:
    """The report as one HTML file: styles, program, charts and images are inside, and nothing is fetched.

    Args:
        sections: what it says.
        strategies: names in their order, for the key of the charts.
    """
    environment = _environment(autoescape=True)
    environment.filters["inline"] = _inline
    environment.filters["json"] = _json
    environment.globals["markup"] = Markup
    looks = Looks(strategies)
    key = [{"name": name, "colour": looks.colour_of(name), "glyph": looks.glyph_of(name)} for name in strategies]
    return environment.get_template("report.html").render(
        title=TITLE,
        sections=sections,
        key=key,
        marks=MARKS,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        program=Markup(_program()),
    )


@cache
def _program() -> str:
    """The page's program with the chart library inside, as text for a `<script>`."""
    own = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return vl_convert.javascript_bundle(own).replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _environment(autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    return environment


def _inline(text: object) -> Markup:
    """HTML of a text in which `code` and **strong** words are marked as in Markdown."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", marked))


def _json(content: Any) -> Markup:
    """JSON for a `<script>`: nothing in it can end the script."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
