"""Files of arrays and numbers: written whole or not at all, the same bytes for the same content, never a pickle."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from transfer.console import UserError

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can state


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then put it in place in one step.

    Raises:
        UserError: if the file cannot be written, for want of space or of permission.
    """
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None


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
        raise UserError(f"{path} cannot be read ({error}): delete it and run `dvc repro`") from None


def read_number(path: Path, *keys: str) -> float:
    """Read one number of a JSON file, by the keys that lead to it.

    Raises:
        UserError: if the file is missing, is not JSON, or has no number there.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            content = content[key]
        return float(content)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` makes it") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} has no number {'.'.join(keys)}: delete it and run `dvc repro`") from None
