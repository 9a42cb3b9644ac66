"""What a strategy leaves for evaluation: probabilities for every test image, run by run, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ONE_CLASS = 0.99  # of the images
APART = 0.005  # in probability


@dataclass(frozen=True)
class Predictions:
    """The predictions of one strategy.

    Attributes:
        probabilities: for the test images, (runs, test images, classes) float32.
        calibration: the same for labelled target images, (runs, calibration images, classes) float32.
        calibration_labels: their classes, (runs, calibration images) int32; -1 where the run was trained on one.
        shots: labelled images per class of each run, (runs,) int32.
        seed: of each run's draw, (runs,) int32.
        trainable_parameters: numbers that training changed, (runs,) int64.
        gradient_steps: updates of the weights, (runs,) int64.
        examples_seen: images that went through training, repeats counted, (runs,) int64.
        model_bytes: size of the shipped model's file, the same for every run, 0 where none is, (runs,) int64.
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

    @property
    def collapsed(self) -> np.ndarray:
        """Whether a run's predictions hardly differ from image to image, so that its training failed, (runs,) bool.

        Told without test labels, from the calibration images, which are as many of each class: `ONE_CLASS` of them get
        the same class, or the mean distance (total variation) of their probabilities from the mean is below `APART`.
        It is 0 for networks that died, 0.01 to 0.05 for some that were hardly trained, and 0.4 to 0.9 for others.
        """
        given = self.calibration
        classes = given.argmax(axis=2)[..., np.newaxis] == np.arange(given.shape[2])
        distance = np.abs(given - given.mean(axis=1, keepdims=True)).sum(axis=2).mean(axis=1) / 2
        return (classes.mean(axis=1).max(axis=1) >= ONE_CLASS) | (distance < APART)
