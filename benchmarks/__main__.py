"""Time the study beside its peers, on this machine and in turn: `make bench`, three rounds of some ten minutes each.

    make bench                     # writes benchmarks/results.md
    make bench ARGS=--quick        # little work, no accuracy checked, nothing written

What is compared, and how the work is made equal, stands on the page.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
from ruamel.yaml import YAML

from transfer.console import UserError, run, say
from transfer.data.target import read_target, write_target
from transfer.files import read_arrays, read_facts, write_text
from transfer.params import read_params
from transfer.report.words import number

TREE = Path(__file__).resolve().parents[1]
PAGE = TREE / "benchmarks/results.md"
OF_OURS = ("PYTHONPATH", "ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")  # for `make bench` alone
EXAMPLE, STUDY, EDITED = "Keras example", "whole study", "study after an edit of `dense_head.units`"
ARTICLE = "printed code of a tutorial"
PEERS: dict[str, dict[str, tuple[str, float]]] = {  # of a stage: by which recipe, and by what factor it is slower
    "dense_head": {"Keras `fit`, backbone in the model": ("fit_dense_head", 12)},
    "end_to_end": {"Keras `fit`": ("fit_end_to_end", 4.5), "PyTorch": ("pytorch_end_to_end", 1)},
}
EQUAL = [(0.003, [EXAMPLE, STUDY]), *((0.01, [f"stage `{stage}`", *peers]) for stage, peers in PEERS.items())]
GROWTH = {"seeds": ["end_to_end"], "shots": ["end_to_end"], "images": ["extract", "dense_head", "end_to_end"]}
ABOUT = """\
Made by `make bench` alone. In every round each has its turn, as whole processes, imports included; a ratio is taken
within a round. Shown are the median, and the lowest to the highest. With accuracies further apart than said here, no
page is written.

- The study is `dvc repro` in a copy of the working tree in which nothing is remembered, the data already downloaded.
  The Keras example (`benchmarks/keras_example.py`) trains one model for 5 epochs on the source and 5 on the target, on
  all of their labels. Accuracies, here on the source: at most 0.3 points apart.
- Stages train all runs of the study, side by side, each on one thread. Their peers (`benchmarks/peers.py`) train those
  of the first 3 draws in turn, on as many threads as they take by themselves, and their time is scaled to all runs. All
  have the same draws, batches, network, starting weights, Adam with warm-up and cosine, and images to predict.
  Accuracies on these runs, but for the fewest labels, where they vary most: at most 1 point apart. `dense_head` reads
  features that `extract` makes once for all strategies; its peer has the backbone in the model.
- Growth is the time of a stage with more draws, more labels per class, or copies of the target's training images."""
FULL: dict[str, Any] = {"params": {}, "epochs": 5, "draws": 3, "factors": {"seeds": 4, "shots": 100, "images": 16}}
FEW = {"split.seeds": 2, "split.shots": [1, 10], "pretrain.epochs": 1, "pretrain.least_steps": 1}
QUICK: dict[str, Any] = {"params": FEW, "epochs": 1, "draws": 1, "factors": {"seeds": 2, "shots": 9, "images": 2}}
Round = dict[str, dict[str, float]]  # what was measured of each


def copy_tree(root: Path) -> None:
    """Copy what Git knows or would know of the working tree, and the raw data; nothing that was made from it."""
    command = ["git", "ls-files", "-coz", "--exclude-standard"]
    known = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=True).stdout.split("\0")
    raw = (str(path.relative_to(TREE)) for path in TREE.glob("data/raw/**/*"))
    for name in filter(lambda name: (TREE / name).is_file(), [*known, *raw]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TREE / name, root / name)


def timed(root: Path, *command: str) -> tuple[float, str]:
    """Seconds of a command, `python` being this one, and the last line of its output; a `UserError` if it fails."""
    kept = {name: os.environ[name] for name in os.environ if name not in OF_OURS and not name.endswith("_THREADS")}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    start = time.perf_counter()
    done = subprocess.run(command, cwd=root, env=kept, capture_output=True, text=True, errors="replace")
    seconds = time.perf_counter() - start
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` failed: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
    return seconds, done.stdout.strip().rpartition("\n")[2]


def set_params(root: Path, values: dict[str, Any]) -> None:
    """Set parameters, as in `{"dense_head.units": 64}`."""
    content = read_params(root / "params.yaml")
    for key, value in values.items():
        content[key.split(".")[0]][key.split(".")[1]] = value
    YAML(typ="safe").dump(content, root / "params.yaml")


def measure(root: Path, size: dict[str, Any], first: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """One round, in a fresh copy: what was measured of each; the article, not timed, in the first alone."""
    module = partial(timed, root, "python", "-m")
    set_params(root, size["params"])
    timed(root, "git", "init", "-q")
    if "  download:" in (root / "dvc.yaml").read_text(encoding="utf-8"):
        timed(root, "dvc", "repro", "-q", "download")
    seconds, said = module("benchmarks.keras_example", str(size["epochs"]))
    yield EXAMPLE, {"seconds": seconds, "accuracy": json.loads(said)["source"]}
    seconds, _ = timed(root, "dvc", "repro")
    yield STUDY, {"seconds": seconds, "accuracy": read_facts(root / "models/source.json")["accuracy"]}
    params = read_params(root / "params.yaml")
    units, shots = params["dense_head"]["units"], params["split"]["shots"]
    set_params(root, {"dense_head.units": max(units - 8, 1)})
    yield EDITED, {"seconds": timed(root, "dvc", "repro")[0]}
    set_params(root, {"dense_head.units": units, "compute.remember": 0})
    if first:
        yield ARTICLE, json.loads(module("benchmarks.article")[1])

    labels = read_arrays(root / "data/target_test_labels.npz")["labels"]
    for stage, peers in PEERS.items():
        seconds, _ = module(f"stages.{stage}")
        made = read_arrays(root / f"data/predictions/{stage}.npz", "probabilities", "seed", "shots")
        theirs = made["seed"] < size["draws"]
        right = made["probabilities"][theirs & (made["shots"] > min(made["shots"]))].argmax(axis=2) == labels
        yield f"stage `{stage}`", {"seconds": seconds, "accuracy": float(right.mean())}
        for peer, (recipe, _) in peers.items():
            if peer != "PyTorch" or find_spec("torch"):
                seconds, said = module("benchmarks.peers", recipe, str(size["draws"]))
                further = json.loads(said)["seconds"] * (len(theirs) / sum(theirs) - 1)
                yield peer, {"seconds": seconds + further, "accuracy": json.loads(said)["accuracy"]}

    for axis, stages in GROWTH.items():
        for factor in (1, size["factors"][axis]):
            seeds = 4 * factor if axis == "seeds" else 4
            taken = [factor] if axis == "shots" else [count for count in (1, 10, 100) if count <= max(shots)]
            set_params(root, {"split.seeds": seeds, "split.shots": taken})
            module("stages.split")
            if axis == "images":
                target = read_target(folder := root / "data/target_train")
                write_target(folder, replace(target, images=np.tile(target.images, (factor, 1, 1, 1))))
            for stage in stages:
                yield f"`{stage}`, {axis} × {factor}", {"seconds": module(f"stages.{stage}")[0]}


def check_equal(rounds: list[Round]) -> None:
    """Raise a `UserError` that names two whose median accuracies are too far apart."""
    for tolerance, group in EQUAL:
        found = {who: median(each[who]["accuracy"] for each in rounds) for who in group if who in rounds[0]}
        worst, best = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
        if found[best] - found[worst] > tolerance:
            low, high = number(100 * found[worst]), number(100 * found[best])
            raise UserError(f"accuracy of {worst} is {low} %, of {best} {high} %: their times are not of equal work")


def ratios(measured: Round) -> Iterator[tuple[str, str, str, str, float]]:
    """What is compared, what is divided by what, and what it should be."""
    yield f"{STUDY} / {EXAMPLE}", STUDY, EXAMPLE, "at most", 1.3
    yield f"{EDITED} / {STUDY}", EDITED, STUDY, "at most", 0.2
    for stage, peers in PEERS.items():
        for peer, (_, least) in peers.items():
            yield f"{peer} / stage `{stage}`", peer, f"stage `{stage}`", "at least", least
    for grown, times, factor in (who.rpartition(" × ") for who in measured):
        if times and factor != "1":
            yield f"time of {grown} × {factor} / × 1", f"{grown} × {factor}", f"{grown} × 1", "at most", int(factor)


def write_page(machine: str, rounds: list[Round]) -> str:
    """The page as Markdown."""
    lines = ["# Benchmarks", "", ABOUT, "", f"{machine} Rounds: {len(rounds)}.", ""]
    if "PyTorch" not in rounds[0]:
        lines += ["PyTorch is left out, as it is not installed: `pip install torch` into `.venv` adds it.", ""]
    lines += ["| ratio | median (lowest to highest) | aim | reached |", "| --- | ---: | ---: | ---: |"]
    for text, over, under, word, bound in ratios(rounds[0]):
        if found := [each[over]["seconds"] / each[under]["seconds"] for each in rounds if over in each]:
            reached = "yes" if (median(found) <= bound) == (word == "at most") else "no"
            lines.append(f"| {text} | {_spread(found)} | {word} {bound:g} | {reached} |")
    lines += ["", "|  | seconds | accuracy, % |", "| --- | ---: | ---: |"]
    for who in filter(lambda who: who != ARTICLE, rounds[0]):
        accuracy = [100 * each[who]["accuracy"] for each in rounds if "accuracy" in each[who]]
        seconds = _spread([each[who]["seconds"] for each in rounds])
        lines.append(f"| {who} | {seconds} | {_spread(accuracy) if accuracy else ''} |")
    figures = ", ".join(f"{shots}: {number(accuracy)} %" for shots, accuracy in rounds[0][ARTICLE].items())
    lines += ["", f"Accuracy of the {ARTICLE} (`benchmarks/article.py`) by labels per class: {figures}.", ""]
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    middle, low, high = (number(value) for value in (median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def machine(precision: str) -> str:
    """Processor, cores, precision of training and versions; no name of a machine or a user."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    libraries = ["tensorflow", "keras", *(["torch"] if find_spec("torch") else []), "scikit-learn", "dvc"]
    parts = [next(names, platform.machine()), f"{joblib.cpu_count()} cores", precision]
    return f"Machine: {', '.join([*parts, *(f'{name} {version(name)}' for name in libraries)])}."


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="rounds, default %(default)s")
    parser.add_argument("--quick", action="store_true", help="see that it runs: little work, nothing written")
    options = parser.parse_args()
    size, rounds = QUICK if options.quick else FULL, list[Round]()
    for turn in range(1 if options.quick else options.runs):
        rounds.append({})
        with TemporaryDirectory(prefix="bench-") as folder:
            copy_tree(root := Path(folder))
            for who, found in measure(root, size, first=turn == 0):
                rounds[turn][who] = found
                say(f"round {turn + 1}: {who}: {', '.join(f'{what} {value:.4g}' for what, value in found.items())}")
            where = machine(read_facts(root / "models/source.json")["precision"])
    page = write_page(where, rounds)
    say(page)
    if not options.quick:
        check_equal(rounds)
        write_text(PAGE, page)


if __name__ == "__main__":
    run(main)
