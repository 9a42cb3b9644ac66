"""What choosing the images to label is worth, beside random ones: on source digits, and on Fashion-MNIST.

    python -m benchmarks.choosing [--draws 10]    # five minutes on two cores, after `dvc repro`

Each draw has a random half of the pool to choose from; its control labels random images of the same half, as they come.
Accuracies in %, and the paired difference with its 95 % interval over the draws. The way to choose was itself chosen on
the source digits; on Fashion-MNIST, with the study's source model, it is measured alone. Nothing is written.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from benchmarks.rehearsal import TASKS, images_of, train_on
from benchmarks.tasks import STRATEGIES, predict, write_task
from transfer.console import run, say
from transfer.data import download
from transfer.data.choosing import choose
from transfer.data.target import chosen_draws, few_shot
from transfer.files import write_record
from transfer.models.backend import keras
from transfer.models.features import AUTO, Scaling, read_features
from transfer.models.networks import load_model
from transfer.params import read_section
from transfer.training import pretrain
from transfer.training.threads import set_threads

MEASURED = "feature_extraction", "label_propagation"
SHOTS = [1, 2, 5]  # labels per class, in the mean
SIZES = {"train": 20_000, "test": 5_000}  # images of Fashion-MNIST: of more, the graph takes minutes


class Given(NamedTuple):
    """A task: its source model, and images with their classes to draw from and to test on."""

    name: str
    source: keras.Model
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def tasks() -> Iterator[Given]:
    """Those inside the source digits, and Fashion-MNIST."""
    params = read_section("pretrain", pretrain.Params)
    for known, digits in TASKS:
        source = train_on(known, params, "float32")
        name = f"digits {known} → {digits}"
        yield Given(name, source, *images_of("train", digits), *images_of("validation", digits))
    fashion, _ = download.fetch("fashion_mnist", read_section("download", download.Params))
    parts = [(fashion[f"{part}_images"][:most], fashion[f"{part}_labels"][:most]) for part, most in SIZES.items()]
    (images, labels), (test_images, test_labels) = parts
    source = load_model(Path("models/source.keras"))
    yield Given(
        "fashion_mnist", source, images[..., None], labels.astype(np.int32), test_images[..., None], test_labels
    )


def compare(task: Given, draws: int) -> np.ndarray:
    """Accuracies, (strategies, numbers of shots, chosen or random, draws)."""
    classes = [*map(str, np.unique(task.labels))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_task(folder, task.source, few_shot(task.images, task.labels, classes, SHOTS, 1), task.test_images)
        features = read_features(folder / "data/features", AUTO).train
        scaled = Scaling.of_pool(features).apply(features)
        chosen = chosen_draws(
            task.labels, len(classes), SHOTS, draws, lambda rows, count: rows[choose(scaled[rows], count)[0]]
        )
        write_record(folder / "data/chosen.npz", chosen)
        modules = [STRATEGIES[name] for name in MEASURED]
        params = [read_section(name, module.Params) for name, module in zip(MEASURED, modules, strict=True)]
        found = [predict(folder, *each, "float32") for each in zip(modules, params, strict=True)]
    right = [(each.argmax(axis=2) == task.test_labels).mean(axis=1) for each in found]
    return np.stack(right).reshape(len(MEASURED), len(SHOTS), 2, draws)


def show(name: str, accuracies: np.ndarray) -> None:
    """Print rows of the table."""
    for strategy, rows in zip(MEASURED, 100 * accuracies, strict=True):
        for shots, (chosen, random) in zip(SHOTS, rows, strict=True):
            gaps = chosen - random
            margin = t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
            means = f"{random.mean():.1f} | {chosen.mean():.1f} | {gaps.mean():+.1f} ± {margin:.1f}"
            say(f"| {name} | {strategy} | {shots} | {means} |")


def main() -> None:
    """Print the table, task by task, and the mean of the rehearsals."""
    parser = argparse.ArgumentParser(prog="choosing", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=10, help="default %(default)s")
    options = parser.parse_args()
    set_threads(1)
    say("| task | strategy | labels per class | random, % | chosen, % | difference |\n|---|---|---|---|---|---|")
    rehearsed = []
    for number, task in enumerate(tasks()):
        accuracies = compare(task, options.draws)
        show(task.name, accuracies)
        if number < len(TASKS):
            rehearsed.append(accuracies)
        if number == len(TASKS) - 1:
            show("source digits, mean", np.mean(rehearsed, axis=0))


if __name__ == "__main__":
    run(main)
