"""Small runs that tests share: of a study of three digits, and fake ones that say of which draw they are."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from conftest import SMALL, synthetic_digits

from transfer.data.target import Draw, Target, every_run, few_shot
from transfer.models import cnn
from transfer.models.features import Features
from transfer.models.networks import fresh_weights, without_head
from transfer.strategies import dense_head, end_to_end, scratch
from transfer.training import fine_tuning
from transfer.training.runs import Run

SCHEDULE = {"steps_growth": 0.0, "batch": 8, "peak_rate": 0.01, "warmup": 0.1, "beta_1": 0.9, "beta_2": 0.99}
HEAD = dense_head.Params(layer="block2", units=16, dropout=0.2, steps=60, **SCHEDULE)
TUNING = fine_tuning.Params(shift=1, steps=6, **SCHEDULE)


def bits(run: Run) -> list[bytes]:
    return [run.probabilities.tobytes(), *(weight.tobytes() for weight in run.weights)]


def study() -> tuple[Target, Callable[[str], Callable[[], Callable[[Draw], Run]]]]:
    """A target of three digits, and what trains its runs, by the name of the strategy."""
    images, labels = synthetic_digits(6, seed=0)
    few = labels < 3
    target = few_shot(images[few, :, :, np.newaxis], labels[few].astype(np.int32), ["0", "1", "2"], [1, 3], 3)
    source = cnn.build(
        cnn.Params(blocks=SMALL["cnn.blocks"], dense=SMALL["cnn.dense"]), image_shape=(28, 28, 1), classes=5
    )
    source.set_weights(fresh_weights(source, source.get_weights(), 0))
    common = {"params": TUNING, "precision": "float32", "images": target.images, "to_predict": target.images}
    features = Features(*[target.images.reshape(len(target.images), -1).astype(np.float32) / 255] * 2)
    tuned, untrained = end_to_end.network(source, 3), scratch.network(without_head(source), 3)
    tune = partial(fine_tuning.start, **common)
    starts = {
        "dense_head": partial(dense_head.start, features=features, classes=3, params=HEAD, precision="float32"),
        "end_to_end": partial(tune, network=tuned, initial_weights=fine_tuning.as_given),
        "scratch": partial(tune, network=untrained, initial_weights=fine_tuning.at_random),
    }
    return target, starts.__getitem__


TARGET = Target(
    images=np.zeros((6, 2, 2, 1), np.uint8),
    classes=np.array(["5", "6"]),
    draws=np.array([[0, 3, 1, 4, 2, 5], [1, 4, 2, 5, 0, 3]], np.int32),
    labels=np.array([[0, 1, 0, 1, 0, 1]] * 2, np.int32),
    wanted=every_run([1, 2], range(2)),
    calibration_rows=np.array([[2, 0], [3, 5]], np.int32),
    preprocessing=np.array(""),
)


def fake_run(given: Draw) -> Run:
    """A run that says of which draw it is."""
    first = np.full(
        3 + len(TARGET.calibration()[0]) + len(TARGET.pool()), 1 / (given.shots + given.seed / 10 + 1), np.float32
    )
    weights = [np.full((2, 2), given.shots, np.float32), np.array([given.seed], np.float64)]
    probabilities, seconds = np.stack([first, 1 - first], axis=1), given.shots + given.seed / 10
    return Run(probabilities, weights, 5, given.shots, len(given.rows), train_seconds=seconds, predict_seconds=0.25)


def fake_export(weights: list[np.ndarray], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:  # as models are
        archive.writestr("run", f"{weights[0][1, 1]:.0f} {weights[1][0]:.0f}")


def exported(path: Path) -> str:
    """Shots and seed of the run that a file was written from."""
    with zipfile.ZipFile(path) as archive:
        return archive.read("run").decode()
