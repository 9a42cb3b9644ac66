"""What a shipped model file says of itself beside its network: its classes, and how raw files are brought to it.

It stands in the `.keras` archive as a file of its own, which Keras passes over.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.console import UserError, one_line
from transfer.files import write_whole, zip_member

MEMBER = "transfer.json"
LARGEST = 10 << 20  # bytes of that file


@dataclass(frozen=True)
class Metadata:
    """What a shipped model says of itself.

    Attributes:
        strategy: that made it.
        shots: labelled images per class that it was trained on.
        classes: names, in the order of its probabilities.
        preprocessing: `Preprocessing.to_text` of what it takes.
    """

    strategy: str
    shots: int
    classes: tuple[str, ...]
    preprocessing: str


def write_metadata(path: Path, metadata: Metadata) -> None:
    """Add it to a `.keras` file that has none, or put it in the place of the one that it has."""

    def write(partial: Path) -> None:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(partial, "w") as new:
            for name in sorted({*old.namelist(), MEMBER}):
                content = json.dumps(vars(metadata), indent=2) if name == MEMBER else old.read(name)
                new.writestr(zip_member(name), content)

    write_whole(path, write)


def _check_kind(path: Path) -> None:
    """Refuse a pipe or a device, whose end would be waited for."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file: name a .keras file")


def has_metadata(path: Path) -> bool:
    """Whether a `.keras` file says what it is.

    Raises:
        UserError: if the file cannot be read, is damaged, or is a folder or a pipe.
    """
    _check_kind(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return MEMBER in archive.namelist()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from None
    except Exception as error:  # as zipfile raises what it likes on hostile bytes
        raise UserError(f"{path} is damaged ({one_line(error)}): delete it and run `dvc repro`") from None


def read_metadata(path: Path) -> Metadata:
    """Read it.

    Raises:
        UserError: if the file is missing, is no file, is no `.keras` file, or does not say what it is.
    """
    _check_kind(path)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(MEMBER) as stream:
            content: dict[str, Any] = json.loads(stream.read(LARGEST))
        classes = tuple(str(name) for name in content["classes"])
        return Metadata(str(content["strategy"]), int(content["shots"]), classes, str(content["preprocessing"]))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` makes it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from None
    except Exception:  # zipfile, zlib and json raise a dozen types on hostile bytes
        raise UserError(f"{path} is no model of this study: name a .keras file from its models folder") from None
