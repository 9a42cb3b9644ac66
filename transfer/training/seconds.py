"""Seconds that the runs took on this machine: for the report's page, and in no file that Git or DVC keeps.

Each run's training and its prediction of 1,000 images are timed on the one thread that it has while others train beside
it. What is done once for many runs is not counted: building and tracing a network, the images' way through the frozen
backbone (in training and in prediction), the graph of `label_propagation`, and the trainings that pseudo-labels come
from. The search for a penalty is counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from transfer.files import write_text

FOLDER = Path(".cache/seconds")
PAGE = Path("results/seconds.js")  # which results/report.html reads if it is there


def keep_seconds(strategy: str, runs: Sequence[tuple[int, int, float, float]]) -> None:
    """Write the seconds of a strategy's runs to `.cache/seconds/<strategy>.csv`, then the medians of every strategy's.

    Args:
        strategy: its name.
        runs: shots, seed, seconds of training, and seconds of predicting 1,000 images; of a remembered run those of
            when it was trained.
    """
    table = pd.DataFrame(runs, columns=["shots", "seed", "train_seconds", "predict_seconds"])
    table.insert(0, "strategy", strategy)
    write_text(FOLDER / f"{strategy}.csv", table.to_csv(index=False, lineterminator="\n"))
    every = pd.concat(map(pd.read_csv, sorted(FOLDER.glob("[!.]*.csv"))))
    medians = every.groupby(["strategy", "shots"])[["train_seconds", "predict_seconds"]].median().round(6)
    content: dict[str, dict[int, list[float]]] = {}
    for name, shots, *seconds in medians.reset_index().itertuples(index=False):
        content.setdefault(name, {})[shots] = seconds
    write_text(PAGE, f"window.SECONDS = {json.dumps(content)};\n")
