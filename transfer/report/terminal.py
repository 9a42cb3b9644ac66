"""Sections as text for a terminal: in its colours and its width, and as plain text in a pipe."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text as Words

from transfer.report.blocks import MARKS, Bullets, Entry, Section, Table, Text

COLOURS = {"better": "green", "worse": "bold red"}
WIDE = 10_000  # columns of a pipe, which wraps nothing


def text(sections: Sequence[Section]) -> str:
    """What to print."""
    terminal = sys.stdout.isatty()
    width = None if terminal else WIDE
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False)
    for number, section in enumerate(sections):
        console.print(f"{'' if number == 0 else chr(10)}[bold]{escape(section.title)}[/bold]")
        for block in section.blocks:
            if isinstance(block, Text):
                console.print(_prose(block.text))
            elif isinstance(block, Bullets):
                for item in block.items:
                    console.print(_prose(f"- {item}"))
            elif isinstance(block, Table):
                console.print(_grid(block))
                if block.note:
                    console.print(_prose(block.note), style="dim")
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"[ \t]+$", "", console.file.getvalue(), flags=re.MULTILINE)


def _prose(marked: str) -> Words:
    """Text without the marks of `code` and **strong** words."""
    return Words(re.sub(r"\*\*|`", "", marked))


def _grid(table: Table) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for column, name in enumerate(table.head):
        wordy = column < table.words
        grid.add_column(Words(name), justify="left" if wordy else "right", no_wrap=wordy)
    for row in table.rows:
        words, numbers = row[: table.words], row[table.words :]
        grid.add_row(*(Words(entry.text) for entry in words), *map(_number, numbers))
    return grid


def _number(entry: Entry) -> Words:
    """A number with its mark, or room for one, so that digits stand below each other."""
    return Words(f"{entry.text} {MARKS[entry.mark][0] if entry.mark else ' '}", COLOURS.get(entry.mark, ""))
