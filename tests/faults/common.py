"""What the modules of this folder share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPEATS = int(os.environ.get("REPEATS", "1"))  # times as many of the faults that chance makes
PEAK = """
import re, runpy, sys
module, file, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    open(file, "w").write(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def one_line(text: str, *words: str) -> None:
    """Check that what was printed is one line that has some words."""
    assert text.startswith("error: ")
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()
    for word in words:
        assert word in text


def measured(folder: Path, module: str) -> tuple[int, str, float]:
    """Run a module in a folder: its exit code, its stderr, and the most memory that it took, MB."""
    peak = folder / "peak"
    command = [sys.executable, "-c", PEAK, module, str(peak)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    return done.returncode, done.stderr, int(peak.read_text()) / 1000
