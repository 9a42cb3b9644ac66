"""TensorFlow and Keras, imported quickly and without the lines that TensorFlow prints before its log level counts."""

from __future__ import annotations

import gc
import os

from transfer.console import quiet_stderr

SETTINGS = {  # read once, on import
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "1",  # TensorFlow's own choice depends on the processor; without, steps take 2.5 × as long
}
for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)
gc.disable()  # an import leaves no garbage, and looking for it takes a fifth of the time, 0.8 s
with quiet_stderr():
    import keras
    import tensorflow as tf
gc.enable()

__all__ = ["keras", "tf"]
