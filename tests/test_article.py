"""The specimen: what the article's printed code would do."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL, Study

from transfer import article, cnn
from transfer.fine_tuning import Network
from transfer.networks.engines import Engine

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 28, 28, 1)).astype(np.uint8)
SMALL_CNN = cnn.Params(blocks=({"filters": 4, "kernel": 5, "pool": 4},), dense=(8,))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    from transfer.networks.models import save_model

    path = tmp_path_factory.mktemp("article") / "source.keras"
    save_model(path, cnn.layers(SMALL_CNN, image_shape=(28, 28, 1), classes=3).build("source"))
    return article.network(path, 2, Engine("keras"), (0.9, 0.999))


def test_its_head_sees_probabilities(network: Network) -> None:
    from transfer.networks.backend import keras

    model = network.program.model
    seen = keras.Model(model.inputs[0], model.layers[-1].input)(IMAGES).numpy()
    assert seen.shape == (12, 3)
    np.testing.assert_allclose(seen.sum(axis=1), 1, rtol=1e-5)


def test_nothing_is_frozen(network: Network) -> None:
    schedule = {
        "steps": 3,
        "steps_growth": 0,
        "batch": 4,
        "peak_rate": 0.01,
        "warmup": 0,
        "beta_1": 0.9,
        "beta_2": 0.999,
    }
    params = article.Params(measure=True, **schedule)
    target = article.same_task(
        IMAGES, np.arange(12, dtype=np.int32) % 2, np.array([0, 1]), shots=np.array([4]), seeds=1
    )
    cell = article.fit(target.draw(4, 0), network=lambda: network, images=IMAGES, to_predict=IMAGES, params=params)
    for before, after in zip(network.start(0), cell.weights, strict=True):
        assert (before != after).any()
    again = article.fit(target.draw(4, 0), network=lambda: network, images=IMAGES, to_predict=IMAGES, params=params)
    assert cell.probabilities.tobytes() == again.probabilities.tobytes()


def test_the_same_task_draws_from_the_source_s_own_classes() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1], np.int32)
    target = article.same_task(IMAGES, labels, np.array([3, 4]), shots=np.array([1, 2, 100]), seeds=2)
    assert target.shots.tolist() == [1, 2, 3]  # the smaller class has no more
    for draw in target.cells():
        assert (labels[draw.rows] == draw.labels).all()


def test_it_is_measured_only_where_it_is_asked_for_and_never_ranked(finished: Study) -> None:
    before, metrics = finished.read("results/cells.csv"), finished.read("results/metrics.json")
    assert b"article" not in before
    finished.set(article__measure=True, article__steps=4)
    assert finished.repro() == ["article", "evaluate", "report"]
    cells = pd.read_csv(io.BytesIO(finished.read("results/cells.csv")))
    count = len(SMALL["split.shots"]) * SMALL["split.seeds"]
    assert (cells["strategy"] == "article").sum() == (cells["strategy"] == "article_same_task").sum() == count
    assert finished.read("results/cells.csv").startswith(before)
    assert finished.read("results/metrics.json") == metrics
    page = finished.read("results/report.md").decode()
    assert "its code on the source's own classes" in page
    assert "| article" not in page.split("## The article's methods")[0]
    finished.run("git", "checkout", "-q", "params.yaml")
    finished.repro()
    assert finished.run("git", "status", "--porcelain").stdout == ""
    assert not Path(finished.root, "models/article.keras").exists()
