"""A study with the stage of every strategy: what each leaves, and that its model can be taken away."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import OTHERS, SMALL, STRATEGIES, Study, copy_of
from reports import check_numbers, check_sentences
from test_pipeline import REPRODUCE_EXPORTED

from transfer.data.predictions import Predictions
from transfer.files import read_arrays, read_record
from transfer.serve.export import TOLERANCE, export
from transfer.serve.models import open_folder

RUN = sorted({*STRATEGIES, *OTHERS} - {"source_model"})  # which knows none of the target's classes
LATER = ["label_propagation", "prototypes", "pixels", "source_model", "self_training", "committee"]

FINISH = """
import sys
from importlib import import_module
from stages import evaluate, report
from stages.strategy import run_strategy
for name in sys.argv[1:]:
    run_strategy(import_module(f"transfer.strategies.{name}"))
evaluate.main()
report.main()
"""


@pytest.fixture(scope="module")
def whole(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The finished study and what the other strategies' stages add, run in one process, without DVC, to save time."""
    assert sorted(LATER) == OTHERS
    study = copy_of(finished, tmp_path_factory.mktemp("whole") / "study")
    study.printed = study.run(sys.executable, "-c", FINISH, *LATER).stdout
    return study


def test_every_strategy_is_scored_where_it_can_be_run(whole: Study) -> None:
    cells = pd.read_csv(whole.root / "results/cells.csv")
    assert sorted(cells["strategy"].unique()) == RUN
    assert len(cells) == len(RUN) * len(SMALL["split.shots"]) * SMALL["split.seeds"]
    assert cells.notna().all().all()
    assert set(json.loads(whole.read("results/metrics.json"))) == {*RUN, "source"}
    pool = 24 * 5 - 5 * cells["shots"]  # images, less those that are labelled
    unlabelled = cells["unlabelled_images"].where(cells["strategy"].isin(["label_propagation", *LATER[-2:]]))
    assert (unlabelled.dropna() == pool[unlabelled.notna()]).all()
    assert (cells["unlabelled_images"][unlabelled.isna()] == 0).all()


def test_what_cannot_be_run_leaves_predictions_of_nothing_and_no_model_of_its_own(whole: Study) -> None:
    unknown = "the source model does not know the target's classes (5, 6, 7, 8, 9)"
    assert f"source_model: not run: {unknown}\n" in whole.printed
    assert not len(read_record(whole.root / "data/predictions/source_model.npz", Predictions).shots)
    assert whole.read("models/source_model.keras") == whole.read("models/source.keras")


def test_the_page_of_a_study_follows_from_its_runs(whole: Study) -> None:
    page, cells = whole.read("results/report.md").decode(), pd.read_csv(whole.root / "results/cells.csv")
    assert check_numbers(page, cells) > 250
    check_sentences(page, cells)


def test_an_exported_model_gives_its_run_s_predictions_in_a_new_process(whole: Study) -> None:
    whole.run(sys.executable, "-c", REPRODUCE_EXPORTED, *RUN)


def test_every_model_answers_where_models_are_served(whole: Study) -> None:
    """`transfer predict` and `transfer serve` open models alike, and ask them alike."""
    models, best = open_folder(whole.root / "models")
    assert sorted(model.metadata.strategy for model in models) == RUN
    assert best in RUN
    images = read_arrays(whole.root / "data/target_test_images.npz")["images"]
    for model in models:
        stored = read_record(whole.root / f"data/predictions/{model.metadata.strategy}.npz", Predictions)
        largest = np.flatnonzero((stored.shots == 4) & (stored.seed == 0))[0]
        np.testing.assert_allclose(model.answer(images)[0], stored.probabilities[largest], atol=1e-5)
        assert (model.metadata.shots, model.metadata.classes) == (4, tuple("56789"))
        assert model.preprocessing.shape == (28, 28, 1)


@pytest.mark.parametrize("name", RUN)
def test_every_model_is_written_in_another_format(whole: Study, name: str, tmp_path: Path) -> None:
    assert export(whole.root / f"models/{name}.keras", "tflite", tmp_path / "model.tflite") < TOLERANCE
