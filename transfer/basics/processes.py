"""Processes that another process starts and that are to end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def belong_to_parent() -> None:
    """In a process that another one has started: end when that one does, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the main one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the main one is gone: killed, it cannot end its workers, which would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
