"""Time the study beside its peers, on this machine and in turn: `make bench`.

    make bench                                        # all of it, three times a quarter of an hour; writes the page
    make bench ARGS="--only frozen,growth --runs 1"   # some of it, to look at
    make bench ARGS=--page                            # the page anew from what was measured

A run that is not complete prints its page and writes nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.items import ITEMS
from benchmarks.machine import machine, versions
from benchmarks.page import QUANTITIES, write_page
from benchmarks.results import Quantities, Rounds, check_equal
from benchmarks.rounds import QUICK, Bench, Size
from transfer.basics.console import run, say
from transfer.basics.files import read_facts, write_json, write_text
from transfer.reporting.words import number

FOLDER = Path(__file__).parent
RESULTS, PAGE = FOLDER / "results.json", FOLDER / "results.md"


def measure(bench: Bench, name: str, runs: int) -> Rounds:
    """Measure an item several times, round after round.

    Raises:
        UserError: if a process fails.
    """
    rounds: Rounds = {}
    for turn in range(1, runs + 1):
        for who, quantities in ITEMS[name].round(bench):
            say(f"{name}, run {turn} of {runs}: {who}: {_shown(quantities)}")
            rounds.setdefault(who, []).append({what: round(value, 6) for what, value in quantities.items()})
    return rounds


def _shown(quantities: Quantities) -> str:
    parts = []
    for what, value in quantities.items():
        name, decimals, scale = QUANTITIES[what]
        parts.append(f"{number(scale * value, decimals)} {name.removesuffix(', %')}")
    return ", ".join(parts)


def items_of(text: str) -> list[str]:
    """Names of items, in their order, from the command line."""
    wanted = text.split(",")
    if unknown := [name for name in wanted if name not in ITEMS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(ITEMS)}")
    return [name for name in ITEMS if name in wanted]


def count(text: str) -> int:
    """A number of runs from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def main() -> None:
    """Measure what the command line asks for; write the page if that is all of it."""
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").partition("\n")[0])
    everything = ",".join(ITEMS)
    parser.add_argument("--only", type=items_of, default=everything, help=f"items out of {everything}")
    parser.add_argument("--runs", type=count, default=3, help="of every item, default %(default)s")
    parser.add_argument("--quick", action="store_true", help="see that it runs: little work, no accuracy checked")
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page from results.json")
    options = parser.parse_args()
    if options.page:
        write_text(PAGE, write_page(read_facts(RESULTS, "machine", "versions", "items")))
        return
    results: dict[str, Any] = {"machine": machine(), "versions": versions(), "items": {}}
    with TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder), QUICK if options.quick else Size())
        for name in options.only:
            rounds = results["items"][name] = measure(bench, name, options.runs)
            if not options.quick:
                check_equal(name, ITEMS[name], rounds)
    if options.quick or options.only != list(ITEMS):
        say(write_page(results))
        say(f"bench: not the whole of it, so {PAGE.name} stays as it was")
    else:
        write_json(RESULTS, results)
        write_text(PAGE, write_page(results))
        say(f"bench: benchmarks/{PAGE.name}, benchmarks/{RESULTS.name}")


if __name__ == "__main__":
    run(main)
