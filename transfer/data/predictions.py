"""What a strategy leaves for evaluation: probabilities for every test image, run by run, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import numpy as np

from transfer.files import read_record

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
        """Predictions of a strategy that could not be run."""
        return cls(*[np.zeros(0)] * len(fields(cls)))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Concatenate the runs of several predictions with the same `made_with`."""
        return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in OF_RUNS})

    def take(self, rows: np.ndarray | list[int]) -> Self:
        """Select runs, by their row numbers or by a mask."""
        return replace(self, **{name: getattr(self, name)[rows] for name in OF_RUNS})

    def merged(self, folds: np.ndarray) -> Self:
        """Out-of-fold predictions, a run per repetition: of each image by the model that was not trained on it.

        Args:
            folds: in which fold each image is tested, (repetitions, images) int32; run
                `repetition × folds + fold` of every number of shots is of that fold.

        Returns:
            Predictions whose `seed` is the repetition, and whose costs are those of the first fold; without the run on
            all images.
        """
        last = int(self.seed.max())
        numbers = np.flatnonzero(self.shots <= self.shots[self.seed == last].max())
        ordered = numbers[np.lexsort((self.seed[numbers], self.shots[numbers]))]
        of_fold = ordered.reshape(-1, len(folds), (last + 1) // len(folds))  # shots, repetitions, folds
        images = np.arange(folds.shape[1])
        tested = self.probabilities[of_fold[:, np.arange(len(folds))[:, np.newaxis], folds], images]
        merged = self.take(of_fold[:, :, 0].ravel())
        return replace(
            merged,
            probabilities=tested.reshape(len(merged.shots), *tested.shape[2:]),
            seed=np.tile(np.arange(len(folds), dtype=np.int32), len(of_fold)),
        )

    @property
    def collapsed(self) -> np.ndarray:
        """Whether a run gives nearly every image the same class, so that its training failed, (runs,) bool.

        Told without test labels, from the test images and from the calibration images, which are as many of each class.
        """
        classes = np.arange(self.probabilities.shape[2])
        shares = [
            (given.argmax(axis=2)[..., np.newaxis] == classes).mean(axis=1).max(axis=1)
            for given in (self.probabilities, self.calibration)
            if given.shape[1]
        ]
        return np.min(shares, axis=0) >= NEARLY_EVERY


OF_RUNS = [field.name for field in fields(Predictions) if field.name != "made_with"]


def read_every_run(strategy: str, data: Path = Path("data")) -> Predictions:
    """What a strategy has left, with the runs of further draws that a look gave it, by shots and then by seed."""
    files = [data / "predictions" / f"{strategy}.npz", *(data / "further").glob(f"*/{strategy}.npz")]
    every = Predictions.joined([read_record(file, Predictions) for file in files])
    return every.take(np.lexsort((every.seed, every.shots)))
