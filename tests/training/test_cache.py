"""Remembered runs: none is trained twice, nothing that differs is taken for the same, and damage costs a training."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, flipped
from small_runs import TARGET, exported, fake_export, fake_run, study

from transfer.data.predictions import Predictions
from transfer.data.target import Draw, Target, every_run
from transfer.models.features import Features
from transfer.params import Section
from transfer.training import cache
from transfer.training.cache import RunCache
from transfer.training.runs import train_runs

FEATURES = Features(np.random.default_rng(0).random((6, 4), np.float32), np.ones((3, 4), np.float32))
DRAW = TARGET.draw(1, 0)
ALL = [(2, 0), (2, 1), (1, 0), (1, 1)]


class Params(Section):
    rate: float = 0.1


def fit(*_: Any, **__: Any) -> None:
    """Stands for a strategy's."""


def other_fit() -> None:
    """Another function."""


def name_of(draw: Draw = DRAW, func: Any = fit, **changed: Any) -> str:
    """The name of a run's file."""
    keywords = {"features": FEATURES, "classes": 2, "params": Params(), "precision": "float32"}
    return RunCache(partial(func, **keywords | changed), 1).path(draw).name


def test_a_name_depends_on_every_argument_and_on_the_draw(tmp_path: Path) -> None:
    train = FEATURES.train.copy()
    train[3, 2] += 1e-6
    names = [
        name_of(),
        name_of(func=other_fit),
        name_of(params=Params(rate=0.2)),
        name_of(precision="mixed_bfloat16"),
        name_of(classes=3),
        name_of(features=replace(FEATURES, train=train)),
        name_of(features=replace(FEATURES, test=FEATURES.test.astype(np.float64))),
        name_of(replace(DRAW, rows=DRAW.rows[::-1].copy())),
        name_of(replace(DRAW, labels=1 - DRAW.labels)),
        name_of(replace(DRAW, seed=1)),
        name_of(replace(DRAW, shots=2)),
    ]
    assert len(set(names)) == len(names)
    np.save(tmp_path / "a.npy", FEATURES.train)
    in_a_file = replace(FEATURES, train=np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert name_of(features=in_a_file) == name_of()


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("strategy", path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["strategy"] = found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_a_name_depends_on_the_code_that_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / "strategy.py", *(tmp_path / name for name in cache.CODE)]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("def fit(): pass")
    monkeypatch.setattr(cache, "PACKAGE", tmp_path)
    names = [name_of(func=module(files[0]).fit)]
    for file in files:
        file.write_text("def fit(): return 1")
        names.append(name_of(func=module(files[0]).fit))
    assert len(set(names)) == len(files) + 1
    for name in ("training/runs.py", "training/compute.py", "models/pretrained.py"):  # which read, print or check
        (tmp_path / name).write_text("x = 1")
    assert name_of(func=module(files[0]).fit) == names[-1]


NAMES = """
from functools import partial
from small_runs import study
from transfer.training.cache import RunCache
target, starts = study()
print(*(RunCache(starts(name), 1).path(target.draw(3, 1)).name for name in ("dense_head", "end_to_end", "scratch")))
"""


def test_names_are_the_same_in_another_process() -> None:
    target, starts = study()
    here = [RunCache(starts(name), 1).path(target.draw(3, 1)).name for name in ("dense_head", "end_to_end", "scratch")]
    assert len(set(here)) == 3
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", NAMES], env=env, capture_output=True, text=True)
    assert done.stdout.split() == here, done.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs are kept."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".cache/runs"


def run(target: Target = TARGET, megabytes: int = 10) -> tuple[Predictions, list[tuple[int, int]]]:
    """The predictions of a study's runs, and shots and seed of those that were trained."""
    trained: list[tuple[int, int]] = []

    def train(draws: Sequence[Draw]) -> Iterator[Any]:
        for draw in draws:
            trained.append((draw.shots, draw.seed))
            yield fake_run(draw)

    remembered = RunCache(partial(fit), megabytes)
    return train_runs("x", train, fake_export, target, cache=remembered, made={}), trained


def same(a: Predictions, b: Predictions) -> bool:
    return all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in vars(a))


def test_a_second_run_trains_nothing_and_gives_the_same_bytes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cold, trained = run()
    assert trained == ALL
    assert "remembered" not in capsys.readouterr().out
    model = Path("models/x.keras")
    before = model.read_bytes()
    model.unlink()
    warm, trained = run()
    assert trained == []
    assert same(cold, warm)
    assert model.read_bytes() == before
    assert "x: 4 runs of up to 2 shots, 4 of them remembered" in capsys.readouterr().out
    assert sorted("weight0000" in np.load(file) for file in folder.iterdir()) == [False, False, True, True]  # of seed 0


@pytest.mark.usefixtures("folder")
def test_more_shots_and_seeds_train_the_new_runs_alone() -> None:
    run()
    larger = replace(TARGET, wanted=every_run([1, 2, 3], range(2)))
    assert run(larger)[1] == [(3, 0), (3, 1)]
    more = replace(
        TARGET,
        draws=np.concatenate([TARGET.draws, TARGET.draws[:1, ::-1]]),
        labels=np.concatenate([TARGET.labels, TARGET.labels[:1, ::-1]]),
        wanted=every_run([1, 2, 3], range(3)),
    )
    assert run(more)[1] == [(3, 2), (2, 2), (1, 2)]
    assert exported(Path("models/x.keras")) == "3 0"
    assert run()[1] == []


def test_what_is_damaged_or_gone_is_trained_again_and_is_never_another_number(folder: Path) -> None:
    cold, _ = run()
    files = sorted(folder.iterdir())
    whole = [file.read_bytes() for file in files]
    wrong = [b"", b"PK\x05\x06" + bytes(18), whole[2][:-1], flipped(whole[3], 8 * whole[3].index(b"NUMPY"))]
    for file, content in zip(files, wrong, strict=True):
        file.write_bytes(content)
    again, trained = run()
    assert trained == ALL
    assert same(cold, again)
    assert [file.read_bytes() for file in files] == whole
    for bit in np.random.default_rng(0).integers(0, len(whole[0]) * 8, 30):
        files[0].write_bytes(flipped(whole[0], int(bit)))
        assert same(cold, run()[0]), bit
    files[0].unlink()
    assert len(run()[1]) == 1
    shutil.rmtree(folder)
    again, trained = run()
    assert trained == ALL
    assert same(cold, again)


def test_a_cache_of_nothing_trains_all_and_leaves_no_folder(folder: Path) -> None:
    assert run(megabytes=0)[1] == run(megabytes=0)[1] == ALL
    assert not folder.exists()


def test_of_more_than_may_be_kept_what_was_not_asked_for_the_longest_goes(folder: Path) -> None:
    kept = RunCache(partial(fit), 1)
    for task in range(4):
        kept.write(task, {"x": np.full(50_000, task)})  # 0.4 MB each
        os.utime(kept.path(task), (1000 + task, 1000 + task))
    assert kept.read(0) is not None
    kept.trim()
    assert [task for task in range(4) if kept.read(task)] == [0, 3]
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1_000_000
    shutil.rmtree(folder)
    kept.trim()
    assert kept.read(0) is None
