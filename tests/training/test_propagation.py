"""Labels that spread over a graph: what reaches what, the gate, and pseudo-labels for networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import refused
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from small_runs import TARGET, fake_run

from transfer.data.predictions import Predictions
from transfer.data.target import Draw, Draws, write_target
from transfer.files import write_record
from transfer.training.distillation import pseudo_labelled_draws, with_pool
from transfer.training.propagation import classify, laplacian, spread
from transfer.training.runs import gather
from transfer.training.task import Task


def moons(each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles that no line parts, (2 × each, 2) float32, and which image is of which."""
    rng = np.random.default_rng(seed)
    angles = np.pi * rng.random((2, each))
    upper = np.stack([np.cos(angles[0]), np.sin(angles[0])], axis=1)
    lower = np.stack([1 - np.cos(angles[1]), 0.5 - np.sin(angles[1])], axis=1)
    points = np.concatenate([upper, lower]) + rng.normal(0, 0.03, (2 * each, 2))
    return points.astype(np.float32), np.repeat([0, 1], each)


def test_one_label_of_each_class_reaches_its_whole_cluster_whatever_the_sizes() -> None:
    points, classes = moons(200)
    kept = np.concatenate([np.arange(200), 200 + np.arange(40)])  # of one class a fifth
    found = spread(laplacian(points[kept], 10, 2), np.array([3, 203]), np.array([0, 1]))
    assert (found == classes[kept]).all()


@pytest.mark.parametrize("seed", range(3))
def test_it_solves_the_poisson_system(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(40, 6)).astype(np.float32)
    graph = laplacian(features, 5, 6)
    rows, labels = np.arange(6), np.array([0, 1, 2, 0, 1, 1])
    assert connected_components(graph)[0] == 1
    dense = graph.toarray()
    np.testing.assert_allclose(dense, dense.T, atol=1e-12)
    np.testing.assert_allclose(dense.sum(axis=1), 0, atol=1e-4)  # but for the leak
    sources = np.zeros((40, 3))
    sources[rows] = np.eye(3)[labels] - np.eye(3)[labels].mean(axis=0)
    exact = np.linalg.solve(dense, sources)
    first, second = np.sort(exact, axis=1)[:, -1], np.sort(exact, axis=1)[:, -2]
    clear = first - second > 0.005 * np.ptp(exact)  # five times the tolerance
    assert clear.sum() > 25
    assert (spread(graph, rows, labels) == exact.argmax(axis=1))[clear].all()


def test_its_weights_fall_with_each_image_s_own_distance() -> None:
    """By hand: of three points on a line, whose neighbours are both others."""
    graph = laplacian(np.array([[0.0], [1.0], [3.0]], np.float32), 2, 1).toarray()
    one, two, three = np.exp(-4 * (1 / 3) ** 2), np.exp(-4 * (1 / 2) ** 2), np.exp(-4 * (2 / 3) ** 2)
    last = np.exp(-4)
    expected = [(one + two) / 2, (last + last) / 2, (last + three) / 2]  # 0 and 1, 0 and 3, 1 and 3
    np.testing.assert_allclose([-graph[0, 1], -graph[0, 2], -graph[1, 2]], expected, rtol=1e-5)


def test_what_no_label_reaches_has_no_class_and_no_part_in_the_fit() -> None:
    rng = np.random.default_rng(0)
    features = (np.repeat([[0, 0], [9, 0], [0, 90]], 20, axis=0) + rng.normal(0, 0.1, (60, 2))).astype(np.float32)
    graph = laplacian(features, 5, 2)
    assert connected_components(graph)[0] == 3
    found = spread(graph, np.array([0, 20]), np.array([0, 1]))
    assert found.tolist() == [0] * 20 + [1] * 20 + [-1] * 20
    every = np.arange(60)
    _, examples, _ = classify(
        features,
        every[[0, 20]],
        np.array([0, 1]),
        graph=graph,
        nodes=every,
        sample=every,
        regression=LogisticRegression(),
        splits=[],
    )
    assert examples == 40


def test_images_that_are_all_the_same_divide_by_no_zero() -> None:
    features = np.repeat(np.array([[0.0, 1.0], [5.0, 1.0]], np.float32), 8, axis=0)
    with np.errstate(all="raise"):
        graph = laplacian(features, 3, 2)
    assert np.isfinite(graph.data).all()
    assert (spread(graph, np.arange(0, 16, 4), np.array([0, 0, 1, 1]))[[0, 4, 8, 12]] == [0, 0, 1, 1]).all()


def test_its_memory_grows_with_the_images_and_not_with_their_square() -> None:
    features = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    assert laplacian(features, 10, 5).nnz <= 2 * 10 * 3000 + 3000


@pytest.mark.parametrize("misled", [False, True])
def test_the_graph_is_used_only_where_it_tells_held_out_labels(misled: bool) -> None:
    """Where clusters are no classes, those of the labels alone are fitted, to the bit."""
    rng = np.random.default_rng(0)
    blobs = np.repeat([0, 1], 100)
    features = np.zeros((200, 6), np.float32)
    features[:, :3] = 10 * blobs[:, np.newaxis] + rng.normal(0, 1, (200, 3))
    side = rng.integers(0, 2, 200)
    features[:, 3:] = 2 * side[:, np.newaxis] + rng.normal(0, 0.3, (200, 3))  # below what the graph sees
    classes = side if misled else blobs
    rows = np.concatenate([np.flatnonzero(classes == name)[3:40] for name in (0, 1)])
    regression = LogisticRegression(C=10.0, max_iter=500)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    every = np.arange(200)
    found, examples, unlabelled = classify(
        features,
        rows,
        classes[rows],
        graph=laplacian(features, 5, 1),
        nodes=every,
        sample=every,
        regression=regression,
        splits=list(folds.split(rows, classes[rows])),
    )
    assert (examples, unlabelled) == ((len(rows), 0) if misled else (200, 200 - len(rows)))
    alone = LogisticRegression(C=10.0 / len(rows), max_iter=500).fit(features[rows], classes[rows])
    assert (found.coef_ == alone.coef_).all() == misled


# Pseudo-labels for networks


def test_labels_of_the_draw_are_certain_and_rows_are_once_and_in_order() -> None:
    own = Draw(1, 0, np.array([7, 2], np.int32), np.array([0, 1], np.int32), 2)
    given = with_pool(own, np.array([1, 2, 5]), np.array([0, 0, 1]))
    assert given.rows.tolist() == [1, 2, 5, 7]
    assert given.labels.tolist() == [0, 1, 1, 0]  # the first and the third by others
    assert (given.rows.dtype, given.labels.dtype) == (np.int32, np.int32)
    assert (given.shots, given.seed) == (1, 0)


def write_predictions(folder: Path, name: str, pool: np.ndarray) -> None:
    """Those of a strategy that says something of the pool, (runs, images, classes) float32."""
    predictions = gather(TARGET, [fake_run(draw) for draw in TARGET.runs()], {}, 0)
    write_record(folder / f"data/predictions/{name}.npz", replace(predictions, pool=pool))


def test_networks_are_taught_the_classes_of_the_highest_mean_and_no_member_may_lack(tmp_path: Path) -> None:
    write_target(tmp_path / "data/target_train", TARGET)
    write_record(tmp_path / "data/chosen.npz", Draws.none())
    first = np.random.default_rng(0).random((4, 6, 1)).astype(np.float32)
    unsure = np.full_like(first, 0.4)  # half of the first's doubt more
    for name, each in (("a", first), ("b", unsure)):
        write_predictions(tmp_path, name, np.concatenate([each, 1 - each], axis=2))
    task = Task("float32", tmp_path / "data", tmp_path / "models")
    for given, own, probable in zip(pseudo_labelled_draws(task, ["a", "b"]), TARGET.runs(), first[..., 0], strict=True):
        assert given.rows.tolist() == [0, 1, 2, 3, 4, 5]
        expected = np.where((probable + np.float32(0.4)) / 2 >= 0.5, 0, 1)
        expected[own.rows] = own.labels
        assert given.labels.tolist() == expected.tolist()
    write_record(tmp_path / "data/predictions/b.npz", Predictions.none())
    refused(
        lambda: pseudo_labelled_draws(task, ["a", "b"]),
        "b is a member, but was not run: the source model does not know the",
    )
