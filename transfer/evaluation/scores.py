"""Score every cell of every strategy on the target test set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from transfer.console import UserError
from transfer.data.predictions import Predictions, are_probabilities
from transfer.evaluation import metrics
from transfer.evaluation.outcomes import COSTS, Outcomes, Probes

SCORES = {
    "accuracy": metrics.accuracy,
    "log_loss": metrics.log_loss,
    "brier": metrics.brier,
    "ece": metrics.expected_calibration_error,
}
AGAIN = "delete it and run `dvc repro`"
TEMPERATURE_SCALED = {"log_loss_tempered": metrics.log_loss, "ece_tempered": metrics.expected_calibration_error}


class TemperatureScaled(NamedTuple):
    """What mended probabilities of one strategy's cells would be.

    Attributes:
        temperature: of each cell, NaN where no image was left to fit it on, (cells,) float64.
        probabilities: for the test images, NaN without a temperature, (cells, test images, classes) float64.
    """

    temperature: np.ndarray
    probabilities: np.ndarray


def temperature_scale(predictions: Predictions) -> TemperatureScaled:
    """Fit a temperature for all cells of a number of shots together, on calibration images, and apply it.

    No test label has a part in it; a cell counts only the images that it was not trained on.
    """
    temperature = np.empty(len(predictions.shots))
    for shots in np.unique(predictions.shots):
        cells = predictions.shots == shots
        unseen = predictions.calibration_labels[cells] >= 0
        temperature[cells] = metrics.fit_temperature(
            predictions.calibration[cells][unseen], predictions.calibration_labels[cells][unseen]
        )
    return TemperatureScaled(
        temperature, np.stack(list(map(metrics.temperature_scaled, predictions.probabilities, temperature)))
    )


def check_predictions(path: Path, predictions: Predictions, test_images: int, classes: int) -> None:
    """Check that predictions can be scored.

    Args:
        path: of their file, which bears the strategy's name.
        predictions: of all of its cells.
        test_images: how many they must be for.
        classes: likewise.

    Raises:
        UserError: if the predictions are for other test images or classes, or those of a cell are no probabilities.
    """
    _, images, told = predictions.probabilities.shape
    if (images, told) != (test_images, classes):
        raise UserError(
            f"{path} is for {images} test images of {told} classes, not {test_images} of {classes}: rerun its stage, "
            "or delete the file if the strategy is gone"
        )
    for cell, (shots, seed) in enumerate(zip(predictions.shots, predictions.seed, strict=True)):
        each = f"{path.stem} with {shots} labels per class and seed {seed}"
        both = predictions.probabilities[cell], predictions.calibration[cell]
        if not all(np.isfinite(part).all() for part in both):
            raise UserError(
                f"{each} diverged: its probabilities are no numbers; change its section of params.yaml, most likely "
                "its peak_rate"
            )
        if not all(map(are_probabilities, both)):
            raise UserError(f"{path} is damaged: what it has of {each} are no probabilities: {AGAIN}")
    if wrong := _impossible(predictions, classes):
        raise UserError(f"{path} is damaged: {wrong}: {AGAIN}")


def _impossible(predictions: Predictions, classes: int) -> str:
    """What no stage would write about its cells; empty if there is nothing."""
    cells = list(zip(predictions.shots.tolist(), predictions.seed.tolist(), strict=True))
    if len(set(cells)) < len(cells):
        return "it has a cell twice"
    lowest = dict.fromkeys(COSTS, 0) | {"shots": 1, "seed": 0, "calibration_labels": -1}
    if wrong := [name for name, least in lowest.items() if getattr(predictions, name).min(initial=least) < least]:
        return f"{wrong[0]} is too small"
    if predictions.calibration_labels.max(initial=-1) >= classes:
        return "calibration_labels are of other classes"
    try:
        made = json.loads(str(predictions.made_with))
    except (ValueError, RecursionError):
        made = None
    return (
        "" if isinstance(made, dict) and made.keys() >= {"params", "versions"} else "made_with lacks what it must have"
    )


def score_cells(strategy: str, predictions: Predictions, scaled: TemperatureScaled, labels: np.ndarray) -> pd.DataFrame:
    """One row per cell: its strategy, shots and seed, its scores, its costs, and how its probabilities can be mended.

    Args:
        strategy: its name.
        predictions: for every cell and test image.
        scaled: the same, mended; `log_loss_tempered` and `ece_tempered` are its scores, NaN without a temperature.
        labels: true classes of the test images, (test images,) int32.
    """
    scores = {name: [score(cell, labels) for cell in predictions.probabilities] for name, score in SCORES.items()}
    costs = {name: getattr(predictions, name) for name in COSTS}
    mended = {
        name: [np.nan if np.isnan(cell).any() else score(cell, labels) for cell in scaled.probabilities]
        for name, score in TEMPERATURE_SCALED.items()
    }
    cells = pd.DataFrame(
        {"strategy": strategy, "shots": predictions.shots, "seed": predictions.seed}
        | scores
        | costs
        | {"temperature": scaled.temperature}
        | mended
    )
    # Rounded here, so that whatever is computed from the file of cells is computed from the same numbers.
    return cells.round(6).sort_values(["shots", "seed"], ignore_index=True)


def outcomes_of(
    predictions: Mapping[str, Predictions],
    scaled: Mapping[str, TemperatureScaled],
    labels: np.ndarray,
    classes: np.ndarray,
    table: str,
) -> Outcomes:
    """Every cell of every strategy, image by image.

    Args:
        predictions: by strategy.
        scaled: the same, mended.
        labels: true classes of the test images, (test images,) int32.
        classes: their names.
        table: SHA-256 of the file of their cells.
    """
    every = list(predictions.values())
    return Outcomes(
        strategy=np.repeat(list(predictions), [len(given.shots) for given in every]),
        shots=np.concatenate([given.shots for given in every]),
        seed=np.concatenate([given.seed for given in every]),
        predicted=np.concatenate([given.probabilities.argmax(axis=-1).astype(np.int16) for given in every]),
        confidence=np.concatenate([given.probabilities.max(axis=-1) for given in every]),
        scaled=np.concatenate([scaled[name].probabilities.max(axis=-1).astype(np.float32) for name in predictions]),
        labels=labels,
        classes=classes,
        made_with=np.array(json.dumps({name: json.loads(str(given.made_with)) for name, given in predictions.items()})),
        table=np.array(table),
    )


def score_probes(views: Probes, labels: np.ndarray) -> pd.DataFrame:
    """One row per layer and seed: the accuracy of its linear probe on the sampled test images.

    Raises:
        UserError: if the probes are of images that are not there.
    """
    if views.rows.min(initial=0) < 0 or views.rows.max(initial=0) >= len(labels):
        raise UserError(f"data/probes.npz is for other test images: {AGAIN}")
    correct = views.predicted == labels[views.rows]
    return pd.DataFrame(
        [
            (layer, int(views.shots), seed, round(float(accuracy), 6))
            for layer, seeds in zip(views.names, correct.mean(axis=2), strict=True)
            for seed, accuracy in enumerate(seeds)
        ],
        columns=["layer", "shots", "seed", "accuracy"],
    )


def check_same_cells(cells: pd.DataFrame) -> None:
    """Check that every strategy has the same cells, so that differences are paired.

    Raises:
        UserError: naming the strategy that differs.
    """
    grids = {name: set(zip(rows["shots"], rows["seed"], strict=True)) for name, rows in cells.groupby("strategy")}
    widest = max(grids.values(), key=len)
    if differing := [name for name, grid in grids.items() if grid != widest]:
        raise UserError(
            f"data/predictions/{differing[0]!s}.npz has other shots or seeds than the rest: rerun its stage, or delete "
            "the file if the strategy is gone"
        )


def headline(cells: pd.DataFrame, source_accuracy: float | None) -> dict[str, dict[str, float]]:
    """The few numbers that `dvc metrics diff` shows: mean accuracy per strategy and number of shots.

    Args:
        cells: one row per cell.
        source_accuracy: of the source model on its own task; None where it is not known.
    """
    means = cells.groupby(["strategy", "shots"], as_index=False)["accuracy"].mean()
    table: dict[str, dict[str, float]] = {}
    if source_accuracy is not None:
        table["source"] = {"accuracy": round(source_accuracy, 6)}
    for strategy, shots, mean in zip(means["strategy"], means["shots"], means["accuracy"], strict=True):
        table.setdefault(strategy, {})[f"shots_{shots}"] = round(float(mean), 6)
    return table
