"""What people see on the terminal: one-line errors, what a stage says, and progress."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, TypeVar

Item = TypeVar("Item")

USER_ERROR = 2  # exit code of a mistake that the user can correct


class UserError(Exception):
    """A mistake that the user can correct; its text is one line that says what, where and what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a command's `main`; end with exit code 2 and one line on a `UserError`, 130 on Ctrl-C.

    With `TRANSFER_TRACEBACK=1` in the environment the traceback is printed as well.
    """
    for stream in (sys.stdout, sys.stderr):  # signs that the terminal's encoding lacks are escaped
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            main()
        finally:
            sys.stdout.flush()  # what cannot be printed shows here, and not when Python ends
    except KeyboardInterrupt:
        _end_interrupted()
    except BrokenPipeError:  # whoever reads the output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except Exception as error:
        complaint = _complaint(error)
        if os.environ.get("TRANSFER_TRACEBACK") == "1" or not complaint:
            raise
        print("error:", "\n".join(map(shown, complaint.split("\n"))), file=sys.stderr, flush=True)
        sys.exit(USER_ERROR)


def _end_interrupted() -> NoReturn:
    """End at once: an exit in order would wait for threads that train."""
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(128 + signal.SIGINT)


def _end_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _end_interrupted()
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _end_uncaught  # for Ctrl-C while modules are still being imported


def _complaint(error: Exception) -> str:
    """What the user can do about an error; empty if it is a fault of the program."""
    if isinstance(error, MemoryError):
        return "memory ran out: close other programs, or ask for less (fewer shots, smaller images, a smaller network)"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk of {error.filename or Path.cwd()} is full: make room and run again"
    return str(error) if isinstance(error, UserError) else ""


def say(line: str) -> None:
    """Print one line at once, also when the output is a pipe."""
    print(line, flush=True)


def warn(line: str) -> None:
    """Print one line that is no answer, but to be known with it."""
    print(f"warning: {line}", file=sys.stderr, flush=True)


def shown(text: object, most: int | None = None) -> str:
    """Foreign text, fit to stand in a line.

    Line breaks, marks of direction and bytes that are not text are escaped; more than `most` characters are cut off.
    """
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(text))
    return line if most is None or len(line) <= most else f"{line[: most - 3]}..."


def one_line(error: Exception) -> str:
    """Why something failed, as the system or a library says it, in one line that is not long."""
    text = str(getattr(error, "strerror", None) or error).strip()
    return shown(text.splitlines()[0], 160) if text else type(error).__name__


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drop what is printed to stderr, from C++ too."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def counted(number: int, noun: str) -> str:
    """A number with its noun, as in `1 run` and `6 runs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def some(names: Sequence[str], most: int = 3) -> str:
    """Names as in `a, b`, and of many the first few, as in `a, b, c and 4 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def progress(items: Iterable[Item], label: str, unit: str, efforts: Sequence[float]) -> Iterator[Item]:
    """Yield `items`, showing a bar on a terminal and a plain line at every fifth of the effort in a pipe.

    Args:
        items: are yielded as they complete.
        label: stands at the beginning of the bar and of the lines.
        unit: what an item is called.
        efforts: about how much time each item takes, in any unit; the time left is told from it.
    """
    from tqdm import tqdm  # a twentieth of a second, which not every command needs

    terminal, total, whole = sys.stderr.isatty(), len(efforts), sum(efforts)
    form = "{desc} {percentage:3.0f}%|{bar}|{postfix} [{elapsed}<{remaining}]"
    with tqdm(total=whole, bar_format=form, desc=label, leave=False, disable=not terminal, dynamic_ncols=True) as bar:
        spent, said = 0.0, 0
        for done, (item, effort) in enumerate(zip(items, efforts, strict=True), 1):
            spent += effort
            state = f"{done:,} of {counted(total, unit)}"
            bar.set_postfix_str(state, refresh=False)
            bar.update(effort)
            fifths = 5 if done == total else int(spent * 5 / whole)  # rounding must not cost the last line
            if not terminal and fifths > said:
                said = fifths
                say(f"{label}: {state}")
            yield item
