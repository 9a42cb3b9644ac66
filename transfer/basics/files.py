"""Files: written whole or not at all, and the same bytes for the same content."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from transfer.basics.console import UserError, one_line

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
        raise unwritten(error, path) from None
    finally:
        with suppress(OSError):
            _remove(partial)


def unwritten(error: OSError, path: Path) -> UserError:
    """The line that says why a file or folder cannot be written."""
    return UserError(f"{path} cannot be written: {one_line(error)}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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


def digest(path: Path) -> str:
    """SHA-256 of a file that a stage has made, which need not fit into memory.

    Raises:
        UserError: if it is missing or cannot be read.
    """
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8 with Unix line ends."""
    write_whole(path, lambda partial: partial.write_bytes(text.encode()))


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
        UserError: if the file is missing, is not JSON, or lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` makes it") from None
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path} is not JSON: delete it and run `dvc repro`") from None
    if missing := [key for key in keys if not isinstance(content, dict) or key not in content]:
        raise UserError(f"{path} has no {missing[0]}: delete it and run `dvc repro`")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a mapping as JSON."""
    write_text(path, json.dumps(content, indent=2) + "\n")
