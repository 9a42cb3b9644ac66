"""TensorFlow and Keras, imported without the lines that TensorFlow's C++ side prints before its log level counts."""

from __future__ import annotations

import os

from transfer.basics.console import quiet_stderr

SETTINGS = {  # read once, on import
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "1",  # TensorFlow's own choice depends on the processor; without, steps take 2.5 × as long
}
for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)
with quiet_stderr():
    import keras
    import tensorflow as tf

__all__ = ["keras", "tf"]
