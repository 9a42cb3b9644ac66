from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import hypothesis
import numpy as np
import psutil  # which DVC brings
import pytest
from conftest import refused
from hypothesis import strategies as st

from transfer.basics.console import UserError
from transfer.basics.params import Section
from transfer.cells import Cell, run_cells
from transfer.features import Features
from transfer.networks.engines import Engine
from transfer.running import workers
from transfer.running.compute import Compute
from transfer.running.workers import run_in_workers
from transfer.strategies import dense_head, feature_extraction
from transfer.target import Draw, Target

ROOT = Path(__file__).resolve().parents[1]
NO_SIGKILL = pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
PROBE = feature_extraction.Params(
    tap="block2", l2=(0.01, 1.0), l2_default=0.1, folds=3, enough_held_out=500, max_iterations=200
)
SCHEDULE = {
    "steps": 60,
    "steps_growth": 0.0,
    "batch": 8,
    "peak_rate": 0.01,
    "warmup": 0.1,
    "beta_1": 0.9,
    "beta_2": 0.99,
}
HEAD = dense_head.Params(tap="block2", units=16, dropout=0.2, **SCHEDULE)


def task(classes: int, images: int = 60, seed: int = 0) -> tuple[Features, np.ndarray]:
    """Features around one centre per class, and the classes of all images."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    centres = rng.normal(size=(classes, 10)) * 2
    features = (centres[labels] + rng.normal(size=(images, 10))).astype(np.float32)
    return Features(features, features), labels


def draw(labels: np.ndarray, shots: int, seed: int = 0) -> Draw:
    classes = labels.max() + 1
    rows = np.concatenate([np.flatnonzero(labels == name)[:shots] for name in range(classes)]).astype(np.int32)
    return Draw(shots, seed, rows, labels[rows].astype(np.int32))


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("shots", [1, 2, 3, 8])
def test_a_linear_probe_is_a_softmax_over_its_weights(classes: int, shots: int) -> None:
    features, labels = task(classes)
    cell = feature_extraction.fit(draw(labels, shots), features=features, params=PROBE)
    assert cell.probabilities.shape == (60, classes)
    np.testing.assert_allclose(cell.probabilities.sum(axis=1), 1, atol=1e-5)
    assert [weight.shape for weight in cell.weights] == [(10, classes), (classes,)]
    assert np.mean(cell.probabilities.argmax(axis=1) == labels) > (0.6 if shots < 3 else 0.85)


def test_the_penalty_is_chosen_by_held_out_log_loss_inside_the_draw() -> None:
    """Labels that are pure chance ask for the strongest penalty, clean ones for a weak one."""
    features, labels = task(2, images=80)
    params = PROBE.model_copy(update={"l2": (1e-4, 100.0)})
    clean = draw(labels, 20)
    chance = dataclasses.replace(clean, labels=np.random.default_rng(0).permutation(clean.labels))
    assert feature_extraction.choose_l2(features.train[clean.rows], clean.labels, clean, params) == 1e-4
    assert feature_extraction.choose_l2(features.train[chance.rows], chance.labels, chance, params) == 100.0


def test_of_penalties_that_predict_alike_the_larger_is_chosen() -> None:
    """Features that are all zero tell nothing, so that no penalty matters."""
    _, labels = task(2)
    given = draw(labels, 4)
    blank = np.zeros((8, 10), np.float32)
    params = PROBE.model_copy(update={"l2": (1.0, 10.0, 0.1)})
    assert feature_extraction.choose_l2(blank, given.labels, given, params) == 10.0


def test_a_penalty_is_chosen_as_well_in_as_many_coordinates_as_there_are_images() -> None:
    """Turned into a space of more dimensions than images, features have the same inner products."""
    features, labels = task(3)
    given = draw(labels, 10)
    mislabelled = np.where(np.arange(30) % 7, given.labels, 0)
    narrow = features.train[given.rows]  # (30, 10)
    turned = narrow @ np.linalg.qr(np.random.default_rng(1).normal(size=(50, 10)))[0].T.astype(np.float32)
    params = PROBE.model_copy(update={"l2": (1e-3, 1e-2, 0.1, 1.0)})
    assert [feature_extraction.choose_l2(x, mislabelled, given, params) for x in (narrow, turned)] == [0.1, 0.1]


@hypothesis.given(shots=st.integers(2, 30), classes=st.integers(2, 6), count=st.integers(2, 6), seed=st.integers(0, 99))
def test_folds_are_dealt_evenly_and_at_random(shots: int, classes: int, count: int, seed: int) -> None:
    y = np.repeat(np.arange(classes), shots)
    folds = feature_extraction.stratified_folds(y, count, seed)
    of_class = np.stack([np.bincount(folds[y == name], minlength=count) for name in range(classes)])
    assert set(np.unique(of_class)) <= {shots // count, -(-shots // count)}
    assert np.ptp(of_class.sum(axis=0)) <= 1
    assert (folds == feature_extraction.stratified_folds(y, count, seed)).all()
    assert shots * classes < 20 or (folds != feature_extraction.stratified_folds(y, count, seed + 1)).any()


def test_features_outside_the_draw_do_not_reach_the_probe() -> None:
    features, labels = task(3)
    given = draw(labels, 4)
    other = features.train.copy()
    other[np.setdiff1d(np.arange(60), given.rows)] = 1e6
    a = feature_extraction.fit(given, features=features, params=PROBE)
    b = feature_extraction.fit(given, features=Features(other, features.test), params=PROBE)
    assert (a.probabilities == b.probabilities).all()


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("engine", ["native", "keras"])
def test_a_dense_head_learns_and_is_repeatable(classes: int, engine: Literal["native", "keras"]) -> None:
    features, labels = task(classes)
    fit = partial(dense_head.fit, features=features, classes=classes, engine=Engine(engine), params=HEAD)
    cell, again, other = fit(draw(labels, 6)), fit(draw(labels, 6)), fit(draw(labels, 6, seed=1))
    assert np.mean(cell.probabilities.argmax(axis=1) == labels) > 0.85
    assert cell.probabilities.tobytes() == again.probabilities.tobytes()
    assert cell.probabilities.tobytes() != other.probabilities.tobytes()
    assert cell.gradient_steps == 60
    assert cell.examples_seen == 60 * 8
    assert [weight.shape for weight in cell.weights] == [(10, 16), (16,), (16, classes), (classes,)]


TARGET = Target(
    images=np.zeros((6, 2, 2, 1), np.uint8),
    classes=np.array(["5", "6"]),
    shots=np.array([1, 2], np.int32),
    draws=np.array([[[0, 1, 2], [3, 4, 5]], [[1, 2, 0], [4, 5, 3]]], np.int32),
    calibration_rows=np.array([[2, 0], [3, 5]], np.int32),
    form=np.array(""),
)


def fake_fit(draw: Draw, log: Path) -> Cell:
    with log.open("a") as file:
        file.write(f"{draw.shots} {draw.seed} {os.environ['TF_NUM_INTRAOP_THREADS']}\n")
    probabilities = np.full((3 + len(TARGET.calibration()[0]), 2), draw.shots + draw.seed / 10, np.float32)
    return Cell(probabilities, [np.full(4, draw.shots), np.array([draw.seed])], draw.shots, len(draw.rows))


def fake_ship(weights: list[np.ndarray], path: Path) -> None:
    path.write_text(f"{weights[0][0]} {weights[1][0]}")


@pytest.mark.parametrize("workers", [1, 2])
def test_cells_run_longest_first_and_come_back_in_order(tmp_path: Path, workers: int) -> None:
    (tmp_path / "log").touch()
    fit = partial(fake_fit, log=tmp_path / "log")
    compute = Compute(engine="local", address="", workers=workers, distribute="none", remember=0)
    model, code = tmp_path / "model", Path(__file__)
    done = run_cells(fit, fake_ship, TARGET, params=Section(), model=model, compute=compute, code=code, label="x")
    assert list(zip(done.shots, done.seed, strict=True)) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    np.testing.assert_allclose(done.probabilities[:, 0, 0], [1, 1.1, 2, 2.1])
    assert done.trainable_parameters.tolist() == [5, 5, 5, 5]
    assert done.gradient_steps.tolist() == [1, 1, 2, 2]
    assert done.examples_seen.tolist() == [2, 2, 4, 4]
    assert done.probabilities.shape == (4, 3, 2)
    assert done.calibration.shape == (4, len(TARGET.calibration()[0]), 2)
    assert done.model_bytes.tolist() == [len("2 0")] * 4
    made = json.loads(str(done.made_with))
    assert set(made) == {"params", "versions", "model"}
    assert made["model"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (tmp_path / "model").read_text() == "2 0"  # the cell of the most shots and seed 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(lines) == ["1 0 1", "1 1 1", "2 0 1", "2 1 1"]
    if workers == 1:
        assert lines[:2] == ["2 0 1", "2 1 1"]


def ship_and_die(weights: list[np.ndarray], path: Path, times: int) -> None:
    path.write_bytes(weights[0].tobytes())
    die(path.parent, times)


def ship_with(tmp_path: Path, times: int) -> bytes:
    """Run cells whose model file's writer is killed a number of times; the model file."""
    (tmp_path / "log").touch()
    fit = partial(fake_fit, log=tmp_path / "log")
    compute = Compute(engine="local", address="", workers=1, distribute="none", remember=0)
    how = {"params": Section(), "model": tmp_path / "model", "compute": compute, "code": Path(__file__)}
    run_cells(fit, partial(ship_and_die, times=times), TARGET, **how)
    return (tmp_path / "model").read_bytes()


@NO_SIGKILL
@pytest.mark.fault("Memory", "the process that writes a model file is killed once")
def test_a_writer_of_the_model_file_that_is_killed_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ship_with(tmp_path, times=1) == np.full(4, 2).tobytes()
    assert "the process that writes the model file was killed" in capsys.readouterr().out


@NO_SIGKILL
@pytest.mark.fault("Memory", "the process that writes a model file is killed whenever it starts")
def test_a_writer_of_the_model_file_that_is_killed_twice_is_one_line(tmp_path: Path) -> None:
    refused(lambda: ship_with(tmp_path, times=2), "the process that writes the model file was killed", "run again")


def double(number: int) -> int:
    return 2 * number


def refuse(number: int) -> int:
    raise UserError(f"{number} will not do")


def die(folder: Path, times: int = 1) -> None:
    """Kill this process, unless so many have been killed already."""
    for number in range(times):
        with suppress(FileExistsError):
            (folder / f"killed{number}").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)


def double_or_die(number: int, folder: Path, deadly: int, times: int) -> int:
    if number == deadly:
        die(folder, times)
    return 2 * number


def double_or_want(number: int, folder: Path, times: int) -> int:
    for turn in range(times if number == 1 else 0):
        with suppress(FileExistsError):
            (folder / f"wanted{turn}").touch(exist_ok=False)
            np.zeros(1 << 60, np.uint8)  # more than can be addressed
    return 2 * number


def blas_threads(_: int) -> set[int]:
    from threadpoolctl import threadpool_info

    np.ones((300, 300)) @ np.ones((300, 300))
    return {library["num_threads"] for library in threadpool_info()}


def test_a_worker_computes_with_one_thread() -> None:
    """In a new process, where nothing has set the number of threads before."""
    code = (
        "from transfer.running.workers import run_in_workers\n"
        "from tests.test_strategies import blas_threads\n"
        "if __name__ == '__main__': print(list(run_in_workers(blas_threads, [0], 1)))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment | paths, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[{1}]"


def test_every_task_has_its_result() -> None:
    assert sorted(run_in_workers(double, range(7), 2)) == [0, 2, 4, 6, 8, 10, 12]


def test_an_error_in_a_worker_is_the_error() -> None:
    with pytest.raises(UserError, match="0 will not do"):
        list(run_in_workers(refuse, [0, 1], 1))


@NO_SIGKILL
@pytest.mark.fault("Memory", "a worker is killed at its first, a middle or its last task")
@pytest.mark.parametrize("deadly", [0, 3, 6])
def test_the_task_of_a_worker_that_is_killed_is_tried_again(
    deadly: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = partial(double_or_die, folder=tmp_path, deadly=deadly, times=1)
    assert sorted(run_in_workers(work, range(7), 2)) == [0, 2, 4, 6, 8, 10, 12]
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("a worker process was killed")
    assert str(deadly) in line


@NO_SIGKILL
@pytest.mark.fault("Memory", "a worker is killed while another is being started")
@pytest.mark.parametrize(
    ("owner", "name"), [(multiprocessing.process.BaseProcess, "start"), (multiprocessing.util, "spawnv_passfds")]
)
def test_a_worker_that_is_killed_while_another_is_started_costs_no_result(
    owner: object, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = getattr(owner, name)

    def start_late(*arguments: Any) -> Any:
        for earlier in multiprocessing.active_children():
            earlier.kill()
            time.sleep(1)  # so that it is known to be dead before there is another
        return start(*arguments)

    monkeypatch.setattr(owner, name, start_late)
    assert sorted(run_in_workers(double, range(4), 2)) == [0, 2, 4, 6]
    assert "a worker process was killed" in capsys.readouterr().out


def pause_in_mid_speech(for_what: Callable[[], object]) -> None:
    """Have this process do something between the halves of each long answer."""
    send = multiprocessing.connection.Connection._send

    def send_in_halves(connection: multiprocessing.connection.Connection, buffer: memoryview) -> None:
        half = len(buffer) // 2
        send(connection, buffer[:half])
        if half > 1000:
            for_what()
        send(connection, buffer[half:])

    multiprocessing.connection.Connection._send = send_in_halves  # type: ignore[method-assign]


def double_or_die_in_mid_speech(number: int, folder: Path) -> np.ndarray:
    """Twice the number, very often."""
    if number == 1:
        pause_in_mid_speech(partial(die, folder, 1))
    return np.full(100_000, 2 * number)


def speak(number: int, folder: Path) -> np.ndarray:
    """A long answer; that of 1, which waits until another was heard, does not come to its end."""
    if number == 1:
        while not (folder / "heard").exists():
            time.sleep(0.05)
        pause_in_mid_speech(lambda: ((folder / "speaks").touch(), time.sleep(600)))
    return np.zeros(100_000)


@NO_SIGKILL
@pytest.mark.fault("Memory", "a worker is killed in the middle of sending a result")
def test_a_worker_that_is_killed_in_mid_speech_costs_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = partial(double_or_die_in_mid_speech, folder=tmp_path)
    results = list(run_in_workers(work, range(4), 2))
    assert sorted(int(result[0]) for result in results) == [0, 2, 4, 6]
    assert {result.shape for result in results} == {(100_000,)}
    assert "a worker process was killed" in capsys.readouterr().out


@NO_SIGKILL
@pytest.mark.fault("Memory", "a worker is killed whenever it comes to a certain task")
def test_a_worker_that_is_killed_twice_is_one_line_that_names_its_task(tmp_path: Path) -> None:
    work = partial(double_or_die, folder=tmp_path, deadly=1, times=2)
    done: list[int] = []
    refused(lambda: done.extend(run_in_workers(work, range(3), 2, "number {}".format)), "number 1: ", "was killed")
    assert set(done) <= {0, 4}


@pytest.mark.fault("Memory", "a worker gets less memory than it asks for, once")
def test_a_task_that_finds_no_memory_is_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = partial(double_or_want, folder=tmp_path, times=1)
    assert sorted(run_in_workers(work, range(4), 2)) == [0, 2, 4, 6]
    assert capsys.readouterr().out == "a worker process ran out of memory; tried again, one at a time: 1\n"


@pytest.mark.fault("Memory", "a worker gets less memory than it asks for, always")
def test_a_task_that_finds_no_memory_twice_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    work = partial(double_or_want, folder=tmp_path, times=2)
    refused(lambda: list(run_in_workers(work, range(4), 2)), "1: ", "ran out of memory", "fewer shots")


KILLS = [(7, 7, "from outside"), (7, 8, "was killed for want of memory"), (None, 8, "most likely for want of memory")]


@NO_SIGKILL
@pytest.mark.parametrize(("before", "after", "said"), KILLS)
def test_a_kill_for_want_of_memory_is_told_from_others(
    before: int | None, after: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([before, after])
    monkeypatch.setattr(workers, "_memory_kills", lambda: next(counts))
    pool = workers.Pool(1)
    process = pool.submit(os.getpid).result()
    with pytest.raises(BrokenProcessPool) as caught:
        pool.submit(os.kill, process, signal.SIGKILL).result()
    death = pool.death(caught.value)
    assert said in death.how
    assert death.memory == (before != after)


@NO_SIGKILL
def test_a_worker_that_crashes_is_told_by_its_signal() -> None:
    pool = workers.Pool(1)
    with pytest.raises(BrokenProcessPool) as caught:
        pool.submit(os.abort).result()
    assert pool.death(caught.value).how == "was ended by SIGABRT"


@pytest.mark.fault("Disk full", "where worker processes are handed their work")
def test_work_that_does_not_fit_on_the_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    refused(lambda: list(run_in_workers(double, [0])), "cannot be written: it needs more than", "free", "TMPDIR")


SPEAKERS = """
import sys, time
from functools import partial
from pathlib import Path
from test_strategies import speak
from transfer.basics.console import UserError, run
from transfer.running.workers import run_in_workers

def main():
    folder = Path(sys.argv[1])
    for result in run_in_workers(partial(speak, folder=folder), range(2), 2):
        (folder / "heard").touch()
        while not (folder / "speaks").exists():
            time.sleep(0.05)
        raise UserError("this is what went wrong")

if __name__ == "__main__":
    run(main)
"""


@NO_SIGKILL
@pytest.mark.fault("Memory", "an error while a worker is in the middle of sending a result")
def test_an_error_in_the_midst_of_a_result_ends_all(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SPEAKERS, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "error: this is what went wrong\n")


SLEEPERS = """
import sys
from pathlib import Path
from test_strategies import sleep_long
from transfer.running.compute import Compute
from transfer.basics.console import run
if __name__ == "__main__":
    compute = Compute(engine=sys.argv[2], address=sys.argv[3], workers=2, distribute="none", remember=0)
    run(lambda: list(compute.results(sleep_long, [Path(sys.argv[1]) / str(n) for n in range(4)])))
"""


def start_sleepers(folder: Path, engine: str = "local", address: str = "") -> tuple[subprocess.Popen[str], list[int]]:
    """A process whose two workers would take a minute, and the workers' identifiers."""
    script = folder / "script.py"
    script.write_text(SLEEPERS)
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), engine, address],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while len(started := [path for path in folder.iterdir() if path.suffix == ".pid"]) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process, [int(path.read_text()) for path in started]


def runs(process: int) -> bool:
    """Whether a process is there; one that has ended and waits to be asked how is not."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="has no process groups")
def test_ctrl_c_ends_all_workers_at_once_and_quietly(tmp_path: Path) -> None:
    process, workers = start_sleepers(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    before = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - before < 5
    assert process.returncode == 130
    assert errors == "interrupted\n"
    assert not any(map(runs, workers))


@NO_SIGKILL
def test_workers_end_when_their_main_process_is_killed(tmp_path: Path) -> None:
    process, workers = start_sleepers(tmp_path)
    assert all(map(runs, workers))
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(map(runs, workers)):
        assert time.monotonic() < deadline, "workers outlive their main process"
        time.sleep(0.1)


def sleep_long(path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(str(os.getpid()))
    temporary.rename(path.with_suffix(".pid"))
    time.sleep(60)
