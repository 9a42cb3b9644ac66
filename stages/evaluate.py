"""Stage `evaluate`: score every cell on the target test labels, which no other stage may read."""

from pathlib import Path

import pandas as pd

from transfer.console import UserError, counted, run, say
from transfer.data.predictions import read_predictions
from transfer.evaluation.outcomes import Probes
from transfer.evaluation.scores import (
    check_predictions,
    check_same_cells,
    headline,
    outcomes_of,
    score_cells,
    score_probes,
    temperature_scale,
)
from transfer.files import digest, read_arrays, read_facts, read_record, write_json, write_record, write_text

RESULTS = Path("results")
TARGET_LABELS = Path("data/target_test_labels.npz")


def main() -> None:
    """Read every strategy's predictions and the test labels; write one row per cell, the headline and the outcomes."""
    files = sorted(Path("data/predictions").glob("[!.]*.npz"))
    test = read_arrays(TARGET_LABELS, "labels", "classes")
    labels = test["labels"]
    say(f"evaluate: {', '.join(file.stem for file in files)} on {counted(len(labels), 'test image')}")
    if not files:
        raise UserError("data/predictions holds no predictions: `dvc repro` makes them")
    predictions = {file.stem: read_predictions(file) for file in files}
    for file in files:
        check_predictions(file, predictions[file.stem], len(labels), len(test["classes"]))
    scaled = {name: temperature_scale(given) for name, given in predictions.items()}
    scored = [score_cells(name, given, scaled[name], labels) for name, given in predictions.items()]
    cells = pd.concat(scored, ignore_index=True)
    check_same_cells(cells)
    probes = score_probes(read_record(Path("data/probes.npz"), Probes), labels)

    source_accuracy = read_facts(Path("models/source.json"), "accuracy")["accuracy"]
    write_table("cells", cells)
    write_table("probes", probes)
    metrics = headline(cells, source_accuracy)
    write_json(RESULTS / "metrics.json", metrics)
    outcomes = outcomes_of(predictions, scaled, labels, test["classes"], digest(RESULTS / "cells.csv"))
    write_record(Path("data/outcomes.npz"), outcomes)


def write_table(name: str, rows: pd.DataFrame) -> None:
    """Write a table of results."""
    write_text(RESULTS / f"{name}.csv", rows.to_csv(index=False, float_format="%.6f", lineterminator="\n"))


if __name__ == "__main__":
    run(main)
