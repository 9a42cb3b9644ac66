"""Processes end with those that started them, and on the signals that end a program, in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import psutil

PIPELINE = "DVC_STAGE"  # DVC sets it for the commands of its stages
BEAT = 0.5  # seconds between two looks at the parent
GRACE = 2  # seconds to end in order, before it is done the hard way


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: what Ctrl-C cleans up is to be cleaned up too."""


def end_in_order() -> None:
    """In a main process: take SIGTERM as Ctrl-C is taken, and as a stage of the pipeline end when DVC is gone."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    if PIPELINE in os.environ:
        threading.Thread(target=_end_with_pipeline, daemon=True).start()


def belong_to_parent() -> None:
    """In a process that another one has started: end when that one does, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the main one ends the others
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def lives(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that has ended and waits to be asked how has."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def may_be_dvc(process: psutil.Process) -> bool:
    """Whether a process may be DVC, by itself or in another program of Python's.

    An `init` or a container's first shell, which take in orphans, are not; nor is what may not be looked at.
    """
    import psutil

    try:
        return any("python" in word.lower() or "dvc" in word for word in process.cmdline()[:2])
    except psutil.Error:
        return False


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the cleaning short
    raise Terminated


def _end_with_parent() -> None:
    """End this process when the main one is gone: killed, it cannot end its workers, which would wait for ever."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _end_with_pipeline() -> None:
    """End this process when DVC is gone, or the shell that DVC has started it by.

    Killed, DVC cannot end its stage, which would go on unseen, and write where the next run writes. Killed before this
    looks, it has given its stage to a process that takes in orphans, which is not one of ours.
    """
    import psutil  # a hundredth of a second, which no stage waits for

    with suppress(psutil.Error):
        above = psutil.Process().parents()[:2]
        if not (above and _is_shell(above[0].cmdline())):
            del above[1:]
        while above and may_be_dvc(above[-1]) and all(map(_goes_on, above)):
            time.sleep(BEAT)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def _goes_on(process: psutil.Process) -> bool:
    """Whether a process was started together with this one, as by one command line, and has not ended."""
    try:
        return lives(process) and (not hasattr(os, "getpgid") or os.getpgid(process.pid) == os.getpgrp())
    except ProcessLookupError:
        return False


def _is_shell(command: list[str]) -> bool:
    """Whether a process was started to run a stage's command, as by `sh -c "python -m stages.split"`."""
    return any(word.startswith("python -m stages.") for word in command)
