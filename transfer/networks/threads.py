"""How many threads a process computes with; kept apart from TensorFlow, which must not be imported before."""

from __future__ import annotations

import os
import sys

from threadpoolctl import threadpool_limits

SETTINGS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def thread_settings(count: int) -> dict[str, str]:
    """What a process's environment must say for TensorFlow and BLAS to compute with so many threads."""
    return dict.fromkeys(SETTINGS, str(count)) | {"TF_NUM_INTEROP_THREADS": "1"}


def set_threads(count: int) -> None:
    """Fix the number of threads of TensorFlow and BLAS in this process, because the bits of a result depend on it.

    Raises:
        RuntimeError: if TensorFlow, which reads these settings once, was imported with others.
    """
    settings = thread_settings(count)
    if "tensorflow" in sys.modules and any(os.environ.get(name) != value for name, value in settings.items()):
        raise RuntimeError("the number of threads must be set before TensorFlow is imported")
    os.environ.update(settings)
    threadpool_limits(count)  # of what is loaded already, such as numpy's BLAS
