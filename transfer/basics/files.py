"""Files of arrays and numbers: written whole or not at all, the same bytes for the same content, never a pickle."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import field, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeGuard, TypeVar

import numpy as np

from transfer.basics.console import UserError, one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")

PARTIAL = re.compile(r"\.(\d+)\.")  # before the name of a file that a process has not finished
PART = 1 << 20  # bytes of an array that are read at a time
SUM = "sha256"  # in a JSON file: of all the rest
FEW = 100  # files that a disk must have room for, before it is bytes that are missing
UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("bytes", 1))
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can state


def write_whole(path: Path, write: Callable[[Path], object], size: int = 0) -> None:
    """Let `write` make a file or a folder beside `path`, then put it in place in one step.

    What writers of the same path have left that were killed goes.

    Args:
        path: of the file or folder.
        write: is called with the path to write to; what it leaves beside that, under longer names, is removed.
        size: bytes that it will take at least, where that is known.

    Raises:
        UserError: if it cannot be written, for want of space or of permission.
    """
    partial = path.with_name(f"{_partial()}{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        try:
            write(partial)
            if path.is_dir():  # a file gives way to another, a folder does not
                shutil.rmtree(path)
            partial.replace(path)
        except OSError:
            size = max(size, _written(partial))  # as it will be gone
            raise
        finally:
            for left in _and_beside(partial):
                _remove(left)
    except OSError as error:
        raise unwritten(error, path, size) from None


def _partial() -> str:
    """What stands before the name of a file or folder that is not whole yet."""
    return f".{os.getpid()}."


def _sweep(path: Path) -> None:
    """Remove what writers of a path have left whose processes are gone."""
    with os.scandir(path.parent) as entries:
        found = [(entry.name, left) for entry in entries if (left := PARTIAL.match(entry.name))]
    for name, left in found:
        if name[left.end() :].startswith(path.name):
            import psutil  # seldom needed

            if not psutil.pid_exists(int(left[1])):
                _remove(path.parent / name)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _and_beside(partial: Path) -> list[Path]:
    """A file or folder that is not whole yet, and what libraries have put beside it under longer names."""
    return list(partial.parent.glob(f"{glob.escape(partial.name)}*"))


def _written(partial: Path) -> int:
    """Bytes that have been written of it."""
    files = (file for path in _and_beside(partial) for file in (path, *path.rglob("*")) if file.is_file())
    return sum(file.stat().st_size for file in files)


def is_full(error: BaseException) -> TypeGuard[OSError]:
    """Whether the system has refused to write for want of space: the disk is full, or what the user may have of it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def unwritten(error: OSError, path: Path, size: int = 0, elsewhere: str = "") -> UserError:
    """The line that says why a file or folder cannot be written; of a full disk, which, and how much is missing.

    Args:
        error: as the system has it.
        path: of the file or folder; one inside a folder that is not whole yet is named as it will be.
        size: bytes that it takes at least, 0 if that is not known.
        elsewhere: how the user may have it written to another disk, if at all, as in "name another folder in X".
    """
    path = Path(*(part.removeprefix(_partial()) for part in path.parts))
    if not is_full(error):
        return UserError(f"{path} cannot be written: {one_line(error)}")
    needed = f"it needs more than {_amount(size)}, and " if size else ""
    ways = "make room" + (f" there, or {elsewhere}," if elsewhere else "")
    return UserError(f"{path} cannot be written: {needed}{_shortage(error, path)}: {ways} and run again")


def _shortage(error: OSError, path: Path) -> str:
    """What there is too little of on the disk of a path that need not be there."""
    disk = next(folder for folder in path.absolute().parents if folder.exists()).resolve()
    while not os.path.ismount(disk):
        disk = disk.parent
    if error.errno == errno.EDQUOT:
        return f"your quota of {disk} is used up"
    if hasattr(os, "statvfs") and (state := os.statvfs(disk)).f_files and state.f_favail <= FEW:
        return f"{disk} has room for {state.f_favail} more files, whatever their size"
    return f"{disk} has {_amount(shutil.disk_usage(disk).free)} free"


def _amount(size: int) -> str:
    """Bytes in words."""
    unit, divisor = next((unit, divisor) for unit, divisor in UNITS if size >= divisor or divisor == 1)
    return f"{size / divisor:,.{int(divisor > 1)}f} {unit}"


def reserve(file: IO[bytes], size: int) -> None:
    """Give an empty file its full length, and its space on the disk where the system lets us.

    So that a full disk shows before the work that fills the file, and how much is needed can be told.
    """
    file.truncate(size)
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)


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
    content = text.encode()
    write_whole(path, lambda partial: partial.write_bytes(content), len(content))


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

    write_whole(path, write, sum(array.nbytes for array in arrays.values()))


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read the named arrays of an npz file that `write_arrays` wrote, or all of them if none is named.

    Every array's checksum is verified. What a header states is looked at before any memory is asked for: no file takes
    more than its own size.

    Raises:
        UserError: if the file is missing, damaged, or lacks an array; nothing in it is executed.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device be read without end
            raise ValueError("it is no file")
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            if sum(member.file_size for member in archive.infolist()) > os.fstat(file.fileno()).st_size:
                raise ValueError("it is not of the size that it states")
            if missing := [name for name in names if name not in members]:
                raise ValueError(f"{missing[0]} is not a file in the archive")
            return {name: _read_member(archive, members[name]) for name in names or members}
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` makes it") from None
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen types on hostile bytes
        raise UserError(f"{path} cannot be read ({one_line(error)}): delete it and run `dvc repro`") from None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        shape, dtype, order = read_header(stream)
        if stream.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError(f"{member.filename} is not of the size that it states")
        array = np.empty(math.prod(shape), dtype)
        content, start = array.view(np.uint8) if array.nbytes else np.empty(0, np.uint8), 0
        while part := stream.read(PART):  # to the end, where the checksum is compared
            content[start : start + len(part)] = np.frombuffer(part, np.uint8)
            start += len(part)
        return array.reshape(shape, order=order)


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, Literal["C", "F"]]:
    """Shape, dtype and order of the array in an `.npy` file, up to the data of which it is read.

    Raises:
        ValueError: if it is none, or one of Python's objects.
    """
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if (version := np.lib.format.read_magic(stream)) not in readers:
        raise ValueError(f"version {version} of the format is not for numbers or text")
    shape, columns_first, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    return shape, dtype, "F" if columns_first else "C"


def axes(dtype: str, *names: str) -> Any:
    """An attribute of a record: an array with a dtype, `str` for text of any length, and named axes.

    Axes of one name are equally long in all attributes of the record.
    """
    return field(metadata={"dtype": dtype, "axes": names})


def misfit(record: DataclassInstance) -> str:
    """What is wrong with a record by what `axes` declares of its attributes; empty if nothing."""
    lengths: dict[str, int] = {}
    for declared in fields(record):
        if not declared.metadata:
            continue
        array, dtype, names = getattr(record, declared.name), declared.metadata["dtype"], declared.metadata["axes"]
        fits = array.dtype.kind == "U" if dtype == "str" else array.dtype == np.dtype(dtype)
        fits &= len(array.shape) == len(names)
        if not fits or any(lengths.setdefault(*axis) != axis[1] for axis in zip(names, array.shape, strict=True)):
            known = (f"{lengths[name]} {name}" if name in lengths else name for name in names)
            return f"{declared.name} is {array.dtype} {array.shape}, not {dtype} ({', '.join(known)})"
    return ""


def write_record(path: Path, record: DataclassInstance) -> None:
    """Write a dataclass of arrays as an npz file."""
    write_arrays(path, **{each.name: getattr(record, each.name) for each in fields(record)})


def read_record(path: Path, kind: type[Record]) -> Record:
    """Read what `write_record` wrote; raises as `read_arrays` does, and if an array is not what `axes` declares."""
    record = kind(**read_arrays(path, *(each.name for each in fields(kind))))
    if wrong := misfit(record):
        raise UserError(f"{path} cannot be read ({wrong}): delete it and run `dvc repro`")
    return record


def read_facts(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Args:
        path: of the file.
        keys: which it must have.

    Raises:
        UserError: if the file is missing, is not JSON, lacks a key, or is not as `write_facts` wrote it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` makes it") from None
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path} is not JSON: delete it and run `dvc repro`") from None
    if missing := [key for key in keys if not isinstance(content, dict) or key not in content]:
        raise UserError(f"{path} has no {missing[0]}: delete it and run `dvc repro`")
    if isinstance(content, dict) and content.pop(SUM, None) not in (None, _sum(content)):
        raise UserError(f"{path} is damaged, as its content and its {SUM} differ: delete it and run `dvc repro`")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a mapping as JSON."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Write a mapping as JSON, with a checksum of its content."""
    write_json(path, facts | {SUM: _sum(facts)})


def _sum(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
