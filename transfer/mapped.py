"""Arrays that may be larger than memory: folders of `.npy` files, written batch by batch and mapped when read."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from transfer.basics.arrays import misfit, read_header
from transfer.basics.console import UserError
from transfer.basics.files import decoding, digest, reserve, write_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")
SUMS = "SHA256SUMS"  # in a folder of arrays: of every file
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
        sha256: of its content, where that was verified.
    """

    path: Path
    sha256: str = ""

    def _array(self) -> np.ndarray:
        with decoding(self.path):
            with self.path.open("rb") as file:
                shape, dtype, _ = read_header(file)
                if file.tell() + prod(shape) * dtype.itemsize != self.path.stat().st_size:
                    raise ValueError("it is not of the size that it states")
            return np.lib.format.open_memmap(self.path, mode="r")

    def content(self) -> str:
        """SHA-256 of the file: what the results of a training depend on, wherever it lies."""
        return self.sha256 or digest(self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array.

        Raises:
            UserError: if the file is missing or damaged, here and wherever else it is read.
        """
        return self._array().shape

    @property
    def dtype(self) -> np.dtype:
        """Of the array."""
        return self._array().dtype

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._array())

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Some of the rows: a view of the map for a slice, else a copy."""
        return np.asarray(self._array()[rows])


def seal(folder: Path) -> None:
    """Write the checksums of a folder's files into it, as `sha256sum --check` reads them."""
    sums = "".join(f"{digest(file)}  {file.name}\n" for file in sorted(folder.iterdir()))
    (folder / SUMS).write_text(sums, encoding="utf-8", newline="\n")


def sealed(folder: Path, names: Iterable[str]) -> list[Mapped]:
    """Open the `.npy` files of a folder that was sealed; nothing of their content is taken on trust.

    Raises:
        UserError: if one is missing, or is not as it was written.
    """
    sums = {}
    with decoding(folder / SUMS):
        for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
            sha256, name = line.split("  ", 1)
            sums[name] = sha256
    opened = []
    for path in (folder / f"{name}.npy" for name in names):
        if (found := digest(path)) != sums.get(path.name):
            raise UserError(f"{path} is damaged, as it is not what {SUMS} says: delete {folder} and run `dvc repro`")
        opened.append(Mapped(path, found))
    return opened


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
                    reserve(file, file.tell() + rows * part[0].nbytes)
                file.write(part.data)
        for file in files:
            file.truncate()  # rows that never came are missing then, not zeros


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
                small = io.BytesIO()  # as NumPy does not tell why it could not write a file
                np.save(small, array[...], allow_pickle=False)
                (folder / f"{name}.npy").write_bytes(small.getvalue())
        seal(folder)

    write_whole(path, write, sum(getattr(array, "nbytes", 0) for array in arrays.values()))


def read_folder(path: Path, kind: type[Record], *mapped: str) -> Record:
    """Read a dataclass of arrays that `write_folder` wrote.

    Args:
        path: of the folder.
        kind: of the dataclass.
        mapped: names of the arrays that stay in their files.

    Raises:
        UserError: if a file is missing, damaged, or holds another array than `axes` declares.
    """
    names = [field.name for field in fields(kind)]
    files = dict(zip(names, sealed(path, names), strict=True))
    record = kind(**{name: file if name in mapped else file[...] for name, file in files.items()})
    if wrong := misfit(record):
        raise UserError(f"{path} cannot be read ({wrong}): delete it and run `dvc repro`")
    return record


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
