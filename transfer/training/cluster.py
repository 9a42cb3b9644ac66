"""Trainings on a Ray cluster, each a task; a worker or a machine that dies costs the trainings that it was at.

Ray is an optional extra, imported only when it is asked for.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from transfer.console import UserError, one_line
from transfer.models.versions import versions

Task = TypeVar("Task")
Result = TypeVar("Result")

RETRIES = 3  # of a task whose worker died; one that always kills its worker must come to an end
PATIENCE = 10  # seconds for a cluster to answer
SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # do not hide a GPU from tasks, which share it
    "RAY_USAGE_STATS_ENABLED": "0",  # no calls home
}
PACKAGE = Path(__file__).parents[1]


def run_on_ray(
    start: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task], workers: int = 0, address: str = ""
) -> Iterator[Result]:
    """Yield the result of every task, in their order.

    A task runs on one thread of a process that is kept for further tasks. Where its process or its machine dies, it is
    run again elsewhere.

    Args:
        start: called once in every worker process; what it returns is called with one task at a time. It is sent to
            each machine once, with the data that it carries.
        tasks: what to do.
        workers: tasks side by side on this machine; 0 takes all processor cores, as a cluster does in any case.
        address: of a running cluster, as `host:port`, or `auto` for one that this machine is part of; empty starts a
            Ray on this machine, and ends it afterwards.

    Raises:
        UserError: if Ray is not installed, no cluster answers, a machine has other libraries, or a task's process has
            died too often.
        Exception: what a task raised.
    """
    check_ray()
    os.environ.update(SETTINGS)
    import ray

    where: dict[str, Any] = (
        {"address": address}
        if address
        else {"address": "local", "num_cpus": workers or None, "include_dashboard": False}
    )
    environment = {"py_modules": [str(PACKAGE)], "env_vars": SETTINGS}
    try:
        if ":" in address:  # where nobody listens, Ray tries for minutes and then aborts
            place = urlsplit(f"//{address}")
            socket.create_connection((place.hostname, place.port), PATIENCE).close()
        ray.init(**where, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"compute.address is {address!r}, but no Ray cluster can be joined: {one_line(error)}"
        ) from None
    try:
        inputs = ray.put((start, versions()))
        call = ray.remote(_call).options(num_cpus=1, max_retries=RETRIES)
        for result in [call.remote([inputs], task) for task in tasks]:
            yield ray.get(result)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise UserError(f"a training was given up after {RETRIES + 1} tries: {one_line(error)}") from error
    finally:
        ray.shutdown()


def check_ray() -> None:
    """Raise a `UserError` if Ray is not installed."""
    if find_spec("ray") is None:
        raise UserError("compute.engine is ray, but Ray is not installed: python -m pip install 'ray>=2.50,<3'")


def _call(inputs: list[Any], task: Any) -> Any:
    return _started(inputs[0])(task)  # in a list, Ray leaves a reference as it is


@cache
def _started(inputs: Any) -> Callable[[Any], Any]:
    """In a worker process: what it does with a task, made once.

    Raises:
        UserError: if its machine has other libraries.
    """
    import ray

    from transfer.training.threads import set_threads

    start, expected = ray.get(inputs)
    if differing := [f"{name} {found}" for name, found in versions().items() if found != expected[name]]:
        node = ray.util.get_node_ip_address()
        raise UserError(f"the machine {node} has {', '.join(differing)}: install what this machine has")
    set_threads(1)
    return start()
