"""The study's own side of the benchmarks: its stages as the processes that they are, in a copy of the working tree.

All that the benchmarks know of the study is in here: names of stages, of parameters and of files. They call nothing of
what trains, so that they measure what a user gets, and stay as they are when it is written anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.measure import Finished, run_process
from benchmarks.operations import training_operations
from transfer import cnn, metrics
from transfer.basics.arrays import read_arrays
from transfer.basics.console import UserError
from transfer.basics.files import read_facts
from transfer.basics.params import PARAMS, parse_section, read_params
from transfer.target import read_target, write_target

ROOT = Path(__file__).resolve().parents[1]
RAW = Path("data/raw/mnist.npz")
TARGET = Path("data/target_train")


class Workspace:
    """A copy of the working tree in which nothing is remembered of trainings.

    Args:
        root: its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def fresh(cls, root: Path) -> Workspace:
        """Copy what Git knows or would know of the working tree, and the raw data; nothing that was made from it.

        Raises:
            UserError: if the raw data is not there.
        """
        if not (ROOT / RAW).is_file():
            raise UserError(f"{RAW} is missing: `make repro` downloads it")
        listed = subprocess.run(
            ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for name in [*listed.stdout.split("\0"), str(RAW)]:
            if (ROOT / name).is_file():  # not what was deleted, nor a link to an environment
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, root / name)
        return cls(root)

    def copy(self, root: Path) -> Workspace:
        """Another with the same files."""
        shutil.copytree(self.root, root)
        return Workspace(root)

    def run(self, *command: str) -> Finished:
        """Run a command there, as `run_process` does."""
        return run_process(*command, cwd=self.root)

    def module(self, name: str, *arguments: object) -> Finished:
        """Run a module there, such as a stage."""
        return self.run(sys.executable, "-m", name, *map(str, arguments))

    def prepare(self) -> None:
        """Do what every strategy depends on: divide the data, train the source CNN, extract features."""
        self.set({"compute.remember": 0})
        for stage in ("convert", "split", "pretrain", "extract"):
            self.module(f"stages.{stage}")

    def begin(self) -> None:
        """Make it a Git and DVC repository in which the data is downloaded and nothing else is done.

        Its environment has what this Python's has, under the name that `make` looks for.
        """
        self.run("git", "init", "-q")
        self.run("dvc", "repro", "-q", "download")
        environment = self.root / ".venv"
        environment.mkdir()
        for entry in Path(sys.prefix).iterdir():
            if not entry.name.startswith("."):
                (environment / entry.name).symlink_to(entry)
        for lock in ("uv", "base"):  # as requirements/setup.sh leaves it
            shutil.copyfile(self.root / "requirements" / f"{lock}.txt", environment / f".{lock}")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        (environment / ".home").write_text(f"{version} {self.root.resolve()}\n")

    def params(self) -> dict[str, Any]:
        """Its parameters, section by section."""
        return read_params(self.root / PARAMS)

    def set(self, values: dict[str, Any]) -> None:
        """Set parameters, as in `{"dense_head.units": 64}`."""
        content = self.params()
        for key, value in values.items():
            section, _, name = key.partition(".")
            content[section][name] = value
        YAML(typ="safe").dump(content, self.root / PARAMS)

    def divide(self, *, shots: list[int], seeds: int) -> None:
        """Draw the target's labels anew."""
        self.set({"split.shots": shots, "split.seeds": seeds})
        self.module("stages.split")

    def tile(self, times: int) -> None:
        """Give the target as many copies of its images; the draws stay those of the first."""
        target = read_target(self.root / TARGET)
        tiled = np.tile(target.images[:], (times, 1, 1, 1))
        write_target(self.root / TARGET, replace(target, images=tiled))

    def accuracy(self, predictions: str) -> float:
        """Mean test accuracy of the cells in a file of predictions."""
        labels = read_arrays(self.root / "data/target_test_labels.npz")["labels"]
        probabilities = read_arrays(self.root / predictions, "probabilities")["probabilities"]
        return float(np.mean([metrics.accuracy(cell, labels) for cell in probabilities]))

    def examples_seen(self, strategy: str) -> int:
        """How many images went through training in all cells of a strategy's stage, repeats counted."""
        path = self.root / f"data/predictions/{strategy}.npz"
        return int(read_arrays(path, "examples_seen")["examples_seen"].sum())

    def source_images(self) -> int:
        """How many images the source CNN is trained on in an epoch."""
        return len(read_arrays(self.root / "data/source.npz", "train_labels")["train_labels"])

    def operations(self, side: str) -> int:
        """Floating-point operations of a gradient step for an image, with a logit for each class of a side."""
        architecture = parse_section("cnn", self.params()["cnn"], cnn.Params)
        classes = read_facts(self.root / "data/about.json", side)[side]["classes"]
        return training_operations(architecture, read_target(self.root / TARGET).images.shape[1:], len(classes))

    def measured(self) -> dict[str, Any]:
        """The study's `results/metrics.json`."""
        return read_facts(self.root / "results/metrics.json")


def cores() -> int:
    """Processor cores that this process may use, which is how many workers a stage has by default."""
    import joblib

    return joblib.cpu_count()
