"""What a report is put together from: sections of texts, lists, tables, charts and pictures; not how they look."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from transfer.report.words import number

if TYPE_CHECKING:
    from transfer.report.charts import Chart


class Entry(NamedTuple):
    """A cell of a table.

    Attributes:
        text: what it shows.
        value: what its column is sorted by.
        mark: what it is marked as, if anything; a key of `MARKS`.
    """

    text: str
    value: float | str
    mark: str = ""


MARKS = {  # signs behind an entry, and what they mean
    "best": ("★", "highest of its column"),
    "level": ("≈", "not separated from the highest"),
    "better": ("▲", "better, separated"),
    "worse": ("▼", "worse, separated"),
    "not separated": ("≈", "not separated"),
    "same": ("=", "the same results, draw by draw"),
    "front": ("◆", "on the Pareto front: no strategy is at least as accurate with less effort"),
}


@dataclass(frozen=True)
class Table:
    """A table; its first `words` columns are words, the others numbers; `verbatim` words have no marks of `code`."""

    caption: str
    head: list[str]
    rows: list[list[Entry]]
    words: int = 1
    note: str = ""
    verbatim: bool = False


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


class Picture(NamedTuple):
    """A test image with its caption and a description for those who do not see it."""

    address: str
    caption: str
    description: str


class Pictures(NamedTuple):
    """Test images: one by one on the page, as a chart beside the Markdown."""

    pictures: list[Picture]
    chart: Chart


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    name: str
    title: str
    blocks: list[Any] = field(default_factory=list)


def plain(value: str | int) -> Entry:
    """An entry that shows a word or a count as it is."""
    return Entry(f"{value:,}" if isinstance(value, int) else value, value)


def decimal(value: float | None, decimals: int, scale: float = 1) -> Entry:
    """An entry that shows a number, or a dash where there is none."""
    if value is None or math.isnan(value):
        return Entry("–", -math.inf)
    return Entry(number(scale * value, decimals), value)


def key(mark: str) -> str:
    """A sign with its meaning, for a note."""
    sign, meaning = MARKS[mark]
    return f"{sign} {meaning}"
