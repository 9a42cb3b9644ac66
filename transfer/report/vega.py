"""The chart library: pictures and the page's program from it, without a browser and without a network."""

from __future__ import annotations

import re

import vl_convert


def svg(specification: str) -> str:
    """The picture of a Vega-Lite specification, both as text."""
    # Where the library shortens a text it may cut a sign of two UTF-16 units in half, and fails.
    return vl_convert.vegalite_to_svg(re.sub(r"\\ud[89ab]..\\ud[c-f]..|[^\x00-\uffff]", "\ufffd", specification))


def bundle(program: str) -> str:
    """A program for the browser, in JavaScript, with all that it imports of the chart library inside."""
    return vl_convert.javascript_bundle(program)
