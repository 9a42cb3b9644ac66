"""What a strategy leaves for evaluation: probabilities for every test image, cell by cell, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer.files import axes, read_record, write_record

ROUNDING = 1e-3  # how far from 1 the sum of an image's probabilities may be: in float32 it is a thousandth of that


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

    probabilities: np.ndarray = axes("float32", "cells", "test images", "classes")
    calibration: np.ndarray = axes("float32", "cells", "calibration images", "classes")
    calibration_labels: np.ndarray = axes("int32", "cells", "calibration images")
    shots: np.ndarray = axes("int32", "cells")
    seed: np.ndarray = axes("int32", "cells")
    trainable_parameters: np.ndarray = axes("int64", "cells")
    gradient_steps: np.ndarray = axes("int64", "cells")
    examples_seen: np.ndarray = axes("int64", "cells")
    model_bytes: np.ndarray = axes("int64", "cells")
    made_with: np.ndarray = axes("str")


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


def are_probabilities(given: np.ndarray) -> bool:
    """Whether the last axis holds probabilities: no less than 0, with a sum of 1 but for rounding."""
    sums = given.sum(axis=-1, dtype=np.float64)
    return bool((given >= 0).all() and (np.abs(sums - 1) <= ROUNDING).all())  # neither holds for what is no number
