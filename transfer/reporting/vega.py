"""The chart library: pictures and the page's program from it, without a browser and without a network.

Python stands still while it works: what is to go on meanwhile needs a process of its own.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path


def svg(specification: str) -> str:
    """The picture of a Vega-Lite specification, both as text."""
    import vl_convert

    return vl_convert.vegalite_to_svg(specification)


def bundle(program: str, memory: Path | None = None) -> str:
    """A program for the browser with all that it imports of the chart library inside: two seconds of work.

    Args:
        program: in JavaScript.
        memory: a folder in which the result is kept for the next time, if there is one.
    """
    if memory is None:
        return _bundle(program, "")
    from joblib import Memory

    return Memory(memory, verbose=0).cache(_bundle)(program, version("vl-convert-python"))


def _bundle(program: str, _version: str) -> str:
    import vl_convert

    return vl_convert.javascript_bundle(program)
