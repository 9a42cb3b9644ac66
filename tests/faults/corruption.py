"""One bit flipped in every kind of file of a finished study: it is named, or what follows is made anew, the same."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import Study, flipped, make_finished
from tally import Faults

pytestmark = pytest.mark.fault("Corruption")

NUMBERS = ("results", "data/predictions", "models/best.md", "data/outcomes.npz")  # what they stand in
EVERYTHING = ("results", "data", "models")
READ_BY = {  # a stage that reads each kind of file
    "data/raw/mnist.npz": "convert",
    "data/images/about.json": "split",
    "data/images/source/images.npy": "split",
    "data/images/target/labels.npy": "split",
    "data/source.npz": "pretrain",
    "data/target_train/images.npy": "scratch",
    "data/target_train/draws.npy": "scratch",
    "data/target_test_images.npz": "extract",
    "data/target_test_labels.npz": "evaluate",
    "data/features/block2_train.npy": "feature_extraction",
    "data/features/block2_test.npy": "feature_extraction",
    "data/features/taps.json": "feature_extraction",
    "data/tap_features/block1_train.npy": "taps",
    "data/predictions/scratch.npz": "evaluate",
    "data/specimens/article.npz": "evaluate",
    "data/taps.npz": "report",
    "data/outcomes.npz": "report",
    "data/about.json": "report",
    "models/network.json": "scratch",
    "models/source.npz": "extract",
    "models/source.keras": "feature_extraction",
    "models/source.json": "evaluate",
    "models/scratch.keras": "report",
    "results/cells.csv": "report",
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_finished(tmp_path_factory.mktemp("corruption") / "study")


def witness(study: Study, where: tuple[str, ...]) -> dict[str, bytes]:
    """All that a study has come to."""
    found = [path for name in where for path in (study.root / name, *(study.root / name).rglob("*"))]
    return {path.relative_to(study.root).as_posix(): path.read_bytes() for path in found if path.is_file()}


@contextmanager
def rotten(path: Path, bit: int) -> Iterator[None]:
    """A bit of a file the other way round, with the time and the size that it had; put back afterwards."""
    status, whole = path.stat(), path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(flipped(whole, bit))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.chmod(status.st_mode & 0o777)
    try:
        yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(whole)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        path.chmod(status.st_mode & 0o777)


def places(path: Path, count: int = 1) -> list[int]:
    """Bits at the beginning, in the middle and at the end of a file."""
    bits = path.stat().st_size * 8
    rng = np.random.default_rng(bits)
    third = bits // 3
    return [int(part * third + offset) for part in range(3) for offset in rng.integers(0, max(1, third), count)]


@pytest.mark.parametrize("name", READ_BY)
def test_a_stage_names_what_is_rotten_or_makes_the_same_of_it(study: Study, name: str, faults: Faults) -> None:
    """Without DVC, which sees neither another time nor another size, and takes the file for what it was."""
    before, path = witness(study, EVERYTHING), study.root / name
    for bit in places(path):
        with faults(f"a bit rotten in {name}"), rotten(path, bit):
            done = study.run(sys.executable, "-m", f"stages.{READ_BY[name]}", code=None)
            if done.returncode:
                assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
                assert done.stderr.startswith((f"error: {name} ", f"error: {path.parent.relative_to(study.root)}/"))
        after = witness(study, EVERYTHING)
        assert after.keys() == before.keys()
        assert [each for each in after if after[each] != before[each]] == []


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a file of DVC's cache", ".dvc/cache/files/md5/??/*[0-9a-f]"),
        ("a list of a folder in DVC's cache", ".dvc/cache/files/md5/??/*.dir"),
        ("what DVC remembers of a run", ".dvc/cache/runs/??/*/*"),
    ],
)
def test_a_bit_in_dvc_s_cache(study: Study, what: str, pattern: str, faults: Faults, tmp_path: Path) -> None:
    """Folders that were deleted come back from the cache whole, are made anew, or one line says why not."""
    before = witness(study, NUMBERS)
    files = sorted(path for path in study.root.glob(pattern) if path.is_file())
    rng = np.random.default_rng(0)
    for turn, row in enumerate(rng.permutation(len(files))[:3]):
        copy = Study(tmp_path / str(turn))
        shutil.copytree(study.root, copy.root, symlinks=True)
        path = copy.root / files[row].relative_to(study.root)
        with faults(f"a bit flipped in {what}"), rotten(path, places(path)[1]):
            for folder in ("data/predictions", "data/features", "data/images", "data/target_train"):
                shutil.rmtree(copy.root / folder)
            done = copy.run("dvc", "repro", code=None)
            if done.returncode:
                assert "ERROR" in done.stderr, done.stderr
                continue
            after = witness(copy, NUMBERS)
            changed = [name for name in before if after.get(name) != before[name]]
            for name in changed:  # DVC does not look at what it restores: whoever reads it does
                refusal = copy.run(sys.executable, "-m", "stages.evaluate", code=2).stderr
                assert (refusal.startswith(f"error: {name} "), len(refusal.splitlines())) == (True, 1), refusal
            assert all(name.startswith("data/predictions/") for name in changed)
