"""`make repro` waits for its turn, and mends what a killed DVC leaves of its own files."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT, Study
from tally import Faults

TINY = """
stages:
  first:
    cmd: python -c "import time; time.sleep(0.1); open('a', 'w').write('1')"
    outs: [a]
  second:
    cmd: python -c "import time; time.sleep(0.1); open('b', 'w').write(open('a').read() + '2')"
    deps: [a]
    outs: [b]
"""
DVC = (
    "from commands import repro; repro.check = lambda: 0; repro.run_check = lambda: 0; "
    "repro.run(repro.main, unread=True)"
)
REPRO = (sys.executable, "-c", DVC)
ASIDE = ".cache/damaged"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two stages that have run, in a folder without our code."""
    study = Study(tmp_path_factory.mktemp("template"))
    (study.root / "dvc.yaml").write_text(TINY)
    (study.root / "commands").symlink_to(ROOT / "commands")
    (study.root / "transfer").symlink_to(ROOT / "transfer")
    study.run("git", "init", "-q")
    study.run("dvc", "init", "-q")
    study.run("dvc", "config", "core.analytics", "false")
    study.run("dvc", "repro", "-q")
    return study


@pytest.fixture
def tiny(tmp_path: Path, template: Study) -> Study:
    """A copy of it."""
    return Study(Path(shutil.copytree(template.root, tmp_path / "tiny", symlinks=True)))


def again(study: Study) -> None:
    """As if the stages had not run: DVC asks its run cache for both."""
    (study.root / "dvc.lock").unlink(missing_ok=True)


def locked_by(pid: int) -> Callable[[Study], None]:
    def write(study: Study) -> None:
        entry = {"pid": pid, "cmd": "dvc repro"}
        locks = {"write": {str(study.root / "b"): entry}, "read": {str(study.root / "a"): [entry]}}
        file = study.root / ".dvc/tmp/rwlock"
        file.write_text(json.dumps(locks))
        os.utime(file, (0, 0))  # from before that process began
        again(study)

    return write


def cut_lock_file(study: Study) -> None:
    text = study.read("dvc.lock")
    (study.root / "dvc.lock").write_bytes(text[: text.rindex(b"outs:") + 3])


def emptied(name: str) -> Callable[[Study], None]:
    def empty(study: Study) -> None:
        (study.root / name).write_bytes(b"")
        if name != "dvc.lock":
            again(study)

    return empty


def cut_locks(study: Study) -> None:
    (study.root / ".dvc/tmp/rwlock").write_text('{"write": {"/a/b": {"pid"')
    again(study)


def cut_runs(study: Study) -> None:
    runs = list((study.root / ".dvc/cache/runs").glob("*/*/*"))
    assert len(runs) == 1 or len(runs) == 2
    for path in runs:
        path.write_bytes(path.read_bytes().split(b"outs:")[0])
    again(study)


def empty_run(study: Study) -> None:
    for path in (study.root / ".dvc/cache/runs").glob("*/*/*"):
        path.unlink()
    again(study)


def stray_run(study: Study) -> None:
    for path in list((study.root / ".dvc/cache/runs").glob("*/*/*")):
        (path.parent / "ab12.tmp").write_text("cmd: x\n")
    again(study)


LEFT: dict[str, Callable[[Study], None]] = {
    "dvc.lock half-written": cut_lock_file,
    "dvc.lock empty": emptied("dvc.lock"),
    "DVC's locks half-written": cut_locks,
    "DVC's locks empty": emptied(".dvc/tmp/rwlock"),
    "DVC's locks of a process that is gone": locked_by(2**22 - 1),
    "DVC's locks of a process whose number another has": locked_by(os.getpid()),
    "DVC's record of a run half-written": cut_runs,
    "DVC's record of a run not yet begun": empty_run,
    "DVC's record of a run half-written beside a whole one": stray_run,
}


@pytest.mark.fault("Kill")
@pytest.mark.parametrize("what", LEFT)
def test_what_a_killed_dvc_has_left_is_mended(what: str, tiny: Study, faults: Faults) -> None:
    whole = tiny.read("dvc.lock")
    with faults(f"left behind, mended by make repro: {what}"):
        LEFT[what](tiny)
        tiny.run(*REPRO)
        assert tiny.read("dvc.lock") == whole
        assert (tiny.read("a"), tiny.read("b")) == (b"1", b"12")
        assert tiny.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


def test_what_is_set_aside_is_said_and_kept(tiny: Study) -> None:
    cut_lock_file(tiny)
    half = tiny.read("dvc.lock")
    printed = tiny.run(*REPRO).stdout
    assert f"dvc.lock was left by a run that was cut short, and DVC cannot use it: set aside in {ASIDE}" in printed
    assert tiny.read(f"{ASIDE}/dvc.lock") == half


def test_a_conflict_that_git_has_marked_is_left_to_people(tiny: Study) -> None:
    conflict = b"<<<<<<< HEAD\n" + tiny.read("dvc.lock")
    (tiny.root / "dvc.lock").write_bytes(conflict)
    tiny.run(*REPRO, code=255)
    assert tiny.read("dvc.lock") == conflict


@pytest.mark.parametrize(
    "break_", [lambda dvc: (dvc / "config").write_text("[core"), shutil.rmtree], ids=["cut", "gone"]
)
def test_a_configuration_of_dvc_s_that_is_cut_or_gone_is_one_line(break_: Callable[[Path], Any], tiny: Study) -> None:
    break_(tiny.root / ".dvc")
    done = tiny.run(*REPRO, code=None)
    assert done.returncode in (251, 253)
    assert done.stderr.startswith("ERROR: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_stage_that_fails_is_tried_once(tiny: Study) -> None:
    (tiny.root / "dvc.yaml").write_text(TINY.replace("open('a').read() + '2'", "1 / 0"))
    printed = tiny.run(*REPRO, code=255).stdout
    assert printed.count("Running stage 'second'") == 1
    assert not (tiny.root / ASIDE).exists()


def test_it_goes_on_when_nobody_reads_what_it_prints(tiny: Study) -> None:
    whole = tiny.read("dvc.lock")
    again(tiny)
    shutil.rmtree(tiny.root / ".dvc/cache/runs")
    command = " ".join(map(shlex.quote, REPRO))
    done = tiny.run("bash", "-c", f"{command} | head -0; exit ${{PIPESTATUS[0]}}")
    assert done.stdout == done.stderr == ""
    assert tiny.read("dvc.lock") == whole


CHECK = "from commands import repro; repro.run_check = lambda: 7; repro.run(repro.main)"


@pytest.mark.parametrize("name", ["params.yaml", ".cache/checked"])
@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        pytest.param(lambda path: os.mkfifo(path), marks=pytest.mark.skipif(os.name == "nt", reason="has no pipes")),
    ],
)
def test_what_is_no_file_is_left_to_the_check(name: str, make: Callable[[Path], None], tiny: Study) -> None:
    (tiny.root / ".cache").mkdir(exist_ok=True)
    make(tiny.root / name)
    assert tiny.run(sys.executable, "-c", CHECK, code=7).stderr == ""


def start(study: Study, *command: str) -> subprocess.Popen[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=study.root, env=os.environ | {"PATH": path}, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )


def start_and_see(study: Study, *command: str) -> subprocess.Popen[str]:
    """The same, once its first stage runs."""
    process = start(study, *command)
    assert any("Running stage" in line for line in process.stdout or [])
    return process


def slow(study: Study) -> None:
    (study.root / "dvc.yaml").write_text(TINY.replace("sleep(0.1)", "sleep(2)"))


@pytest.mark.fault("Two at once", "two make repro in one clone: one waits")
def test_the_second_make_repro_waits_and_finds_all_done(tiny: Study) -> None:
    slow(tiny)
    both = [start(tiny, *REPRO) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    waiting = "another `make repro` works in this folder: waiting for it to end"
    assert sorted(text.count(waiting) for text in printed) == [0, 1]
    assert sorted(text.count("Running stage") for text in printed) == [0, 2]


@pytest.mark.fault("Two at once", "make repro beside a plain dvc repro: it waits")
def test_make_repro_waits_for_a_plain_dvc(tiny: Study) -> None:
    slow(tiny)
    plain = start_and_see(tiny, "dvc", "repro")
    ours = start(tiny, *REPRO)
    printed = ours.communicate(timeout=120)[0]
    plain.communicate(timeout=120)
    assert (plain.returncode, ours.returncode) == (0, 0), printed
    assert f"another DVC, process {plain.pid}, works in this folder: waiting for it to end" in printed


ROBBED = """
import os
from dvc.utils import serialize

dump, robbed = serialize.dump_yaml, []

def rob(path, *content):
    dump(path, *content)
    if "runs" in path and not robbed:
        os.unlink(path)
        robbed.append(path)

serialize.dump_yaml = rob
"""


@pytest.mark.fault("Two at once", "a record in DVC's cache that another DVC takes away as it is written")
def test_a_record_that_another_dvc_takes_away_is_written_again(tiny: Study) -> None:
    whole = tiny.read("dvc.lock")
    again(tiny)
    shutil.rmtree(tiny.root / ".dvc/cache/runs")
    printed = tiny.run(sys.executable, "-c", ROBBED + DVC).stdout
    assert printed.count("another DVC with the same cache was at work on the same record: starting again") == 1
    assert tiny.read("dvc.lock") == whole


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT to send")
def test_ctrl_c_ends_the_waiting(tiny: Study) -> None:
    slow(tiny)
    first = start_and_see(tiny, *REPRO)
    second = start(tiny, *REPRO)
    assert second.stdout is not None
    assert second.stdout.readline().startswith("another `make repro`")
    second.send_signal(signal.SIGINT)
    assert second.communicate(timeout=20)[0].splitlines()[-1] == "interrupted"
    assert second.returncode == 130
    first.communicate(timeout=60)
    assert first.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_killed_make_repro_leaves_the_turn_to_others(tiny: Study) -> None:
    slow(tiny)
    first = start_and_see(tiny, *REPRO)
    children = psutil.Process(first.pid).children(recursive=True)
    for process in [psutil.Process(first.pid), *children]:
        process.kill()
    first.communicate()
    assert "waiting" not in tiny.run(*REPRO).stdout
