"""Worker processes of one thread each: started once, given the work once, then fed with small tasks.

What one thread computes has the same bits whatever the number of workers.
"""

from __future__ import annotations

import multiprocessing
import pickle
import re
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from transfer.basics.console import UserError, say, some
from transfer.basics.files import unwritten
from transfer.basics.processes import BEAT, GRACE, belong_to_parent
from transfer.basics.temporary import temporary_folder
from transfer.networks.threads import set_threads

Task = TypeVar("Task")
Result = TypeVar("Result")

LOST = (BrokenProcessPool, MemoryError)  # what a task is tried once more after
KILLED, ENDED = -9, -15  # exit codes after SIGKILL, and after the signal that a broken pool ends its others by


@dataclass(frozen=True)
class Death:
    """What became of a process that did not give a result.

    Attributes:
        how: as in "was killed for want of memory".
        memory: whether it wanted memory, as far as can be told.
    """

    how: str
    memory: bool = False


class Pool(ProcessPoolExecutor):
    """Processes that end with this one, and at once if the block that uses them fails; and that are known to die.

    Args:
        count: of the processes.
        start: is called in each, before anything else.
    """

    def __init__(self, count: int, start: Callable[[], None] = belong_to_parent) -> None:
        super().__init__(count, multiprocessing.get_context("spawn"), start)  # TensorFlow does not survive a fork
        self._count = count
        self._started: frozenset[multiprocessing.process.BaseProcess] = frozenset()
        self._kills = _memory_kills()
        # Where results are sent from in this process, too: while it is open, a reader waits for the rest of one. There
        # is no public way to it.
        self._sender, self._ending = self._result_queue._writer, threading.Lock()  # type: ignore[attr-defined]
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """As of every executor."""
        if len(self._started) == self._count:
            return super().submit(call, *arguments, **named)
        others = set(multiprocessing.active_children())
        try:
            return super().submit(call, *arguments, **named)
        except OSError:
            if self._broken or self._has_lost_one():  # and what another one was about to be started with
                raise BrokenProcessPool("a process died while another was being started") from None
            raise
        finally:
            self._started |= set(multiprocessing.active_children()) - others

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the processes; in the midst of their work if something was raised."""
        if kind:
            self.shutdown(wait=False, cancel_futures=True)
            self._end_all()
        else:
            self.shutdown()
        self._over.set()

    def death(self, error: BaseException) -> Death:
        """Why one of the processes did not give a result, by what its future has raised, one of `LOST`."""
        if isinstance(error, MemoryError):
            return Death("ran out of memory", memory=True)
        self._end_all()  # one that was being started while another died is not ended by the executor, but waited for
        self.shutdown()
        self._over.set()
        self._watcher.join()
        for process in self._started:
            process.join()
        codes = [code for process in self._started if (code := process.exitcode)]
        if KILLED in codes:
            kills = _memory_kills()
            if kills is None or self._kills is None:
                return Death("was killed, most likely for want of memory", memory=True)
            if kills > self._kills:
                return Death("was killed for want of memory", memory=True)
            return Death("was killed from outside, by no shortage of memory that the system knows of")
        code = next((code for code in codes if code != ENDED), codes[0] if codes else None)
        if code is None:
            return Death("has gone")
        return Death(f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}")

    def _has_lost_one(self) -> bool:
        return any(process.exitcode for process in self._started)

    def _end_all(self) -> None:
        """End the processes, and the wait for the rest of what one of them was about to send."""
        with self._ending:
            for process in self._started:
                process.terminate()
            self._sender.close()

    def _watch(self) -> None:
        """In a thread: end all when one has died and the executor, which should do that, does not.

        It does not while it waits for the rest of a result in the midst of which the process has died.
        """
        while not self._over.wait(BEAT):
            if self._has_lost_one() and not self._over.wait(GRACE):
                self._end_all()


def _memory_kills() -> int | None:
    """How many processes the system has killed for want of memory so far; None where it does not tell."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def run_alone(call: Callable[[], Result], what: str, start: Callable[[], None] = belong_to_parent) -> Result:
    """Call a function once more, in a process beside which there is no other.

    Args:
        call: the function, whose process has died before.
        what: stands before the reason if this one dies too.
        start: as of `Pool`.

    Raises:
        UserError: if it does; says what to change.
    """
    with Pool(1, start) as pool:
        try:
            return pool.submit(call).result()
        except LOST as error:
            death = pool.death(error)
    change = "ask for less (fewer shots, smaller images, a smaller network), or use a machine with more memory"
    remedy = f"fewer workers would not help: {change}" if death.memory else "run again"
    raise UserError(f"{what} {death.how}, and again with no other beside it: {remedy}")


def run_in_workers(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int = 0,
    name: Callable[[Task], str] = str,
) -> Iterator[Result]:
    """Yield the result of every task as it comes; the first tasks are started first.

    If a worker process dies, all are ended. The tasks that they may have been at are tried once more, each with no
    other beside it; then the rest goes on, with one worker fewer if it was for want of memory.

    Args:
        work: called with a task in a worker process; it and the data it carries are sent to each worker once. What it
            does must bear being done twice.
        tasks: what to do.
        workers: processes side by side; 0 takes one per processor core.
        name: what a task is called.

    Raises:
        UserError: if the process of a task dies twice, or the disk is full.
        Exception: what `work` raised; all workers are ended first.
    """
    if not tasks:
        return
    import joblib  # knows of processor sets and container limits

    count = min(workers or joblib.cpu_count(), len(tasks))
    set_threads(1)  # here already: a worker loads BLAS, which reads this once, while it receives its work
    with _sent(work) as path:
        lost, death = yield from _side_by_side(path, tasks, count)
        while lost:
            first, rest = lost[:count], lost[count:]  # tasks are started in their order
            say(f"a worker process {death.how}; tried again, one at a time: {some([*map(name, first)])}")
            for task in first:
                yield run_alone(partial(_call, path, task), f"{name(task)}: the worker process")
            count = max(1, count - death.memory)
            lost, death = yield from _side_by_side(path, rest, count)


def _side_by_side(path: Path, tasks: Sequence[Any], count: int) -> Generator[Any, None, tuple[list[Any], Death]]:
    """Yield results until a process dies; return the tasks that have none, in their order, and why."""
    left, death = dict(enumerate(tasks)), Death("has gone")
    with Pool(max(1, min(count, len(tasks)))) as pool:
        try:
            futures = {pool.submit(_call, path, task): number for number, task in enumerate(tasks)}
            for future in as_completed(futures):
                number = futures.pop(future)  # and with it the result, once it is used
                try:
                    result = future.result()
                except MemoryError as error:
                    death = pool.death(error)
                    continue
                del left[number], future
                yield result
        except BrokenProcessPool as error:
            death = pool.death(error)
    return list(left.values()), death


@contextmanager
def _sent(work: Callable[[Any], Any]) -> Iterator[Path]:
    """Write what workers are to do to a file, which is there for a while.

    As an argument it would be written to one worker after the other, each waiting for the one before.
    """
    content = pickle.dumps(work, pickle.HIGHEST_PROTOCOL)
    with temporary_folder() as folder:
        path = folder / "work"
        try:
            path.write_bytes(content)
        except OSError as error:
            raise unwritten(error, path, len(content), "name another folder in TMPDIR") from None
        yield path


@cache
def _work(path: Path) -> Callable[[Any], Any]:
    """In a worker process: what it was started for."""
    with path.open("rb") as file:
        return pickle.load(file)


def _call(path: Path, task: Any) -> Any:
    return _work(path)(task)
