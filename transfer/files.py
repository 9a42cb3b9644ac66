"""Array files: written whole or not at all, the same bytes for the same arrays, never a pickle."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from transfer.console import UserError


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


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays as an uncompressed npz file."""
    write_whole(path, lambda partial: np.savez(partial, allow_pickle=False, **arrays))


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
