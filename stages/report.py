"""Stage `report`: turn the cells into a page and a chart that people can read."""

from pathlib import Path

from transfer import charts, report
from transfer.console import counted, run, say
from transfer.files import read_number, write_text

RESULTS = Path("results")


def main() -> None:
    """Read the cells and the source's accuracy; write the report and its chart."""
    cells = report.read_cells(RESULTS / "cells.csv")
    source_accuracy = read_number(RESULTS / "metrics.json", "source", "accuracy")
    say(f"report: {counted(len(cells), 'cell')} of {', '.join(report.strategies_of(cells))}")
    write_text(RESULTS / "accuracy.svg", charts.learning_curves(report.summarise(cells)))
    write_text(RESULTS / "report.md", report.markdown(cells, source_accuracy, "accuracy.svg"))
    say("report: results/report.md")


if __name__ == "__main__":
    run(main)
