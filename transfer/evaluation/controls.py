"""What choosing the images to label was worth: runs on chosen images beside runs on random ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from transfer.data.predictions import Predictions
from transfer.evaluation.outcomes import Correct
from transfer.evaluation.statistics import Sample, holm_levels, verdict


@dataclass(frozen=True)
class Controls:
    """Runs on as many random images as the chosen ones of the same shots and seed, out of the same candidates.

    Attributes:
        strategy: of each run, (runs,) str.
        shots: labelled images per class of each run, in the mean, (runs,) int32.
        seed: of the chosen draw that it is the control of, (runs,) int32.
        right: which test images it gets right, (runs, test images) bool.
    """

    strategy: np.ndarray
    shots: np.ndarray
    seed: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, predictions: Mapping[str, Predictions], labels: np.ndarray, draws: int) -> Self:
        """The runs whose seeds come after those of the chosen draws.

        Args:
            predictions: by strategy.
            labels: true classes of the test images, (test images,) int32.
            draws: how many chosen draws there are.
        """
        controls = {name: given.take(given.seed >= draws) for name, given in predictions.items()}
        every = list(controls.values())
        return cls(
            strategy=np.repeat(list(controls), [len(given.shots) for given in every]),
            shots=np.concatenate([given.shots for given in every]),
            seed=np.concatenate([given.seed for given in every]) - draws,
            right=np.concatenate([given.probabilities.argmax(axis=2) == labels for given in every]),
        )

    def worth(self, correct: Correct, within: float) -> pd.DataFrame:
        """What choosing gained every strategy at every budget.

        Args:
            correct: the runs on chosen images.
            within: see `verdict`.

        Returns:
            Columns strategy, shots, chosen and random (mean accuracies), difference, margin (half of the 95 % interval,
            paired over candidates and test images) and verdict, after Holm's correction over the strategies.
        """
        rows = []
        for shots in np.unique(self.shots):
            names = [str(name) for name in np.unique(self.strategy)]
            chosen = [Sample(correct.right(correct.runs_of(name, shots))) for name in names]
            random = []
            for name in names:
                own = np.flatnonzero((self.strategy == name) & (self.shots == shots))
                random.append(Sample(self.right[own[np.argsort(self.seed[own])]].astype(np.int8)))
            differences = [one - other for one, other in zip(chosen, random, strict=True)]
            levels = holm_levels([float(each.mean) for each in differences], differences)
            for name, one, other, difference, level in zip(names, chosen, random, differences, levels, strict=True):
                mean = float(difference.mean)
                said = verdict(mean, float(difference.margin(level)), within)
                rows.append(
                    (name, int(shots), float(one.mean), float(other.mean), mean, float(difference.margin()), said)
                )
        columns = ["strategy", "shots", "chosen", "random", "difference", "margin", "verdict"]
        return pd.DataFrame(rows, columns=columns)
