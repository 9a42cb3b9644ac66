"""Choose hyper-parameters on rehearsal tasks inside the source classes; no target image or label is looked at.

    make rehearse ARGS="end_to_end.peak_rate=0.0005,0.002 end_to_end.batch=64 --shots 1,10"

Each rehearsal task pretrains the source CNN on some of the source digits and transfers it to others. A value is
compared with the one in `params.yaml` on the same tasks and draws; what is printed is its mean accuracy on source
validation images and the paired difference with its standard error. Nothing is written: choosing stays with people.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from transfer import cnn, fine_tuning, metrics, pretrain
from transfer.cells import Cell
from transfer.console import UserError, progress, run, say
from transfer.features import Features, Scaling, extract, read_features, write_features
from transfer.files import read_arrays, write_arrays
from transfer.params import Section, parse_section, read_params, read_section
from transfer.split import nested_draws, select_classes
from transfer.strategies import dense_head, end_to_end, feature_extraction, scratch
from transfer.target import Draw, Target, read_target, write_target
from transfer.workers import run_in_workers

TASKS = (([0, 1, 2], [3, 4]), ([2, 3, 4], [0, 1]), ([0, 1], [2, 3, 4]), ([3, 4], [0, 1, 2]))
GRID = [  # what is tried around the values of params.yaml where the command line names nothing; takes long
    "feature_extraction.tap=block1,dense1",
    "feature_extraction.l2_default=0.001,0.1",
    "dense_head.units=64,128,256",
    "dense_head.dropout=0.0,0.25,0.75",
    "dense_head.peak_rate=0.001,0.003,0.005",
    "dense_head.batch=32",
    "dense_head.steps=60,150",
    "end_to_end.shift=0,1,3",
    "end_to_end.peak_rate=0.0005,0.001,0.004",
    "end_to_end.batch=64",
    "end_to_end.steps=60",
    "end_to_end.steps_growth=0.26",
    "scratch.shift=0,3",
    "scratch.peak_rate=0.001,0.002",
    "scratch.batch=64",
    "scratch.steps=60,150",
    "scratch.steps_growth=0.26",
]
TAPS = ["block1", "block2", "dense1"]


@dataclass(frozen=True)
class Trial:
    """One training of the rehearsal: which task, which strategy with which parameters, which cell."""

    task: Path
    strategy: str
    params: Section
    variant: str
    shots: int
    seed: int


def prepare(task: tuple[Path, list[int], list[int]], *, shots: list[int], seeds: int) -> None:
    """Pretrain on some source digits; write the model, the task's draws, validation images and features."""
    folder, source, target = task
    data = read_arrays(Path("data/source.npz"))
    train = data["train_images"][..., 0], data["train_labels"]
    images, labels = select_classes(*train, source)
    architecture, params = read_section("cnn", cnn.Params), read_section("pretrain", pretrain.Params)
    trained = pretrain.train_source(images, labels, classes=len(source), architecture=architecture, params=params)
    *_, (program, _) = trained

    from transfer.models import save_model

    save_model(folder / "source.keras", program.model)
    images, labels = select_classes(*train, target)
    draws = nested_draws(labels, max(shots), seeds)
    few_shot = Target(images, np.array(target, np.int32), np.array(shots, np.int32), draws)
    write_target(folder / "target.npz", few_shot)
    test_images, test_labels = select_classes(data["validation_images"][..., 0], data["validation_labels"], target)
    write_arrays(folder / "validation.npz", images=test_images, labels=test_labels)
    write_features(folder / "features.npz", extract(folder / "source.keras", TAPS, images, test_images))


@cache
def _task(folder: Path) -> tuple[Target, dict[str, np.ndarray]]:
    return read_target(folder / "target.npz"), read_arrays(folder / "validation.npz")


@cache
def _features(folder: Path, tap: str) -> Features:
    features = read_features(folder / "features.npz", tap)
    return features.scaled(Scaling.of_pool(features.train))


def _fit_of(trial: Trial) -> Callable[[Draw], Cell]:
    target, validation = _task(trial.task)
    params: Any = trial.params
    classes, test_images = len(target.classes), validation["images"]
    match trial.strategy:
        case "feature_extraction":
            return partial(feature_extraction.fit, features=_features(trial.task, params.tap), params=params)
        case "dense_head":
            features = _features(trial.task, params.tap)
            return partial(dense_head.fit, features=features, classes=classes, params=params)
        case "end_to_end":
            network = partial(end_to_end.network, trial.task / "source.keras", classes, params.shift)
        case _:
            architecture = read_section("cnn", cnn.Params)
            network = partial(scratch.network, architecture, target.images.shape[1:], classes, params.shift)
    return partial(fine_tuning.fit, network=network, images=target.images, test_images=test_images, params=params)


def measure(trial: Trial) -> tuple[Trial, float]:
    """Train one cell and measure it on source validation images."""
    target, validation = _task(trial.task)
    cell = _fit_of(trial)(target.draw(trial.shots, trial.seed))
    return trial, metrics.accuracy(cell.probabilities, validation["labels"])


PARAMS: dict[str, type[Section]] = {
    "feature_extraction": feature_extraction.Params,
    "dense_head": dense_head.Params,
    "end_to_end": end_to_end.Params,
    "scratch": scratch.Params,
}


def variants(wanted: list[str]) -> dict[str, dict[str, Section]]:
    """For each strategy named, its parameters as they are and with each value asked for, by what was changed."""
    content = read_params()
    table: dict[str, dict[str, Section]] = {}
    for want in wanted:
        key, _, values = want.partition("=")
        strategy, _, name = key.partition(".")
        if strategy not in PARAMS or not values:
            raise UserError(f"{want!r} is not STRATEGY.KEY=VALUE,VALUE with a strategy of {', '.join(PARAMS)}")
        section = content[strategy]
        known = table.setdefault(strategy, {"as it is": parse_section(strategy, section, PARAMS[strategy])})
        try:
            parsed = YAML(typ="safe", pure=True).load(f"[{values}]")
        except YAMLError:
            raise UserError(f"{want!r}: {values!r} are not values parted by commas") from None
        for value in parsed:
            known[f"{name} {value}"] = parse_section(strategy, section | {name: value}, PARAMS[strategy])
    return table


def counts(text: str) -> list[int]:
    """Numbers of shots from the command line."""
    return [int(count) for count in text.split(",")]


def show(strategy: str, scores: dict[str, dict[tuple, float]], shots: list[int]) -> None:
    """Print one strategy's table: mean accuracy, and the paired difference to the parameters as they are."""
    base = scores["as it is"]
    say(
        f"\n{strategy:24}" + "".join(f"{count:>20}" for count in shots) + "   (accuracy %, difference ± standard error)"
    )
    for variant, cells in scores.items():
        line = f"{variant:24}"
        for count in shots:
            keys = [key for key in base if key[1] == count]
            values = 100 * np.array([cells[key] for key in keys])
            gaps = values - 100 * np.array([base[key] for key in keys])
            error = gaps.std(ddof=1) / np.sqrt(len(gaps))
            line += f"{values.mean():8.2f}" + (" " * 12 if cells is base else f" {gaps.mean():+5.2f} ±{error:4.2f}")
        say(line)


def main() -> None:
    """Rehearse what the command line asks for."""
    parser = argparse.ArgumentParser(prog="rehearsal", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wanted", nargs="*", default=GRID, metavar="STRATEGY.KEY=VALUE,VALUE", help="values to try")
    parser.add_argument("--shots", type=counts, default="1,5,10,100,1000", help="numbers of shots, default %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="draws of each task, default %(default)s")
    parser.add_argument("--workers", type=int, default=0, help="processes, default one per core")
    options = parser.parse_args()
    shots = options.shots
    table = variants(options.wanted)

    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / f"task{number}" for number in range(len(TASKS))]
        say(f"rehearsal: pretraining {len(TASKS)} source models on digits 0-4")
        tasks = [(folder, *classes) for folder, classes in zip(folders, TASKS, strict=True)]
        list(run_in_workers(partial(prepare, shots=shots, seeds=options.seeds), tasks, options.workers))
        trials = [
            Trial(folder, strategy, params, variant, count, seed)
            for count in sorted(shots, reverse=True)
            for strategy, known in table.items()
            for variant, params in known.items()
            for folder in folders
            for seed in range(options.seeds)
        ]
        done = run_in_workers(measure, trials, options.workers)
        results = list(progress(done, "rehearsal", "cell", [trial.shots**0.5 for trial in trials]))

    for strategy, known in table.items():
        scores: dict[str, dict[tuple, float]] = {variant: {} for variant in known}
        for trial, accuracy in results:
            if trial.strategy == strategy:
                scores[trial.variant][(trial.task.name, trial.shots, trial.seed)] = accuracy
        show(strategy, scores, sorted(shots))


if __name__ == "__main__":
    from benchmarks import rehearsal  # under its importable name, by which worker processes find it

    run(rehearsal.main)
