"""TensorFlow and Keras, imported in one place: quietly, and with the settings that results depend on.

oneDNN's kernels are asked for by name: TensorFlow's own choice depends on the processor, and where it declines them
a training step takes two and a half times as long. A user's `keras.json` is overruled.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from transfer.networks.provenance import SETTINGS

os.environ.update(SETTINGS | os.environ | {"KERAS_BACKEND": "tensorflow"})

OPTIONAL = ("pandas", "scipy", "sklearn")  # Keras and TensorFlow import them if they can, for what is not used here


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what the C++ side prints on import, before its log level counts."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _lean_import() -> Iterator[None]:
    """Import no optional package, and look for no garbage meanwhile: half the processor time, 2 seconds.

    What was imported stays for good, so that no later search for garbage goes through it either.
    """
    hidden = [name for name in OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: there is no such package
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
        for name in hidden:
            del sys.modules[name]


with _quiet_stderr(), _lean_import():
    import keras
    import tensorflow as tf

tf.get_logger().setLevel("ERROR")
keras.config.set_floatx("float32")
keras.config.set_image_data_format("channels_last")

__all__ = ["keras", "tf"]
