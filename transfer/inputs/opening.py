"""Open a file that somebody gave, or its bytes, and name it in errors."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import BinaryIO

from transfer.basics.console import UserError, one_line, shown


def called(source: Path | bytes, name: str) -> str:
    """What a file is called in errors: its name if it has one, else its path."""
    return shown(name or (source if isinstance(source, Path) else "the file"))


def open_file(source: Path | bytes, name: str) -> BinaryIO:
    """Open a file for reading.

    Args:
        source: its path, or what is in it.
        name: what it is called in errors.

    Raises:
        UserError: if it is missing, empty, no file (a pipe would never end), or cannot be opened.
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
        return source.open("rb")
    except FileNotFoundError:
        raise UserError(f"{name} is missing") from None
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise UserError(f"{name} cannot be read: {one_line(error)}") from None
