"""Score every cell of every strategy on the target test set."""

from __future__ import annotations

import numpy as np
import pandas as pd

from transfer import metrics
from transfer.console import UserError
from transfer.predictions import Predictions

SCORES = {
    "accuracy": metrics.accuracy,
    "log_loss": metrics.log_loss,
    "brier": metrics.brier,
    "ece": metrics.expected_calibration_error,
}
COSTS = ("trainable_parameters", "gradient_steps", "examples_seen")


def score_cells(strategy: str, predictions: Predictions, labels: np.ndarray) -> pd.DataFrame:
    """One row per cell: its strategy, shots and seed, its scores, its costs.

    Args:
        strategy: its name.
        predictions: for every cell and test image.
        labels: true classes of the test images, (test images,) int32.

    Raises:
        UserError: if the predictions are not for these test images, or those of a cell are no numbers.
    """
    if predictions.probabilities.shape[1] != len(labels):
        raise UserError(
            f"data/predictions/{strategy}.npz is for {predictions.probabilities.shape[1]} test images, not "
            f"{len(labels)}: rerun its stage, or delete the file if the strategy is gone"
        )
    diverged = np.flatnonzero(~np.isfinite(predictions.probabilities).all(axis=(1, 2)))
    if len(diverged):
        cell = diverged[0]
        raise UserError(
            f"{strategy} with {predictions.shots[cell]} labels per class and seed {predictions.seed[cell]} diverged: "
            f"its probabilities are no numbers; change the {strategy} section of params.yaml, most likely its peak_rate"
        )
    scores = {  # rounded here, so that whatever is computed from the file of cells is computed from the same numbers
        name: [round(score(cell, labels), 6) for cell in predictions.probabilities] for name, score in SCORES.items()
    }
    costs = {name: getattr(predictions, name) for name in COSTS}
    cells = pd.DataFrame({"strategy": strategy, "shots": predictions.shots, "seed": predictions.seed} | scores | costs)
    return cells.sort_values(["shots", "seed"], ignore_index=True)


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


def headline(cells: pd.DataFrame, source_accuracy: float) -> dict[str, dict[str, float]]:
    """The few numbers that `dvc metrics diff` shows: mean accuracy per strategy and number of shots."""
    means = cells.groupby(["strategy", "shots"], as_index=False)["accuracy"].mean()
    table: dict[str, dict[str, float]] = {"source": {"accuracy": round(source_accuracy, 6)}}
    for strategy, shots, mean in zip(means["strategy"], means["shots"], means["accuracy"], strict=True):
        table.setdefault(strategy, {})[f"shots_{shots}"] = round(float(mean), 6)
    return table
