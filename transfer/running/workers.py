"""Worker processes of one thread each: started once, given the work once, then fed with small tasks.

What one thread computes has the same bits whatever the number of workers.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from transfer.basics.console import UserError
from transfer.basics.processes import belong_to_parent
from transfer.networks.threads import set_threads

Task = TypeVar("Task")
Result = TypeVar("Result")

_work: Callable[[Any], Any]  # in a worker process: what it was started for


def run_in_workers(work: Callable[[Task], Result], tasks: Sequence[Task], workers: int = 0) -> Iterator[Result]:
    """Yield the result of every task as it comes; the first tasks are started first.

    Args:
        work: called with a task in a worker process; it and the data it carries are sent to each worker once.
        tasks: what to do.
        workers: processes side by side; 0 takes one per processor core.

    Raises:
        UserError: if a worker process is killed from outside.
        Exception: what `work` raised; all workers are ended first.
    """
    if not tasks:
        return
    import joblib  # knows of processor sets and container limits

    count = min(workers or joblib.cpu_count(), len(tasks))
    set_threads(1)  # here already: a worker loads BLAS, which reads this once, while it receives its work
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    with (
        TemporaryDirectory(prefix="transfer-") as folder,
        ProcessPoolExecutor(count, context, initializer=_start, initargs=(path := Path(folder, "work"),)) as pool,
    ):
        # In a file: as an argument it would be written to one worker after the other, each waiting for the one before.
        path.write_bytes(pickle.dumps(work, pickle.HIGHEST_PROTOCOL))
        try:
            for future in as_completed([pool.submit(_call, task) for task in tasks]):
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, most likely for want of memory: set compute.workers to a smaller number"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _start(path: Path) -> None:
    global _work
    belong_to_parent()
    with path.open("rb") as file:
        _work = pickle.load(file)


def _call(task: Any) -> Any:
    return _work(task)
