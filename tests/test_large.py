"""A target of 400,000 images: how much memory the stages take that read or write all of it.

Counted is the private memory of each process (`RssAnon` of Linux: its heaps and stacks), asked for fifty times
a second. Pages of files that are mapped do not count: the system drops them when it wants the room.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil  # which DVC brings
import pytest
from conftest import CODE, ROOT, SMALL, Study, synthetic_digits

from transfer import cnn
from transfer.basics.arrays import write_arrays
from transfer.networks import engines
from transfer.networks.layers import fresh_weights, write_network
from transfer.target import few_shot, write_target

IMAGES = 400_000
LIMITS = {"native": 150, "keras": 500}  # MB of any process; all images would be 314 more, all features 1,280
SETTINGS = SMALL | {
    "cnn.blocks": [{"filters": 50, "kernel": 3, "pool": 6}],  # 4 × 4 × 50 features an image, quickly computed
    "feature_extraction.tap": "block1",
    "dense_head.tap": "block1",
    "compute.workers": 1,
    "compute.remember": 100,
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells private memory apart"),
]


ARCHITECTURE = cnn.Params.model_validate({"blocks": SETTINGS["cnn.blocks"], "dense": SETTINGS["cnn.dense"]})
LAYERS = cnn.layers(ARCHITECTURE, image_shape=(28, 28, 1), classes=5)
WEIGHTS = fresh_weights(LAYERS.weights, 0)
LIMIT = LIMITS[engines.Params(engine="auto", precision="float32").engine_for(LAYERS).name]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """The stages in a folder, an untrained source model, and a large target; deleted when done, as it takes 1.6 GB."""
    from transfer.networks.models import save_model

    root = tmp_path_factory.mktemp("large")
    for name in CODE[:4]:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    study = Study(root)
    study.set(**{key.replace(".", "__"): value for key, value in SETTINGS.items()})
    save_model(root / "models/source.keras", LAYERS.build("source", WEIGHTS))
    write_network(root / "models/source.npz", LAYERS, WEIGHTS)
    images, labels = synthetic_digits(24, seed=0)
    tiled = np.resize(images, (IMAGES, 28, 28))[..., np.newaxis]
    write_target(root / "data/target_train", few_shot(tiled, np.resize(labels % 5, IMAGES), [*"56789"], [4], 2))
    write_arrays(root / "data/target_test_images.npz", images=images[..., np.newaxis])
    yield study
    shutil.rmtree(root)


def peak(study: Study, stage: str) -> float:
    """Run a stage; the most private memory that one of its processes ever had, MB."""
    env = os.environ | {"PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": ""}
    highest = 0
    with subprocess.Popen([sys.executable, "-m", f"stages.{stage}"], cwd=study.root, env=env) as process:
        stage_process = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                tree = [stage_process, *stage_process.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            highest = max(highest, *(private(each.pid) for each in tree))
            time.sleep(0.02)
    assert process.returncode == 0
    return highest / 1000


def private(process: int) -> int:
    """Private memory of a process, kB; 0 when it has ended."""
    try:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) if found else 0


def test_features_are_extracted_batch_by_batch(study: Study) -> None:
    assert peak(study, "extract") < LIMIT
    assert (study.root / "data/features/block1_train.npy").stat().st_size > IMAGES * 800 * 4


@pytest.mark.parametrize("stage", ["dense_head", "end_to_end"])
def test_cells_read_the_rows_that_they_need(study: Study, stage: str) -> None:
    assert peak(study, stage) < LIMIT
