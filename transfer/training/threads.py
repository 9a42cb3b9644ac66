"""How many threads and which devices TensorFlow computes with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from transfer.models.backend import tf


def set_threads(count: int) -> None:
    """Fix how many threads share one operation, because the bits of a result depend on it.

    Raises:
        RuntimeError: if TensorFlow has computed something with another number before.
    """
    tf.config.threading.set_intra_op_parallelism_threads(count)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def device(number: int) -> AbstractContextManager[object]:
    """The GPU of a thread, by its number: threads take the visible ones in turn; without a GPU, the processor."""
    gpus = tf.config.list_logical_devices("GPU")
    return tf.device(gpus[number % len(gpus)].name) if gpus else nullcontext()
