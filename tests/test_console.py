from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import refused
from hypothesis import given
from hypothesis import strategies as st

from transfer.console import UserError, one_line, progress, quiet_stderr, run, shown
from transfer.files import read_arrays, write_arrays, write_text, write_whole


def fail() -> None:
    raise UserError("this is wrong: do that")


def test_a_user_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(fail)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: this is wrong: do that\n"


def test_the_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFER_TRACEBACK", "1")
    with pytest.raises(UserError):
        run(fail)


def test_ctrl_c_while_a_stage_imports_its_first_library_prints_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "stages.convert"]
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    next(line for line in process.stderr if "numpy" in line)
    process.send_signal(signal.SIGINT)
    rest = [line for line in process.stderr if not line.startswith("import time:")]
    assert (process.wait(), rest) == (130, ["interrupted\n"])


@given(st.text(), st.none() | st.integers(4, 20))
def test_anybody_s_text_is_shown_in_one_line_of_signs(text: str, most: int | None) -> None:
    line = shown(text, most)
    assert line.isprintable()
    assert most is None or len(line) <= most
    if text.isprintable() and len(text) <= (most or len(text)):
        assert line == text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("\n first\x1b[31m\nsecond"), "first\\x1b[31m"),
        (ValueError("carriage\r\nreturn"), "carriage"),
        (PermissionError(errno.EACCES, "Permission denied", "/some/where"), "Permission denied"),
        (EOFError(), "EOFError"),
        (ValueError(" \n "), "ValueError"),
        (ValueError("x" * 1000), "x" * 157 + "..."),
    ],
)
def test_an_error_is_told_in_one_line(error: Exception, said: str) -> None:
    assert one_line(error) == said


def test_what_is_printed_below_python_can_be_dropped_and_comes_again(capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(ValueError), quiet_stderr():
        os.write(2, b"from C")
        raise ValueError
    os.write(2, b"again")
    assert capfd.readouterr().err == "again"


def test_progress_in_a_pipe_is_a_line_at_every_fifth(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(10), "dense_head", "run", [1.0] * 10)) == list(range(10))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"dense_head: {done} of 10 runs" for done in (2, 4, 6, 8, 10)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_on_a_terminal_is_a_bar_with_runs_and_time() -> None:
    import pty
    import termios

    code = (
        "import time\n"
        "from transfer.console import progress\n"
        "for _ in progress(range(4), 'dense_head', 'run', [1, 1, 1, 1]): time.sleep(0.2)\n"
    )
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while block := os.read(ours, 4096):
            shown += block
    assert process.wait() == 0, shown
    assert b"3 of 4 runs" in shown
    assert b"%|" in shown
    assert b"<00:0" in shown  # time left


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "zwölf\n")
    assert path.read_bytes() == "zwölf\n".encode()

    def half(partial: Path) -> None:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    refused(lambda: write_whole(path, half), "file.txt cannot be written: No space left on device")
    assert path.read_bytes() == "zwölf\n".encode()
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"

    def fill(*names: str) -> Callable[[Path], None]:
        def write(partial: Path) -> None:
            partial.mkdir()
            for name in names:
                (partial / name).write_text(name)
            if "broken" in names:
                raise OSError(errno.ENOSPC, "No space left on device")

        return write

    write_whole(path, fill("a", "b"))
    refused(lambda: write_whole(path, fill("broken")), "folder cannot be written: No space left on device")
    assert sorted(file.name for file in path.iterdir()) == ["a", "b"]
    fill("left by a run that was killed")(tmp_path / ".folder.partial")
    write_whole(path, fill("c"))
    assert [file.name for file in path.iterdir()] == ["c"]
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_come_back_and_their_file_is_repeatable(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    for name in ("a.npz", "b.npz"):
        write_arrays(tmp_path / name, x=array)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert (read_arrays(tmp_path / "a.npz", "x")["x"] == array).all()
    # The same on every Python: dvc.lock must not change with the machine's patch release.
    assert hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()[:16] == "7806706fbddf5afd"


def test_a_bad_array_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.npz is missing: `dvc repro` makes it"):
        read_arrays(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(UserError, match=r"a\.npz cannot be read"):
        read_arrays(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", y=np.zeros(2))
    with pytest.raises(UserError, match="x is not a file"):
        read_arrays(tmp_path / "a.npz", "x")
