"""The section on what choosing the images to label was worth, where a study's draws are chosen."""

from __future__ import annotations

import numpy as np
import pandas as pd

from transfer.data.target import Draws
from transfer.evaluation.comparison import rows_of
from transfer.evaluation.controls import worth_of_choosing
from transfer.evaluation.outcomes import Correct
from transfer.report.blocks import Entry, Section, Text, key, table_of
from transfer.report.study import Study
from transfer.report.words import per_class, points


def choosing(study: Study) -> Section:
    """Chosen beside random images, strategy by strategy, and how many classes got no label."""
    comparison = study.comparison
    found = worth_of_choosing(Correct.of(study.outcomes), study.controls, comparison.within)
    found = found[found["strategy"].isin(comparison.strategies)]
    frame = pd.DataFrame(
        {
            "strategy": found["strategy"],
            "labels per class": found["shots"],
            "chosen": 100 * found["chosen"],
            "random": 100 * found["random"],
            "difference": [
                Entry(points(row.difference, row.margin), row.difference, row.verdict) for row in rows_of(found)
            ],
        }
    )
    note = (
        "Accuracy in %; difference in percentage points with its own 95 % interval, paired over candidates and test "
        f"images; marks after Holm's correction for the strategies of a budget: "
        f"{'; '.join(map(key, sorted({row.verdict for row in rows_of(found)} - {''})))}."
    )
    how = (
        f"The {comparison.seeds} draws of this study are chosen by the source model's features, as `transfer choose` "
        "does, each out of a random half of the target's images. They are compared with as many random "
        "images from the same halves. Neither draw is class-balanced: labels per class is the mean. A class without a "
        "label is never predicted, so its test images count as errors."
    )
    absent = [_absent(study.chosen, len(study.outcomes.classes), shots) for shots in comparison.shots]
    without = [
        f"{chosen:g} and {random:g} with {per_class(shots)}"
        for shots, (chosen, random) in zip(comparison.shots, absent, strict=True)
        if chosen or random
    ]
    classes = (
        f"Classes without a label, of {len(study.outcomes.classes)}, in the mean of chosen and of random draws: "
        f"{'; '.join(without)}{'; none with more' if len(without) < len(absent) else ''}."
        if without
        else "Every class got a label in every draw."
    )
    table = table_of(frame, "What choosing the images was worth", note=note)
    return Section("choosing", "What choosing was worth", [Text(how), Text(classes), table])


def _absent(given: Draws, classes: int, shots: int) -> tuple[float, float]:
    """How many classes have no label, in the mean of the chosen draws and of their controls."""
    counts = [classes - len(np.unique(labels[: shots * classes])) for labels in given.labels]
    chosen, random = np.reshape(counts, (2, -1)).mean(axis=1).tolist()
    return chosen, random
