"""Open a file that somebody gave, or its bytes, and name it in errors."""

from __future__ import annotations

import io
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from transfer.console import UserError, one_line, shown

IGNORE = ".dvcignore"


def called(source: Path | bytes, name: str) -> str:
    """What a file is called in errors: its name if it has one, else its path."""
    return shown(name or (source if isinstance(source, Path) else "the file"))


def open_file(source: Path | bytes, name: str, largest: int = sys.maxsize) -> BinaryIO:
    """Open a file for reading.

    Args:
        source: its path, or what is in it.
        name: what it is called in errors.
        largest: bytes that it may have.

    Raises:
        UserError: if it is missing, empty, too large, no file (a pipe would never end), or cannot be opened.
    """
    if isinstance(source, bytes):
        if not source:
            raise UserError(f"{name} is empty: replace it, or take it out")
        return io.BytesIO(source)
    try:
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{name} is no file: name one")
        if not status.st_size:
            raise UserError(f"{name} is empty: replace it, or take it out")
        if status.st_size > largest:
            raise UserError(f"{name} is larger than {largest >> 20:,} MB: make it smaller, or take it out")
        return source.open("rb")
    except FileNotFoundError:
        raise UserError(f"{name} is missing") from None
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise UserError(f"{name} cannot be read: {one_line(error)}") from None


def refuse_endless(folder: Path, called: str) -> None:
    """Look for what is neither file nor folder: whoever reads a pipe or a device, as DVC does, waits for ever.

    And for what would have DVC read less than all.

    Args:
        folder: to look through, with those in it.
        called: what names it, for errors, as in `data.target.path`.

    Raises:
        UserError: naming the first one, or what cannot be read.
    """
    ahead = [folder]
    try:
        while ahead:
            with os.scandir(ahead.pop()) as found:
                for entry in sorted(found, key=lambda entry: entry.name):
                    path = Path(entry.path)
                    if entry.name == IGNORE:
                        raise UserError(
                            f"{called}: {shown(path)} hides files from DVC, which sees no change of them: take it out"
                        )
                    if entry.is_dir(follow_symlinks=False):
                        ahead.append(path)
                    elif not entry.is_file() and path.exists() and not path.is_dir():
                        raise UserError(f"{called}: {shown(path)} is neither file nor folder: take it out")
    except OSError as error:
        raise UserError(f"{called}: {shown(error.filename or folder)} cannot be read: {one_line(error)}") from None
