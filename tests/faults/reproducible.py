"""The same bytes wherever and however a study runs on one kind of processor, and nearly the same numbers on others."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Study, make_study
from tally import Faults

pytestmark = pytest.mark.fault("Reproducible")


def contents(study: Study) -> dict[str, bytes]:
    """dvc.lock, and every file that stages made."""
    kept = [path for folder in ("data", "models", "results") for path in (study.root / folder).rglob("*")]
    files = [study.root / "dvc.lock", *(path for path in kept if path.is_file())]
    return {path.relative_to(study.root).as_posix(): path.read_bytes() for path in sorted(files)}


@contextmanager
def mask(value: int) -> Iterator[None]:
    """Another umask for a while."""
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def cold(root: Path, **parameters: Any) -> Study:
    """A study that has run in a new folder, with nothing remembered."""
    study = make_study(root)
    study.set(**parameters)
    study.repro()
    return study


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return cold(tmp_path_factory.mktemp("first") / "a")


def check_same(found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    assert len(wanted) > 30
    assert sorted(found) == sorted(wanted)
    assert [name for name, content in found.items() if content != wanted[name]] == []


def test_a_second_cold_run_makes_the_same_bytes(
    first: Study, tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "OMP_NUM_THREADS": "1", "HOME": "/"}.items():
        monkeypatch.setenv(name, value)
    elsewhere = tmp_path / "a folder whose name is far longer, with spaces and a ü" / "b"
    elsewhere.parent.mkdir()
    with faults("a second cold run: other folder, umask, time zone, hash seed, home"), mask(0o077):
        check_same(contents(cold(elsewhere)), contents(first))


@pytest.mark.parametrize("workers", [1, 4])  # the first has 2
def test_another_number_of_workers_makes_the_same_bytes(
    first: Study, tmp_path: Path, workers: int, faults: Faults
) -> None:
    with faults("1, 2 and 4 workers"):
        found, wanted = contents(cold(tmp_path / "study", compute__workers=workers)), contents(first)
        check_same(found, wanted)


def test_keras_makes_the_same_bytes_twice(tmp_path: Path, faults: Faults) -> None:
    with faults("a second cold run with training.engine: keras, other workers"):
        runs = [cold(tmp_path / name, training__engine="keras", compute__workers=int(name)) for name in ("1", "2")]
        check_same(*map(contents, runs))


# Another processor is emulated: instructions that the compiler may use, and those that libraries choose by.

DIGITS = {  # real ones, which scikit-learn brings
    "data__size": [16, 16],
    "data__source__name": "digits",
    "data__target__name": "digits",
    "cnn__blocks": [{"filters": 8, "kernel": 5, "pool": 2}, {"filters": 16, "kernel": 3, "pool": 2}],
    "cnn__dense": [32],
    "split__shots": [1, 10, 50],
    "split__seeds": 3,
    "pretrain__epochs": 6,
    "dense_head__steps": 50,
    "end_to_end__steps": 50,
    "scratch__steps": 50,
}
FUSED = {"OPENBLAS_CORETYPE": "Haswell"}
LIBRARIES = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3"}  # as if there were no AVX2
IMAGES = 3  # test images of a cell, of 179, that may be classified otherwise without fused multiply-adds


def emulate(root: Path, target: str, settings: dict[str, str]) -> Study:
    """A study as it runs where the compiler may use some instructions, and libraries others."""
    study = make_study(root)
    code = study.root / "transfer/networks/native.py"
    text = code.read_text()
    assert text.count("-mcpu=native") == 1
    code.write_text(text.replace("-mcpu=native", f"-mcpu={target}"))
    study.set(**DIGITS)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        study.repro()
    return study


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """On a processor that has AVX2 and fused multiply-adds, as all of the last ten years."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]
    if platform.machine() != "x86_64" or "X86_V3" not in found.get("found", []):
        pytest.skip("older processors are emulated on one that has AVX2")
    return emulate(tmp_path_factory.mktemp("fused") / "study", "x86_64_v3", FUSED)


def moved(study: Study, other: Study) -> pd.Series:
    """How many more test images each cell of a study has right than the same one of the other."""
    cells, others = (
        pd.read_csv(each.root / "results/cells.csv").set_index(["strategy", "shots", "seed"]) for each in (study, other)
    )
    assert cells.index.equals(others.index)
    return (cells.accuracy - others.accuracy) * len(np.load(study.root / "data/target_test_labels.npz")["labels"])


def test_libraries_that_choose_by_the_processor_move_no_test_image(
    fused: Study, tmp_path: Path, faults: Faults
) -> None:
    with faults("another processor with the same fused multiply-adds"):
        other = emulate(tmp_path / "study", "x86_64_v3", LIBRARIES)
        for name in ("source", "end_to_end", "scratch"):
            assert other.read(f"models/{name}.keras") == fused.read(f"models/{name}.keras")
        classifier = "models/feature_extraction.keras"
        assert other.read(classifier) != fused.read(classifier)  # or nothing was emulated
        assert np.abs(moved(fused, other)).max() < 0.5


def test_a_processor_without_fused_multiply_adds_moves_a_few_test_images(
    fused: Study, tmp_path: Path, faults: Faults
) -> None:
    with faults("a processor without AVX2 and fused multiply-adds"):
        other = emulate(tmp_path / "study", "x86_64_v2", LIBRARIES)
        assert other.read("models/source.keras") != fused.read("models/source.keras")  # or nothing was emulated
        assert np.abs(moved(fused, other)).max() < IMAGES + 0.5
