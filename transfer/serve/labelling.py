"""Which image waits for a label, and `labels.csv`, which every answer is written into."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transfer.console import UserError, counted, say, shown, some
from transfer.data.folders import check_name, has_recordings, list_unlabelled
from transfer.data.images import untold
from transfer.data.table import LABELS, USUAL, Columns, parse_table, read_table
from transfer.files import write_text


class Labelling:
    """The images and recordings of a folder, that wait for labels in an order.

    What is labelled is in the folder's `labels.csv`, which is written whole after every answer. Rows, columns and
    names that were in it stay. Skipped images wait at the end.

    Attributes:
        folder: of the images.
        paths: of all, in the folder, with slashes; an image is called by its number in this list.
    """

    def __init__(
        self,
        folder: Path,
        order: Mapping[str, str] | None = None,
        columns: Columns = USUAL,
        warn: Callable[[str], None] = say,
    ) -> None:
        """Read what is labelled.

        Args:
            folder: of the images.
            order: paths of those that come first, and why each does; the others follow by path.
            columns: names of the columns of `labels.csv`.
            warn: is told of what is skipped, and of the form in which `labels.csv` will be written.

        Raises:
            UserError: if there is no image, or a `labels.csv` that cannot be read.
        """
        self.folder, self._file = folder, folder / LABELS
        self._why = order or {}
        self.paths = [path.relative_to(folder).as_posix() for path in list_unlabelled(folder, shown(folder), warn)]
        self._header, self._rows, self._content = [columns.path, columns.label], list[list[str]](), b""
        labels: dict[str, str] = {}  # by path
        if self._file.is_file():
            table = parse_table(self._file, shown(self._file), warn)
            read = read_table(folder, "data.target.path", untold, columns)
            labels = dict(zip(read.path, read.label, strict=True))
            self._header, self._rows = [*table], table.to_numpy().tolist()
            self._content = self._file.read_bytes()
            if self._content != self._written(self._rows).encode():
                warn(f"{shown(self._file)} will be written as UTF-8 with commas; all that it says stays")
        names = [name.casefold() for name in self._header]
        self._columns = [names.index(name.strip().casefold()) for name in (columns.path, columns.label)]
        # In the order of the rows, which is that of the answers, so that each keeps its key.
        self._classes = list(dict.fromkeys(unicodedata.normalize("NFC", label) for label in labels.values()))
        numbers = {path: number for number, path in enumerate(self.paths)}
        if missing := [path for path in self._why if path not in numbers]:
            warn(f"skipped {counted(len(missing), 'path')} not in {shown(folder)}: {shown(some(missing))}")
        self._first = [numbers[path] for path in self._why if path in numbers]
        ordered = dict.fromkeys([*self._first, *range(len(self.paths))])
        self._waiting = deque(number for number in ordered if self.paths[number] not in labels)
        self._done: list[tuple[int, str]] = []  # number, and label or, if it was skipped, nothing

    def state(self) -> dict[str, Any]:
        """What a page shows, ready for JSON.

        Returns:
            `classes` by their keys; `counts`, of the images that come first, if any, and of all: labelled and there;
            `skipped`, how many wait; `current`, the image to label, None if there is none; `last`, what `undo` would
            take back.
        """
        waiting = set(self._waiting)
        skipped = {number for number, name in self._done if not name} & waiting
        current, last = None, None
        if waiting:
            number = self._waiting[0]
            path = self.paths[number]
            current = {
                "number": number,
                "path": path,
                "why": self._why.get(path, ""),
                "again": number in skipped,
                "sound": has_recordings([Path(path)]),
            }
        if self._done:
            number, name = self._done[-1]
            last = {"path": self.paths[number], "label": name}
        return {
            "classes": list(dict.fromkeys([*self._classes, *(name for _, name in self._done if name)])),
            "counts": [
                [sum(number not in waiting for number in each), len(each)]
                for each in (self._first, range(len(self.paths)))
                if each
            ],
            "skipped": len(skipped),
            "current": current,
            "last": last,
        }

    def answer(self, number: int, name: str) -> None:
        """Label the image that waits.

        Args:
            number: of the image that the page shows.
            name: of its class.

        Raises:
            UserError: if another one waits, the name is none, or `labels.csv` was changed or cannot be written.
        """
        self._check(number)
        name = unicodedata.normalize("NFC", name.strip())
        check_name(name, "the answer")
        row = [""] * len(self._header)
        for column, value in zip(self._columns, (self.paths[number], name), strict=True):
            row[column] = value
        self._write([*self._rows, row])
        self._done.append((self._waiting.popleft(), name))

    def skip(self, number: int) -> None:
        """Put the image that waits to the end; raises a `UserError` if another one waits."""
        self._check(number)
        self._waiting.rotate(-1)
        self._done.append((number, ""))

    def undo(self) -> None:
        """Take back the last answer, or that an image was skipped: it waits again.

        Raises:
            UserError: if there is none, or `labels.csv` was changed or cannot be written.
        """
        if not self._done:
            raise UserError("there is nothing to undo")
        number, name = self._done[-1]
        if name:
            self._write(self._rows[:-1])
            self._waiting.appendleft(number)
        else:
            self._waiting.rotate(1)
        self._done.pop()

    def _check(self, number: int) -> None:
        if not self._waiting or self._waiting[0] != number:
            raise UserError("another tab has moved on to another image: reload the page")

    def _write(self, rows: list[list[str]]) -> None:
        if (self._file.read_bytes() if self._file.is_file() else b"") != self._content:
            raise UserError(
                f"{shown(self._file)} was changed by another program, and is left as it is: end `transfer label` and "
                "start it again"
            )
        text = self._written(rows)
        write_text(self._file, text)
        self._rows, self._content = rows, text.encode()

    def _written(self, rows: list[list[str]]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self._header, *rows])
        return text.getvalue()


def read_order(file: Path, warn: Callable[[str], None] = say) -> dict[str, str]:
    """Read which images shall be labelled first, as `transfer choose` writes it.

    Args:
        file: a table with the column path and, if wanted, why.
        warn: is told of a doubtful encoding.

    Returns:
        Why each shall be, by path, in the order of the rows.

    Raises:
        UserError: if it cannot be read, or has no column path.
    """
    table = parse_table(file, shown(file), warn)
    if "path" not in table:
        raise UserError(f"{shown(file)} has no column path: name the file that `transfer choose` wrote as --order")
    return dict(zip(table["path"], table.get("why", [""] * len(table)), strict=True))
