"""What `make repro` runs: check the parameters, unless they were checked as they are, and go on to `dvc repro`.

It waits for its turn where another run works in the same folder, and starts again where DVC fails over files of its
own: one that a killed run has left half-written, which DVC asks people to remove by hand, is set aside.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from transfer.basics.console import UserError, one_line, run, say
from transfer.basics.files import is_full, write_text
from transfer.basics.processes import BEAT, lives, may_be_dvc

CHECKED = Path(".cache/checked")  # what was found in order: the check takes as long as all else where nothing is to do
TURN = Path(".cache/turn")  # whoever has it locked runs; the system takes the lock from a process that is gone
ASIDE = Path(".cache/damaged")
DVC_LOCKS = Path(".dvc/tmp/rwlock")  # which processes read and write what
RUNS = "runs"  # DVC's folder of records, in its cache
MISCONFIGURED, INTERRUPTED = 251, 252  # exit codes of DVC
TRIES = 10
SLACK = 2  # seconds by which the system may be wrong on when a process was started
LOOKED_AT = ("params.yaml", "dvc.yaml", "requirements/base.txt", "stages/*.py", "transfer/**/*.py")


def looked_at() -> str:
    """SHA-256 of all that the check depends on: files, and which predictions there are."""
    files = sorted({file for pattern in LOOKED_AT for file in Path().glob(pattern) if file.is_file()})
    predictions = sorted(file.name for file in Path("data/predictions").glob("*"))
    return hashlib.sha256(repr([[(file, file.read_bytes()) for file in files], predictions]).encode()).hexdigest()


def run_check() -> int:
    """Run the check; its exit code."""
    return subprocess.run([sys.executable, "-m", "stages.check"]).returncode


def check() -> int:
    """Run the check where something has changed since it last passed; its exit code."""
    found = looked_at()
    with suppress(OSError):
        if CHECKED.is_file() and CHECKED.read_text(errors="replace") == found:
            return 0
    if code := run_check():
        return code
    with suppress(UserError):  # then it is checked again the next time
        write_text(CHECKED, found)
    return 0


class Causes(logging.Handler):
    """Collects the exceptions behind what DVC says."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take one error with what has led to it."""
        error = record.exc_info[1] if record.exc_info else None
        while error:
            self.found.append(error)
            error = error.__cause__ or error.__context__


def reproduce(arguments: list[str]) -> tuple[int, list[BaseException]]:
    """`dvc repro`, its imports never searched for garbage: a tenth of a second less.

    Returns:
        its exit code, and the exceptions behind what it said.
    """
    gc.disable()
    for name in ("dvc.cli.parser", "dvc.repo"):
        import_module(name)
    gc.enable()
    gc.freeze()
    from dvc.cli import main as dvc
    from dvc.config import ConfigError

    causes = Causes()
    logging.getLogger("dvc").addHandler(causes)
    try:
        return dvc(["--wait-for-lock", "repro", *arguments]), causes.found
    except ConfigError as error:  # which DVC has told, and meets again on its way out
        return MISCONFIGURED, [error]
    finally:
        logging.getLogger("dvc").removeHandler(causes)


def _is_race(cause: BaseException) -> bool:
    """Whether DVC has lost a record of a run to another DVC with the same cache.

    Looking for a run that it knows, DVC takes the newest file among its records, one that another is about to write
    included: it removes what it finds half-written there, or finds it gone.
    """
    return isinstance(cause, FileNotFoundError) and RUNS in Path(cause.filename or "").parts


def _is_final(cause: BaseException) -> bool:
    """Whether trying again would help nothing: a stage has failed, there is no room for what DVC writes, or no DVC."""
    from dvc.config import ConfigError
    from dvc.exceptions import NotDvcRepoError
    from dvc.stage.exceptions import StageCmdFailedError

    return is_full(cause) or isinstance(cause, ConfigError | NotDvcRepoError | StageCmdFailedError)


@contextmanager
def in_turn() -> Iterator[None]:
    """Wait until no other `make repro` works in this folder.

    Raises:
        UserError: if nothing can be written here.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(TURN)
    try:
        TURN.parent.mkdir(exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say("another `make repro` works in this folder: waiting for it to end")
            lock.acquire()
    except OSError as error:
        raise UserError(f"nothing can be written in {Path.cwd()}: {one_line(error)}") from None
    try:
        yield
    finally:
        lock.release()


def await_others() -> bool:
    """Wait for processes that hold DVC's locks here, as a plain `dvc repro` does; whether there was one."""
    import psutil

    waited = False
    for number in _holders():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(number)
            if may_be_dvc(process) and process.create_time() < DVC_LOCKS.stat().st_mtime + SLACK:
                say(f"another DVC, process {number}, works in this folder: waiting for it to end")
                while lives(process):
                    time.sleep(BEAT)
                waited = True
    return waited


def _holders() -> set[int]:
    """Numbers of the processes that stand in DVC's locks, this one left out."""
    try:
        locks = json.loads(DVC_LOCKS.read_bytes())
        entries = [*locks["write"].values(), *(entry for entries in locks["read"].values() for entry in entries)]
        return {int(entry["pid"]) for entry in entries} - {os.getpid()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return set()


def mend() -> bool:
    """Set aside what DVC cannot read of its own files, or keeps for a process that is gone; whether there was any."""
    from dvc.repo import Repo

    with Repo() as repo:
        runs = Path(os.path.relpath(repo.cache.legacy.path), RUNS)
    found = False
    for folder, pattern, sound in (  # records before their folders, which may be empty then
        (DVC_LOCKS.parent, DVC_LOCKS.name, _sound_locks),
        (Path(), "dvc.lock", _sound_lock_file),
        (runs, "*/*/*", _sound_run),
        (runs, "*/*", lambda folder: any(folder.iterdir())),
    ):
        for path in [path for path in folder.glob(pattern) if not sound(path)]:
            ASIDE.mkdir(parents=True, exist_ok=True)
            shutil.move(path, ASIDE / path.name)
            say(f"{path} was left by a run that was cut short, and DVC cannot use it: set aside in {ASIDE}")
            found = True
    return found


def _sound_locks(path: Path) -> bool:
    """JSON, and of no process: whoever is there has been waited for."""
    return _parsed(path, json.loads) is not None and not _holders()


def _sound_lock_file(path: Path) -> bool:
    """A mapping, or text that Git has marked as in conflict, which is for people to settle."""
    return b"<<<<<<<" in path.read_bytes() or isinstance(_parsed(path, _yaml), dict)


def _sound_run(path: Path) -> bool:
    """What one run of a stage has made."""
    content = _parsed(path, _yaml)
    return isinstance(content, dict) and "outs" in content


def _parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _yaml(text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ValueError from error


def persevere(arguments: list[str]) -> int:
    """`dvc repro`, again where another run or a damaged file of DVC's own was in its way; its exit code.

    Where it fails, the check may tell why in better words: files of the user's own can have gone since it passed.
    """
    code, mended = 0, False
    for _ in range(TRIES):
        code, causes = reproduce(arguments)
        if not code:
            break
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if any(map(_is_final, causes)):
            return run_check() or code
        if any(map(_is_race, causes)):
            say("another DVC with the same cache was at work on the same record: starting again")
        elif not await_others():
            if mended or not mend():
                return run_check() or code
            mended = True
    return code


def main() -> None:
    """Give the command line's arguments to DVC, unless the check finds a mistake."""
    with in_turn():
        code = check() or persevere(sys.argv[1:])
    sys.exit(code)


if __name__ == "__main__":
    run(main, unread=True)
