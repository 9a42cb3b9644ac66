"""TensorFlow and Keras are imported without what they can do without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from transfer.running.shipping import shipping

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


FILES_ALONE = """
import os, sys
os.environ["TRANSFER_FILES_ALONE"] = "1"
{before}
from transfer.networks.backend import keras, tf
assert keras.backend.backend() == "{backend}", keras.backend.backend()
assert (tf is None) == ("{backend}" == "numpy")
keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save("{path}")
"""


@pytest.mark.parametrize(
    ("backend", "before"), [("numpy", ""), ("tensorflow", "sys.modules['scipy'] = None  # which Keras on NumPy needs")]
)
def test_what_only_writes_files_has_keras_without_tensorflow_if_it_can(
    backend: str, before: str, tmp_path: Path
) -> None:
    code = FILES_ALONE.format(backend=backend, before=before, path=tmp_path / "model.keras")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.keras").is_file()


WRITE = """
import sys
from pathlib import Path

import pytest
import numpy as np
from transfer import fine_tuning
from transfer.features import Scaling
from transfer.networks.layers import Convolution, Layers, fresh_weights
from transfer.strategies import dense_head, feature_extraction

folder = Path(sys.argv[1])
cnn = Layers((28, 28, 1), (Convolution(4, 5, 2), Convolution(6, 3, 2)), (8,), 3, 0.0)
deep = Layers((28, 28, 3), (Convolution(3, 3, 3),), (9, 7), 2, 0.5)
weights = {layers: fresh_weights(layers.weights, 1) for layers in (cnn, deep)}
cnn.save("source", weights[cnn], path=folder / "source.keras")
deep.save("deep", weights[deep], path=folder / "deep.keras")
fine_tuning.ship(weights[cnn], layers=cnn, name="end_to_end", path=folder / "end_to_end.keras")
on = {"source": folder / "source.keras", "tap": "block2"}
width = 5 * 5 * 6
scaling = Scaling(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(0.5, 2, width, dtype=np.float32))
head = fresh_weights([(width, 7), (7,), (7, 3), (3,)], 2)
dense_head.ship(head, scaling=scaling, path=folder / "dense_head.keras", **on)
probe = fresh_weights([(width, 3), (3,)], 3)
feature_extraction.ship(probe, scaling=scaling, path=folder / "feature_extraction.keras", **on)
"""


def test_model_files_have_the_same_bytes_with_and_without_tensorflow(tmp_path: Path) -> None:
    files = []
    for name, environment in [("with", {}), ("without", {"TRANSFER_FILES_ALONE": "1"})]:
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, "-c", WRITE, str(folder)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        files.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert len(files[0]) == 5
    assert files[0] == files[1]


def keras_of_this_process() -> tuple[str, bool]:
    from transfer.networks.backend import keras, tf

    return keras.backend.backend(), tf is None


def test_the_process_that_ships_models_has_no_tensorflow() -> None:
    with shipping() as process:
        assert process.submit(keras_of_this_process).result() == ("numpy", True)
