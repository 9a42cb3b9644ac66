"""Model files are written by a process of their own, in which Keras comes without TensorFlow, five times as fast."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context

from transfer.basics.console import UserError
from transfer.basics.processes import belong_to_parent
from transfer.networks.provenance import FILES_ALONE


@contextmanager
def shipping() -> Iterator[Executor]:
    """That process: it starts with the first function it is given, and ends with the last.

    Raises:
        UserError: if it is killed from outside.
    """
    try:
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=_start) as process:
            yield process
    except BrokenProcessPool:
        raise UserError("the process that writes the model file was killed, most likely for want of memory") from None


def _start() -> None:
    belong_to_parent()
    os.environ[FILES_ALONE] = "1"
