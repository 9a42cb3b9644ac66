"""The whole pipeline with real DVC, in temporary repositories, on synthetic digits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil  # which DVC brings
import pytest
from conftest import SMALL, STRATEGIES, Study

from transfer.files import write_arrays

SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")

REPRODUCE_EXPORTED = """
import sys, keras, numpy as np
for strategy in sys.argv[1:]:
    stored = np.load(f"data/predictions/{strategy}.npz")
    run = np.flatnonzero((stored["shots"] == stored["shots"].max()) & (stored["seed"] == 0))[0]
    images = np.load("data/target_test_images.npz")["images"]
    model = keras.models.load_model(f"models/{strategy}.keras")
    assert images.dtype == np.uint8 and model.input.dtype == "uint8", model.input.dtype
    np.testing.assert_allclose(model.predict(images, verbose=0), stored["probabilities"][run], atol=1e-5)
"""

NEAREST_MEAN = '''
"""Nearest class mean on frozen features: a strategy that trains nothing."""

from functools import partial

import numpy as np
from scipy.special import softmax

from transfer.models.features import save_classifier
from transfer.params import Section
from transfer.training.runs import Run
from transfer.training.task import Prepared

ENGINE = "scikit-learn"
SUMMARY = "compare with the mean of every class"
NEEDS = ["labels", "source model"]


class Params(Section):
    """The `nearest_mean` section."""

    layer: str


def prepare(task, params):
    """On the features of one layer."""
    features, scaling = task.features(params.layer)
    export = partial(save_classifier, body=partial(task.backbone, params.layer), scaling=scaling)
    return Prepared(partial(fit, features=features), export)


def fit(draws, *, features, workers=1):
    """The run of each draw."""
    for draw in draws:
        x = features.train[draw.rows]
        means = np.stack([x[draw.labels == name].mean(axis=0) for name in np.unique(draw.labels)])
        weights = [2 * means.T, -(means**2).sum(axis=1)]
        probabilities = softmax(features.test @ weights[0] + weights[1], axis=-1)
        yield Run(probabilities, weights, means.size, 0, len(x), train_seconds=0.5, predict_seconds=0.1)
'''


def test_a_first_run_makes_everything_and_a_second_runs_nothing(finished: Study) -> None:
    cells = pd.read_csv(finished.root / "results/cells.csv")
    assert {*cells["strategy"]} == {*STRATEGIES}
    assert len(cells) == len(STRATEGIES) * len(SMALL["split.shots"]) * SMALL["split.seeds"]
    assert cells.notna().all().all()
    assert cells["accuracy"].between(0, 1).all()
    metrics = json.loads(finished.read("results/metrics.json"))
    assert set(metrics) == {*STRATEGIES, "source"}
    assert metrics["scratch"]["shots_0003"] == pytest.approx(
        cells.query("strategy == 'scratch' and shots == 3")["accuracy"].mean(), abs=1e-6
    )
    seconds = json.loads(finished.read("results/seconds.js").decode().removeprefix("window.SECONDS = ").strip(";\n"))
    assert {name: [*each] for name, each in seconds.items()} == {name: ["1", "3", "4"] for name in STRATEGIES}
    stored = [np.load(finished.root / f"data/predictions/{name}.npz") for name in STRATEGIES]
    assert all((each[key] == stored[0][key]).all() for each in stored for key in ("shots", "seed"))
    assert finished.repro() == []
    assert finished.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_a_frozen_backbone_keeps_its_weights_bit_for_bit_and_fine_tuning_moves_every_layer(finished: Study) -> None:
    from transfer.models.networks import load_model

    source, *trained, tuned = (
        load_model(finished.root / f"models/{name}.keras")
        for name in ("source", "feature_extraction", "dense_head", "end_to_end")
    )
    for layer in ("convolution1", "convolution2"):
        before = [weight.tobytes() for weight in source.get_layer(layer).get_weights()]
        assert all([weight.tobytes() for weight in model.get_layer(layer).get_weights()] == before for model in trained)
    for layer in ("convolution1", "convolution2", "dense1"):
        before, after = source.get_layer(layer).get_weights()[0], tuned.get_layer(layer).get_weights()[0]
        assert before.shape == after.shape
        assert (before != after).any(), layer


def test_a_new_strategy_is_a_module_a_section_and_a_stage(finished: Study) -> None:
    (finished.root / "transfer/strategies/nearest_mean.py").write_text(NEAREST_MEAN)
    stage = (finished.root / "stages/feature_extraction.py").read_text()
    (finished.root / "stages/nearest_mean.py").write_text(stage.replace("feature_extraction", "nearest_mean"))

    def add_stage(content: dict) -> None:
        like = content["stages"]["feature_extraction"]
        content["stages"]["nearest_mean"] = {
            "cmd": "python -m stages.nearest_mean",
            "params": ["nearest_mean"],
            "deps": [dep.replace("feature_extraction", "nearest_mean") for dep in like["deps"]],
            "outs": ["data/predictions/nearest_mean.npz", "models/nearest_mean.keras"],
        }
        content["stages"]["extract"]["params"].append("nearest_mean.layer")

    finished.edit_yaml("dvc.yaml", add_stage)
    finished.edit_yaml("params.yaml", lambda content: content.update(nearest_mean={"layer": "block2"}))
    finished.run(sys.executable, "-m", "stages.check")
    assert finished.repro() == ["extract", "nearest_mean", "further", "evaluate", "report"]
    assert "nearest_mean" in json.loads(finished.read("results/metrics.json"))
    assert "| nearest_mean | 1 |" in finished.read("results/report.md").decode()
    finished.run(sys.executable, "-c", REPRODUCE_EXPORTED, "nearest_mean")

    finished.run("git", "checkout", "-q", ".")
    finished.run("git", "clean", "-qfd")
    gone = finished.run(sys.executable, "-m", "stages.check", code=2)
    assert gone.stderr.startswith("error: data/predictions/nearest_mean.npz is made by no stage of dvc.yaml")
    (finished.root / "data/predictions/nearest_mean.npz").unlink()
    finished.repro()
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_a_wrong_parameter_is_one_line_and_exit_code_2(finished: Study) -> None:
    finished.set(split__shots=[1, 25])
    done = finished.run(sys.executable, "-m", "stages.split", code=2)
    finished.run("git", "checkout", "-q", "params.yaml")
    assert "use at most 24" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("convert", "data/raw/mnist.npz"),
        ("evaluate", "models/source.json"),
    ],
)
def test_an_input_that_is_missing_or_something_else_is_one_line(finished: Study, stage: str, file: str) -> None:
    path, content = finished.root / file, finished.read(file)
    for wrong in (None, b"<html>503</html>"):
        path.unlink()  # not written over: the cache may be linked to it
        if wrong is not None:
            path.write_bytes(wrong)
        done = finished.run(sys.executable, "-m", f"stages.{stage}", code=2)
        assert done.stderr.startswith(f"error: {file} "), done.stderr
        assert len(done.stderr.splitlines()) == 1
        path.write_bytes(content)
    finished.repro()
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_a_failing_stage_leaves_git_clean_of_data(finished: Study) -> None:
    finished.set(end_to_end__steps=0)
    done = finished.run("dvc", "repro", code=None)
    assert done.returncode != 0
    assert "end_to_end.steps is 0, but must be greater than or equal to 1" in done.stderr
    assert finished.run("git", "status", "--porcelain").stdout.split() == ["M", "params.yaml"]
    finished.run("git", "checkout", "-q", "params.yaml")
    finished.repro()


def test_long_stages_say_how_far_they_are(finished: Study) -> None:
    with finished.nothing_remembered():
        printed = finished.run("dvc", "repro", "--force", "--single-item", "dense_head").stdout
    lines = printed.split("> python -m stages.dense_head\n")[1].splitlines()
    assert lines[0] == "dense_head: train new dense layers on frozen features (block2, float32)"
    assert lines[1] == "dense_head: 6 runs of up to 4 shots"
    assert "dense_head: 6 of 6 runs" in lines
    assert finished.run("git", "status", "--porcelain").stdout == ""


@pytest.fixture
def long(finished: Study) -> Iterator[Study]:
    """The study with parameters that take minutes of training; none is remembered."""
    finished.set(
        end_to_end__steps=100_000,
        feature_extraction__l2=[10.0**-power for power in range(9)] * 11,
        feature_extraction__max_iterations=1_000_000,
        feature_extraction__tolerance=1e-12,
        compute__remember=0,
    )
    yield finished
    finished.run("git", "checkout", "-q", "params.yaml")


def begin(study: Study, stage: str) -> subprocess.Popen[str]:
    """Start a stage as a terminal does."""
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=study.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C: the stage must end at once, quietly, with all that it has started."""
    os.killpg(process.pid, signal.SIGINT)
    before = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - before < 2
    assert (process.returncode, errors) == (130, "interrupted\n")
    while left := [each for each in psutil.process_iter() if session(each) == process.pid]:
        assert time.monotonic() - before < 5, left


def test_a_source_model_that_is_poor_on_its_own_task_is_warned_of(finished: Study) -> None:
    source = dict(np.load(finished.root / "data/source.npz"))
    for part in ("train", "validation"):
        source[f"{part}_labels"] = np.random.default_rng(0).permutation(source[f"{part}_labels"])
    (finished.root / "data/source.npz").unlink()
    write_arrays(finished.root / "data/source.npz", **source)
    printed = finished.run(sys.executable, "-m", "stages.pretrain").stdout
    (note,) = json.loads(finished.read("models/source.json"))["notes"]
    assert note.startswith("The source model has an accuracy of only ")
    assert f"warning: {note}" in printed
    finished.run("dvc", "checkout", "-q", "--force")


@SIGNALS
@pytest.mark.parametrize(
    ("stage", "seconds"), [("end_to_end", 1), ("feature_extraction", 0.2), ("feature_extraction", 3)]
)
def test_ctrl_c_ends_a_training_at_once_and_quietly(long: Study, stage: str, seconds: float) -> None:
    process = begin(long, stage)
    assert process.stdout is not None
    while "runs of up to" not in process.stdout.readline():
        assert process.poll() is None, process.communicate()
    time.sleep(seconds)
    interrupt(process)


@pytest.mark.skipif(sys.platform != "linux", reason="has no /proc that tells what a process has loaded")
def test_ctrl_c_ends_the_import_of_tensorflow_quietly(finished: Study) -> None:
    process = begin(finished, "end_to_end")
    while "libtensorflow" not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    interrupt(process)


def session(process: psutil.Process) -> int:
    """The session that a process is of; 0 for one that has ended."""
    try:
        return os.getsid(process.pid) if process.status() != psutil.STATUS_ZOMBIE else 0
    except (psutil.NoSuchProcess, ProcessLookupError):
        return 0
