"""Processes end with those that started them, and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import ROOT

from transfer.basics.files import unfinished, write_text
from transfer.basics.processes import lives
from transfer.basics.temporary import temporary_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no signals")
NUMBER = """
import os, sys, time
from pathlib import Path

def tell():
    Path(sys.argv[1], "partial").write_text(str(os.getpid()))
    Path(sys.argv[1], "partial").rename(Path(sys.argv[1], "pid"))
"""
STAGE = """
from transfer.basics.console import run
from transfer.basics.files import unfinished, write_text
from transfer.basics.processes import lives
from transfer.basics.temporary import temporary_folder

def main():
    with temporary_folder() as folder:
        (folder / "file").touch()
        tell()
        time.sleep(60)

run(main)
"""
DVC = """
import subprocess, sys
subprocess.run([*sys.argv[1:3], "python -m stages.sleeping " + sys.argv[3]])
"""


def begin(command: list[str], folder: Path, before: str = "", **environment: str) -> tuple[subprocess.Popen[str], int]:
    """Start a command, and wait for its stage, whose number it returns."""
    (folder / "stages").mkdir()
    (folder / "stages/sleeping.py").write_text(NUMBER + before + STAGE)
    (folder / "tmp").mkdir()
    settings = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")} | environment
    settings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (folder / "pid").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, int((folder / "pid").read_text())


def runs(process: int) -> bool:
    """Whether a process is there."""
    try:
        return lives(psutil.Process(process))
    except psutil.NoSuchProcess:
        return False


def ended(process: int, seconds: float) -> bool:
    """Whether a process ends within a time."""
    deadline = time.monotonic() + seconds
    while runs(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not runs(process)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_stage_in_order_and_in_one_word(number: signal.Signals, code: int, tmp_path: Path) -> None:
    process, _ = begin([sys.executable, "-m", "stages.sleeping", str(tmp_path)], tmp_path)
    assert len(list((tmp_path / "tmp").iterdir())) == 2
    process.send_signal(number)
    printed, errors = process.communicate(timeout=10)
    assert (process.returncode, printed, errors) == (code, "", "interrupted\n")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.fault("Kill", "DVC gone while a stage runs, whatever shell is between")
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_stage_ends_when_dvc_is_killed_whatever_shell_is_between(shell: str, tmp_path: Path) -> None:
    if (found := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not installed")
    process, stage = begin([sys.executable, "-c", DVC, found, "-c", str(tmp_path)], tmp_path, DVC_STAGE="sleeping")
    process.kill()
    assert ended(stage, 5)
    process.communicate()
    assert list((tmp_path / "tmp").iterdir()) == []


ADOPT = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER: orphans come here, also after exec
os.execv(sys.argv[1], sys.argv[1:])
"""
LEAVE = "import subprocess, sys; subprocess.Popen(sys.argv[2:], start_new_session=sys.argv[1] == 'apart')"


@pytest.mark.fault("Kill", "DVC gone before its stage has begun, whoever takes it in")
@pytest.mark.parametrize("group", ["apart", "together"])  # in a container, the first process is of everybody's group
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its orphans")
def test_a_stage_that_finds_itself_an_orphan_ends(group: str, tmp_path: Path) -> None:
    (tmp_path / "leave.py").write_text(LEAVE)
    command = f"{sys.executable} leave.py {group} {sys.executable} -m stages.sleeping '{tmp_path}'; exec sleep 60"
    adopter = [sys.executable, "-c", ADOPT, "/bin/sh", "-c", command]
    process, stage = begin(adopter, tmp_path, before="tell()\ntime.sleep(1)\n", DVC_STAGE="sleeping")
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(stage).ppid() != process.pid:
            time.sleep(0.05)
    assert ended(stage, 5)
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_a_stage_started_by_hand_does_not_mind_its_shell(tmp_path: Path) -> None:
    process, stage = begin([sys.executable, "-c", DVC, "sh", "-c", str(tmp_path)], tmp_path)
    process.kill()
    assert not ended(stage, 2)
    os.kill(stage, signal.SIGKILL)


@pytest.mark.fault("Kill", "temporary folders of a killed process")
def test_what_a_killed_process_has_left_goes_with_the_next_and_what_is_in_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    process, _ = begin([sys.executable, "-m", "stages.sleeping", str(tmp_path)], tmp_path)
    with temporary_folder():
        assert len(list((tmp_path / "tmp").glob("*/file"))) == 1
    process.kill()
    process.communicate()
    assert len(list((tmp_path / "tmp").glob("*/file"))) == 1
    with temporary_folder() as folder:
        assert list((tmp_path / "tmp").glob("*/file")) == []
        assert folder.is_dir()
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.fault("Kill", "files half-written by a killed process")
def test_what_killed_writers_have_left_goes_with_the_next_write_and_that_of_living_ones_stays(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path = tmp_path / "a.txt"
    left, others = unfinished(path, gone.pid), unfinished(path, os.getppid())
    elsewhere = [tmp_path / f".{gone.pid}-01234567.a.txt", tmp_path / f".{gone.pid}-89abcdef.a.txt"]
    for file in (left, others, unfinished(tmp_path / "b.txt", gone.pid), *elsewhere):
        file.touch()
    os.utime(elsewhere[0], (0, 0))
    for file in (left, others):
        file.with_name(f"{file.name}.more").mkdir()
    before = set(tmp_path.iterdir())
    write_text(path, "whole")
    gone_now = {left, left.with_name(f"{left.name}.more"), elsewhere[0]}
    assert set(tmp_path.iterdir()) == (before | {path}) - gone_now
