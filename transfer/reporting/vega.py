"""The chart library: pictures and the page's program from it, without a browser and without a network.

Python stands still while it works: what is to go on meanwhile needs a process of its own.
"""

from __future__ import annotations


def svg(specification: str) -> str:
    """The picture of a Vega-Lite specification, both as text."""
    import vl_convert

    return vl_convert.vegalite_to_svg(specification)


def bundle(program: str) -> str:
    """A program for the browser with all that it imports of the chart library inside: a second of work."""
    import vl_convert

    return vl_convert.javascript_bundle(program)
