"""Files: written whole or not at all, the same bytes for the same content; arrays are never pickled."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from transfer.console import UserError, one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can state


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file or a folder beside `path`, then put it in place in one step.

    Args:
        path: of the file or folder.
        write: is called with the path to write to.

    Raises:
        UserError: if it cannot be written, for want of space or of permission.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)  # what a run that was killed has left
        write(partial)
        if path.is_dir():  # a file gives way to another, a folder does not
            shutil.rmtree(path)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {one_line(error)}") from None
    finally:
        with suppress(OSError):
            _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """For reading what a stage has made, with a library that raises any of a dozen types where it is damaged.

    Raises:
        UserError: if it is missing, may not be read, or cannot be decoded.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` makes it") from None
    except (MemoryError, UserError):
        raise
    except Exception as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}): delete it and run `dvc repro`") from None


def digest(path: Path) -> str:
    """SHA-256 of a file that a stage has made, which need not fit into memory.

    Raises:
        UserError: if it is missing or cannot be read.
    """
    with decoding(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8 with Unix line ends."""
    write_whole(path, lambda partial: partial.write_bytes(text.encode()))


def zip_member(name: str) -> zipfile.ZipInfo:
    """An entry for a zip file that tells neither the time nor the system it was made on."""
    member = zipfile.ZipInfo(name, EPOCH)
    member.create_system = 3
    return member


def read_facts(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Raises:
        UserError: if the file is missing or is not JSON.
    """
    with decoding(path):
        return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a mapping as JSON."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays as an uncompressed npz file, with the same bytes whatever the Python.

    What `np.savez` writes differs between patch releases of Python: it leaves the sizes in the headers to `zipfile`.
    """

    def write(partial: Path) -> None:
        with zipfile.ZipFile(partial, "w") as archive:
            for name, array in arrays.items():
                member = zip_member(f"{name}.npy")
                member.file_size = array.nbytes  # which decides if the header must hold large sizes
                with archive.open(member, "w") as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)

    write_whole(path, write)


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read the named arrays of an npz file, or all of them if none is named; nothing in it is executed.

    Raises:
        UserError: if the file is missing, damaged, or lacks an array.
    """
    with decoding(path), np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in names or archive.files}


def write_rows(path: Path, batches: Iterable[np.ndarray], rows: int) -> None:
    """Write an `.npy` file batch by batch, so that memory need not hold all.

    Written, not mapped: a full disk is an error here, and would kill a process that writes through a map.

    Args:
        path: of the file.
        batches: the next rows each.
        rows: how many all batches have together.
    """
    with path.open("wb") as file:
        for batch in batches:
            if not file.tell():
                header = np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(batch))
                np.lib.format.write_array_header_1_0(file, header | {"shape": (rows, *batch.shape[1:])})
            file.write(np.ascontiguousarray(batch).data)


def write_folder(path: Path, arrays: Mapping[str, np.ndarray | Callable[[Path], object]]) -> None:
    """Write named arrays as a folder of `.npy` files, whole or not at all.

    Args:
        path: of the folder.
        arrays: by name; or a function that writes the array to the file that it is given.
    """

    def write(folder: Path) -> None:
        folder.mkdir()
        for name, array in arrays.items():
            file = folder / f"{name}.npy"
            if callable(array):
                array(file)
            else:
                np.save(file, array, allow_pickle=False)

    write_whole(path, write)


def read_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """Read an `.npy` file; of one that is mapped, memory holds the rows that are asked for.

    Raises:
        UserError: if it is missing or damaged; nothing in it is executed.
    """
    with decoding(path):
        return np.load(path, mmap_mode="r" if mapped else None)


def read_folder(path: Path, kind: type[Record], *mapped: str) -> Record:
    """Read a dataclass of arrays that `write_folder` wrote.

    Args:
        path: of the folder.
        kind: of the dataclass.
        mapped: names of the arrays that stay in their files.

    Raises:
        UserError: if a file is missing or damaged.
    """
    names = [each.name for each in fields(kind)]
    return kind(**{name: read_array(path / f"{name}.npy", mapped=name in mapped) for name in names})


def write_record(path: Path, record: DataclassInstance) -> None:
    """Write a dataclass of arrays as an npz file."""
    write_arrays(path, **{each.name: getattr(record, each.name) for each in fields(record)})


def read_record(path: Path, kind: type[Record]) -> Record:
    """Read what `write_record` wrote; raises as `read_arrays` does."""
    return kind(**read_arrays(path, *(each.name for each in fields(kind))))
