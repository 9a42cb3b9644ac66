"""`transfer compare`: what a branch did to the metrics, with intervals and verdicts, from what is kept in Git."""

from __future__ import annotations

import argparse
import json
import math
import sys

from transfer.compare import changes
from transfer.compare.metrics import METRICS
from transfer.compare.revisions import WORKSPACE, read_revisions
from transfer.console import UserError
from transfer.report import pages, terminal

TITLE = "Comparison of revisions"
DESCRIPTION = """\
Compare the results of any number of branches, tags and commits, without checking anything out and without a DVC cache.
The first is what the others are compared with. Alone, a revision is compared with the workspace; with none named, the
workspace is compared with the default branch."""
BARE = 0.1  # the largest tolerance without a unit
EXAMPLE = "transfer compare main my-branch --fail-on-regression"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("revisions", nargs="*", metavar="REV", help=f"a branch, tag or commit, or `{WORKSPACE}`")
    parser.add_argument(
        "--metric",
        action="append",
        choices=[*METRICS, "all"],
        metavar="NAME",
        help=f"what to compare, accuracy if none is named: {', '.join(METRICS)} or all",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", dest="form", action="store_const", const="md", help="print Markdown")
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print JSON")
    form.add_argument("--html", dest="form", action="store_const", const="html", help="print one HTML page")
    parser.add_argument(
        "--fail-on-regression",
        action="store_true",
        help="exit with 1 if a metric is significantly worse, by more than the tolerance",
    )
    parser.add_argument(
        "--tolerance",
        default="0",
        metavar="X",
        help="a loss that is no regression: 0.5%% or 0.005 is half a point of accuracy, and 0.005 nats of log loss; "
        "values above 0.1 need %%: 50%% is 0.5 nats",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison; 1 on a regression, if that is asked for."""
    chosen = arguments.metric or ["accuracy"]
    metrics = [metric for name, metric in METRICS.items() if name in chosen or "all" in chosen]
    tolerance = parse_tolerance(arguments.tolerance)
    comparison = changes.compare_all(read_revisions(arguments.revisions), metrics, tolerance)
    print(_printed(comparison, arguments.form), end="", flush=True)
    if not arguments.fail_on_regression:
        return 0
    lines = changes.describe_regressions(comparison)
    allowed = f" beyond {arguments.tolerance}" if tolerance else ""
    for line in [f"regression{allowed}: {line}" for line in lines] or [f"no regression{allowed}"]:
        print(line, file=sys.stderr)
    return bool(lines)


def _printed(comparison: changes.Comparison, form: str | None) -> str:
    if form == "json":
        return json.dumps(changes.to_json(comparison), indent=2, ensure_ascii=False, default=str) + "\n"
    sections = changes.write_changes(comparison)
    if form == "html":
        return pages.html(TITLE, sections)
    return pages.markdown(TITLE, sections) if form == "md" else terminal.text(sections)


def parse_tolerance(text: str) -> float:
    """A loss as in `0.005`, or in percent as in `0.5%`.

    Raises:
        UserError: if it is no number of at least 0 and below 1, or so large that it was meant in percent.
    """
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if value > BARE and not text.endswith("%"):
        raise UserError(f"--tolerance {text} is {100 * value:g} points: write {text}% for {text} points")
    if not 0 <= value < 1:
        raise UserError(f"--tolerance is {text}, but must be at least 0 and below 1, or in percent, as in 0.5%")
    return value
