"""Threads are fixed in libraries that are loaded later, and in those that are loaded already."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import numpy  # whose BLAS has as many threads as there are cores
from threadpoolctl import threadpool_info
from transfer.networks.threads import set_threads
set_threads(1)
import scipy.linalg
pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
assert pools and set(pools) == {1}, pools
"""


def test_every_blas_gets_the_threads() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
