"""What a strategy leaves for evaluation: probabilities for every test image, cell by cell, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from transfer.files import read_arrays, write_arrays


@dataclass(frozen=True)
class Predictions:
    """The predictions of one strategy.

    Attributes:
        probabilities: (cells, test images, classes) float32.
        shots: labelled images per class of each cell, (cells,) int32.
        seed: of each cell's draw, (cells,) int32.
        trainable_parameters: numbers that training changed, (cells,) int64.
        gradient_steps: updates of the weights, (cells,) int64.
        examples_seen: images that went through training, repeats counted, (cells,) int64.
    """

    probabilities: np.ndarray
    shots: np.ndarray
    seed: np.ndarray
    trainable_parameters: np.ndarray
    gradient_steps: np.ndarray
    examples_seen: np.ndarray


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write one strategy's predictions as an npz file."""
    write_arrays(path, **{field.name: getattr(predictions, field.name) for field in fields(predictions)})


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote."""
    return Predictions(**read_arrays(path, *(field.name for field in fields(Predictions))))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities from logits along the last axis, float32."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
