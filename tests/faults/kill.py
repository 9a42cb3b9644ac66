"""Stages, workers and DVC itself are killed at random moments; the next `dvc repro` must make good for it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import Study, make_study
from tally import Faults, repeats

from transfer.basics.params import read_params

pytestmark = [
    pytest.mark.fault("Kill"),
    pytest.mark.skipif(sys.platform == "win32", reason="has no signals"),
]
STRIKES = [  # signals, what they are sent to, and how often in all
    (signal.SIGKILL, ("stage", "worker", "DVC"), 50),
    (signal.SIGINT, ("stage", "DVC", "all at once"), 10),
    (signal.SIGTERM, ("stage", "DVC", "all at once"), 10),
]
OUTPUTS = ("data", "models", "results", ".dvc/cache/files")
CELLS = ".cache/cells"
ORPHANS = 5  # seconds until none may be left


@dataclass(frozen=True)
class Calm:
    """A study that was not disturbed: before its first run, what that makes, and how long it takes."""

    fresh: Path
    made: dict[str, bytes]
    seconds: float


def contents(root: Path) -> dict[str, bytes]:
    """Every file that a run leaves, with its bytes."""
    files = [file for name in OUTPUTS for file in sorted((root / name).rglob("*")) if file.is_file()]
    lock = read_params(root / "dvc.lock")  # whose stages stand in the order in which they came to be done
    made = {"dvc.lock": json.dumps(lock, sort_keys=True).encode()}
    return made | {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def copied(fresh: Path, folder: Path) -> Study:
    """A copy of a study, with a temporary folder of its own beside it."""
    shutil.copytree(fresh, folder / "study")
    (folder / "tmp").mkdir()
    return Study(folder / "study")


def cells(study: Study) -> dict[str, tuple[int, int]]:
    """The finished cells that are kept, with what tells a file that was written anew: its number and size."""
    files = [file for file in (study.root / CELLS).rglob("[!.]*") if file.is_file()]
    return {file.relative_to(study.root).as_posix(): (file.stat().st_ino, file.stat().st_size) for file in files}


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    folder = tmp_path_factory.mktemp("calm")
    fresh = make_study(folder / "fresh")
    fresh.set(split__shots=[1, 3], pretrain__epochs=1, report__replicates=200)
    for name in ("feature_extraction", "scratch"):  # a head and a network are enough, and two thirds of the time
        fresh.edit_yaml("dvc.yaml", lambda content, name=name: content["stages"].pop(name))
    before = time.monotonic()
    study = copied(fresh.root, folder)
    study.run("dvc", "repro")
    assert cells(study)
    return Calm(fresh.root, contents(study.root), time.monotonic() - before)


def environment(study: Study) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    temporary = str(study.root.parent / "tmp")
    return os.environ | {"PATH": path, "PYTHONPATH": "", "GIT_CONFIG_GLOBAL": os.devnull, "TMPDIR": temporary}


def belonging(study: Study) -> list[psutil.Process]:
    """Every process that works for a study: told by its temporary folder, which all inherit."""
    mark = environment(study)["TMPDIR"]
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("TMPDIR") == mark:
                found.append(process)
    return found


def role(process: psutil.Process, dvc: int) -> str:
    """What a process is in a run."""
    if process.pid == dvc:
        return "DVC"
    command = " ".join(process.cmdline())
    return "stage" if "-m stages." in command else "worker" if "multiprocessing.spawn" in command else "other"


def strike(study: Study, victim: str, number: signal.Signals, wait: float) -> bool:
    """Start a run, send a signal after a while, as soon as there is such a process, and see all end; whether it hit."""
    command, quiet = ["dvc", "repro"], subprocess.DEVNULL
    process = subprocess.Popen(
        command, cwd=study.root, env=environment(study), stdout=quiet, stderr=quiet, start_new_session=True
    )
    hit = False
    try:
        time.sleep(wait)
        while not hit and process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if victim == "all at once":
                    os.killpg(process.pid, number)
                    hit = True
                for found in [each for each in belonging(study) if role(each, process.pid) == victim][:1]:
                    found.send_signal(number)
                    hit = True
            time.sleep(0.02)
        process.wait(timeout=300)  # of a run that has lost a worker, to its end
        deadline = time.monotonic() + ORPHANS
        while left := belonging(study):
            assert time.monotonic() < deadline, f"orphans: {[each.cmdline() for each in left]}"
            time.sleep(0.05)
    finally:
        for each in belonging(study):
            each.kill()
    return hit


def run_again(study: Study) -> None:
    """`dvc repro`; `make repro` where DVC's own files were cut in the middle of their writing."""
    done = study.run("env", f"TMPDIR={study.root.parent}/tmp", "dvc", "repro", code=None)
    if done.returncode:
        mended = study.run("env", f"TMPDIR={study.root.parent}/tmp", sys.executable, "-m", "commands.repro")
        assert "was left by a run that was cut short" in mended.stdout, f"{done.stdout}\n{done.stderr}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each victim in turn."""
    if "victim" in metafunc.fixturenames:
        cases = [
            (victims[turn % len(victims)], number, turn)
            for number, victims, times in STRIKES
            for turn in range(repeats(metafunc.config, times))
        ]
        metafunc.parametrize(("victim", "number", "turn"), cases)


def test_the_next_run_makes_good(
    victim: str, number: signal.Signals, turn: int, calm: Calm, tmp_path: Path, faults: Faults
) -> None:
    moment = random.Random(f"{victim} {number.name} {turn}").uniform(0.02, 0.95)
    with faults(f"{number.name} to {victim}, at a random moment") as count:
        while True:
            study = copied(calm.fresh, tmp_path)
            if strike(study, victim, number, moment * calm.seconds):
                break
            shutil.rmtree(tmp_path)
            moment *= 0.7  # the run was over: this machine was faster than before
        finished = cells(study)
        run_again(study)
        after = cells(study)
        count.lost += sum(size for name, (file, size) in finished.items() if after.get(name) != (file, size))
        assert count.lost == 0, "finished cells were trained again"
        made = contents(study.root)
        assert made.keys() == calm.made.keys()
        assert [name for name in made if made[name] != calm.made[name]] == []
        assert list((tmp_path / "tmp").iterdir()) == []
    shutil.rmtree(tmp_path)
