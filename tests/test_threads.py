"""Threads are fixed in libraries that are loaded later, and in those that are loaded already."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import sys
import numpy  # whose BLAS has as many threads as there are cores
from threadpoolctl import threadpool_info
from transfer.threads import set_threads
set_threads(int(sys.argv[1]))
import scipy.linalg
pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
assert pools and set(pools) == {int(sys.argv[1])}, pools
"""


@pytest.mark.parametrize("count", ["1", "3"])
def test_every_blas_gets_the_threads(count: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, count], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
