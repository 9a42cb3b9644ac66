"""Trainings that were done before, so that none is done twice: a store of results under what they depend on.

What is not known for sure to be the same is a miss: a training's key is made of its code, its arguments, the contents
of the files among them, the libraries, the processor and the settings that change bits. A result is a file of plain
arrays with its key inside: no file of the folder can do more than be taken for a result, and a damaged one is a miss.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from transfer.basics.arrays import read_arrays, write_arrays
from transfer.basics.console import UserError, say
from transfer.basics.files import PARTIAL, digest, is_left
from transfer.networks.provenance import SETTINGS, processor, versions
from transfer.running.code import closure, fingerprint

FOLDER = Path(".cache", "cells")
KEY = "key"  # the array in a result's file that says what the others are the result of
RESULT = re.compile(r"[0-9a-f]+\.npz")
NUMERIC = ("CUDA_", "DNNL_", "KERAS_", "MKL_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_", "TF_", "XLA_")


@runtime_checkable
class Stored(Protocol):
    """What knows the content of the file that it is in."""

    def content(self) -> str:
        """The same for the same content, wherever the file lies."""


class Memory:
    """Results of trainings in a folder, which can be deleted at any time, and used by several processes at once.

    Args:
        folder: where they are kept, and nothing else.
        code: the module that the trainings are started from.
        root: the folder from which its local modules are imported.
        megabytes: what may be kept; of more, what was not asked for the longest goes. 0 keeps and recalls nothing.
    """

    def __init__(self, folder: Path, *, code: Path, root: Path, megabytes: int) -> None:
        self.folder = folder if megabytes else None
        self.megabytes = megabytes
        self._surroundings = _hash([fingerprint(closure(code, root)), surroundings()])

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

    def recall(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays that were kept under a key; None if there are none, or none that can be trusted."""
        if self.folder is None:
            return None
        path = self.folder / f"{key}.npz"
        try:
            arrays = read_arrays(path) if path.is_file() else {}  # not a pipe, which would be waited for
        except (UserError, OSError):  # damaged, or another user's
            return None
        with suppress(OSError):
            os.utime(path)  # asked for now: the last to go
        return arrays if str(arrays.pop(KEY, "")) == key else None

    def keep(self, key: str, result: Mapping[str, np.ndarray]) -> None:
        """Keep named arrays; where the disk does not let us, say so once and go on without."""
        if self.folder is None:
            return
        try:
            write_arrays(self.folder / f"{key}.npz", **{KEY: np.array(key)}, **result)
        except UserError as error:
            self.folder = None
            say(f"these trainings are not remembered: {error}")

    def trim(self) -> None:
        """Delete what is more than may be kept, and whatever else has been left in the folder."""
        if self.folder is None:
            return
        found = list(_files(self.folder))
        surplus = sum(size for _, size, _ in found) - self.megabytes * 10**6
        for _, size, path in sorted(found):
            if surplus <= 0:
                break
            with suppress(OSError):  # another process's doing, or another user's file
                path.unlink()
                surplus -= size


def _files(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """When each result was last asked for, in nanoseconds, its size in bytes, and its file.

    All else goes, such as what writers that were killed have left; not what a living one has not finished.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                status = path.lstat()
                if RESULT.fullmatch(path.name) and stat.S_ISREG(status.st_mode):
                    yield status.st_mtime_ns, status.st_size, path
                elif stat.S_ISDIR(status.st_mode):
                    shutil.rmtree(path)
                elif is_left(path) or not PARTIAL.match(path.name):
                    path.unlink()


def _hash(value: Any) -> str:
    import joblib  # a tenth of a second, which worker processes need not spend

    return joblib.hash(value)


def _content(value: Any) -> Any:
    """A function and its arguments by what they hold."""
    if isinstance(value, Stored):
        return value.content()
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
        "cuda": sorted(_cuda()),
        "processor": processor(),
        "accelerators": sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*")),
        "settings": {
            name: value
            for name, value in (SETTINGS | os.environ).items()
            if name.startswith(NUMERIC) and not name.endswith("_THREADS") and name != "TF_CONFIG"
        },
    }


def _cuda() -> set[str]:
    """The installed packages of CUDA's libraries, with their versions."""
    found: set[str] = set()
    for folder in sys.path:
        with suppress(PermissionError):  # as Python does, which imports nothing from such a folder
            found.update(path.name for path in Path(folder).glob("nvidia*.dist-info"))
    return found
