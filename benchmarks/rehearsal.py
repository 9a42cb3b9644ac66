"""Compare settings on tasks inside the source digits; no image or label of the target is looked at.

    make rehearse    # a few values of every strategy; an hour on two cores
    make rehearse ARGS="end_to_end.peak_rate=0.002,0.006 dense_head.units=128+dense_head.dropout=0.25 --shots 1,10"

Each task pretrains the source CNN on some of the digits 0-4 and transfers it to others. A setting is compared with
`params.yaml` on the same draws: what is printed is its mean accuracy on source validation images, and the paired
difference with its 95 % interval over the draws. Nothing is written: choosing stays with people.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from scipy.stats import t

from benchmarks.tasks import STRATEGIES, TEACHERS, predict, write_task
from transfer.console import UserError, counted, progress, run, say
from transfer.data.target import every_run, few_shot
from transfer.files import read_arrays
from transfer.models import cnn
from transfer.models.backend import keras
from transfer.params import parse_section, read_params, read_section
from transfer.training import precision, pretrain
from transfer.training.threads import set_threads
from transfer.training.trainer import Trainer

TASKS = (([0, 1, 2], [3, 4]), ([2, 3, 4], [0, 1]), ([0, 1], [2, 3, 4]), ([3, 4], [0, 1, 2]))  # source, target digits
CONCERNED = {name: [name] for name in STRATEGIES}  # by an edit of a section
CONCERNED |= {
    "pretrain": [name for name in STRATEGIES if name not in ("pixels", "scratch")],
    "training": [name for name, module in STRATEGIES.items() if module.ENGINE == "tensorflow"],
}
BASE = "params.yaml"
TRIALS = (  # where nothing is asked for: four of every strategy, and two of `prototypes`, which has one parameter
    *("pixels.l2_default=0.01,1.0", "pixels.enough_held_out=500", "pixels.tolerance=0.0001"),
    "prototypes.layer=block1,dense1",
    *("feature_extraction.layer=block1,dense1", "feature_extraction.l2_default=0.001,0.1"),
    *("dense_head.units=128", "dense_head.steps=100", "dense_head.peak_rate=0.002,0.004"),
    *("end_to_end.head=probe", "end_to_end.steps=100", "end_to_end.peak_rate=0.002,0.006"),
    *("scratch.shift=0", "scratch.steps=100", "scratch.peak_rate=0.002,0.008"),
    *("label_propagation.neighbours=5,20", "label_propagation.components=20", "label_propagation.gate=none"),
    *("self_training.steps=75,300", "self_training.steps_growth=0.3", "self_training.peak_rate=0.002"),
    *("committee.steps=75,300", "committee.members=[label_propagation, self_training]"),
    "committee.members=[self_training, end_to_end]",
)


class Setting(NamedTuple):
    """A strategy's parameters, the precision of its networks, and how the source models it goes on from are made."""

    params: Any
    precision: precision.Precision
    pretraining: tuple[pretrain.Params, precision.Precision]


Table = dict[tuple[str, str], Setting]  # by strategy, and by what was changed
Scores = dict[tuple[str, str], np.ndarray]  # likewise


def settings(wanted: list[str], strategies: list[str]) -> Table:
    """What is in `params.yaml` and what is to be tried, of each strategy concerned.

    Args:
        wanted: as in `end_to_end.steps=50,100`, or several keys together, `end_to_end.steps=100+pretrain.epochs=2`.
            `training.precision` is that of the strategies' networks, `pretrain.precision` that of the source models.
        strategies: that may be tried.

    Raises:
        UserError: if a wish cannot be read, or is out of range.
    """
    content = with_precision(read_params())
    table: Table = {}
    for want in wanted:
        parts = [part.partition("=") for part in want.split("+")]
        keys = [tuple(key.partition(".")[::2]) for key, *_ in parts]
        if any(section not in CONCERNED for section, _ in keys) or not all(values for *_, values in parts):
            raise UserError(f"{want!r} is not SECTION.KEY=VALUE,VALUE+SECTION.KEY=VALUE, of {', '.join(CONCERNED)}")
        try:
            choices = [YAML(typ="safe").load(f"[{values}]") for *_, values in parts]
        except YAMLError:
            raise UserError(f"{want!r}: these are not values parted by commas") from None
        concerned = {strategy for section, _ in keys for strategy in CONCERNED[section]}
        for chosen in product(*choices):
            edited = {section: dict(content[section]) for section in CONCERNED}
            for (section, name), value in zip(keys, chosen, strict=True):
                edited[section][name] = value
            label = " ".join(f"{key}={value}" for (key, *_), value in zip(parts, chosen, strict=True))
            for strategy in [name for name in STRATEGIES if name in concerned and name in strategies]:
                base = table.setdefault((strategy, BASE), _setting(strategy, content))
                if (setting := _setting(strategy, edited)) != base:
                    table[strategy, label] = setting
    return table


def with_precision(content: dict[str, Any]) -> dict[str, Any]:
    """Parameters in which that of the source models can be set apart."""
    return content | {"pretrain": content["pretrain"] | {"precision": content["training"]["precision"]}}


def _setting(strategy: str, content: dict[str, Any]) -> Setting:
    params = parse_section(strategy, content[strategy], STRATEGIES[strategy].Params)
    before = dict(content["pretrain"])
    chosen = [content["training"], {"precision": before.pop("precision")}]
    own, source = (parse_section("training", each, precision.Params).precision for each in chosen)
    return Setting(params, own, (parse_section("pretrain", before, pretrain.Params), source))


def images_of(part: str, digits: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Source images of some digits, `train` or `validation`; and their classes, numbered in the order of `digits`."""
    images, labels = read_arrays(Path("data/source.npz"), f"{part}_images", f"{part}_labels").values()
    kept = np.isin(labels, digits)
    return images[kept], np.argsort(digits)[np.searchsorted(np.sort(digits), labels[kept])].astype(np.int32)


def train_on(known: list[int], params: pretrain.Params, chosen: precision.Precision) -> keras.Model:
    """The source CNN, trained on some of the source's digits."""
    images, labels = images_of("train", known)
    source = cnn.build(read_section("cnn", cnn.Params), image_shape=images.shape[1:], classes=len(known))
    trainer = Trainer(source, shift=params.shift, betas=(params.beta_1, params.beta_2), precision=chosen)
    list(pretrain.train_source(trainer, images, labels, images_of("validation", known), params))
    return source


def measure(job: tuple[int, range, Any], table: Table, shots: list[int], workers: int = 0) -> Scores:
    """Accuracies of what goes on from one source model, by strategy and setting, (numbers of shots, draws).

    Args:
        job: the number of the task; seeds of its draws, of which the first is the source model's; its pretraining.
        table: the settings.
        shots: labelled images per class.
        workers: trainings side by side; 0 takes one per processor core.
    """
    number, seeds, pretraining = job
    known, digits = TASKS[number]
    source = train_on(known, pretraining[0].model_copy(update={"seed": seeds[0]}), pretraining[1])
    images, labels = images_of("train", digits)
    test_images, test_labels = images_of("validation", digits)
    target = few_shot(images, labels, [*map(str, digits)], shots, 1 + seeds[-1])
    own = replace(
        target,
        draws=target.draws[list(seeds)],
        labels=target.labels[list(seeds)],
        wanted=every_run(shots, range(len(seeds))),
    )
    concerned = {key: each for key, each in table.items() if each.pretraining == pretraining}
    scores = {}
    with tempfile.TemporaryDirectory() as name:
        write_task(Path(name), source, own, test_images)
        for strategy, module in STRATEGIES.items():
            tried = {key: each for key, each in concerned.items() if key[0] == strategy}
            if any(strategy in TEACHERS.get(learner, []) for learner, _ in concerned):
                base = _setting(strategy, with_precision(read_params()))._replace(pretraining=pretraining)
                tried = {key: each for key, each in tried.items() if key[1] != BASE} | {(strategy, BASE): base}
            for key, each in tried.items():  # of a teacher, what is in params.yaml comes last and stays
                found = predict(Path(name), module, each.params, each.precision, workers)
                right = (found.argmax(axis=2) == test_labels).mean(axis=1)
                scores[key] = right.reshape(len(shots), len(seeds))
    return {key: scores[key] for key in concerned}


def show(scores: Scores, shots: list[int]) -> None:
    """Print means and paired differences, in points, of accuracies, (tasks, numbers of shots, draws)."""
    width = max(len(name) for _, name in scores)
    for strategy, name in sorted(scores, key=lambda key: [*STRATEGIES].index(key[0])):
        if name == BASE:
            say(f"\n{strategy:{width}}" + "".join(f"{count:>8} shots{'':9}" for count in shots))
        accuracies, line = scores[strategy, name], f"{name:{width}}"
        gaps_at = (accuracies - scores[strategy, BASE]).mean(axis=0)  # of each draw, over the tasks
        for mean, gaps in zip(accuracies.mean(axis=(0, 2)), gaps_at, strict=True):
            margin = t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
            gap = f"{100 * gaps.mean():+6.2f} ± {100 * margin:<5.2f}" if name != BASE else ""
            line += f"{100 * mean:8.2f} {gap:14}"
        say(line.rstrip())


def main() -> None:
    """Rehearse what the command line asks for."""
    parser = argparse.ArgumentParser(prog="rehearsal", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wanted", nargs="*", metavar="SECTION.KEY=VALUE,VALUE", help="values to try; default TRIALS")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="default %(default)s")
    parser.add_argument("--shots", default="1,5,10,100,1000", help="default %(default)s")
    parser.add_argument("--draws", type=int, default=10, help="of each task, default %(default)s")
    parser.add_argument("--sources", type=int, help="source models of each task; default 1, or where they vary --draws")
    parser.add_argument("--workers", type=int, default=0, help="trainings side by side, default one per core")
    options = parser.parse_args()
    set_threads(1)
    shots = sorted(map(int, options.shots.split(",")))
    table = settings(options.wanted or [*TRIALS], options.strategies.split(","))
    pretrainings = dict.fromkeys(setting.pretraining for setting in table.values())
    count = options.sources or (options.draws if len(pretrainings) > 1 else 1)
    seeds = [range(seed, options.draws, count) for seed in range(count)]  # source models take the draws in turn
    jobs = [*product(range(len(TASKS)), seeds, pretrainings)]
    say(f"rehearsal: {counted(len(jobs), 'source model')}, and what goes on from them")
    scores = {key: np.empty((len(TASKS), len(shots), options.draws)) for key in table}
    results = (measure(job, table, shots, options.workers) for job in jobs)
    done = progress(results, "rehearsal", "source model", [1.0] * len(jobs))
    for (task, own, _), found in zip(jobs, done, strict=True):
        for key, accuracies in found.items():
            scores[key][task][:, own] = accuracies
    show(scores, shots)


if __name__ == "__main__":
    run(main)
