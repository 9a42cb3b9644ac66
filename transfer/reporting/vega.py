"""The chart library: pictures and the page's program from it, without a browser and without a network.

Python stands still while it works: what is to go on meanwhile needs a process of its own.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from transfer.basics.console import UserError
from transfer.basics.files import write_text


def svg(specification: str) -> str:
    """The picture of a Vega-Lite specification, both as text."""
    import vl_convert

    # Where the library shortens a text it may cut a sign of two UTF-16 units in half, and fails.
    return vl_convert.vegalite_to_svg(re.sub(r"\\ud[89ab]..\\ud[c-f]..|[^\x00-\uffff]", "\ufffd", specification))


def bundle(program: str, folder: Path | None = None) -> str:
    """A program for the browser with all that it imports of the chart library inside: two seconds of work.

    Args:
        program: in JavaScript.
        folder: in which the result is kept for the next time, if there is one: below a line with its checksum.
    """
    import vl_convert

    if folder is None:
        return vl_convert.javascript_bundle(program)
    path = folder / f"{_sum(program + version('vl-convert-python'))}.js"
    with suppress(OSError, ValueError):  # where there is none that can be read
        first, _, kept = path.read_bytes().decode().partition("\n")
        if first == f"// {_sum(kept)}":
            return kept
    made = vl_convert.javascript_bundle(program)
    with suppress(UserError):  # where there is no room, it is made again the next time
        write_text(path, f"// {_sum(made)}\n{made}")
    return made


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
