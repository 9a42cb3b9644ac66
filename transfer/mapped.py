"""Arrays that may be larger than memory: folders of `.npy` files, written batch by batch and mapped when read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from transfer.basics.console import UserError


class Rows(Protocol):
    """Rows of an array, whether they are in memory, in a file, or made when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""

    def __len__(self) -> int:
        """The number of rows."""

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Some of the rows, by a slice or by their numbers."""


@dataclass(frozen=True)
class Mapped:
    """The array in an `.npy` file; memory holds the rows that are asked for, and no more.

    Sent to another process it is the path alone, so that all processes share one copy in the system's page cache.

    Attributes:
        path: of the file.
    """

    path: Path

    def _array(self) -> np.ndarray:
        try:
            return np.load(self.path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise UserError(f"{self.path} is missing: `dvc repro` makes it") from None
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{self.path} cannot be read ({error}): delete it and run `dvc repro`") from None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array.

        Raises:
            UserError: if the file is missing or damaged, here and wherever else it is read.
        """
        return self._array().shape

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._array())

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Some of the rows: a view of the map for a slice, else a copy."""
        return np.asarray(self._array()[rows])


def write_side_by_side(folder: Path, names: Sequence[str], batches: Iterable[Sequence[np.ndarray]], rows: int) -> None:
    """Write several arrays at once, batch by batch, each as an `.npy` file.

    Written, not mapped: a full disk is an error here, and would kill a process that writes through a map.

    Args:
        folder: of the files.
        names: of the arrays.
        batches: of every array its next rows.
        rows: how many all batches have together.
    """
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{name}.npy").open("wb")) for name in names]
        for batch in batches:
            for file, part in zip(files, map(np.ascontiguousarray, batch), strict=True):
                if not file.tell():
                    header = np.lib.format.header_data_from_array_1_0(part)
                    np.lib.format.write_array_header_1_0(file, header | {"shape": (rows, *part.shape[1:])})
                file.write(part.data)
