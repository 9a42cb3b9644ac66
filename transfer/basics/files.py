"""Files: written whole or not at all, and the same bytes for the same content."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeGuard

from transfer.basics.console import UserError, one_line

PARTIAL = re.compile(r"\.(\d+)-([0-9a-f]{8})\.")  # before the name of a file that a process has not finished
DAY = 86400  # seconds, after which what another machine has not finished counts as left
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
    partial = unfinished(path)
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
            _remove(*_and_beside(partial))
    except OSError as error:
        raise unwritten(error, path, size) from None


def unfinished(path: Path, process: int = 0) -> Path:
    """Where a process, this one or one of another number, writes what is to be at a path."""
    return path.with_name(f".{process or os.getpid()}-{_here()}.{path.name}")


@cache
def _here() -> str:
    """Tells apart what process numbers belong to: machines that share a folder, and containers on one."""
    processes = Path("/proc/self/ns/pid")
    names = platform.node(), str(processes.readlink()) if processes.is_symlink() else ""
    return hashlib.sha256(repr(names).encode()).hexdigest()[:8]


def is_left(path: Path) -> bool:
    """Whether a file or folder was not finished by its writer, and will not be."""
    if not (writer := PARTIAL.match(path.name)):
        return False
    if writer[2] == _here():
        import psutil  # seldom needed

        return not psutil.pid_exists(int(writer[1]))
    return time.time() - path.lstat().st_mtime > DAY


def _sweep(path: Path) -> None:
    """Remove what writers of a path have left that are gone."""
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        if (writer := PARTIAL.match(name)) and name[writer.end() :].startswith(path.name):
            with suppress(OSError):
                if is_left(path.with_name(name)):
                    _remove(path.with_name(name))


def _remove(*paths: Path) -> None:
    """Remove files and folders; what is another user's, or gone already, is no matter here."""
    for path in paths:
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


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
    path = Path(*(PARTIAL.sub("", part, 1) if PARTIAL.match(part) else part for part in path.parts))
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


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` makes it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from None


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """For reading what a stage has made and a library decodes, which raises a dozen types on hostile bytes.

    Raises:
        UserError: if it is missing, may not be read, or cannot be decoded.
        MemoryError: if there is too little memory for it, which is no fault of the file's.
    """
    with _reading(path):
        try:
            yield
        except (FileNotFoundError, PermissionError, MemoryError, UserError):
            raise
        except Exception as error:
            raise UserError(f"{path} cannot be read ({one_line(error)}): delete it and run `dvc repro`") from None


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
