"""Model files are written by a process of their own, in which Keras comes without TensorFlow, five times as fast."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from transfer.basics.console import say
from transfer.basics.processes import belong_to_parent
from transfer.networks.provenance import FILES_ALONE
from transfer.running.workers import LOST, Pool, run_alone

WRITER = "the process that writes the model file"


class Shipment:
    """A call in that process, which is tried once more if the process dies.

    Args:
        pool: holds the process.
        call: what is done there; it must bear being done twice.
    """

    def __init__(self, pool: Pool, call: Callable[[], Any]) -> None:
        self._pool, self._call = pool, call
        self._future = pool.submit(call)

    def result(self) -> Any:
        """Wait for it.

        Raises:
            UserError: if the process dies twice.
        """
        try:
            return self._future.result()
        except LOST as error:
            say(f"{WRITER} {self._pool.death(error).how}: tried again")
        return run_alone(self._call, WRITER, _start)


class Shipping:
    """That process; it starts with the first function it is given.

    Args:
        pool: holds it.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Shipment:
        """Have a function called there."""
        return Shipment(self._pool, partial(function, *arguments))


@contextmanager
def shipping() -> Iterator[Shipping]:
    """That process for a while; it ends with the last function it is given."""
    with Pool(1, _start) as pool:
        yield Shipping(pool)


def _start() -> None:
    belong_to_parent()
    os.environ[FILES_ALONE] = "1"
