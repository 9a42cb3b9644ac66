"""What choosing the images to label was worth: runs on chosen images beside runs on random ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from transfer.evaluation.outcomes import Correct
from transfer.evaluation.statistics import Sample, holm_levels, verdict


def worth_of_choosing(chosen: Correct, random: Correct, within: float) -> pd.DataFrame:
    """What choosing gained every strategy at every budget.

    Args:
        chosen: the runs on chosen images.
        random: as many on random images out of the same candidates, in the same order of their seeds.
        within: see `verdict`.

    Returns:
        Columns strategy, shots, chosen and random (mean accuracies), difference, margin (half of the 95 % interval,
        paired over candidates and test images) and verdict, after Holm's correction over the strategies.
    """
    frames = []
    for shots in np.unique(random.shots):
        names = np.unique(random.strategy)
        ours, others = (
            [Sample(runs.right(runs.runs_of(str(name), shots))) for name in names] for runs in (chosen, random)
        )
        differences = [one - other for one, other in zip(ours, others, strict=True)]
        means = [float(each.mean) for each in differences]
        levels = holm_levels(means, differences)
        columns = {
            "strategy": names,
            "shots": shots,
            "chosen": [float(each.mean) for each in ours],
            "random": [float(each.mean) for each in others],
            "difference": means,
            "margin": [float(each.margin()) for each in differences],
            "verdict": [
                verdict(mean, float(each.margin(level)), within)
                for mean, each, level in zip(means, differences, levels, strict=True)
            ],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)
