"""Arrays that may be larger than memory: folders of `.npy` files, written batch by batch and mapped when read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from transfer.basics.console import UserError
from transfer.basics.files import write_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")
BATCH = 1 << 24  # numbers of an array that are worked on together, so that memory need not hold all


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


def batches(array: Rows) -> Iterator[slice]:
    """Slices of an array, one after the other, of so many rows that each holds a bounded count of numbers."""
    step = max(1, BATCH // max(1, prod(array.shape[1:])))
    return (slice(start, start + step) for start in range(0, len(array), step))


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


def write_folder(path: Path, arrays: Mapping[str, Rows | Callable[[Path], object]]) -> None:
    """Write named arrays as a folder of `.npy` files, whole or not at all; memory holds some rows of them at a time.

    Args:
        path: of the folder.
        arrays: by name; or a function that writes the array to the file that it is given.
    """

    def write(folder: Path) -> None:
        folder.mkdir()
        for name, array in arrays.items():
            if callable(array):
                array(folder / f"{name}.npy")
            elif array.shape and len(array):
                write_side_by_side(folder, [name], ([array[part]] for part in batches(array)), len(array))
            else:
                np.save(folder / f"{name}.npy", array[...], allow_pickle=False)

    write_whole(path, write)


def read_folder(path: Path, kind: type[Record], *mapped: str) -> Record:
    """Read a dataclass of arrays that `write_folder` wrote.

    Args:
        path: of the folder.
        kind: of the dataclass.
        mapped: names of the arrays that stay in their files.

    Raises:
        UserError: if a file is missing or damaged; of a mapped array when it is used.
    """
    files = {field.name: Mapped(path / f"{field.name}.npy") for field in fields(kind)}
    return kind(**{name: file if name in mapped else file[...] for name, file in files.items()})


@dataclass(frozen=True)
class Chosen:
    """Some rows of an array, taken when they are asked for.

    Attributes:
        array: that they are rows of.
        rows: their numbers, (n,) of any integer type.
    """

    array: Rows
    rows: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the chosen rows."""
        return len(self.rows), *self.array.shape[1:]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Some of the chosen rows."""
        return self.array[self.rows[rows]]
