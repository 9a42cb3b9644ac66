"""The parts of a report: sections of texts, lists, tables and charts; not how they look."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from transfer.report.words import number

if TYPE_CHECKING:
    import pandas as pd


class Entry(NamedTuple):
    """An entry of a table.

    Attributes:
        text: what it shows.
        value: what its column is sorted by.
        mark: what it is marked as, if anything; a key of `MARKS`.
    """

    text: str
    value: float | str
    mark: str = ""


MARKS = {  # signs behind an entry, and what they mean
    "recommended": ("✓", "recommended: the highest, or what is equal to it and needs less"),
    "best": ("★", "highest, but needs more than the recommended"),
    "failed": ("†", "training failed: nearly every image gets the same class; compared with nothing"),
    "better": ("▲", "better"),
    "worse": ("▼", "worse"),
    "equal": ("≈", "equal in practice"),
    "undecided": ("?", "undecided"),
    "same": ("=", "the same results, draw by draw"),
    "front": ("◆", "on the Pareto front: no other strategy is at least as accurate with less effort"),
}


@dataclass(frozen=True)
class Table:
    """A table; its first `words` columns are words, the others numbers."""

    caption: str
    head: list[str]
    rows: list[list[Entry]]
    words: int = 1
    note: str = ""


def table_of(frame: pd.DataFrame, caption: str, decimals: dict[str, int] | None = None, **options: Any) -> Table:
    """A table of a data frame, whose columns are named as the table's.

    Args:
        frame: of entries, words and numbers; NaN stands for none.
        caption: of the table.
        decimals: of columns that do not show 2.
        options: others of the table.
    """
    head = [str(name) for name in frame]
    columns = [[plain(value, (decimals or {}).get(name, 2)) for value in frame[name]] for name in head]
    return Table(caption, head, [list(row) for row in zip(*columns, strict=True)], **options)


class Text(NamedTuple):
    """A paragraph; `code` stands between backticks."""

    text: str


class Bullets(NamedTuple):
    """A list."""

    items: list[str]


class Details(NamedTuple):
    """What is folded away at first."""

    summary: str
    blocks: list[Any]


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    name: str
    title: str
    blocks: list[Any] = field(default_factory=list)


def plain(value: str | float | Entry, decimals: int = 2) -> Entry:
    """An entry that shows a word, a count or a number as it is, and a dash where there is none (NaN)."""
    content = value.value if isinstance(value, Entry) else value
    if isinstance(content, float) and math.isnan(content):
        return Entry("–", -math.inf)
    if isinstance(value, Entry):
        return value
    if isinstance(value, str):
        return Entry(value, value)
    if isinstance(value, int):
        return Entry(f"{value:,}", value)
    return Entry(number(value, decimals), value)


def key(mark: str) -> str:
    """A sign with its meaning, for a note."""
    sign, meaning = MARKS[mark]
    return f"{sign} {meaning}"
