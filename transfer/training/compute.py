"""The `compute` section: where and how trainings run side by side."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal, TypeVar

import joblib
from pydantic import Field, field_validator

from transfer.params import Section
from transfer.training.cluster import run_on_ray
from transfer.training.threads import device

Task = TypeVar("Task")
Result = TypeVar("Result")


class Compute(Section):
    """The `compute` section: how trainings are run. It changes no result, so no stage depends on it."""

    engine: Literal["local", "ray"]
    address: str
    workers: Annotated[int, Field(ge=0, le=1024)]
    remember: Annotated[int, Field(ge=0, le=1_000_000)]  # megabytes

    @field_validator("address")
    @classmethod
    def _is_one(cls, address: str) -> str:
        if not re.fullmatch(r"auto|[^\s/]+:\d+|", address):
            raise ValueError("empty for a Ray of our own, auto, or host:port of a running cluster")
        return address

    def train(self, tasks: Sequence[Task], *, start: Callable[[], Callable[[Task], Result]]) -> Iterator[Result]:
        """Yield the result of every task, in their order; arguments and errors as of `run_in_threads`, `run_on_ray`."""
        if self.engine == "ray":
            return run_on_ray(start, tasks, self.workers, self.address)
        return run_in_threads(start, tasks, self.workers)


def run_in_threads(
    start: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task], workers: int = 0
) -> Iterator[Result]:
    """Yield the result of every task, in their order, from threads of this process.

    TensorFlow computes outside Python's lock. After `set_threads(1)` each task computes on one thread, so that the
    number of threads changes no bit.

    Args:
        start: called once for every thread; what it returns is called with one task at a time.
        tasks: what to do.
        workers: threads side by side; 0 takes one per processor core.
    """
    count = max(1, min(workers or joblib.cpu_count(), len(tasks)))
    numbers, thread = iter(range(count)), threading.local()

    def work(task: Task) -> Result:
        if not hasattr(thread, "call"):  # here and not in the main thread, where TensorFlow may swallow a Ctrl-C
            thread.number = next(numbers)
            with device(thread.number):
                thread.call = start()
        with device(thread.number):
            return thread.call(task)

    pool = ThreadPoolExecutor(count)
    try:
        yield from pool.map(work, tasks)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
