"""What is remembered of a stage's trainings: never too much, and safely."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import ROOT, flipped
from tally import Faults
from test_strategies import TARGET

from transfer.basics.files import unfinished
from transfer.basics.params import Section
from transfer.cells import Cell, run_cells
from transfer.features import Features, Scaling
from transfer.mapped import Mapped
from transfer.predictions import Predictions
from transfer.running.compute import Compute
from transfer.running.memory import FOLDER, Memory, surroundings
from transfer.target import Draw, Target

Edit = Callable[[Path, pytest.MonkeyPatch], None]


class Params(Section):
    rate: float = 0.1


def fit(*_: Any, **__: Any) -> None:
    """Stands for a strategy's."""


def network(*_: Any) -> None:
    """Stands for what an argument of `fit` is made by."""


def other_fit() -> None:
    """Another function."""


def compute(megabytes: int = 10) -> Compute:
    return Compute(engine="local", address="", workers=1, distribute="none", remember=megabytes)


def memory_of(root: Path, megabytes: int = 10) -> Memory:
    return compute(megabytes).memory(root / "stages/a.py")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A stage, a module that it imports, and a source model."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/a.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text('"""Words."""\nRATE = 1\n')
    (tmp_path / "source.keras").write_bytes(b"weights")
    return tmp_path


DRAW = TARGET.draw(1, 0)
FEATURES = Features(np.ones((4, 3), np.float32), np.zeros((2, 3), np.float32))


def key(root: Path, fit: Any = fit, draw: Draw = DRAW, **changes: Any) -> str:
    arguments = {
        "features": FEATURES,
        "params": Params(),
        "network": partial(network, root / "source.keras", 5),
    }
    return memory_of(root).keys(partial(fit, **arguments | changes), [draw])[0]


def test_the_same_training_has_the_same_key_in_another_process_and_place(root: Path, tmp_path_factory: Any) -> None:
    code = "import test_memory, pathlib, sys; print(test_memory.key(pathlib.Path(sys.argv[1])))"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(root, elsewhere)
    for place in (root, elsewhere):
        for seed in ("0", "1"):
            command = [sys.executable, "-c", code, str(place)]
            printed = subprocess.check_output(command, env=environment | {"PYTHONHASHSEED": seed}, text=True)
            assert printed.strip() == key(root)


def write(name: str, text: str) -> Edit:
    return lambda root, _: (root / name).write_text(text) and None


def set_version(name: str, value: str) -> Edit:
    real = importlib.metadata.version

    def edit(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("transfer.networks.provenance.version", lambda each: value if each == name else real(each))

    return edit


MISSES: dict[str, Edit] = {
    "the stage's own code": write("stages/a.py", "import helper\nx = 1\n"),
    "code that it imports": write("helper.py", '"""Words."""\nRATE = 2\n'),
    "the source model": write("source.keras", "other weights"),
    "a setting of TensorFlow": lambda _, patch: patch.setenv("TF_ENABLE_ONEDNN_OPTS", "0"),
    "a setting of the linear algebra": lambda _, patch: patch.setenv("OPENBLAS_CORETYPE", "Haswell"),
    "the processor": lambda _, patch: patch.setattr(
        "numpy.show_config", lambda **_: {"SIMD Extensions": {"found": ["AVX1024"]}}
    ),
    "Python": lambda _, patch: patch.setattr("platform.python_version", lambda: "3.99.0"),
    **{name: set_version(name, "99") for name in ("numpy", "scipy", "scikit-learn", "tensorflow", "keras")},
}
HITS: dict[str, Edit] = {
    "nothing": lambda *_: None,
    "a comment and a docstring": write("helper.py", '"""Other words."""\nRATE = 1  # why\n'),
    "code that it does not import": write("apart.py", "x = 1"),
    "the number of threads outside": lambda _, patch: patch.setenv("OMP_NUM_THREADS", "7"),
    "where the other workers of a training are": lambda _, patch: patch.setenv("TF_CONFIG", "{}"),
    "whether TensorFlow was imported": lambda _, patch: patch.setenv("TF2_BEHAVIOR", "1"),
    "another setting": lambda _, patch: patch.setenv("LANG", "C"),
}


@pytest.mark.parametrize("what", MISSES)
def test_a_key_depends_on(what: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(root)
    MISSES[what](root, monkeypatch)
    assert key(root) != before


@pytest.mark.parametrize("what", HITS)
def test_a_key_does_not_depend_on(what: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(root)
    HITS[what](root, monkeypatch)
    assert key(root) == before


def test_a_key_depends_on_every_argument_and_on_the_draw(root: Path) -> None:
    changed = FEATURES.train.copy()
    changed[3, 2] += 1e-6
    keys = [
        key(root),
        key(root, other_fit),
        key(root, params=Params(rate=0.2)),
        key(root, features=replace(FEATURES, train=changed)),
        key(root, features=replace(FEATURES, test=FEATURES.test.astype(np.float64))),
        key(root, network=partial(network, root / "source.keras", 6)),
        key(root, draw=replace(DRAW, rows=DRAW.rows[::-1].copy())),
        key(root, draw=replace(DRAW, labels=1 - DRAW.labels)),
        key(root, draw=replace(DRAW, seed=1)),
        key(root, draw=replace(DRAW, shots=2)),
    ]
    assert len(set(keys)) == len(keys)


def test_a_key_depends_on_what_is_in_the_file_of_an_array(root: Path) -> None:
    scaling = Scaling.of_pool(FEATURES.train)

    def mapped(name: str, array: np.ndarray) -> str:
        np.save(root / name, array)
        return key(root, features=Features(Mapped(root / name), FEATURES.test).scaled(scaling))

    before = mapped("a.npy", FEATURES.train)
    assert mapped("b.npy", FEATURES.train) == before
    assert mapped("a.npy", FEATURES.train * 2) != before


def test_the_surroundings_name_what_bits_depend_on() -> None:
    found = surroundings()
    assert len(found["processor"]) > 1
    assert set(found["versions"]) >= {"numpy", "scipy", "scikit-learn", "tensorflow", "keras", "ziglang"}
    assert not any(name.endswith("_THREADS") for name in found["settings"])


def test_a_folder_of_packages_that_may_not_be_read_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    here, closed, find = surroundings(), Path("closed"), Path.glob

    def glob(folder: Path, pattern: str) -> Iterator[Path]:
        if folder == closed:
            raise PermissionError
        return find(folder, pattern)

    monkeypatch.setattr("sys.path", [str(closed), *sys.path])
    monkeypatch.setattr(Path, "glob", glob)
    assert surroundings() == here


def fit_and_log(draw: Draw, log: str) -> Cell:
    with Path(log).open("a") as file:
        file.write(f"{draw.shots} {draw.seed}\n")
    first = np.full(3 + len(TARGET.calibration()[0]), 1 / (draw.shots + draw.seed / 10 + 1), np.float32)
    weights = [np.full((2, 2), draw.shots, np.float32), np.array([draw.seed], np.float64)]
    return Cell(np.stack([first, 1 - first], axis=1), weights, draw.shots, len(draw.rows))


def log_ship(weights: list[np.ndarray], path: Path) -> None:
    path.write_text(f"{weights[0][1, 1]:.0f} {weights[1][0]:.0f}")


def run(root: Path, megabytes: int = 10, target: Target = TARGET) -> tuple[Predictions, list[str]]:
    """All cells with a memory, and the lines of those that were trained."""
    log = root / "log"
    log.unlink(missing_ok=True)
    fit = partial(fit_and_log, log=str(log))  # a path would stand for what is in the file
    how = {"compute": compute(megabytes), "code": root / "stages/a.py", "label": "x"}
    done = run_cells(fit, log_ship, target, params=Section(), model=root / "model", **how)
    return done, sorted(line[:3] for line in log.read_text().splitlines()) if log.exists() else []


def same(a: Predictions, b: Predictions) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


ALL = ["1 0", "1 1", "2 0", "2 1"]


def test_no_cell_is_trained_twice_and_nothing_differs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cold, trained = run(root)
    assert trained == ALL
    assert "remembered" not in capsys.readouterr().out
    (root / "model").unlink()
    warm, trained = run(root)
    assert trained == []
    assert same(cold, warm)
    assert (root / "model").read_text() == "2 0"
    assert "x: 4 cells of up to 2 shots, 4 of them remembered" in capsys.readouterr().out


def test_more_seeds_and_shots_train_the_new_cells_alone(root: Path) -> None:
    run(root)
    larger = replace(TARGET, shots=np.array([1, 2, 3], np.int32))
    assert run(root, target=larger)[1] == ["3 0", "3 1"]
    assert (root / "model").read_text() == "3 0"
    more = replace(larger, draws=np.concatenate([TARGET.draws, TARGET.draws[:1, :, ::-1]]))
    assert run(root, target=more)[1] == ["1 2", "2 2", "3 2"]
    shutil.rmtree(root / FOLDER)
    (root / "model").unlink()
    warm = run(root, target=TARGET)[0]
    assert same(warm, run(root)[0])


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(root: Path) -> None:
    log = root / "log"

    code = (
        "import sys, pathlib, test_memory\n"
        "if __name__ == '__main__': test_memory.run_and_die(pathlib.Path(sys.argv[1]))\n"
    )
    script = root / "script.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, str(script), str(root)], env=environment, capture_output=True, timeout=60)
    assert done.returncode == -9, done.stderr
    before = {line[:3] for line in log.read_text().splitlines()}
    assert {"2 0", "2 1"} <= before
    warm, trained = run(root)
    assert set(trained) <= set(ALL) - {"2 0", "2 1"}
    shutil.rmtree(root / FOLDER)
    assert same(warm, run(root)[0])


def run_and_die(root: Path) -> None:
    """Runs cells in a process that is killed once two of them are kept."""
    kept = Memory.keep
    count = 0

    def keep(self: Memory, key: str, result: Any) -> None:
        nonlocal count
        kept(self, key, result)
        count += 1
        if count == 2:
            os.kill(os.getpid(), 9)

    with mock.patch.object(Memory, "keep", keep):
        run(root)


KEY = "0" * 32
ONE = {"x": np.ones(3)}


def entries(root: Path) -> list[Path]:
    return sorted((root / FOLDER).glob("*.npz"))


@pytest.mark.fault("Corruption")
def test_a_flipped_bit_of_a_cell_is_a_miss_and_never_another_number(root: Path, faults: Faults) -> None:
    run(root)
    for file in entries(root):
        whole, memory = file.read_bytes(), memory_of(root)
        kept = memory.recall(file.stem)
        for bit in np.random.default_rng(0).integers(0, len(whole) * 8, 100):
            with faults("a bit flipped in a remembered cell"):
                file.write_bytes(flipped(whole, int(bit)))
                found = memory.recall(file.stem)
                assert found is None or alike(found, kept), bit
        file.write_bytes(whole)


def alike(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


@pytest.mark.fault("Corruption")
def test_remembered_cells_that_are_empty_cut_off_or_something_else(root: Path) -> None:
    cold, _ = run(root)
    wrong = [b"", b"damaged", b"PK\x05\x06" + bytes(18), entries(root)[0].read_bytes()[:-1]]
    for file, content in zip(entries(root), wrong, strict=True):
        file.write_bytes(content)
    again, trained = run(root)
    assert trained == ALL
    assert same(cold, again)
    assert run(root)[1] == []


def test_the_store_may_be_deleted_while_it_is_open(root: Path) -> None:
    run(root)
    entries(root)[0].unlink()
    assert len(run(root)[1]) == 1
    memory = memory_of(root)
    shutil.rmtree(root / FOLDER)
    memory.keep(KEY, ONE)
    assert (memory.recall(KEY)["x"] == 1).all()
    shutil.rmtree(root / FOLDER)
    assert memory.recall(KEY) is None
    memory.trim()


@pytest.mark.fault("Arrays and models", "a remembered cell under another one's key")
def test_a_result_under_another_one_s_key_is_a_miss(root: Path) -> None:
    memory = memory_of(root)
    memory.keep(KEY, ONE)
    (root / FOLDER / f"{KEY}.npz").rename(root / FOLDER / f"{'1' * 32}.npz")
    assert memory.recall("1" * 32) is memory.recall(KEY) is None


def test_a_memory_of_nothing_trains_all_and_leaves_no_folder(root: Path) -> None:
    assert run(root, megabytes=0)[1] == run(root, megabytes=0)[1] == ALL
    assert not (root / FOLDER).exists()


def test_the_store_keeps_within_its_size_and_drops_what_was_not_asked_for_the_longest(root: Path) -> None:
    memory = memory_of(root, megabytes=1)
    names = [f"{number:032}" for number in range(4)]
    for number, name in enumerate(names):
        memory.keep(name, {"x": np.full(50_000, number)})  # 0.4 MB each
        os.utime(root / FOLDER / f"{name}.npz", (1000 + number, 1000 + number))
    assert memory.recall(names[0])
    memory.trim()
    assert [memory.recall(name) is not None for name in names] == [True, False, False, True]
    assert sum(file.stat().st_size for file in entries(root)) <= 1_000_000


@pytest.mark.fault("Kill", "files half-written by a killed process among remembered cells")
def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(root: Path) -> None:
    memory = memory_of(root)
    memory.keep(KEY, ONE)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, written = (unfinished(root / FOLDER / f"{'1' * 32}.npz", pid) for pid in (ended.pid, os.getpid()))
    for path in (left, written):
        path.write_bytes(b"half")
    memory.trim()
    assert not left.exists()
    assert written.exists()
    assert memory.recall(KEY)


def test_the_pickles_of_an_earlier_release_are_removed_unread(root: Path) -> None:
    old = root / FOLDER / "transfer/running/memory/_result" / KEY / "output.pkl"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"never read")
    outside = root / "kept"
    outside.mkdir()
    (root / FOLDER / "link").symlink_to(outside)
    run(root)
    assert [path.suffix for path in (root / FOLDER).iterdir()] == [".npz"] * 4
    assert outside.is_dir()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to act as another user")
def test_files_of_another_user_are_a_miss_and_no_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as name:  # that of pytest is for its own user alone
        folder = Path(name, "cells")
        memory = Memory(folder, code=root / "stages/a.py", root=root, megabytes=1)
        memory.keep(KEY, ONE)
        for mode in (0o755, 0o700):
            Path(name).chmod(0o755)
            folder.chmod(mode)
            (folder / f"{KEY}.npz").chmod(0o600)
            other = Memory(folder, code=root / "stages/a.py", root=root, megabytes=1)
            other.megabytes = 0  # all is too much
            with as_nobody():
                assert other.recall(KEY) is None
                other.trim()
                for _ in range(2):
                    other.keep(KEY, ONE)
            assert capsys.readouterr().out.count("these trainings are not remembered: ") == 1
        assert memory.recall(KEY)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_disk_that_refuses_is_said_once_and_costs_nothing_else(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = memory_of(root)
    (root / FOLDER).parent.mkdir()
    (root / FOLDER).write_text("")  # where folders would be made
    for _ in range(2):
        memory.keep(KEY, ONE)
        assert memory.recall(KEY) is None
    memory.trim()
    assert capsys.readouterr().out.count("these trainings are not remembered: ") == 1


def test_a_file_in_the_folder_s_place_is_said_once_and_costs_nothing_else(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / FOLDER).parent.mkdir()
    (root / FOLDER).write_text("")
    assert run(root)[1] == ALL
    assert capsys.readouterr().out.count("these trainings are not remembered: ") == 1


def test_two_processes_may_use_it_at_once(root: Path) -> None:
    code = (
        "import sys, pathlib, numpy, test_memory\n"
        "memory = test_memory.memory_of(pathlib.Path(sys.argv[1]), 1)\n"
        "for turn in range(60):\n"
        "    key = f'{turn % 6:032}'\n"
        "    found = memory.recall(key)\n"
        "    assert found is None or (found['x'] == turn % 6).all(), found\n"
        "    memory.keep(key, {'x': numpy.full(30_000, turn % 6)})\n"
        "    memory.trim()\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", code, str(root)]
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in "ab"]
    for process in both:
        printed, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
        assert printed == b"", printed


def test_a_stage_s_memory_lies_in_the_repository_s_root(tmp_path: Path) -> None:
    stage = tmp_path / "stages" / "a.py"
    stage.parent.mkdir()
    stage.write_text("")
    compute().memory(stage).keep(KEY, ONE)
    assert (tmp_path / ".cache" / "cells" / f"{KEY}.npz").is_file()
