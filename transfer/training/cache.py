"""Runs that were trained before, in a folder that can be deleted at any time.

A run's file is named by a hash of all that it depends on: the strategy with its parameters and data, the draw, the
libraries, and the code that computes.
"""

from __future__ import annotations

import inspect
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from transfer.console import UserError
from transfer.files import read_arrays, write_arrays
from transfer.models.versions import versions

FOLDER = Path(".cache/runs")
PACKAGE = Path(__file__).parents[1]
CODE = (  # that decides what a run gives, beside the module of its training function; not what reads, prints or checks
    *("models/networks.py", "training/few_shot.py", "training/precision.py"),
    *("training/linear.py", "training/propagation.py", "training/schedule.py", "training/trainer.py"),
)


class RunCache:
    """Arrays of runs, in files.

    Args:
        start: the strategy's function, with its parameters and data.
        megabytes: size limit; the least recently used runs are deleted first. 0 turns the cache off.
        folder: where they are kept, and nothing else.
    """

    def __init__(self, start: partial[Any], megabytes: int, folder: Path = FOLDER) -> None:
        self.megabytes = megabytes
        self.folder = folder
        if megabytes:
            code = [file.read_bytes() for file in (Path(inspect.getfile(start.func)), *map(PACKAGE.joinpath, CODE))]
            self._common = joblib.hash([start.func, start.keywords, versions(), code], coerce_mmap=True)

    def path(self, task: object) -> Path:
        """The file of a task's run."""
        return self.folder / f"{joblib.hash([self._common, task])}.npz"

    def read(self, task: object) -> dict[str, np.ndarray] | None:
        """The arrays that were kept for a task; None if there are none that can be read."""
        if not self.megabytes:
            return None
        path = self.path(task)
        with suppress(UserError, OSError):
            arrays = read_arrays(path)
            os.utime(path)  # asked for now: the last to go
            return arrays
        return None

    def write(self, task: object, arrays: dict[str, np.ndarray]) -> None:
        """Keep a task's arrays."""
        if self.megabytes:
            write_arrays(self.path(task), **arrays)

    def trim(self) -> None:
        """Delete the least recently used runs until the rest fits the limit."""
        if not self.megabytes:
            return
        files = sorted(self.folder.glob("*.npz"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        kept = 0
        for file in files:
            kept += file.stat().st_size
            if kept > self.megabytes * 10**6:
                file.unlink()
