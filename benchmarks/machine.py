"""What the benchmarks ran on; no name of a machine or a user."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import psutil

from benchmarks.workspace import cores

LIBRARIES = ("tensorflow", "keras", "torch", "numpy", "scikit-learn", "dvc")


def machine() -> dict[str, str]:
    """Processor, cores, memory and operating system."""
    instructions = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    return {
        "processor": _processor() + (f", {instructions[-1]}" if instructions else ""),
        "cores": str(cores()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{_distribution()}, {platform.system()} {platform.release().split('-')[0]}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or not x86
        return platform.processor() or platform.machine()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.platform(terse=True)


def versions() -> dict[str, str]:
    """Of Python and of the libraries that are timed, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
