"""A plugin of pytest that counts faults: what was injected, what survived it, what it cost.

A test marked `fault("Family", "what")` injects one fault and survives it if it passes. One that injects several asks
for the fixture `faults`, which counts each: `with faults("a bit flipped in models/source.keras") as fault: ...`.
What is injected again and again, at other moments or with other bytes, is so as often as `repeats` says.
`make faults` runs them all, prints the table, and writes it to docs/reliability.md if every family has run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE, LIMITS = ROOT / "docs/reliability.md", ROOT / "tests/faults/limits.md"
FAMILIES = {  # in the order of the table, with what each promises
    "Kill": "The next run succeeds by itself, loses no finished cell, and makes the same bytes: `dvc repro`, or "
    "`make repro` where a file of DVC's own was cut.",
    "Disk full": "One line says what needed how much where; nothing half-written is taken for whole.",
    "Network": "One line a source says what is wrong with it; nothing but the true contents is accepted.",
    "Corruption": "Detected and named, or made anew: never another number.",
    "Memory": "A worker that is killed is reported as that, its cell tried once more alone.",
    "Two at once": "One waits or says so; no result differs.",
    "Clock and locale": "Results are the same bytes; what cannot be written is one line.",
    "Parameters": "A right result, or one line that names key, value and what is allowed, before any work.",
    "Images": "Read as documented, or refused in one line that names the file.",
    "Arrays and models": "Read, or refused in one line; no code in a file ever runs.",
    "Serving": "The right answer or the right status, in bounded time and memory.",
    "Fuzzing": "No crash: a value, or one line.",
    "Reproducible": "The same bytes; between processors a bounded difference.",
}
NAME, SKIPPED = "fault counts", "fault skipped"
ALL, LEAST = 100, 3  # as there are three victims in kill.py


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option of the command line."""
    words = f"how often to repeat what is injected again and again, in percent of all (default: {ALL})"
    parser.addoption("--repeats", type=int, default=ALL, metavar="PERCENT", help=words)


def repeats(config: pytest.Config, times: int) -> int:
    """How often to inject what is injected so many times in all."""
    return max(LEAST, times * config.getoption("--repeats") // ALL)


@dataclass
class Count:
    """How often a fault was injected and survived, and the bytes of finished work that it cost."""

    injected: int = 0
    survived: int = 0
    lost: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class Faults:
    """Counts the faults of one test."""

    def __init__(self) -> None:
        self.counts: dict[str, Count] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[Count]:
        """Count a fault that is injected inside, and survived if nothing is raised; bytes are added to `lost`."""
        count = self.counts.setdefault(what, Count())
        count.injected += 1
        yield count
        count.survived += 1


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    """Counts what the test injects; its test or module must be marked with a family."""
    request.node.faults = Faults()
    return request.node.faults


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Hand the counts of a test to whoever reports it: with several processes, another one."""
    mark = item.get_closest_marker("fault")
    if mark and call.when != "teardown":
        family, *named = mark.args
        assert family in FAMILIES, f"{item.nodeid}: {family} is no family of faults"
        skipped = call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception)
        if skipped:
            item.user_properties.append((SKIPPED, f"{family}: {_in_words(item)}: {call.excinfo.value}"))
        if call.when == "setup":
            yield
            return
        counts = getattr(item, "faults", Faults()).counts
        if not counts and not skipped:
            what = named[0] if named else _in_words(item)
            counts = {what: Count(1, int(call.excinfo is None))}
        item.user_properties.append((NAME, [(family, what, astuple(count)) for what, count in counts.items()]))
    yield


def _in_words(item: pytest.Item) -> str:
    return getattr(item, "originalname", item.name).removeprefix("test_").replace("_", " ")


class Table:
    """Sums what all tests have counted."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole  # nothing was chosen
        self.counts: dict[tuple[str, str], Count] = {}
        self.skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Take the counts of one test."""
        self.skipped |= {what for name, what in report.user_properties if name == SKIPPED}
        for name, found in report.user_properties if report.when == "call" else []:
            for family, what, counts in found if name == NAME else []:
                self.counts[family, what] = self.counts.get((family, what), Count()) + Count(*counts)

    def rows(self) -> list[tuple[str, str, Count]]:
        """Family, fault and counts, in the order of the page."""
        order = list(FAMILIES)
        ordered = sorted(self.counts.items(), key=lambda row: (order.index(row[0][0]), row[0][1]))
        return [(family, what, count) for (family, what), count in ordered]

    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> None:
        """Print the table; write the page if it is whole and all was survived."""
        rows = self.rows()
        if not rows:
            return
        width = max(len(what) for _, what, _ in rows)
        terminalreporter.section("faults")
        for name, found in _by_family(rows).items():
            terminalreporter.write_line(f"{name:{width + 2}} injected  survived  bytes lost")
            for _, what, count in found:
                terminalreporter.write_line(
                    f"  {what:{width}} {count.injected:8,}  {count.survived:8,}  {count.lost:10,}"
                )
        total = sum((count for *_, count in rows), Count())
        terminalreporter.write_line(
            f"{'in all':{width + 2}} {total.injected:8,}  {total.survived:8,}  {total.lost:10,}"
        )
        for what in sorted(self.skipped):
            terminalreporter.write_line(f"left out: {what}")
        if missing := [name for name in FAMILIES if name not in {family for family, *_ in rows}]:
            terminalreporter.write_line(f"{PAGE.relative_to(ROOT)} stays as it is: not run were {', '.join(missing)}")
        elif self.whole and exitstatus == 0:
            PAGE.write_text(page(rows, sorted(self.skipped)), encoding="utf-8")
            terminalreporter.write_line(f"{PAGE.relative_to(ROOT)} is written")


def _by_family(rows: list[tuple[str, str, Count]]) -> dict[str, list[tuple[str, str, Count]]]:
    return {name: found for name in FAMILIES if (found := [row for row in rows if row[0] == name])}


def page(rows: list[tuple[str, str, Count]], skipped: list[str]) -> str:
    """The page: a table for each family, what all come to, what was left out, and what could not be made to hold."""
    total = sum((count for *_, count in rows), Count())
    lines = [
        "# What it withstands",
        "",
        "`make faults` injects every fault of these tables and writes this page. *Survived* is what its family",
        "promises, *bytes lost* are of finished work: cells, results, files of yours. "
        f"In all: {total.injected:,} injected, {total.survived:,} survived, {total.lost:,} bytes lost.",
    ]
    for name, found in _by_family(rows).items():
        lines += ["", f"## {name}", "", FAMILIES[name], ""]
        lines += ["| fault | injected | survived | bytes lost |", "| --- | ---: | ---: | ---: |"]
        for _, what, count in found:
            lines.append(f"| {_cell(what)} | {count.injected:,} | {count.survived:,} | {count.lost:,} |")
    if skipped:
        lines += ["", "## Left out where this page was made", "", *(f"- {_cell(what)}" for what in skipped)]
    return "\n".join(lines) + "\n\n" + LIMITS.read_text(encoding="utf-8")


def _cell(text: str) -> str:
    return re.sub(r"([|<>*_`\\])", r"\\\1", text)


def pytest_configure(config: pytest.Config) -> None:
    """Sum up where the results of all processes come together."""
    if not hasattr(config, "workerinput") and config.getoption("-m") == "fault":
        chosen = config.getoption("file_or_dir") or config.getoption("-k") or config.getoption("--repeats") != ALL
        config.pluginmanager.register(Table(whole=not chosen))
