"""Whole studies in odd surroundings: the same bytes as in ordinary ones, and one line where nothing can be written."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest
from conftest import Study, make_study, mounts
from PIL import Image
from ruamel.yaml import YAML
from tally import Faults

from transfer.basics.arrays import read_arrays

pytestmark = pytest.mark.fault("Clock and locale")

LOCALES = Path("/usr/share/i18n/locales/tr_TR")
SIGNS = " '\"$;&%#üı漢😀"


def made(study: Study) -> dict[str, str]:
    """The digest of everything that the stages have made."""
    stages = YAML(typ="safe").load(study.root / "dvc.lock")["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def within(study: Study, surroundings: str, *command: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run a command after some lines of shell."""
    return study.run("sh", "-c", f'{surroundings}\nexec "$@"', "sh", *command, code=code)


def one_line_or_none(text: str) -> bool:
    return "Traceback" not in text and "Exception ignored" not in text and text.count("error: ") <= 1


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Locales that a system seldom has, made for these tests."""
    if not shutil.which("localedef") or not LOCALES.is_file():
        pytest.skip("Debian's package locales is not installed")
    folder = tmp_path_factory.mktemp("locales")
    for charset in ("UTF-8", "ISO-8859-9"):
        subprocess.run(["localedef", "-i", "tr_TR", "-f", charset, str(folder / f"tr_TR.{charset}")], check=True)
    return folder


ODD = {
    "LC_ALL=C": "export LC_ALL=C",
    "LC_ALL=POSIX, and Python told not to mend it": "export LC_ALL=POSIX PYTHONUTF8=0 PYTHONCOERCECLOCALE=0",
    "a Turkish locale": "export LC_ALL=tr_TR.UTF-8",
    "a Turkish locale in ISO 8859-9": "export LC_ALL=tr_TR.ISO-8859-9 PYTHONUTF8=0",
    "umask 077": "umask 077",
    "umask 000": "umask 000",
    "no HOME": "unset HOME XDG_CACHE_HOME XDG_CONFIG_HOME",
    "a HOME that is not there": "export HOME=/nonexistent/home",
    "files from the future": "find . -exec touch -d 2099-01-01 {} +",
    "a terminal of 20 columns that can do nothing": "export TERM=dumb COLUMNS=20",
}


@pytest.mark.parametrize("odd", ODD)
def test_a_study_makes_the_same_bytes(finished: Study, locales: Path, tmp_path: Path, faults: Faults, odd: str) -> None:
    study = make_study(tmp_path / "study")
    with faults(odd):
        within(study, f"export LOCPATH={locales}\n{ODD[odd]}", "dvc", "repro")
        assert made(study) == made(finished)
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


@mounts
def test_a_home_that_cannot_be_written(finished: Study, tmp_path: Path, faults: Faults) -> None:
    study = make_study(tmp_path / "study")
    with faults("a HOME on a read-only file system"), read_only(tmp_path / "home"):
        within(study, f"export HOME={tmp_path}/home", "dvc", "repro")
        assert made(study) == made(finished)


def test_nothing_is_put_into_the_home_folder(finished: Study, tmp_path: Path) -> None:
    """But what DVC keeps there of its own."""
    home = tmp_path / "home"
    home.mkdir()
    with finished.nothing_remembered():
        for name in ("convert", "pretrain", "end_to_end", "report"):
            within(
                finished, f"unset XDG_CACHE_HOME XDG_CONFIG_HOME; export HOME={home}", "python", "-m", f"stages.{name}"
            )
    assert list(home.rglob("*")) == []


def test_no_terminal_at_all(finished: Study, tmp_path: Path, faults: Faults) -> None:
    study = make_study(tmp_path / "study")
    with faults("input, output and errors closed"):
        within(study, "exec <&- >&- 2>&-", "python", "-m", "commands.repro")
        assert made(study) == made(finished)


@pytest.mark.parametrize("length", [0, 200], ids=["signs", "long"])
def test_a_path_of_odd_signs(finished: Study, tmp_path: Path, faults: Faults, length: int) -> None:
    """Of the checkout and of temporary files."""
    folder = tmp_path / (SIGNS.ljust(length, "x") if length else SIGNS)
    study = make_study(folder / "study")
    temporary = folder / f"temporary{SIGNS}"
    temporary.mkdir()
    what = f"a path of {length} characters" if length else "a path with spaces, quotes, other signs and letters"
    with faults(what):
        within(study, f"export TMPDIR={shlex.quote(str(temporary))}", "dvc", "repro")
        assert made(study) == made(finished)
    assert list(temporary.iterdir()) == []


def test_images_and_a_model_at_a_path_of_odd_signs(finished: Study, tmp_path: Path, faults: Faults) -> None:
    """The same results as at an ordinary one."""

    def probabilities(signs: str) -> dict[str, bytes]:
        study, folder = make_study(tmp_path / f"study{len(signs)}"), f"mine{signs}"
        for number in range(60):
            path = study.root / folder / f"{number % 2}{signs}" / f"{number:02}{signs}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (28, 28), 4 * number).save(path)
        model = f"{folder}/model{signs}.keras"
        shutil.copy(finished.root / "models/source.keras", study.root / model)
        study.set(data__target__name="folder", data__target__path=folder, data__target__classes="all")
        study.set(data__source__name="none", source__model=model)
        study.run("dvc", "repro")
        files = (study.root / "data/predictions").glob("*.npz")  # the models hold the names of the classes
        return {file.stem: read_arrays(file, "probabilities")["probabilities"].tobytes() for file in files}

    with faults("images and a model of your own at such a path"):
        assert probabilities(SIGNS) == probabilities("")


# --- The clock -------------------------------------------------------------------------------------------------------


SHIFT = """
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    char seconds[32] = {0};
    long failed = syscall(SYS_clock_gettime, clock, now);
    int file = clock == CLOCK_REALTIME ? open(getenv("CLOCK"), O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return failed;
    if (read(file, seconds, sizeof seconds - 1) > 0) now->tv_sec += atol(seconds);
    close(file);
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"""


@pytest.fixture(scope="session")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Lines of shell for a clock that is off, and the file that says by how many seconds."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "shift.c").write_text(SHIFT)
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O1", "shift.c", "-o", "shift.so"]
    subprocess.run(command, cwd=folder, check=True, env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(folder / "zig")})
    return f"export LD_PRELOAD={folder}/shift.so CLOCK={folder}/seconds", folder / "seconds"


@pytest.mark.skipif(sys.platform != "linux", reason="the clock is set by means of Linux")
def test_a_clock_before_1980_is_one_line(finished: Study, shifted: tuple[str, Path], faults: Faults) -> None:
    """Zip files, which models are, cannot state such a time."""
    surroundings, seconds = shifted
    seconds.write_text(str(86_400 - int(time.time())))
    with faults("a clock of 1970"):
        said = within(finished, surroundings, "python", "-m", "stages.pretrain", code=2)
        assert said.stderr.startswith("error: models/source.keras cannot be written: the clock says 1970")
        assert said.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the clock is set by means of Linux")
def test_a_clock_that_is_set_while_a_study_runs(
    finished: Study, shifted: tuple[str, Path], tmp_path: Path, faults: Faults
) -> None:
    study, (surroundings, seconds), over = make_study(tmp_path / "study"), shifted, threading.Event()
    seconds.write_text("0")

    def set_the_clock() -> None:
        for shift in cycle(("-86400", "400000000", "0")):
            if over.wait(2):
                return
            seconds.write_text(shift)

    thread = threading.Thread(target=set_the_clock)
    thread.start()
    try:
        with faults("a clock set to a day back, to 2039 and right again, over and over"):
            within(study, surroundings, "dvc", "repro")
            assert made(study) == made(finished)
    finally:
        over.set()
        thread.join()


# --- Nowhere to write ------------------------------------------------------------------------------------------------


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder on a file system that is mounted for reading alone."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@mounts
def test_a_checkout_that_cannot_be_written(finished: Study, tmp_path: Path, faults: Faults) -> None:
    """Commands that only read work; what writes says in one line that it cannot."""
    root = tmp_path / "study"
    shutil.copytree(finished.root, root, symlinks=True)
    (root / "results/metrics.json").unlink()
    study = Study(root)
    image = tmp_path / "image.png"
    Image.new("L", (28, 28), 100).save(image)
    with read_only(root):
        for words in (("predict", str(image)), ("--help",), ("predict", "--help")):
            with faults("a read-only checkout, for a command that reads"):
                done = study.run("python", "-m", "commands", *words)
                assert one_line_or_none(done.stderr)
        for name in ("convert", "split", "pretrain", "extract", "end_to_end", "evaluate", "report"):
            with faults("a read-only checkout, for a stage"):
                done = study.run("python", "-m", f"stages.{name}", code=2)
                assert one_line_or_none(done.stderr), done.stderr
                assert "Read-only file system" in done.stderr
        with faults("a read-only checkout, for make repro"):
            done = study.run("python", "-m", "commands.repro", code=None)
            assert done.returncode != 0
            assert one_line_or_none(done.stderr), done.stderr
            assert "ead-only file system" in done.stderr


@pytest.mark.parametrize("command", ["commands --help", "commands completion bash", "commands predict IMAGE"])
def test_an_output_that_is_full_is_one_line_and_one_that_is_gone_is_the_end(
    finished: Study, tmp_path: Path, faults: Faults, command: str
) -> None:
    image = tmp_path / "image.png"
    Image.new("L", (28, 28), 100).save(image)
    command = command.replace("IMAGE", shlex.quote(str(image)))
    with faults("output to a disk that is full"):
        full = finished.run("sh", "-c", f"python -m {command} >/dev/full", code=2)
        assert full.stderr == "error: the output cannot be written: No space left on device\n"
    with faults("a reader of the output that goes away"):
        gone = finished.run("bash", "-c", f"set -o pipefail; python -m {command} | true", code=0)
        assert gone.stderr == ""
    with faults("input, output and errors closed"):
        finished.run("sh", "-c", f"exec <&- >&- 2>&-; python -m {command}")


@pytest.mark.parametrize(
    ("where", "what"),
    [(">/dev/full", "output to a disk that is full"), ("| true", "a reader of the output that goes away")],
)
def test_a_stage_goes_on_without_its_output(finished: Study, faults: Faults, where: str, what: str) -> None:
    before = finished.read("data/source.npz")
    with faults(what):
        done = finished.run("bash", "-c", f"set -o pipefail; python -m stages.split {where}")
        assert done.stderr == ""
        assert finished.read("data/source.npz") == before
