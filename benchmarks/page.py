"""What was measured as a page; all of it follows from `results.json`."""

from __future__ import annotations

from typing import Any

from benchmarks.items import ITEMS
from benchmarks.results import Item, Rounds, Spread, spread
from transfer.reporting import pages
from transfer.reporting.blocks import Entry, Section, Table, Text, plain
from transfer.reporting.words import listed, number

TITLE = "Benchmarks"
QUANTITIES = {  # its name in a table, its decimals, and what it is multiplied by
    "seconds": ("seconds", 1, 1),
    "accuracy": ("accuracy, %", 2, 100),
    "source_accuracy": ("source accuracy, %", 2, 100),
    "target_accuracy": ("target accuracy, %", 2, 100),
    "main_megabytes": ("main process, MB", 0, 1),
    "worker_megabytes": ("a worker, MB", 0, 1),
    "gflops": ("GFLOP/s", 0, 1),
    "gemm": ("matrix product, GFLOP/s", 0, 1),
}
RATIOS = ["ratio", "median (lowest to highest)", "aim", "reached"]


def write_page(results: dict[str, Any]) -> str:
    """The page as Markdown.

    Args:
        results: `machine`, `versions`, and `items`: the rounds of every item by its name.
    """
    items = {name: ITEMS[name] for name in results["items"]}
    ratios = [row for name, item in items.items() for row in _ratios(item, results["items"][name])]
    facts = [f"{name} {value}" for name, value in results["machine"].items()]
    summary = Section(
        "summary",
        "What it comes to",
        [
            Text(
                "Made by `make bench` alone, from `results.json`. In every run of an item each contestant has its turn,"
                " one after the other; a ratio is taken within a run. What is shown of several runs is the median, and "
                "the lowest to the highest. Where accuracies differ by more than the stated tolerance, no page is "
                "written."
            ),
            Text(f"Machine: {'; '.join(facts)}. Versions: {', '.join(map(' '.join, results['versions'].items()))}."),
            Table("Ratios", RATIOS, ratios, note=_left_out(results)),
        ],
    )
    return pages.markdown(
        TITLE, [summary, *(_section(name, item, results["items"][name]) for name, item in items.items())]
    )


def quoted(text: str) -> list[str]:
    """The rows of the table of ratios in a page, here or in another that quotes it; none where there is none."""
    _, _, after = text.partition(f"| {' | '.join(RATIOS)} |\n")
    return [line for line in after.split("\n\n")[0].splitlines()[1:] if line.startswith("|")]


def _ratios(item: Item, rounds: Rounds) -> list[list[Entry]]:
    rows = []
    for ratio in item.ratios:
        found = ratio.of(rounds)
        if found:
            reached = ("yes" if ratio.reached(found.median) else "no") if ratio.aim() else ""
            decimals = 2 if found.median < 10 else 1
            rows.append([plain(ratio.text), _entry(found, decimals), plain(ratio.aim()), plain(reached)])
    return rows


def _section(name: str, item: Item, rounds: Rounds) -> Section:
    present = [what for what in QUANTITIES if any(what in turns[0] for turns in rounds.values())]
    head = ["", "runs", *(QUANTITIES[what][0] for what in present)]
    rows = [
        [
            plain(who),
            plain(len(turns)),
            *(_quantity([turn[what] for turn in turns if what in turn], what) for what in present),
        ]
        for who, turns in rounds.items()
    ]
    note = ""
    if item.equal:
        note = f"Tolerance of the {item.equal.replace('_', ' ')}: {number(100 * item.tolerance, 1)} points."
    return Section(
        name, item.title, [*map(Text, item.about), Table("Medians (lowest to highest)", head, rows, note=note)]
    )


def _quantity(values: list[float], what: str) -> Entry:
    _, decimals, scale = QUANTITIES[what]
    return _entry(spread([scale * value for value in values]), decimals) if values else plain("")


def _entry(found: Spread, decimals: int) -> Entry:
    middle, low, high = (number(value, decimals) for value in found)
    return Entry(middle if low == high else f"{middle} ({low} to {high})", found.median)


def _left_out(results: dict[str, Any]) -> str:
    missing = [name for name, package in (("PyTorch", "torch"),) if package not in results["versions"]]
    return f"Not installed, so left out: {listed(missing)}." if missing else ""
