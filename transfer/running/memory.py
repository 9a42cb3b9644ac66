"""Trainings that were done before, so that none is done twice: a store of results under what they depend on.

What is not known for sure to be the same is a miss: a training's key is made of its code, its arguments, the contents
of the files among them, the libraries, the processor and the settings that change bits.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transfer.basics.console import one_line, say
from transfer.basics.files import digest
from transfer.networks.provenance import SETTINGS, processor, versions
from transfer.running.code import closure, fingerprint

FOLDER = Path(".cache", "cells")
NUMERIC = ("CUDA_", "DNNL_", "KERAS_", "MKL_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_", "TF_", "XLA_")


class Memory:
    """Results of trainings in a folder, which can be deleted at any time, and used by several processes at once.

    Args:
        folder: where they are kept.
        code: the module that the trainings are started from.
        root: the folder from which its local modules are imported.
        megabytes: what may be kept; of more, what was not asked for the longest goes. 0 keeps and recalls nothing.
    """

    def __init__(self, folder: Path, *, code: Path, root: Path, megabytes: int) -> None:
        self.megabytes = megabytes
        self._surroundings = _hash([fingerprint(closure(code, root)), surroundings()])
        try:
            self._open(folder if megabytes else None)
        except OSError as error:
            self._forget(f"{folder}: {one_line(error)}")

    def _open(self, folder: Path | None) -> None:
        import joblib

        with warnings.catch_warnings(action="ignore"):  # what cannot be written shows below
            self._store = joblib.Memory(folder, verbose=0)
            self._kept = self._store.cache(_result, ignore=["result"])

    def _forget(self, why: object) -> None:
        self._open(None)
        say(f"these trainings are not remembered: {why}")

    def keys(self, work: Callable[..., Any], tasks: Sequence[Any]) -> list[str]:
        """The key of every task, to keep its result under: of all that this depends on.

        Args:
            work: as in `key`.
            tasks: what it is called with.
        """
        if not self.megabytes:
            return [""] * len(tasks)  # nothing is kept, so nothing needs to be read
        common = self.key(work)
        return [_hash([common, task]) for task in tasks]

    def key(self, work: Callable[..., Any]) -> str:
        """Of all that some work depends on beside its tasks, whether or not anything is kept.

        Args:
            work: a function, or a `partial` with its arguments, and so on inside and in dataclasses; a path stands for
                its file's content.
        """
        return _hash([self._surroundings, _content(work)])

    def recall(self, key: str) -> Any:
        """What was kept under a key; None if there is nothing, or nothing that can be read."""
        with warnings.catch_warnings(action="ignore"):  # a damaged file counts as a miss
            return self._kept(key, None) if self._kept.check_call_in_cache(key, None) else None

    def keep(self, key: str, result: Any) -> None:
        """Keep a result; where the disk does not let us, say so once and go on without."""
        with warnings.catch_warnings(record=True, action="always") as complaints:
            self._kept.call(key, result)
        if complaints:
            self._forget(complaints[0].message)

    def trim(self) -> None:
        """Delete what is more than may be kept."""
        self._store.reduce_size(bytes_limit=self.megabytes * 10**6)


def _hash(value: Any) -> str:
    import joblib  # a tenth of a second, which worker processes need not spend

    return joblib.hash(value)


def _result(_key: str, result: Any) -> Any:
    """What joblib remembers by the key alone."""
    return result


def _content(value: Any) -> Any:
    """A function and its arguments by what they hold."""
    if isinstance(value, partial):
        named = {name: _content(argument) for name, argument in value.keywords.items()}
        return value.func, [_content(argument) for argument in value.args], named
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__qualname__, {field.name: _content(getattr(value, field.name)) for field in fields(value)}
    return digest(value) if isinstance(value, Path) else value


def surroundings() -> dict[str, Any]:
    """What the bits of a training depend on beside its code and its arguments.

    How many threads a process computes with is left out, as worker processes set it themselves, and where the other
    workers of a training are.
    """
    return {
        "python": platform.python_version(),
        "versions": versions(),
        "cuda": sorted({found.name for folder in sys.path for found in Path(folder).glob("nvidia*.dist-info")}),
        "processor": processor(),
        "accelerators": sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*")),
        "settings": {
            name: value
            for name, value in (SETTINGS | os.environ).items()
            if name.startswith(NUMERIC) and not name.endswith("_THREADS") and name != "TF_CONFIG"
        },
    }
