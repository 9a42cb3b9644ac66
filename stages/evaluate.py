"""Stage `evaluate`: score every cell on the target test labels, which no other stage may read."""

import json
from pathlib import Path

import pandas as pd

from transfer.console import UserError, counted, run, say
from transfer.evaluation import check_same_cells, headline, score_cells
from transfer.files import read_arrays, read_number, write_text
from transfer.predictions import read_predictions


def main() -> None:
    """Read every strategy's predictions and the test labels; write one row per cell and the headline."""
    files = sorted(Path("data/predictions").glob("[!.]*.npz"))
    labels = read_arrays(Path("data/target_test_labels.npz"))["labels"]
    say(f"evaluate: {', '.join(file.stem for file in files)} on {counted(len(labels), 'test image')}")
    if not files:
        raise UserError("data/predictions holds no predictions: `dvc repro` makes them")
    cells = pd.concat([score_cells(file.stem, read_predictions(file), labels) for file in files], ignore_index=True)
    check_same_cells(cells)

    source_accuracy = read_number(Path("models/source.json"), "accuracy")
    write_text(Path("results/cells.csv"), cells.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    metrics = headline(cells, source_accuracy)
    write_text(Path("results/metrics.json"), json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
