"""Stage `report`: turn the cells into a page and a chart that people can read."""

import json
from pathlib import Path

import pandas as pd

from transfer import charts, report
from transfer.console import run, say
from transfer.files import write_text

RESULTS = Path("results")


def main() -> None:
    """Read the cells and the source's accuracy; write the report and its chart."""
    cells = pd.read_csv(RESULTS / "cells.csv")
    metrics = json.loads((RESULTS / "metrics.json").read_text(encoding="utf-8"))
    say(f"report: {len(cells)} cells of {', '.join(report.strategies_of(cells))}")
    write_text(RESULTS / "accuracy.svg", charts.learning_curves(report.summarise(cells)))
    write_text(RESULTS / "report.md", report.markdown(cells, metrics["source"]["accuracy"], "accuracy.svg"))
    say("report: results/report.md")


if __name__ == "__main__":
    run(main)
