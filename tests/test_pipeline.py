"""The whole pipeline with real DVC, in temporary repositories, on synthetic digits."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, SMALL, Study

STRATEGIES = sorted(file.stem for file in (ROOT / "transfer/strategies").glob("*.py"))
CHARTS = ["accuracy", "confusion", "cost", "errors", "gains", "reliability", "taps"]
RESULTS = [
    "cells.csv",
    "metrics.json",
    "report.html",
    "report.md",
    "taps.csv",
    *(f"charts/{name}.svg" for name in CHARTS),
]

REPRODUCE_SHIPPED = """
import sys, keras, numpy as np
strategy = sys.argv[1]
stored = np.load(f"data/predictions/{strategy}.npz")
cell = np.flatnonzero((stored["shots"] == stored["shots"].max()) & (stored["seed"] == 0))[0]
images = np.load("data/target_test_images.npz")["images"]
model = keras.models.load_model(f"models/{strategy}.keras")
assert images.dtype == np.uint8 and model.input.dtype == "uint8", model.input.dtype
probabilities = model.predict(images, verbose=0)
print(np.abs(probabilities - stored["probabilities"][cell]).max())
"""

NEAREST_MEAN = '''
"""Nearest class mean on frozen features: a strategy that trains nothing."""

from pathlib import Path

import numpy as np

from transfer.cells import Cell
from transfer.features import Features
from transfer.basics.params import Section
from transfer.predictions import softmax
from transfer.target import Draw


class Params(Section):
    """The `nearest_mean` section."""

    tap: str


def fit(draw: Draw, *, features: Features) -> Cell:
    """Compare with the mean of every class."""
    x = features.train[draw.rows]
    means = np.stack([x[draw.labels == name].mean(axis=0) for name in np.unique(draw.labels)])
    distances = ((features.test[:, np.newaxis] - means) ** 2).sum(axis=2)
    return Cell(softmax(-distances), [means], 0, len(x))


def ship(weights: list[np.ndarray], *, path: Path) -> None:
    """Nothing but the means."""
    path.write_bytes(weights[0].tobytes())
'''


def test_a_first_run_makes_everything(finished: Study) -> None:
    cells = pd.read_csv(finished.root / "results/cells.csv")
    assert sorted(cells["strategy"].unique()) == STRATEGIES
    assert len(cells) == len(STRATEGIES) * len(SMALL["split.shots"]) * SMALL["split.seeds"]
    assert cells.notna().all().all()
    assert cells["accuracy"].between(0, 1).all()
    metrics = json.loads(finished.read("results/metrics.json"))
    assert set(metrics) == {*STRATEGIES, "source"}
    assert metrics["scratch"]["shots_3"] == pytest.approx(
        cells.query("strategy == 'scratch' and shots == 3")["accuracy"].mean(), abs=1e-6
    )
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_every_strategy_gets_the_same_cells_in_the_same_order(finished: Study) -> None:
    stored = [np.load(finished.root / f"data/predictions/{name}.npz") for name in STRATEGIES]
    for other in stored[1:]:
        assert (other["shots"] == stored[0]["shots"]).all()
        assert (other["seed"] == stored[0]["seed"]).all()
        assert other["probabilities"].shape == stored[0]["probabilities"].shape


def test_a_second_run_does_nothing(finished: Study) -> None:
    assert finished.repro() == []
    assert finished.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_shipped_model_gives_its_cell_s_predictions_in_a_new_process(finished: Study, strategy: str) -> None:
    printed = finished.run(sys.executable, "-c", REPRODUCE_SHIPPED, strategy).stdout
    assert float(printed.split()[-1]) < 1e-5


@pytest.mark.parametrize("strategy", ["feature_extraction", "dense_head"])
def test_a_frozen_backbone_keeps_its_weights_bit_for_bit(finished: Study, strategy: str) -> None:
    from transfer.networks.models import check_frozen, load_model

    source, shipped = (load_model(finished.root / f"models/{name}.keras") for name in ("source", strategy))
    assert check_frozen(source, shipped) == ["convolution1", "convolution2"]


def test_fine_tuning_moves_every_layer(finished: Study) -> None:
    from transfer.networks.models import load_model

    source, tuned = (load_model(finished.root / f"models/{name}.keras") for name in ("source", "end_to_end"))
    for layer in ("convolution1", "convolution2", "dense1"):
        before, after = source.get_layer(layer).get_weights()[0], tuned.get_layer(layer).get_weights()[0]
        assert before.shape == after.shape
        assert (before != after).any(), layer


def test_a_new_strategy_is_a_module_a_section_and_a_stage(finished: Study) -> None:
    (finished.root / "transfer/strategies/nearest_mean.py").write_text(NEAREST_MEAN)
    stage = (finished.root / "stages/feature_extraction.py").read_text()
    a, b = stage.index("    fit = partial("), stage.index("    model = Path(")
    stage = (
        stage[:a]
        + "    fit = partial(nearest_mean.fit, features=scaled)\n"
        + "    ship = nearest_mean.ship\n"
        + stage[b:]
    ).replace("feature_extraction", "nearest_mean")
    (finished.root / "stages/nearest_mean.py").write_text(stage)

    def add_stage(content: dict) -> None:
        like = content["stages"]["feature_extraction"]
        content["stages"]["nearest_mean"] = {
            "cmd": "python -m stages.nearest_mean",
            "params": ["nearest_mean"],
            "deps": [dep.replace("feature_extraction", "nearest_mean") for dep in like["deps"]],
            "outs": ["data/predictions/nearest_mean.npz", "models/nearest_mean.keras"],
        }
        content["stages"]["extract"]["params"].append("nearest_mean.tap")

    finished.edit_yaml("dvc.yaml", add_stage)
    finished.edit_yaml("params.yaml", lambda content: content.update(nearest_mean={"tap": "block2"}))
    finished.run(sys.executable, "-m", "stages.check")
    assert finished.repro() == ["extract", "nearest_mean", "evaluate", "report"]
    assert "nearest_mean" in json.loads(finished.read("results/metrics.json"))
    assert "| nearest_mean | 1 |" in finished.read("results/report.md").decode()

    finished.run("git", "checkout", "-q", ".")
    finished.run("git", "clean", "-qfd")
    gone = finished.run(sys.executable, "-m", "stages.check", code=2)
    assert gone.stderr.startswith("error: data/predictions/nearest_mean.npz is made by no stage of dvc.yaml")
    (finished.root / "data/predictions/nearest_mean.npz").unlink()
    finished.repro()
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_make_repro_goes_on_to_dvc_unless_a_parameter_is_wrong(finished: Study) -> None:
    command = sys.executable, "-m", "commands.repro", "--dry"
    checked = finished.root / ".cache/checked"
    checked.unlink(missing_ok=True)
    times = []
    for _ in "once", "twice":
        assert "Data and pipelines are up to date" in finished.run(*command).stdout
        times.append(checked.stat().st_mtime_ns)
    assert times[0] == times[1], "checked though nothing has changed"
    stray = finished.root / "data/predictions/stray.npz"
    stray.touch()
    assert "stray.npz is made by no stage" in finished.run(*command, code=2).stderr
    stray.unlink()
    finished.set(dense_head__units=0, report__replicates=200)
    done = finished.run(*command, code=2)
    assert done.stdout == ""
    assert done.stderr == "error: params.yaml: dense_head.units is 0, but must be greater than or equal to 1\n"
    finished.set(dense_head__units=8)
    assert "Running stage 'report'" in finished.run(*command).stdout
    finished.run("git", "checkout", "-q", "params.yaml")
    assert "no-such-stage" in finished.run(*command, "no-such-stage", code=255).stderr


def test_predictions_that_do_not_fit_are_refused_by_name(finished: Study) -> None:
    stray = finished.root / "data/predictions/gone.npz"
    stored = dict(np.load(finished.root / "data/predictions/scratch.npz"))
    for change, words in (
        ({name: array[:-1] if array.ndim else array for name, array in stored.items()}, "other shots or seeds"),
        (stored | {"probabilities": stored["probabilities"][:, :-1]}, "test images"),
    ):
        np.savez(stray, **change)
        done = finished.run(sys.executable, "-m", "stages.evaluate", code=2)
        assert done.stderr.startswith("error: data/predictions/gone.npz")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    stray.unlink()


@pytest.mark.parametrize(
    ("stage", "key", "value", "words"),
    [
        ("split", "split__shots", [1, 25], "use at most 24"),
        ("split", "split__seeds", "ten", "split.seeds is 'ten'"),
        ("split", "split__shots", [5, 1], "[1, 5]"),
        ("convert", "data__target__classes", [4, 5], "source and target are both mnist, and 4 is a class of both"),
        ("convert", "data__target__classes", [9], "data.target.classes is [9]"),
        ("convert", "data__target__classes", [5, "six"], "data.target.classes names 'six', which is no class of it"),
        ("convert", "data__target__name", "mnits", "data.target.name is 'mnits', but must be one of mnist, "),
        ("convert", "data__target__name", "folder", "so path must be that of your folder"),
        ("convert", "data__source__path", "params.yaml", "which needs no path: leave path and test_path at data/none"),
    ],
)
def test_a_wrong_parameter_is_one_line_and_exit_code_2(
    finished: Study, stage: str, key: str, value: object, words: str
) -> None:
    finished.set(**{key: value})
    done = finished.run(sys.executable, "-m", f"stages.{stage}", code=2)
    finished.run("git", "checkout", "-q", "params.yaml")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("convert", "data/raw/mnist.npz"),
        ("split", "data/images/target/labels.npy"),
        ("split", "data/images/about.json"),
        ("extract", "models/source.npz"),
        ("extract", "data/target_train/images.npy"),
        ("dense_head", "data/features/block2_train.npy"),
        ("evaluate", "models/source.json"),
        ("report", "results/cells.csv"),
        ("report", "data/outcomes.npz"),
        ("report", "models/source.json"),
    ],
)
def test_an_input_that_is_missing_or_something_else_is_one_line(finished: Study, stage: str, file: str) -> None:
    path, content = finished.root / file, finished.read(file)
    for wrong in (None, b"<html>503</html>", b"{}"):
        path.unlink()  # not written over: the cache may be linked to it
        if wrong is not None:
            path.write_bytes(wrong)
        done = finished.run(sys.executable, "-m", f"stages.{stage}", code=2)
        assert done.stderr.startswith(f"error: {file} "), done.stderr
        assert len(done.stderr.splitlines()) == 1
        path.write_bytes(content)
    finished.repro()
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_a_tap_that_the_source_lacks_is_refused_with_those_it_has(finished: Study) -> None:
    for tap, words in (("block7", "block1, block2, dense1"), (3, "dense_head.tap is 3")):
        finished.set(dense_head__tap=tap)
        done = finished.run(sys.executable, "-m", "stages.extract", code=2)
        finished.run("git", "checkout", "-q", "params.yaml")
        assert words in done.stderr


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
        printed = finished.run("dvc", "repro", "--force", "--single-item", "feature_extraction").stdout
    assert "feature_extraction: 6 cells of up to 4 shots" in printed
    assert "feature_extraction: 6 of 6 cells" in printed
    first = printed.split("> python -m stages.feature_extraction\n")[1].splitlines()[0]
    assert first == "feature_extraction: fit a linear classifier on features of block2, the backbone frozen"
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_a_strategy_left_out_of_the_report_reruns_the_report_alone(finished: Study) -> None:
    cells = finished.read("results/cells.csv")
    finished.set(report__strategies=["dense_head", "end_to_end"])
    assert finished.repro() == ["report"]
    page = finished.read("results/report.md").decode()
    assert "`scratch` is not among the strategies compared here" in page
    assert "| feature_extraction |" not in page.split("## The article's methods")[0]
    assert finished.read("results/cells.csv") == cells
    finished.set(report__strategies=["dense_haed"])
    done = finished.run(sys.executable, "-m", "stages.check", code=2)
    assert "report.strategies names 'dense_haed', but must be all or some of dense_head, end_to_end" in done.stderr
    finished.run("git", "checkout", "-q", "params.yaml")
    finished.repro()
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_the_page_of_a_study_follows_from_its_cells(finished: Study) -> None:
    from test_report import check_cell_numbers, check_sentences

    page, cells = finished.read("results/report.md").decode(), pd.read_csv(finished.root / "results/cells.csv")
    assert check_cell_numbers(page, cells) > 100
    check_sentences(page, cells)
    assert "With 2 draws no signed-rank test can be significant" in page
