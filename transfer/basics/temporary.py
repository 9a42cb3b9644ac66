"""Temporary folders that end with their process, or where it was killed with the next run of anything."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transfer.basics.console import UserError, one_line

PREFIX = "transfer-"


@contextmanager
def temporary_folder(place: Path | None = None) -> Iterator[Path]:
    """An empty folder in the system's temporary one, or in another place, for as long as it is needed.

    A lock beside it, which the system releases with its process, tells a folder in use from one that was left.

    Raises:
        UserError: if none can be made there.
    """
    from filelock import FileLock

    place = place or Path(tempfile.gettempdir())
    _sweep(place)
    try:
        while True:
            with tempfile.NamedTemporaryFile(prefix=PREFIX, suffix=".lock", dir=place, delete=False) as file:
                path = Path(file.name)
            lock = FileLock(path)
            lock.acquire()
            if path.exists():  # else another process has swept it away before it was locked
                break
            lock.release()
        folder = path.with_suffix("")
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise UserError(f"no temporary folder can be made in {place}: {one_line(error)}") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        path.unlink(missing_ok=True)


def _sweep(place: Path) -> None:
    """Remove what processes that were killed have left."""
    from filelock import FileLock, Timeout

    for path in place.glob(f"{PREFIX}*.lock"):
        with suppress(OSError, Timeout):  # in use, or somebody else's
            with FileLock(path, timeout=0):
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink()


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Have the temporary files that libraries make, in whatever thread, be in a folder that somebody will remove."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
