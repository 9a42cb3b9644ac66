"""Sections as text for a terminal: in its colours and its width, and as plain text in a pipe."""

from __future__ import annotations

import io
import re
import sys
import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text as Words

from transfer.report.blocks import MARKS, Bullets, Details, Entry, Section, Table, Text

COLOURS = {"better": "green", "worse": "bold red"}
WIDE = 10_000  # columns of a pipe, which breaks no row of a table
PROSE = 99  # of its sentences


def text(sections: Sequence[Section]) -> str:
    """What to print."""
    terminal = sys.stdout.isatty()
    width = None if terminal else WIDE
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False)
    for number, section in enumerate(sections):
        console.print(f"{'' if number == 0 else chr(10)}[bold]{escape(section.title)}[/bold]")
        for block in section.blocks:
            if isinstance(block, Text):
                console.print(_prose(block.text, console.width))
            elif isinstance(block, Bullets):
                for item in block.items:
                    console.print(_prose(f"- {item}", console.width))
            elif isinstance(block, Table):
                console.print(_grid(block))
                if block.note:
                    console.print(_prose(block.note, console.width), style="dim")
            elif isinstance(block, Details):
                console.print(_prose(block.summary, console.width))
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"[ \t]+$", "", console.file.getvalue(), flags=re.MULTILINE)


def _prose(marked: str, width: int) -> Words:
    """Text in lines, without the marks of `code` and **strong** words."""
    indent = "  " if marked.startswith("- ") else ""
    plain = re.sub(r"\*\*|`", "", marked)
    return Words(textwrap.fill(plain, min(width, PROSE), subsequent_indent=indent, break_on_hyphens=False))


def _grid(table: Table) -> Grid:
    """A table in which what the first column repeats stands once."""
    grid = Grid(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for column, name in enumerate(table.head):
        wordy = column < table.words
        grid.add_column(Words(name), justify="left" if wordy else "right", no_wrap=wordy)
    marked = {column for row in table.rows for column, entry in enumerate(row) if entry.mark}
    above = ""
    for row in table.rows:
        words = [Words(entry.text) for entry in row[: table.words]]
        numbers = [_number(entry, column in marked) for column, entry in enumerate(row) if column >= table.words]
        grid.add_row(*([Words(""), *words[1:]] if row[0].text == above else words), *numbers)
        above = row[0].text
    return grid


def _number(entry: Entry, marked: bool) -> Words:
    """A number with its mark or, where others in its column have one, room for it: digits stand below each other."""
    mark = MARKS[entry.mark][0] if entry.mark else " "
    return Words(f"{entry.text} {mark}" if marked else entry.text, COLOURS.get(entry.mark, ""))
