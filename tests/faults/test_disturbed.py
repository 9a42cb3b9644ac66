"""Whole studies: killed, in another place, on a full disk. What they make are the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from conftest import Study, copy_of, make_study, mounts
from ruamel.yaml import YAML

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs signals, and Linux's means to mount"),
]
MADE = ("data", "models", "results")


def one_line(text: str, *words: str) -> None:
    """Check that what was printed is one line that has some words."""
    assert text.startswith("error: ")
    assert len(text.splitlines()) == 1
    for word in words:
        assert word in text


def lock(study: Study) -> dict:
    return YAML(typ="safe").load(study.root / "dvc.lock")


def made(study: Study) -> dict[str, bytes]:
    """All that a study has made, but for its seconds; of dvc.lock the content, not the order of the stages."""
    files = [file for name in MADE for file in (study.root / name).rglob("*") if file.is_file()]
    content = {file.relative_to(study.root).as_posix(): file.read_bytes() for file in files}
    content.pop("results/seconds.js", None)
    return content | {"dvc.lock": json.dumps(lock(study), sort_keys=True).encode()}


def differing(found: dict[str, bytes], wanted: dict[str, bytes]) -> list[str]:
    """Names of the files that are not the same, or there only once."""
    assert len(wanted) > 25
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def undone(finished: Study, folder: Path, *stages: str) -> Study:
    """A copy of a finished study in which some stages are to run again, with nothing remembered."""
    study = copy_of(finished, folder / "study")
    for name in (".cache", ".dvc/cache/runs"):
        shutil.rmtree(study.root / name)
    for out in (out for stage in stages for out in lock(study)["stages"][stage]["outs"]):
        (study.root / out["path"]).unlink()
        (study.root / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]).unlink(missing_ok=True)
    return study


def begin(study: Study) -> subprocess.Popen[str]:
    """`dvc repro` in a process group of its own, with a pipe for what it prints."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
    return subprocess.Popen(
        ["dvc", "repro"],
        cwd=study.root,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Read what is printed up to a line with some words."""
    assert process.stdout is not None
    assert any(words in line for line in process.stdout), f"ended before {words}"


# --- Killed ----------------------------------------------------------------------------------------------------------

KILLS = [  # the stage, at which of its lines, whom, by what
    ("pretrain", "pretrain: ", "stage", signal.SIGKILL),
    ("end_to_end", "1 of 6 runs", "stage", signal.SIGKILL),
    ("end_to_end", "3 of 6 runs", "all", signal.SIGINT),
    ("scratch", "6 of 6 runs", "all", signal.SIGKILL),
]


@pytest.mark.parametrize(("stage", "line", "whom", "number"), KILLS)
def test_after_a_kill_the_next_run_goes_on_and_makes_the_same_bytes(
    finished: Study, tmp_path: Path, stage: str, line: str, whom: str, number: signal.Signals
) -> None:
    study, wanted = undone(finished, tmp_path, stage), made(finished)
    process = begin(study)
    wait_for(process, line)
    time.sleep(random.Random(line).uniform(0, 0.4))
    inside = [child for child in psutil.Process(process.pid).children(True) if f"stages.{stage}" in child.cmdline()]
    if whom == "all":  # as Ctrl-C in a terminal, or a machine that goes off
        os.killpg(process.pid, number)
    else:
        inside[0].send_signal(number)
    printed, _ = process.communicate(timeout=20)
    assert process.returncode
    assert "Traceback" not in printed
    deadline = time.monotonic() + 5
    while left := [child for child in inside if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, left  # a process with much memory takes a moment to end
    there = made(study)
    assert [name for name in there if not name.endswith(".partial") and there[name] != wanted.get(name)] == []

    remembered = len(list((study.root / ".cache/runs").glob("[!.]*.npz")))
    ran, printed = study.ran()
    assert ran == [stage]
    assert not remembered or f"{remembered} of them remembered" in printed
    assert differing(made(study), wanted) == []
    assert list(study.root.rglob(".*partial*")) == []


# --- Elsewhere -------------------------------------------------------------------------------------------------------


def test_another_cold_run_in_another_place_makes_the_same_bytes(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "OMP_NUM_THREADS": "1", "HOME": "/"}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "Übung 'eins' $x & zwei"
    monkeypatch.setenv("TMPDIR", str(tmp_path / "Ablage für alles"))
    (tmp_path / "Ablage für alles").mkdir()
    before = os.umask(0o077)
    try:
        study = make_study(folder / "study")
        study.set(compute__workers=3)  # the other one has 2
        study.repro()
    finally:
        os.umask(before)
    assert differing(made(study), made(finished)) == []


# --- A full disk -----------------------------------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount something at a folder for a while."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@mounts
def test_a_full_disk_is_one_line_and_what_was_there_stays_whole(finished: Study, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256m", "tmpfs") as disk:
        study = undone(finished, disk)
        before, ballast = made(study), disk / "ballast"
        for stage in ("convert", "end_to_end", "report"):
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - 12_288)
            done = study.run("python", "-m", f"stages.{stage}", code=2)
            ballast.unlink()
            one_line(done.stderr, "No space left on device")
            assert differing(made(study), before) == []
        study.repro()
        assert differing(made(study), before) == []
