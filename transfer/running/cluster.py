"""Tasks on a Ray cluster: the work is sent to every machine once, and a worker or a machine that dies costs its tasks.

Ray is an optional extra, imported only when it is asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from transfer.basics.console import UserError, one_line
from transfer.basics.files import read_bytes, write_whole
from transfer.basics.temporary import temporary_folder
from transfer.networks.threads import thread_settings
from transfer.running.memory import surroundings

Task = TypeVar("Task")
Result = TypeVar("Result")

RETRIES = 3  # of a task whose worker died; one that always kills its worker must come to an end
PATIENCE = 30  # seconds for a cluster to answer
SETTINGS = {  # of Ray, for all of its processes
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # do not hide a GPU from tasks, which share it
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # no lines of its own
    "RAY_USAGE_STATS_ENABLED": "0",  # no calls home
}
PACKAGE = Path(__file__).parents[1]
INSTALL = "python -m pip install 'ray>=2.50,<3'"
NO_RAY = f"compute.engine is ray, but Ray is not installed: {INSTALL}"


def run_on_ray(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int = 0, address: str = ""
) -> Iterator[Result]:
    """Yield the result of every task as it comes; the first tasks are started first.

    A task runs in a process of one thread, which is kept for further tasks. Where its process or its machine dies, it
    is run again elsewhere.

    Args:
        work: called with a task in a worker process; it and the data it carries are sent to each machine once. A path
            in it stands for a file of this machine, and is one of a file with the same content over there.
        tasks: what to do.
        workers: tasks side by side; 0 takes one per processor core.
        address: of a running cluster, as `host:port`, or `auto` for one that this machine is part of; empty starts a
            Ray on this machine, and ends it afterwards.

    Raises:
        UserError: if Ray is not installed, no cluster answers, a machine's results would differ from this one's, or
            a task's process has died too often, as of want of memory.
        Exception: what `work` raised; all tasks are ended first.
    """
    if not tasks:
        return
    with _connected(workers, address) as ray:
        inputs = _sent(ray, (work, surroundings()))
        call = ray.remote(_call).options(num_cpus=1, max_retries=RETRIES)
        ahead = iter(tasks)
        waiting = [call.remote([inputs], task) for task in islice(ahead, workers or None)]
        while waiting:
            done, waiting = ray.wait(waiting)
            waiting += [call.remote([inputs], task) for task in islice(ahead, len(done))]
            try:
                yield from ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                raise UserError(
                    f"a task was given up after {RETRIES + 1} tries: {one_line(error)} If that was for want of memory, "
                    "set compute.workers to a smaller number"
                ) from error


@contextlib.contextmanager
def _connected(workers: int, address: str) -> Iterator[Any]:
    """Ray, connected; what it writes on this machine is removed afterwards, and one that was started is ended."""
    os.environ |= SETTINGS
    try:
        import ray
    except ImportError:
        raise UserError(NO_RAY) from None
    import joblib  # knows of processor sets and container limits

    short = Path("/tmp") if os.name == "posix" else None  # the paths of Ray's sockets must be
    with temporary_folder(short) as folder:
        code = folder / "code"
        shutil.copytree(PACKAGE, code / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        environment = SETTINGS | surroundings()["settings"] | thread_settings(1)
        if address:
            _check_that_it_answers(address)
            where: dict[str, Any] = {"address": address}
        else:
            count = workers or joblib.cpu_count()
            where = {"address": "local", "num_cpus": count, "include_dashboard": False, "_temp_dir": str(folder)}
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else Ray keeps one in a file
        try:
            ray.init(
                **where,
                runtime_env={"working_dir": str(code), "env_vars": environment},
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
            yield ray
        finally:
            ray.shutdown()


def _check_that_it_answers(address: str) -> None:
    """Join once in a process that can be ended: where nobody answers, Ray tries for minutes and then aborts."""
    command = [sys.executable, "-c", "import sys, ray; ray.init(sys.argv[1])", address]
    reason = f"waited {PATIENCE} s"
    with contextlib.suppress(subprocess.TimeoutExpired):
        joined = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if joined.returncode == 0:
            return
        reason = (joined.stderr.strip() or "no reason given").splitlines()[-1]
    raise UserError(f"compute.address is {address!r}, but no Ray cluster can be joined there: {reason}")


def _sent(ray: Any, content: Any) -> Any:
    """Put an object where every machine gets it from, with the contents of the files that it names."""
    ray.util.register_serializer(type(Path()), serializer=_packed, deserializer=_unpacked)
    try:
        return ray.put(content)
    finally:
        ray.util.deregister_serializer(type(Path()))


def _packed(path: Path) -> tuple[str, bytes]:
    return path.name, read_bytes(path)


def _unpacked(file: tuple[str, bytes]) -> Path:
    """Write the file in a worker's current folder, which is Ray's for this run."""
    name, content = file
    path = Path(hashlib.sha256(content).hexdigest(), name).absolute()
    write_whole(path, lambda partial: partial.write_bytes(content))
    return path


def _call(inputs: list[Any], task: Any) -> Any:
    return _work(inputs[0])(task)  # in a list, Ray leaves a reference as it is


@cache
def _work(inputs: Any) -> Callable[[Any], Any]:
    """In a worker process: what it is to do, received once.

    Raises:
        UserError: if what a training gives would differ from what the main process's machine gives.
    """
    import ray

    work, expected = ray.get(inputs)
    here = surroundings()
    if differing := [name for name in expected if expected[name] != here[name]]:
        node = ray.util.get_node_ip_address()
        raise UserError(
            f"the machine {node} differs from this one in its {' and '.join(differing)}, which results depend on: "
            "use machines of one kind, set up alike"
        )
    return work
