"""Memory that does not suffice: worker processes that the system really kills, and stages that lose theirs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT, Study
from PIL import Image
from tally import Faults

from transfer.basics.console import UserError
from transfer.inputs import own
from transfer.inputs.form import Form
from transfer.running.workers import run_in_workers

GROUPS = Path("/sys/fs/cgroup")
HUNGRY = """
import sys, time
from functools import partial
from pathlib import Path
import numpy as np
from transfer.basics.console import run
from transfer.running.workers import run_in_workers

def hungry(number, megabytes, folder):  # fill memory, and wait a while for another to do the same
    filled = np.ones(megabytes << 20, np.uint8)
    (folder / str(number)).touch()
    deadline = time.monotonic() + 2
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    return number + len(filled) // (megabytes << 20)

if __name__ == "__main__":
    work = partial(hungry, megabytes=int(sys.argv[1]), folder=Path(sys.argv[2]))
    run(lambda: print(sorted(run_in_workers(work, range(5), 2))))
"""
pytestmark = [
    pytest.mark.fault("Memory"),
    pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL"),
]


@pytest.fixture
def limited() -> Iterator[Path]:
    """A group of processes that may have 600 MB together; without swap, where there is any."""
    parent = GROUPS / "memory" if (GROUPS / "memory").is_dir() else GROUPS
    group = parent / f"transfer-{os.getpid()}"
    try:
        group.mkdir()
        name = "memory.limit_in_bytes" if parent != GROUPS else "memory.max"
        (group / name).write_text(str(600 << 20))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"needs root and control groups of memory that can be written: {error}")
    if (swap := group / "memory.swap.max").exists():
        swap.write_text("0")
    yield group
    deadline = time.monotonic() + 60
    while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)  # Python's own helpers end a moment after it
    group.rmdir()


def run_limited(group: Path, megabytes: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run five hungry tasks with two workers in a group."""
    script = folder / "script.py"
    script.write_text(HUNGRY)
    started = folder / "started"
    started.mkdir()
    return subprocess.run(
        [
            "sh",
            "-c",
            'echo $$ > "$0" && exec "$@"',
            group / "cgroup.procs",
            sys.executable,
            script,
            str(megabytes),
            started,
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_tasks_that_fit_one_by_one_are_all_done(limited: Path, tmp_path: Path, faults: Faults) -> None:
    with faults("the system kills one of two workers that do not fit side by side"):
        done = run_limited(limited, 300, tmp_path)
        assert done.returncode == 0, done.stderr
        *lines, result = done.stdout.splitlines()
        assert result == "[1, 2, 3, 4, 5]"
        assert lines == ["a worker process was killed for want of memory; tried again, one at a time: 0, 1"]


def test_a_task_that_fits_nowhere_is_one_line(limited: Path, tmp_path: Path, faults: Faults) -> None:
    with faults("the system kills a worker that does not fit alone"):
        done = run_limited(limited, 700, tmp_path)
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert re.match(r"error: 0: the worker process was killed for want of memory, and again with no other", line)
        assert "fewer workers would not help" in line


def deadly(times: int) -> str:
    """Code at the beginning of a strategy's `fit` that kills its process at one cell, so many times."""
    return f"""
    import os, pathlib
    for number in range({times} if (draw.shots, draw.seed) == (3, 1) else 0):
        try:
            pathlib.Path(f"killed{{number}}").touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), 9)
"""


@pytest.fixture
def study(tmp_path: Path, finished: Study) -> Study:
    """A copy of a finished study, without what it remembers of cells."""
    copy = Study(tmp_path / "study")
    shutil.copytree(finished.root, copy.root, symlinks=True)
    shutil.rmtree(copy.root / ".cache/cells")
    return copy


def kill_at_a_cell(study: Study, times: int) -> None:
    """Have the worker of a cell killed."""
    code = study.root / "transfer/strategies/dense_head.py"
    code.write_text(
        code.read_text().replace("    head = layers(features", f"{deadly(times)}\n    head = layers(features")
    )


def test_a_study_in_which_a_worker_was_killed_is_the_same(study: Study, finished: Study, faults: Faults) -> None:
    names = ("data/predictions/dense_head.npz", "models/dense_head.keras")
    with faults("a worker of a stage is killed once"):
        kill_at_a_cell(study, 1)
        ran, printed = study.ran("dense_head")
        assert ran == ["dense_head"]
        assert "a worker process was killed" in printed
        assert [study.read(name) for name in names] == [finished.read(name) for name in names]


def test_a_stage_whose_worker_is_always_killed_names_the_cell_and_keeps_the_others(
    study: Study, finished: Study, faults: Faults
) -> None:
    names = ("data/predictions/dense_head.npz", "models/dense_head.keras")
    with faults("a worker of a stage is killed whenever it comes to a certain cell"):
        kill_at_a_cell(study, 2)
        done = study.run("dvc", "repro", "dense_head", code=None)
        assert done.returncode
        [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert re.match("error: dense_head, 3 shots of seed 1: the worker process was killed", line)
        printed = study.ran("dense_head")[1]  # it is killed no more
        assert re.search(r"6 cells of up to 4 shots, [1-5] of them remembered", printed)
        assert [study.read(name) for name in names] == [finished.read(name) for name in names]


def test_workers_that_are_killed_from_outside_cost_no_result(
    faults: Faults, capsys: pytest.CaptureFixture[str]
) -> None:
    for victims in (1, 2):
        with faults("a worker is killed from outside, or both of two"):
            results = run_in_workers(time.sleep, [1.5] * 5, 2)
            got = [next(results)]
            workers = [
                each for each in psutil.Process().children() if "multiprocessing.spawn" in " ".join(each.cmdline())
            ]
            for process in workers[-victims:]:
                process.kill()
            assert [*got, *results] == [None] * 5
            [line] = capsys.readouterr().out.splitlines()
            assert line.startswith(
                "a worker process was killed from outside, by no shortage of memory that the system knows of; tried"
            )


def kill_readers(count: int) -> None:
    """Kill worker processes as they start."""
    killed: set[int] = set()
    while len(killed) < count:
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "spawn_main" in " ".join(process.cmdline()) and process.pid not in killed:
                    process.kill()
                    killed.add(process.pid)
        time.sleep(0.01)


def test_images_are_read_though_a_reader_is_killed(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(own, "MUCH", 0)
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    files = [tmp_path / f"{number}.png" for number in range(150)]
    for number, file in enumerate(files):
        Image.fromarray(np.full((4, 5), number, np.uint8)).save(file)
    form = Form(4, 5, 1, "stretch", "same")
    for count in (1, 2):
        with faults("a process that reads images is killed" + (" twice" if count > 1 else "")):
            killer = threading.Thread(target=kill_readers, args=(count,))
            killer.start()
            if count == 1:
                own.read_files(files, form, tmp_path / "images.npy", "target")
                assert (np.load(tmp_path / "images.npy")[:, 0, 0, 0] == np.arange(150)).all()
            else:
                with pytest.raises(UserError) as caught:
                    own.read_files(files, form, tmp_path / "other.npy", "target")
                assert f"reading {files[0]} and 63 more: the worker process was killed" in str(caught.value)
                assert "compute.workers" not in str(caught.value)
                assert not (tmp_path / "other.npy").exists()
            killer.join()
            assert "compute.workers" not in capsys.readouterr().out
