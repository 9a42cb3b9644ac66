from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer import split
from transfer.basics.console import UserError
from transfer.basics.params import parse_section, read_params
from transfer.target import nested_draws, read_target, write_target

PARAMS = read_params(Path(__file__).resolve().parents[1] / "params.yaml")["split"]


def params(**changes: object) -> split.Params:
    return parse_section("split", PARAMS | changes, split.Params)


def labels_of(per_class: list[int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(per_class), dtype=np.int32), per_class))


sizes = st.lists(st.integers(4, 12), min_size=2, max_size=5)


@given(sizes=sizes, largest=st.integers(1, 4), seeds=st.integers(1, 4))
def test_draws_are_balanced_and_without_repetition(sizes: list[int], largest: int, seeds: int) -> None:
    labels = labels_of(sizes)
    draws = nested_draws(labels, largest, seeds)
    assert draws.shape == (seeds, len(sizes), largest)
    for draw in draws:
        assert len(np.unique(draw)) == draw.size
        for name, rows in enumerate(draw):
            assert (labels[rows] == name).all()


@given(sizes=sizes, fewer=st.integers(1, 4), more=st.integers(1, 4), seeds=st.integers(1, 3))
def test_more_shots_or_seeds_leave_the_draws_that_were_there(
    sizes: list[int], fewer: int, more: int, seeds: int
) -> None:
    fewer, more = sorted((fewer, more))
    labels = labels_of(sizes)
    small, large = nested_draws(labels, fewer, seeds), nested_draws(labels, more, seeds + 2)
    assert (large[:seeds, :, :fewer] == small).all()


def test_seeds_draw_different_images() -> None:
    draws = nested_draws(labels_of([50, 50]), 5, 2)
    assert (draws[0] != draws[1]).any()


def test_too_many_shots_are_refused_with_the_largest_possible() -> None:
    assert nested_draws(labels_of([9, 7, 8]), 7, 1).shape == (1, 3, 7)
    with pytest.raises(UserError, match="has 3: use at most 3"):  # not an overflow
        split.split_target((np.zeros((30, 2, 2), np.uint8), np.arange(30) % 10), params(shots=[10**12]))
    with pytest.raises(UserError, match=r"asks for 8 labelled images per class, .* has 7: use at most 7"):
        nested_draws(labels_of([9, 7, 8]), 8, 1)


@given(sizes=st.lists(st.integers(2, 40), min_size=2, max_size=4), fraction=st.floats(0.01, 0.5))
def test_held_out_rows_are_a_part_of_each_class(sizes: list[int], fraction: float) -> None:
    labels = labels_of(sizes)
    train, held = split.hold_out(labels, fraction, seed=0)
    assert sorted([*train, *held]) == list(range(len(labels)))
    for name, size in enumerate(sizes):
        assert np.sum(labels[held] == name) == max(1, round(fraction * size))


def test_holding_out_a_whole_class_is_refused() -> None:
    with pytest.raises(UserError, match="leaves class 1 no image"):
        split.hold_out(labels_of([10, 1]), 0.1, seed=0)


def test_classes_are_numbered_in_the_order_given() -> None:
    labels = np.array([7, 3, 3, 5, 7], np.uint8)
    images = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    kept, numbers = split.select_classes(images, labels, [7, 3])
    assert kept.shape == (4, 2, 2, 1)
    assert kept[:, 0, 0, 0].tolist() == [0, 1, 2, 4]
    assert numbers.tolist() == [0, 1, 1, 0]


def test_a_class_without_an_image_is_named() -> None:
    with pytest.raises(UserError, match="no image of class 9"):
        split.select_classes(np.zeros((2, 2, 2), np.uint8), np.array([1, 2]), [1, 9])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source_classes": [0, 1, 5]}, "split: 5 is in source_classes and in target_classes"),
        ({"source_classes": [0]}, "split.source_classes is [0]"),
        ({"target_classes": [10, 5]}, "split.target_classes.0 is 10"),
        ({"target_classes": [5, 6, 6]}, "split: target_classes names 6 more than once"),
        ({"shots": []}, "split.shots is []"),
        ({"shots": [0]}, "split.shots.0 is 0"),
        ({"shots": [5, 1, 5]}, "[1, 5]"),
        ({"seeds": 0}, "split.seeds is 0"),
        ({"source_validation": 1.0}, "split.source_validation is 1.0"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused_by_name(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as caught:
        params(**changes)
    assert words in str(caught.value)


def test_the_target_knows_no_label_but_those_of_its_draws_and_for_calibration(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10, dtype=np.uint8), 6)
    images = rng.integers(0, 256, (60, 4, 4), np.uint8)
    target = split.split_target((images, labels), params(shots=[1, 3], seeds=2))
    write_target(tmp_path / "target", target)
    names = ["calibration_rows", "classes", "draws", "images", "shots"]
    assert sorted(file.name for file in (tmp_path / "target").iterdir()) == [f"{name}.npy" for name in names]
    again = read_target(tmp_path / "target")
    cells = again.cells()
    assert [(cell.shots, cell.seed) for cell in cells] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    drawn = images[labels >= 5][..., None]
    for cell in cells:
        assert len(cell.rows) == 5 * cell.shots
        assert (again.images[cell.rows] == drawn[cell.rows]).all()
        assert (labels[labels >= 5][cell.rows] - 5 == cell.labels).all()
    assert set(cells[0].rows) < set(cells[2].rows)


def test_source_parts_are_disjoint_and_complete() -> None:
    labels = np.repeat(np.arange(10, dtype=np.uint8), 20)
    images = np.arange(200, dtype=np.uint8)[:, None, None]
    parts = split.split_source((images, labels), (images, labels), params(source_validation=0.25))
    train, validation = parts["train_images"].ravel(), parts["validation_images"].ravel()
    assert sorted([*train, *validation]) == list(range(100))
    assert len(validation) == 25
    assert parts["test_images"].ravel().tolist() == list(range(100))
    assert parts["classes"].tolist() == [0, 1, 2, 3, 4]
