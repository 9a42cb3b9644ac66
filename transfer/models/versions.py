"""What a result was made with, to be kept beside it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

LIBRARIES = ("numpy", "scipy", "scikit-learn", "tensorflow", "keras")  # that results depend on


def versions() -> dict[str, str]:
    """Of the libraries that results depend on."""
    return {name: version(name) for name in LIBRARIES}


def made_with(params: Mapping[str, Any], precision: str | None = None) -> dict[str, Any]:
    """Parameters and versions of the libraries, ready for JSON.

    Args:
        params: a section of `params.yaml`, or several by their names.
        precision: what networks were trained in, if any were.
    """
    return {"params": dict(params), "versions": versions()} | ({"precision": precision} if precision else {})
