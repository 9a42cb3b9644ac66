"""Files of arrays and numbers: written whole or not at all, the same bytes for the same content, never a pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from transfer.basics.console import UserError, one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can state


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file or a folder beside `path`, then put it in place in one step.

    Raises:
        UserError: if it cannot be written, for want of space or of permission.
    """
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(partial)
            if path.is_dir():  # a file gives way to another, a folder does not
                shutil.rmtree(path)
            partial.replace(path)
        finally:
            if partial.is_dir():
                shutil.rmtree(partial)
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {one_line(error)}") from None


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` makes it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from None


def read_bytes(path: Path) -> bytes:
    """Read a file that a stage has made.

    Raises:
        UserError: if it is missing or cannot be read.
    """
    with _reading(path):
        return path.read_bytes()


def digest(path: Path) -> str:
    """SHA-256 of a file that a stage has made, which need not fit into memory.

    Raises:
        UserError: as `read_bytes` does.
    """
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8 with Unix line ends."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))


def zip_member(name: str) -> zipfile.ZipInfo:
    """An entry for a zip file that tells neither the time nor the system it was made on."""
    member = zipfile.ZipInfo(name, EPOCH)
    member.create_system = 3
    return member


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
    """Read the named arrays of an npz file, or all of them if none is named.

    Raises:
        UserError: if the file is missing, damaged, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in names or content.files}
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` makes it") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}): delete it and run `dvc repro`") from None


def write_record(path: Path, record: DataclassInstance) -> None:
    """Write a dataclass of arrays as an npz file."""
    write_arrays(path, **{field.name: getattr(record, field.name) for field in fields(record)})


def read_record(path: Path, kind: type[Record]) -> Record:
    """Read what `write_record` wrote; raises as `read_arrays` does."""
    return kind(**read_arrays(path, *(field.name for field in fields(kind))))


def read_facts(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Args:
        path: of the file.
        keys: which it must have.

    Raises:
        UserError: if the file is missing, is not JSON, or lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` makes it") from None
    except (OSError, ValueError):
        raise UserError(f"{path} is not JSON: delete it and run `dvc repro`") from None
    if missing := [key for key in keys if not isinstance(content, dict) or key not in content]:
        raise UserError(f"{path} has no {missing[0]}: delete it and run `dvc repro`")
    return content


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Write a mapping as JSON."""
    write_text(path, json.dumps(facts, indent=2) + "\n")
