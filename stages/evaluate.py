"""Stage `evaluate`: score every run on the target test labels, which no other stage may read."""

from pathlib import Path

import pandas as pd

from transfer.console import UserError, counted, run, say
from transfer.data.predictions import read_every_run
from transfer.evaluation.outcomes import Probes
from transfer.evaluation.scores import check_predictions, headline, outcomes_of, score_probes, score_runs
from transfer.files import read_arrays, read_facts, read_record, write_json, write_record, write_text

RESULTS = Path("results")
TARGET_LABELS = Path("data/target_test_labels.npz")
PROTOCOL = Path("data/protocol.npz")


def main() -> None:
    """Read every strategy's predictions and the test labels; write a row per run, the headline and the outcomes."""
    files = sorted(Path("data/predictions").glob("[!.]*.npz"))
    test, protocol = read_arrays(TARGET_LABELS, "labels", "classes"), read_arrays(PROTOCOL, "looks", "folds")
    labels, looks, folds = test["labels"], protocol["looks"], protocol["folds"]
    draws = looks[-1]
    images = counted(len(labels), "image" if len(folds) else "test image")
    say(f"evaluate: {', '.join(file.stem for file in files)} on {images}")
    if not files:
        raise UserError("data/predictions holds no predictions: `dvc repro` makes them")
    every = {file.stem: read_every_run(file.stem) for file in files}
    predictions = {name: given for name, given in every.items() if len(given.shots)}
    check_predictions(predictions, len(labels), len(test["classes"]), int(looks[0]))
    if len(folds):
        predictions = {name: given.merged(folds) for name, given in predictions.items()}
    controls = {name: given.take(given.seed >= draws) for name, given in predictions.items()}
    predictions = {name: given.take(given.seed < draws) for name, given in predictions.items()}
    runs = pd.concat([score_runs(name, given, labels) for name, given in predictions.items()], ignore_index=True)

    write_table("cells", runs)
    write_table("probes", score_probes(read_record(Path("data/probes.npz"), Probes).merged(folds), labels))
    source_accuracy = read_facts(Path("models/source.json"))["accuracy"]
    write_json(RESULTS / "metrics.json", headline(runs, source_accuracy))
    for file, given in (("outcomes", predictions), ("controls", controls)):
        write_record(Path(f"data/{file}.npz"), outcomes_of(given, labels, test["classes"], looks))


def write_table(name: str, rows: pd.DataFrame) -> None:
    """Write a table of results."""
    write_text(RESULTS / f"{name}.csv", rows.to_csv(index=False, float_format="%.6f", lineterminator="\n"))


if __name__ == "__main__":
    run(main)
