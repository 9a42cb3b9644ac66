"""Choose hyper-parameters on rehearsal tasks inside the source classes; no target image or label is looked at.

    make rehearse ARGS="end_to_end.peak_rate=0.0005,0.002 pretrain.epochs=2 --shots 1,10"

Each rehearsal task pretrains the source CNN on some of the source digits and transfers it to others. A value is
compared with the one in `params.yaml` on the same tasks, source seeds and draws, a value of `pretrain` by what each
strategy makes of the source model; what is printed is its mean accuracy on source validation images and the paired
difference with its standard error. Nothing is written: choosing stays with people.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from transfer import cnn, fine_tuning, metrics, pretrain
from transfer.basics.arrays import read_arrays, write_arrays
from transfer.basics.console import UserError, progress, run, say
from transfer.basics.params import Section, parse_section, read_params, read_section
from transfer.cells import Cell
from transfer.features import Features, Scaling, extract, read_features
from transfer.networks import engines
from transfer.networks.layers import write_network
from transfer.running.workers import run_in_workers
from transfer.strategies import dense_head, end_to_end, feature_extraction, scratch
from transfer.target import Draw, Target, few_shot, read_target, write_target

TASKS = (([0, 1, 2], [3, 4]), ([2, 3, 4], [0, 1]), ([0, 1], [2, 3, 4]), ([3, 4], [0, 1, 2]))
GRID = [  # what is tried around the values of params.yaml where the command line names nothing; takes long
    "pretrain.epochs=2,4",
    "pretrain.shift=0,2",
    "feature_extraction.tap=block1,dense1",
    "feature_extraction.l2_default=0.001,0.1",
    "dense_head.tap=block1,dense1",
    "dense_head.units=64,128,256",
    "dense_head.dropout=0.0,0.25,0.75",
    "dense_head.peak_rate=0.002,0.004",
    "dense_head.batch=64",
    "dense_head.steps=100+steps_growth=0.26+batch=64+peak_rate=0.002+beta_1=0.9+beta_2=0.999",
    "dense_head.steps_growth=0.26",
    "end_to_end.shift=0,1,3",
    "end_to_end.peak_rate=0.002,0.006",
    "end_to_end.batch=64",
    "end_to_end.steps=100+steps_growth=0.32+peak_rate=0.002+beta_1=0.9+beta_2=0.999",
    "end_to_end.steps_growth=0.32,0.36",
    "scratch.shift=0,3",
    "scratch.peak_rate=0.006,0.008",
    "scratch.batch=64",
    "scratch.steps=100+steps_growth=0.32+beta_1=0.9+beta_2=0.999",
    "scratch.steps_growth=0.32,0.36",
]


class Variant(NamedTuple):
    """What is tried: a strategy's parameters, and how the source model was pretrained."""

    params: Section
    pretraining: pretrain.Params


@dataclass(frozen=True)
class Source:
    """A source model and what it is transferred to: where their files are, the digits, and how it is pretrained."""

    folder: Path
    source: list[int]
    target: list[int]
    pretraining: pretrain.Params


@dataclass(frozen=True)
class Trial:
    """One training of the rehearsal: from which source, which strategy with which parameters, which cell."""

    source: Path
    strategy: str
    params: Section
    shots: int
    seed: int


def prepare(task: Source, *, shots: list[int], seeds: int, taps: list[str]) -> None:
    """Pretrain on some source digits; write the model, the task's draws, validation images and the taps' features."""
    folder = task.folder
    data = read_arrays(Path("data/source.npz"))
    train = data["train_images"], data["train_labels"]
    images, labels = _select(*train, task.source)
    layers = cnn.layers(read_section("cnn", cnn.Params), image_shape=images.shape[1:], classes=len(task.source))
    training = read_section("training", engines.Params)
    *_, last = pretrain.train_source(
        images, labels, layers=layers, engine=training.engine_for(layers), params=task.pretraining
    )
    source = folder / "source.npz"
    write_network(source, layers, last.program.weights())
    images, labels = _select(*train, task.target)
    write_target(folder / "target", few_shot(images, labels, [*map(str, task.target)], shots, seeds))
    test_images, test_labels = _select(data["validation_images"], data["validation_labels"], task.target)
    write_arrays(folder / "validation.npz", images=test_images, labels=test_labels)
    if taps:
        extract(folder / "features", taps, images, test_images, source=source, training=training)


def _select(images: np.ndarray, labels: np.ndarray, classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The images of some classes, and their classes numbered from 0."""
    kept = np.isin(labels, classes)
    return images[kept], np.argsort(classes)[np.searchsorted(np.sort(classes), labels[kept])].astype(np.int32)


@cache
def _task(folder: Path) -> tuple[Target, dict[str, np.ndarray]]:
    return read_target(folder / "target"), read_arrays(folder / "validation.npz")


@cache
def _features(folder: Path, tap: str) -> Features:
    features = read_features(folder / "features", tap)
    return features.scaled(Scaling.of_pool(features.train))


def _fit_of(trial: Trial) -> Callable[[Draw], Cell]:
    target, validation = _task(trial.source)
    params: Any = trial.params
    classes, test_images = len(target.classes), validation["images"]
    training = read_section("training", engines.Params)
    match trial.strategy:
        case "feature_extraction":
            return partial(feature_extraction.fit, features=_features(trial.source, params.tap), params=params)
        case "dense_head":
            features = _features(trial.source, params.tap)
            engine = training.engine_for(dense_head.layers(features.train.shape[1], classes, params))
            return partial(dense_head.fit, features=features, classes=classes, engine=engine, params=params)
        case "end_to_end":
            source = trial.source / "source.npz"
            engine = training.engine_for(end_to_end.layers(source, classes))
            network = partial(end_to_end.network, source, classes, params, engine)
        case _:
            architecture = read_section("cnn", cnn.Params)
            layers = cnn.layers(architecture, image_shape=target.images.shape[1:], classes=classes)
            network = partial(scratch.network, layers, params, training.engine_for(layers))
    return partial(fine_tuning.fit, network=network, images=target.images, to_predict=test_images, params=params)


def measure(trial: Trial) -> tuple[Trial, float]:
    """Train one cell and measure it on source validation images."""
    target, validation = _task(trial.source)
    cell = _fit_of(trial)(target.draw(trial.shots, trial.seed))
    return trial, metrics.accuracy(cell.probabilities, validation["labels"])


PARAMS: dict[str, type[Section]] = {
    "feature_extraction": feature_extraction.Params,
    "dense_head": dense_head.Params,
    "end_to_end": end_to_end.Params,
    "scratch": scratch.Params,
}
TRANSFERS = [strategy for strategy in PARAMS if strategy != "scratch"]  # what a source model matters to


def variants(wanted: list[str]) -> dict[str, dict[str, Variant]]:
    """For each strategy concerned, its parameters as they are and with each value asked for, by what was changed.

    Args:
        wanted: as in `end_to_end.steps=50,100` or, with other keys of the section changed as well,
            `end_to_end.steps=100+beta_1=0.9+beta_2=0.999`.
    """
    content = read_params()
    sections = PARAMS | {"pretrain": pretrain.Params}
    parsed: dict[str, Any] = {name: parse_section(name, content[name], sections[name]) for name in sections}
    table: dict[str, dict[str, Variant]] = {}
    for want in wanted:
        section, _, rest = want.partition(".")
        (name, values), *together = (part.partition("=")[::2] for part in rest.split("+"))
        if section not in sections or not values:
            raise UserError(
                f"{want!r} is not SECTION.KEY=VALUE,VALUE+KEY=VALUE with a section of {', '.join(sections)}"
            )
        try:
            listed = YAML(typ="safe").load(f"[{values}]")
            fixed = {key: YAML(typ="safe").load(value) for key, value in together}
        except YAMLError:
            raise UserError(f"{want!r}: these are not values parted by commas") from None
        for value in listed:
            edited = content[section] | fixed | {name: value}
            changed = parsed | {section: parse_section(section, edited, sections[section])}
            for strategy in [section] if section in PARAMS else TRANSFERS:
                known = table.setdefault(strategy, {"as it is": Variant(parsed[strategy], parsed["pretrain"])})
                known[" ".join([f"{section}.{name} {value}", *(f"{key} {other}" for key, other in fixed.items())])] = (
                    Variant(changed[strategy], changed["pretrain"])
                )
    return table


def with_seed(pretraining: pretrain.Params, seed: int) -> pretrain.Params:
    """The same pretraining from another seed."""
    return pretraining.model_copy(update={"seed": seed})


def counts(text: str) -> list[int]:
    """Numbers of shots from the command line."""
    return [int(count) for count in text.split(",")]


def show(strategy: str, scores: dict[str, np.ndarray], shots: list[int]) -> None:
    """Print one strategy's table: mean accuracy, and the paired difference to the parameters as they are.

    Args:
        strategy: its name.
        scores: accuracies of each variant, (source models, shots, draws).
        shots: numbers of labelled images per class.
    """
    say(
        f"\n{strategy:24}" + "".join(f"{count:>20}" for count in shots) + "   (accuracy %, difference ± standard error)"
    )
    base = scores["as it is"]
    for variant, accuracies in scores.items():
        line = f"{variant.removeprefix(f'{strategy}.'):24}"
        gaps = 100 * (accuracies - base).mean(axis=2)  # draws from one source model are not independent
        errors = gaps.std(axis=0, ddof=1) / np.sqrt(len(gaps))
        for mean, gap, error in zip(100 * accuracies.mean(axis=(0, 2)), gaps.mean(axis=0), errors, strict=True):
            line += f"{mean:8.2f}" + (" " * 12 if variant == "as it is" else f" {gap:+5.2f} ±{error:4.2f}")
        say(line)


def main() -> None:
    """Rehearse what the command line asks for."""
    parser = argparse.ArgumentParser(prog="rehearsal", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wanted", nargs="*", default=GRID, metavar="SECTION.KEY=VALUE,VALUE", help="values to try")
    parser.add_argument("--shots", type=counts, default="1,5,10,100,1000", help="numbers of shots, default %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="draws of each task, default %(default)s")
    parser.add_argument("--sources", type=int, default=1, help="source models of each task, default %(default)s")
    parser.add_argument("--workers", type=int, default=0, help="processes, default one per core")
    options = parser.parse_args()
    shots = sorted(options.shots)
    table = variants(options.wanted)
    tried = [variant for known in table.values() for variant in known.values()]
    pretrainings = list(dict.fromkeys(variant.pretraining for variant in tried))
    taps = sorted({variant.params.tap for variant in tried if hasattr(variant.params, "tap")})

    with tempfile.TemporaryDirectory() as temporary:
        sources = {
            pretraining: [
                Source(Path(temporary, f"{number}-{task}-{seed}"), *TASKS[task], with_seed(pretraining, seed))
                for task, seed in product(range(len(TASKS)), range(options.sources))
            ]
            for number, pretraining in enumerate(pretrainings)
        }
        tasks = [source for group in sources.values() for source in group]
        say(f"rehearsal: pretraining {len(tasks)} source models on digits 0-4")
        prepared = partial(prepare, shots=shots, seeds=options.seeds, taps=taps)
        list(run_in_workers(prepared, tasks, options.workers))
        trials = [
            Trial(source.folder, strategy, variant.params, count, seed)
            for count in reversed(shots)
            for strategy, known in table.items()
            for variant in known.values()
            for source in sources[variant.pretraining]
            for seed in range(options.seeds)
        ]
        done = run_in_workers(measure, trials, options.workers)
        accuracies = dict(progress(done, "rehearsal", "cell", [trial.shots**0.5 for trial in trials]))

    def scores(strategy: str, variant: Variant) -> np.ndarray:
        grid = list(product(sources[variant.pretraining], shots, range(options.seeds)))
        values = [accuracies[Trial(source.folder, strategy, variant.params, *cell)] for source, *cell in grid]
        return np.reshape(values, (-1, len(shots), options.seeds))

    for strategy, known in table.items():
        show(strategy, {name: scores(strategy, variant) for name, variant in known.items()}, shots)


if __name__ == "__main__":
    from benchmarks import rehearsal  # under its importable name, by which worker processes find it

    run(rehearsal.main)
