"""TensorFlow and Keras are imported without what they can do without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import gc, sys
import scipy
from transfer.networks.backend import OPTIONAL, keras, tf
assert sys.modules["scipy"] is scipy  # what was there before stays
assert not {"pandas", "sklearn"} & sys.modules.keys(), "imported for nothing"
assert {"pandas", "scipy", "sklearn"} == set(OPTIONAL)
assert gc.isenabled()
import pandas, sklearn.base  # what was hidden can be had afterwards
"""


def test_the_backend_leaves_optional_packages_alone() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
