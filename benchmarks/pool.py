"""What strategies that use unlabelled images lose where the pool of these is not like the labels.

    python -m benchmarks.pool [--shots 1,5,10] [--draws 5]    # five minutes on two cores, after `dvc repro`

The study's target and source model are taken as they are, but for the pool: as it is; with half of the classes ten
times rarer; and with a fifth of other images, those of the source task. Nothing is written, and nothing may be chosen
by it: the accuracies are those on the target's test images.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.tasks import STRATEGIES, predict, write_task
from transfer.console import run, say
from transfer.data import split
from transfer.data.target import Target, few_shot
from transfer.files import read_arrays
from transfer.models.networks import load_model
from transfer.params import read_section
from transfer.training.threads import set_threads

MEASURED = "feature_extraction", "end_to_end", "label_propagation", "self_training", "committee"
RARE, FOREIGN = 0.1, 0.2  # of a class's images that are left; of the pool that are other images
SEED = 0


def pools(images: np.ndarray, labels: np.ndarray, others: np.ndarray, shots: list[int], draws: int) -> Iterator[Target]:
    """The same task with one pool after the other."""
    classes = [*map(str, range(labels.max() + 1))]
    yield few_shot(images, labels, classes, shots, draws)
    order = np.random.default_rng(SEED).permutation(len(labels))
    half = len(classes) // 2
    rare = [order[labels[order] == name] for name in range(half)]
    rare = [rows[: max(shots[-1], round(RARE * len(rows)))] for rows in rare]
    kept = np.sort(np.concatenate([*rare, np.flatnonzero(labels >= half)]))
    yield few_shot(images[kept], labels[kept], classes, shots, draws)
    balanced = few_shot(images, labels, classes, shots, draws)
    count = min(len(others), round(len(images) * FOREIGN / (1 - FOREIGN)))
    foreign = others[np.random.default_rng(SEED).permutation(len(others))[:count]]
    yield replace(balanced, images=np.concatenate([images, foreign]))


def main() -> None:
    """Print the accuracy of every strategy on every pool."""
    parser = argparse.ArgumentParser(prog="pool", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shots", default="1,5,10", help="default %(default)s")
    parser.add_argument("--draws", type=int, default=5, help="default %(default)s")
    options = parser.parse_args()
    set_threads(1)
    shots = sorted(map(int, options.shots.split(",")))
    every = split.read_pool(Path("data/images/target"))
    train = split.divide(every, read_section("split", split.Params), "data.target").train
    images, labels = np.asarray(every.images[train]), every.labels[train]
    test = read_arrays(Path("data/target_test_images.npz"))["images"]
    truth = read_arrays(Path("data/target_test_labels.npz"))["labels"]
    others = read_arrays(Path("data/source.npz"), "train_images")["train_images"]
    source = load_model(Path("models/source.keras"))
    names = "as it is", "half of the classes ten times rarer", f"{FOREIGN:.0%} other images"
    for name, target in zip(names, pools(images, labels, others, shots, options.draws), strict=True):
        with tempfile.TemporaryDirectory() as folder:
            write_task(Path(folder), source, target, test)
            for strategy in MEASURED:
                module = STRATEGIES[strategy]
                found = predict(Path(folder), module, read_section(strategy, module.Params), "float32")
                right = (found.argmax(axis=2) == truth).mean(axis=1).reshape(len(shots), options.draws)
                means = zip(100 * right.mean(axis=1), shots, strict=True)
                say(f"{name}: {strategy}: " + ", ".join(f"{mean:.1f} % at {at}" for mean, at in means))


if __name__ == "__main__":
    run(main)
