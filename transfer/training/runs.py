"""The runs of a strategy: trained side by side, remembered, and gathered as its predictions."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from transfer.console import counted, progress, say
from transfer.data.predictions import Predictions
from transfer.data.target import Draw, Target
from transfer.files import digest, write_whole
from transfer.models.familiarity import Familiarity
from transfer.models.metadata import Metadata, write_metadata
from transfer.training.cache import RunCache
from transfer.training.seconds import keep_seconds


@dataclass(frozen=True)
class Run:
    """What one training gives.

    Attributes:
        probabilities: for every image of `Target.to_predict`, (images, classes) float32.
        weights: what its model is exported from, in the strategy's own order; none are kept but of seed 0.
        trainable_parameters: numbers that training changed.
        gradient_steps: updates of the weights.
        examples_seen: images that went through training, repeats counted.
        train_seconds, predict_seconds: on this machine, beside other runs; `training/seconds.py` says of what.
        unlabelled_images: images without labels that training used.
    """

    probabilities: np.ndarray
    weights: list[np.ndarray]
    trainable_parameters: int
    gradient_steps: int
    examples_seen: int
    train_seconds: float
    predict_seconds: float
    unlabelled_images: int = 0

    def arrays(self) -> dict[str, np.ndarray]:
        """The same as named arrays."""
        counts = [self.trainable_parameters, self.gradient_steps, self.examples_seen, self.unlabelled_images]
        weights = {f"weight{number:04}": weight for number, weight in enumerate(self.weights)}
        seconds = np.array([self.train_seconds, self.predict_seconds])
        return {"probabilities": self.probabilities, "counts": np.array(counts, np.int64), "seconds": seconds} | weights

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """What `arrays` gave."""
        weights = [arrays[name] for name in sorted(arrays) if name.startswith("weight")]
        *counts, unlabelled = arrays["counts"].tolist()
        numbers = [*counts, *arrays["seconds"].tolist(), unlabelled]
        return cls(arrays["probabilities"], weights, *numbers)


Export = Callable[[list[np.ndarray], Path], None]


def train_runs(
    strategy: str,
    train: Callable[[Sequence[Draw]], Iterator[Run]],
    export: Export,
    target: Target,
    *,
    cache: RunCache,
    made: dict[str, Any],
    draws: Sequence[Draw] | None = None,
    before: Predictions | None = None,
) -> Predictions:
    """Train every run of a strategy that is not remembered, the largest first; export the one of most shots and seed 0.

    Args:
        strategy: its name; the model is written to `models/<strategy>.keras`.
        train: trains the run of every draw, in their order.
        export: writes a model file from a run's weights.
        target: gives the draws.
        cache: of runs that were trained before.
        made: what the predictions were made with, to be kept with them as JSON; `model` becomes the digest of its file.
        draws: what is trained on in the place of `target.runs()`, in its order.
        before: of other draws and made with the same, if there are any; then the model is there already.

    Returns:
        Predictions in the order of `target.runs()`.
    """
    draws = target.runs() if draws is None else draws
    order = sorted(range(len(draws)), key=lambda number: (-draws[number].shots, draws[number].seed))
    runs = {number: Run.from_arrays(kept) for number in order if (kept := cache.read(draws[number]))}
    remembered = f", {len(runs):,} of them remembered" if runs else ""
    say(f"{strategy}: {counted(len(draws), 'run')} of up to {counted(draws[order[0]].shots, 'shot')}{remembered}")

    waiting = [number for number in order if number not in runs]
    efforts = [draws[number].shots ** 0.5 for number in waiting]
    trained = progress(train([draws[number] for number in waiting]) if waiting else iter(()), strategy, "run", efforts)
    for number, run in zip(waiting, trained, strict=True):
        runs[number] = run if draws[number].seed == 0 else replace(run, weights=[])
        cache.write(draws[number], runs[number].arrays())
    cache.trim()
    if before is None:
        done = [
            (draws[n].shots, draws[n].seed, run.train_seconds, 1000 * run.predict_seconds / len(run.probabilities))
            for n, run in sorted(runs.items())
        ]
        keep_seconds(strategy, done)
        model, largest = Path("models", f"{strategy}.keras"), order[0]
        metadata = Metadata(strategy, draws[largest].shots, tuple(target.classes.tolist()), str(target.preprocessing))
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder, model.name)
            export(runs[largest].weights, whole)
            write_metadata(whole, metadata, Familiarity.of(whole, target.images, draws[largest].rows))
            write_whole(model, partial(shutil.copyfile, whole))
        made, model_bytes = made | {"model": digest(model)}, model.stat().st_size
    else:
        made, model_bytes = json.loads(str(before.made_with)), int(before.model_bytes[0])
    predictions = gather(target, [runs[number] for number in range(len(draws))], made, model_bytes)
    balanced = predictions.calibration.shape[1] > 0  # which tells it without test labels; else the report tells
    if balanced and (count := int(predictions.collapsed.sum())):
        say(
            f"warning: {strategy}: in {counted(count, 'run')} nearly every image gets the same class: training failed. "
            f"Change section {strategy} of params.yaml, most likely its peak_rate"
        )
    return predictions


def gather(target: Target, runs: Sequence[Run], made: dict[str, Any], model_bytes: int) -> Predictions:
    """Put the results of a strategy's runs beside each other.

    Args:
        target: gives the draws, in the order of the runs.
        runs: their results.
        made: what they were made with.
        model_bytes: size of the exported model's file.
    """
    draws = target.runs()
    rows, labels = target.calibration()
    probabilities = np.stack([run.probabilities for run in runs])
    pool, calibration = len(target.pool()), len(rows)
    tested, calibrated, pooled = np.split(probabilities, [-pool - calibration, -pool], axis=1)
    return Predictions(
        probabilities=tested,
        calibration=calibrated,
        calibration_labels=np.stack([np.where(np.isin(rows, draw.rows), np.int32(-1), labels) for draw in draws]),
        pool=pooled,
        shots=np.array([draw.shots for draw in draws], dtype=np.int32),
        seed=np.array([draw.seed for draw in draws], dtype=np.int32),
        trainable_parameters=np.array([run.trainable_parameters for run in runs], dtype=np.int64),
        gradient_steps=np.array([run.gradient_steps for run in runs], dtype=np.int64),
        examples_seen=np.array([run.examples_seen for run in runs], dtype=np.int64),
        unlabelled_images=np.array([run.unlabelled_images for run in runs], dtype=np.int64),
        model_bytes=np.full(len(runs), model_bytes, dtype=np.int64),
        made_with=np.array(json.dumps(made)),
    )
