"""What a strategy leaves for evaluation: probabilities for every test image, run by run, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

NEARLY_EVERY = 0.99


@dataclass(frozen=True)
class Predictions:
    """The predictions of one strategy.

    Attributes:
        probabilities: for the test images, (runs, test images, classes) float32.
        calibration: the same for labelled target images, (runs, calibration images, classes) float32.
        calibration_labels: their classes, (runs, calibration images) int32; -1 where the run was trained on one.
        pool: the same for a sample of all target images, as `Target.pool` gives it, (runs, pool images, classes)
            float32; other strategies learn from them.
        shots: labelled images per class of each run, (runs,) int32.
        seed: of each run's draw, (runs,) int32.
        trainable_parameters: numbers that training changed, (runs,) int64.
        gradient_steps: updates of the weights, (runs,) int64.
        examples_seen: images that went through training, repeats counted, (runs,) int64.
        unlabelled_images: images without labels that training used, (runs,) int64.
        model_bytes: size of the shipped model's file, the same for every run, 0 where none is, (runs,) int64.
        made_with: parameters and versions of the libraries, as JSON, () str.
    """

    probabilities: np.ndarray
    calibration: np.ndarray
    calibration_labels: np.ndarray
    pool: np.ndarray
    shots: np.ndarray
    seed: np.ndarray
    trainable_parameters: np.ndarray
    gradient_steps: np.ndarray
    examples_seen: np.ndarray
    unlabelled_images: np.ndarray
    model_bytes: np.ndarray
    made_with: np.ndarray

    @classmethod
    def none(cls) -> Self:
        """Those of a strategy that could not be run."""
        return cls(*[np.zeros(0)] * len(fields(cls)))

    @property
    def collapsed(self) -> np.ndarray:
        """Whether a run gives nearly every image the same class, so that its training failed, (runs,) bool.

        Told without test labels, from the test images and from the calibration images, which are as many of each class.
        """
        classes = np.arange(self.probabilities.shape[2])
        shares = [
            (given.argmax(axis=2)[..., np.newaxis] == classes).mean(axis=1).max(axis=1)
            for given in (self.probabilities, self.calibration)
        ]
        return np.minimum(*shares) >= NEARLY_EVERY
