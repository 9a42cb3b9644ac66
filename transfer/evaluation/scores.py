"""Score every run of every strategy on the target test set."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from transfer.console import UserError
from transfer.data.predictions import NEARLY_EVERY, Predictions
from transfer.evaluation import metrics
from transfer.evaluation.outcomes import COSTS, Outcomes, Probes

SCORES = {
    "accuracy": metrics.accuracy,
    "log_loss": metrics.log_loss,
    "brier": metrics.brier,
    "ece": metrics.expected_calibration_error,
}
SCALED_SCORES = {"log_loss_tempered": metrics.log_loss, "ece_tempered": metrics.expected_calibration_error}


def temperature_scale(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Fit one temperature for all runs of a number of shots, on calibration images, and apply it.

    Test labels have no part in it; a run counts only the images that it was not trained on.

    Returns:
        The temperature of each run, NaN where no image was left to fit it on, (runs,) float64; and the scaled
        probabilities for the test images, NaN without a temperature, (runs, test images, classes) float64.
    """
    temperature = np.empty(len(predictions.shots))
    for shots in np.unique(predictions.shots):
        runs = predictions.shots == shots
        unseen = predictions.calibration_labels[runs] >= 0
        temperature[runs] = metrics.fit_temperature(
            predictions.calibration[runs][unseen], predictions.calibration_labels[runs][unseen]
        )
    scaled = list(map(metrics.temperature_scaled, predictions.probabilities, temperature))
    return temperature, np.reshape(scaled, predictions.probabilities.shape)


def check_predictions(predictions: Mapping[str, Predictions], test_images: int, classes: int, draws: int) -> None:
    """Check that strategies can be compared.

    Args:
        predictions: by strategy.
        test_images: how many they must be for.
        classes: likewise.
        draws: which all must have, those of the first look.

    Raises:
        UserError: if a file is left from another study, or a training diverged.
    """
    firsts = {name: given.take(given.seed < draws) for name, given in predictions.items()}
    runs = {name: set(zip(given.shots, given.seed, strict=True)) for name, given in firsts.items()}
    widest = max(runs.values(), key=len)
    for name, given in predictions.items():
        if given.probabilities.shape[1:] != (test_images, classes) or runs[name] != widest:
            raise UserError(
                f"data/predictions/{name}.npz has other test images, classes, shots or seeds than this study: rerun "
                "its stage, or delete the file if the strategy is gone"
            )
        for shots, seed, *both in zip(given.shots, given.seed, given.probabilities, given.calibration, strict=True):
            if not all(np.isfinite(part).all() for part in both):
                raise UserError(
                    f"{name} with {shots} labels per class and seed {seed} diverged: its probabilities are not "
                    f"finite; change section {name} of params.yaml, most likely its peak_rate"
                )


def score_runs(strategy: str, predictions: Predictions, labels: np.ndarray) -> pd.DataFrame:
    """A row per run: its strategy, shots and seed, its scores, its costs, and its scores after temperature scaling.

    Args:
        strategy: its name.
        predictions: for every run and test image.
        labels: true classes of the test images, (test images,) int32.
    """
    runs = pd.DataFrame({"strategy": strategy, "shots": predictions.shots, "seed": predictions.seed})
    for name, score in SCORES.items():
        runs[name] = [score(run, labels) for run in predictions.probabilities]
    for name in COSTS:
        runs[name] = getattr(predictions, name)
    runs["temperature"], scaled = temperature_scale(predictions)
    for name, score in SCALED_SCORES.items():
        runs[name] = [score(run, labels) for run in scaled]
    # Rounded here, so that whatever is computed from results/cells.csv is computed from the same numbers.
    return runs.round(6).sort_values(["shots", "seed"], ignore_index=True)


def outcomes_of(
    predictions: Mapping[str, Predictions], labels: np.ndarray, classes: np.ndarray, looks: np.ndarray
) -> Outcomes:
    """Every run of every strategy, image by image.

    Args:
        predictions: by strategy.
        labels: true classes of the test images, (test images,) int32.
        classes: their names.
        looks: numbers of draws after which strategies could be dropped.
    """
    every = list(predictions.values())
    return Outcomes(
        strategy=np.repeat(list(predictions), [len(given.shots) for given in every]),
        shots=np.concatenate([given.shots for given in every]),
        seed=np.concatenate([given.seed for given in every]),
        collapsed=np.concatenate([given.collapsed & _gives_one_class(given, labels) for given in every]),
        predicted=np.concatenate([given.probabilities.argmax(axis=-1).astype(np.int16) for given in every]),
        confidence=np.concatenate([given.probabilities.max(axis=-1) for given in every]),
        scaled=np.concatenate([temperature_scale(given)[1].max(axis=-1).astype(np.float32) for given in every]),
        labels=labels,
        classes=classes,
        made_with=np.array(json.dumps({name: json.loads(str(given.made_with)) for name, given in predictions.items()})),
        looks=looks,
    )


def _gives_one_class(predictions: Predictions, labels: np.ndarray) -> np.ndarray:
    """Whether a run gives nearly every image the same class where all true classes count the same, (runs,) bool.

    The test images themselves can be of one class nearly all, as calibration images cannot: cross-validation has none.
    """
    predicted = predictions.probabilities.argmax(axis=2)[..., np.newaxis] == np.arange(
        predictions.probabilities.shape[2]
    )
    shares = np.mean([predicted[:, labels == name].mean(axis=1) for name in np.unique(labels)], axis=0)
    return shares.max(axis=1) >= NEARLY_EVERY


def score_probes(probes: Probes, labels: np.ndarray) -> pd.DataFrame:
    """One row per layer and seed: the accuracy of its linear probe on the sampled test images.

    Args:
        probes: of every seed; in cross-validation merged, so that a seed is a repetition.
        labels: true classes of the test images, (test images,) int32.
    """
    accuracies = (probes.predicted == labels[probes.rows]).mean(axis=2).round(6)
    index = pd.MultiIndex.from_product([probes.names, range(accuracies.shape[1])], names=["layer", "seed"])
    table = pd.DataFrame({"accuracy": accuracies.ravel()}, index).reset_index()
    table.insert(1, "shots", int(probes.shots))
    return table


def headline(runs: pd.DataFrame, source_accuracy: float | None) -> dict[str, dict[str, float]]:
    """The few numbers that `dvc metrics diff` shows: mean accuracy per strategy and number of shots.

    DVC sorts keys by their letters: with zeros before them, shots stand in the order of their number.

    Args:
        runs: a row per run.
        source_accuracy: of the source model on its own task; None where it is not known.
    """
    table: dict[str, dict[str, float]] = {}
    if source_accuracy is not None:
        table["source"] = {"accuracy": round(source_accuracy, 6)}
    means = runs.groupby(["strategy", "shots"], as_index=False)["accuracy"].mean()
    for strategy, shots, mean in means.itertuples(index=False):
        table.setdefault(strategy, {})[f"shots_{shots:04d}"] = round(float(mean), 6)
    return table
