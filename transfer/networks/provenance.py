"""What a result was made with, to be kept beside it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

# That what a training gives depends on.
LIBRARIES = ("numpy", "scipy", "scikit-learn", "tensorflow", "keras", "ziglang")
SETTINGS = {  # that TensorFlow runs with, where the environment does not say otherwise
    "KERAS_BACKEND": "tensorflow",
    "TF2_BEHAVIOR": "1",  # its own
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # worker processes share a GPU
}
FILES_ALONE = "TRANSFER_FILES_ALONE"  # set in a process that does nothing with Keras but build and save models


def versions() -> dict[str, str]:
    """Of the libraries that what a training gives depends on."""
    return {name: version(name) for name in LIBRARIES}


def processor() -> list[str]:
    """The kind of processor: its architecture and what it has of the instructions that libraries choose by."""
    import numpy as np

    found = np.show_config(mode="dicts").get("SIMD Extensions", {})
    return [platform.machine(), *found.get("baseline", []), *found.get("found", [])]


def made_with(params: Mapping[str, Any], engine: str = "") -> dict[str, Any]:
    """Parameters and versions of the libraries, ready for JSON.

    Args:
        params: a section of `params.yaml`, or several by their names.
        engine: what networks were trained by, if any were.
    """
    return {"params": dict(params), "versions": versions()} | ({"engine": engine} if engine else {})
