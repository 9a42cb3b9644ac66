"""Processes, timed from their start to their end, with the memory that they and their workers took."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from transfer.basics.console import UserError

EVERY = 0.2  # seconds between two looks at memory, each of which takes some milliseconds of a core
OF_MAKE = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")  # what `make bench` was told, for itself alone


@dataclass(frozen=True)
class Finished:
    """A process that has ended well.

    Attributes:
        seconds: from its start to its end, imports included.
        printed: all of its output.
        main_megabytes: the most resident memory that the process itself was seen with, files mapped into it included.
        worker_megabytes: the same of whichever of its child processes had the most; 0 without one.
    """

    seconds: float
    printed: str
    main_megabytes: float
    worker_megabytes: float

    def said(self) -> Any:
        """The JSON of the last line that it printed."""
        return json.loads(self.printed.strip().splitlines()[-1])


def environment() -> dict[str, str]:
    """What processes are started with: this Python's commands first, and as many threads as they take by themselves."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("_THREADS") and name not in ("PYTHONPATH", *OF_MAKE)
    }
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run_process(*command: str, cwd: Path) -> Finished:
    """Run a command to its end.

    Args:
        command: the program and its arguments.
        cwd: where it runs.

    Raises:
        UserError: if it fails; with the last line that it printed.
    """
    main = workers = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        start = time.perf_counter()
        process = psutil.Popen(command, cwd=cwd, env=environment(), stdout=output, stderr=output)
        try:
            while (code := _ended(process)) is None:
                main = max(main, _resident(process))
                workers = max([workers, *map(_resident, _children(process))])
        except BaseException:
            process.terminate()
            raise
        seconds = time.perf_counter() - start
        output.seek(0)
        printed = output.read()
    if code:
        last = (printed.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"`{' '.join([Path(command[0]).name, *command[1:]])}` failed: {last}")
    return Finished(seconds, printed, main / 1e6, workers / 1e6)


def _ended(process: psutil.Popen) -> int | None:
    """The exit code of a process that ends within `EVERY`, at once when it does."""
    try:
        return process.wait(EVERY)
    except psutil.TimeoutExpired:
        return None


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
