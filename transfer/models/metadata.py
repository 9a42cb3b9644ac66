"""What a model of a study says of itself beside its network: its classes, and how raw files are brought to it.

It stands in the `.keras` archive as a file of its own, which Keras passes over; what the training images look like
stands in another.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.console import UserError
from transfer.files import decoding, write_record, write_whole, zip_member

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MEMBER = "transfer.json"
FAMILIARITY = "familiarity.npz"


@dataclass(frozen=True)
class Metadata:
    """What a model of a study says of itself.

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


def write_metadata(path: Path, metadata: Metadata, familiarity: DataclassInstance | None = None) -> None:
    """Add it to a `.keras` file that has none, or put it in the place of the one that it has.

    Args:
        path: of the file.
        metadata: what it says of itself.
        familiarity: what its training images look like, a `familiarity.Familiarity`.
    """
    added = {MEMBER: json.dumps(asdict(metadata), indent=2).encode()}
    if familiarity:
        with tempfile.TemporaryDirectory() as folder:
            write_record(record := Path(folder, FAMILIARITY), familiarity)
            added[FAMILIARITY] = record.read_bytes()

    def write(partial: Path) -> None:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(partial, "w") as new:
            kept = {name: old.read(name) for name in old.namelist() if name not in (MEMBER, FAMILIARITY)}
            for name, content in sorted((kept | added).items()):
                new.writestr(zip_member(name), content)

    write_whole(path, write)


def has_metadata(path: Path) -> bool:
    """Whether a `.keras` file says what it is.

    Raises:
        UserError: if the file cannot be read or is damaged.
    """
    with decoding(path), zipfile.ZipFile(path) as archive:
        return MEMBER in archive.namelist()


def read_metadata(path: Path) -> Metadata:
    """Read it.

    Raises:
        UserError: if the file is missing, is no `.keras` file, or does not say what it is.
    """
    if not has_metadata(path):
        raise UserError(
            f"{path} is not a strategy's model; if its strategy was skipped, the file is a copy of the source model: "
            "choose another"
        )
    with decoding(path), zipfile.ZipFile(path) as archive:
        content = json.loads(archive.read(MEMBER))
        classes = tuple(map(str, content["classes"]))
        return Metadata(str(content["strategy"]), int(content["shots"]), classes, str(content["preprocessing"]))
