"""TensorFlow and Keras, imported in one place: quietly, and with the settings that results depend on.

oneDNN's kernels are asked for by name: TensorFlow's own choice depends on the processor, and where it declines them
a training step takes two and a half times as long. A user's `keras.json` is overruled.

A process that says so in its environment only builds and saves models, for which nothing is computed: there Keras has
its NumPy backend, and `tf` is none. The files have the same bytes.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from transfer.basics.console import quiet_stderr
from transfer.networks.provenance import FILES_ALONE, SETTINGS

OPTIONAL = ("pandas", "scipy", "sklearn")  # Keras and TensorFlow import them if they can, for what is not used here
JAX = ("jax", "jax.lax", "keras.src.backend.jax", "keras.src.backend.jax.math")  # has the NumPy backend's convolutions


@contextlib.contextmanager
def _lean_import(*needed: str) -> Iterator[None]:
    """Import no optional package but those needed, and look for no garbage meanwhile: half the time, 2 seconds.

    What was imported stays for good, so that no later search for garbage goes through it either.
    """
    hidden = [name for name in OPTIONAL if name not in (*sys.modules, *needed)]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: there is no such package
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
        for name in hidden:
            del sys.modules[name]


def _has_keras_on_numpy() -> bool:
    """Import Keras on NumPy, with placeholders where it looks for JAX and TensorFlow, if this version can be had so."""
    from unittest.mock import MagicMock

    stand_ins: Mapping[str, Any] = {name: MagicMock() for name in JAX} | {"tensorflow": None}
    sys.modules.update(stand_ins)
    os.environ["KERAS_BACKEND"] = "numpy"
    try:
        with _lean_import("scipy"):
            import keras  # noqa: F401
    except Exception:  # whatever another version stumbles over
        for name in [name for name in sys.modules if name in stand_ins or name.partition(".")[0] == "keras"]:
            del sys.modules[name]
        return False
    return True


os.environ.setdefault("KERAS_HOME", os.devnull)  # a keras.json of the user's home must neither be written nor count
if not (os.environ.get(FILES_ALONE) and _has_keras_on_numpy()):
    os.environ.update(SETTINGS | os.environ | {"KERAS_BACKEND": "tensorflow"})
    with quiet_stderr(), _lean_import():  # the C++ side prints on import, before its log level counts
        import keras
        import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
else:
    import keras

    tf = None
keras.config.set_floatx("float32")
keras.config.set_image_data_format("channels_last")

__all__ = ["keras", "tf"]
