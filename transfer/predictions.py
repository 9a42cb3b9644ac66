"""What a strategy leaves for evaluation: probabilities for every test image, cell by cell, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer.basics.files import read_record, write_record


@dataclass(frozen=True)
class Predictions:
    """The predictions of one strategy.

    Attributes:
        probabilities: for the test images, (cells, test images, classes) float32.
        calibration: the same for labelled target images, (cells, calibration images, classes) float32.
        calibration_labels: their classes, (cells, calibration images) int32; -1 where the cell was trained on one.
        shots: labelled images per class of each cell, (cells,) int32.
        seed: of each cell's draw, (cells,) int32.
        trainable_parameters: numbers that training changed, (cells,) int64.
        gradient_steps: updates of the weights, (cells,) int64.
        examples_seen: images that went through training, repeats counted, (cells,) int64.
        model_bytes: size of the shipped model's file, the same for every cell, 0 where none is, (cells,) int64.
        made_with: parameters and versions of the libraries, as JSON, () str.
    """

    probabilities: np.ndarray
    calibration: np.ndarray
    calibration_labels: np.ndarray
    shots: np.ndarray
    seed: np.ndarray
    trainable_parameters: np.ndarray
    gradient_steps: np.ndarray
    examples_seen: np.ndarray
    model_bytes: np.ndarray
    made_with: np.ndarray


def no_predictions() -> Predictions:
    """Those of what was not measured: no cell."""
    counts, numbers = np.zeros(0, np.int64), np.zeros(0, np.int32)
    return Predictions(
        probabilities=np.zeros((0, 0, 0), np.float32),
        calibration=np.zeros((0, 0, 0), np.float32),
        calibration_labels=np.zeros((0, 0), np.int32),
        shots=numbers,
        seed=numbers,
        trainable_parameters=counts,
        gradient_steps=counts,
        examples_seen=counts,
        model_bytes=counts,
        made_with=np.array("{}"),
    )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write one strategy's predictions as an npz file."""
    write_record(path, predictions)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote."""
    return read_record(path, Predictions)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities from logits along the last axis, float32."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
