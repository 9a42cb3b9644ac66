"""Which images to label first: an order that covers every kind of image, the same each time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.data.choosing import choose


def blobs(sizes: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images in well separated groups, in a random order: features, and the group of each."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    features = 5 * np.eye(12)[groups] + rng.normal(0, 0.1, (len(groups), 12))
    return features.astype(np.float32), groups


@settings(max_examples=20)
@given(st.lists(st.integers(5, 40), min_size=3, max_size=8), st.integers(0, 1000))
def test_every_group_gets_an_image_before_any_gets_two(sizes: list[int], seed: int) -> None:
    features, groups = blobs(sizes, seed)
    assert sorted(groups[choose(features, len(sizes))[0]]) == [*range(len(sizes))]


def test_what_is_labelled_stands_for_its_group_and_is_not_chosen() -> None:
    features, groups = blobs([30, 20, 10, 10], 0)
    labelled = np.flatnonzero(groups < 2)[:40:2]  # of both
    rows, _ = choose(features, 70 - len(labelled), labelled)
    assert sorted(groups[rows[:2]]) == [2, 3]
    assert sorted([*rows, *labelled]) == [*range(70)]


def test_fewer_are_the_beginning_of_more_and_the_same_each_time() -> None:
    features = np.random.default_rng(0).gamma(1, 1, (1500, 30)).astype(np.float32)
    rows, alike = choose(features, 60)
    assert rows.dtype == np.int64
    for count in (1, 7, 60):
        assert choose(features, count)[0].tobytes() == rows[:count].tobytes()
    assert len({*rows}) == 60
    assert alike[0] == 1500
    assert 0 < alike[1] < 1500


def test_any_number_can_be_chosen_where_images_are_there_twice() -> None:
    features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32).repeat(3, axis=0)
    rows, _ = choose(features, 15)
    assert sorted(rows) == [*range(15)]
    assert sorted(rows[:5] // 3) == [*range(5)]
    assert sorted(choose(features, 10, range(0, 15, 3))[0]) == [row for row in range(15) if row % 3]
