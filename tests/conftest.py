"""What tests share: a small synthetic digit data set, one shrunk configuration, and real DVC studies that use it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import browser as browser  # a fixture of every page's tests
from filelock import FileLock
from hypothesis import settings
from ruamel.yaml import YAML
from serving import opened as opened  # likewise

from transfer.console import UserError
from transfer.files import write_arrays

# A shell starts what runs in the background with Ctrl-C ignored, and every process inherits that: heed it in the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
CODE = (
    *("stages", "transfer", "dvc.yaml", "params.yaml", "none", "imagenet"),
    *(".gitattributes", ".gitignore", ".dvcignore"),
)
STRATEGIES = ("feature_extraction", "dense_head", "end_to_end", "scratch")  # a stage costs the import of TensorFlow
OTHERS = sorted({file.stem for file in (ROOT / "transfer/strategies").glob("*.py")} - {*STRATEGIES})
SMALL = {  # the pipeline in seconds: every code path, no accuracy worth the name
    "split.shots": [1, 3, 4],
    "split.seeds": 2,
    "split.source_validation": 0.2,
    "cnn.blocks": [{"filters": 4, "kernel": 5, "pool": 4}, {"filters": 6, "kernel": 3, "pool": 2}],
    "cnn.dense": [8],
    "pretrain.epochs": 2,
    "pretrain.least_steps": 1,
    "pretrain.batch": 16,
    "dense_head.units": 8,
    "dense_head.steps": 4,
    "end_to_end.steps": 4,
    "scratch.steps": 4,
    "self_training.steps": 20,
    "committee.steps": 20,
    "compute.workers": 2,
}

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One thread for every operation, as in the stages, where a test of this session imports TensorFlow at its top."""
    if "tensorflow" in sys.modules:
        from transfer.training.threads import set_threads

        set_threads(1)


def synthetic_digits(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy variants of ten fixed patterns, (10 × per_class, 28, 28) uint8, with their classes, uint8."""
    patterns = np.kron(np.random.default_rng(0).integers(0, 2, (10, 7, 7)), np.ones((4, 4)))
    rng = np.random.default_rng([1, seed])
    labels = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), per_class))
    return np.clip(patterns[labels] * 160 + rng.normal(40, 30, (len(labels), 28, 28)), 0, 255).astype(np.uint8), labels


def refused(call: Callable[[], object], *words: str) -> None:
    """Check that a call is refused in one line that has some words."""
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def flipped(content: bytes, bit: int) -> bytes:
    """The same bytes with one bit the other way round; bits count from the first byte's lowest."""
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def can_mount() -> bool:
    """Whether this user may mount file systems, which root of a container may not."""
    if sys.platform != "linux" or os.geteuid() or shutil.which("unshare") is None:
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


mounts = pytest.mark.skipif(not can_mount(), reason="needs Linux, and root's right to mount")


@dataclass
class Study:
    """A Git and DVC repository in a temporary folder that holds the whole pipeline, on synthetic digits."""

    root: Path

    def run(self, *command: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command there; unless `code` is None, check its exit code."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = os.environ | {"PATH": path, "PYTHONPATH": "", "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(
            command, cwd=self.root, env=env, capture_output=True, text=True, errors="backslashreplace", timeout=600
        )
        assert code is None or done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def ran(self, *arguments: str) -> tuple[list[str], str]:
        """`dvc repro`; the stages whose command ran, in order, and all that was printed."""
        printed = self.run("dvc", "repro", *arguments).stdout
        return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage ")], printed

    def repro(self, *arguments: str) -> list[str]:
        """The same without what was printed."""
        return self.ran(*arguments)[0]

    @contextlib.contextmanager
    def nothing_remembered(self) -> Iterator[None]:
        """As if no run had been trained, for a while; what is remembered comes back."""
        folder, aside = self.root / ".cache", self.root.parent / "aside"
        folder.rename(aside)
        yield
        shutil.rmtree(folder)
        aside.rename(folder)

    def edit_yaml(self, name: str, edit: Callable[[dict[str, Any]], None]) -> None:
        """Change a YAML file."""
        yaml = YAML(typ="safe")  # without the comments, which would be tied to values that are gone
        yaml.sort_base_mapping_type_on_output = False  # the order of the stages is the order of the strategies
        content = yaml.load(self.root / name)
        edit(content)
        yaml.dump(content, self.root / name)

    def set(self, **values: Any) -> None:
        """Set parameters, as in `set(dense_head__units=64, data__target__name="digits")`."""

        def edit(params: dict[str, Any]) -> None:
            for key, value in values.items():
                *sections, name = key.split("__")
                reduce(getitem, sections, params)[name] = value

        self.edit_yaml("params.yaml", edit)

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return (self.root / name).read_bytes()


def make_study(root: Path) -> Study:
    """Copy the pipeline into an empty folder, shrink it, and put synthetic digits in the place of `download`.

    Of the stages of strategies it has those of `STRATEGIES`; tests/test_whole.py has all.
    """
    root.mkdir(parents=True)
    for name in CODE:
        (root / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    study = Study(root)

    def drop(content: dict[str, Any]) -> None:
        for name in ("download", *OTHERS):
            del content["stages"][name]

    study.edit_yaml("dvc.yaml", drop)
    study.set(**{key.replace(".", "__"): value for key, value in SMALL.items()})
    train, test = synthetic_digits(24, seed=0), synthetic_digits(8, seed=1)
    arrays = {"train_images": train[0], "train_labels": train[1], "test_images": test[0], "test_labels": test[1]}
    write_arrays(root / "data" / "raw" / "mnist.npz", **arrays)
    study.run("git", "init", "-q", "-b", "main")
    study.run("git", "config", "user.name", "A Tester")
    study.run("git", "config", "user.email", "tester@example.org")
    study.run("dvc", "init", "-q")
    study.run("dvc", "config", "core.analytics", "false")
    shutil.copytree(ROOT / ".dvc/plots", root / ".dvc/plots")
    study.run("git", "add", "-A")
    study.run("git", "commit", "-qm", "Start")
    return study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study after its first `dvc repro`, with its results in Git; tests that change it must put it back.

    One worker of the session makes it, the others copy it.
    """
    folder = tmp_path_factory.getbasetemp()
    shared = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "finished"
    with FileLock(f"{shared}.lock"):
        if not (shared / "done").exists():
            study = make_study(shared / "study")
            study.repro()
            study.run("git", "add", "-A")
            study.run("git", "commit", "-qm", "Results")
            (shared / "done").touch()
    return copy_of(Study(shared / "study"), tmp_path_factory.mktemp("finished") / "study")


def copy_of(study: Study, root: Path) -> Study:
    """A copy of a study, on which DVC has nothing to do."""
    shutil.copytree(study.root, root, symlinks=True)
    return Study(root)
