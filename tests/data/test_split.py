"""Splits and draws: class-balanced, nested, by groups, and no image on two sides."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, refused
from hypothesis import given
from hypothesis import strategies as st

from stages import split as stage
from transfer.compare.revisions import TEST_DATA
from transfer.console import UserError
from transfer.data import split
from transfer.data.split import EITHER, TEST, TRAIN, Pool
from transfer.data.target import chosen_draws, nested_draws, read_target, write_target
from transfer.files import read_facts, write_folder, write_json
from transfer.params import parse_section, read_params

PARAMS = read_params(ROOT / "params.yaml")["split"] | {"test": 0.2}


def params(**changes: object) -> split.Params:
    return parse_section("split", PARAMS | changes, split.Params)


def labels_of(per_class: list[int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(per_class), dtype=np.int32), per_class))


def pool_of(train: list[int], test: list[int] | None = None) -> Pool:
    """Random images with so many of each class to train and to test on; undivided without numbers for the test."""
    counts = [*train, *(test or [])]
    labels = np.repeat([*range(len(train)), *range(len(test or []))], counts).astype(np.int32)
    part = np.full(len(labels), EITHER, np.uint8)
    if test:
        part = np.repeat([TRAIN, TEST], [sum(train), sum(test)]).astype(np.uint8)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4, 1), np.uint8)
    classes = np.array([chr(ord("a") + number) for number in range(len(train))])
    return Pool(images, labels, part, np.full(len(labels), -1, np.int32), classes, np.array("a form"))


def test_the_first_draw_tells_a_study_from_others_whatever_its_number_of_draws() -> None:
    def draw(pool: Pool, **changes: object) -> str:
        study = params(**{"shots": [1]} | changes)
        return split.first_draw(split.split_target(pool, split.divide(pool, study, "data.target"), study))

    pool = pool_of([6, 6], [3, 3])
    assert draw(pool) == draw(pool, seeds=3) == draw(pool, looks=[5, 10], shots=[1, 2])
    assert draw(pool) != draw(replace(pool, images=pool.images[::-1]))


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


def test_draws_are_those_of_every_version() -> None:
    """Another order would change every result that was ever written down."""
    assert nested_draws(labels_of([9, 8, 7]), 3, 2).tolist() == [
        [[11, 12, 7], [4, 14, 23], [15, 6, 0]],
        [[18, 1, 5], [21, 4, 16], [0, 19, 15]],
    ]
    assert split.hold_out(pool_of([9, 8]), np.arange(17), 0.3, 1, "x")[1].tolist() == [0, 1, 7, 10, 15]


def test_too_many_shots_are_refused_with_the_largest_possible() -> None:
    assert nested_draws(labels_of([9, 7, 8]), 7, 1).shape == (1, 3, 7)
    refused(
        lambda: nested_draws(labels_of([9, 7, 8]), 8, 1),
        "split.shots asks for 8 labelled images per class, but the smallest target class has 7: use at most 7",
    )


@given(sizes=st.lists(st.integers(2, 40), min_size=2, max_size=4), fraction=st.floats(0.01, 0.5))
def test_held_out_rows_are_a_part_of_each_class(sizes: list[int], fraction: float) -> None:
    pool = pool_of(sizes)
    train, held = split.hold_out(pool, np.arange(sum(sizes)), fraction, 0, "x")
    assert sorted([*train, *held]) == list(range(sum(sizes)))
    for name, size in enumerate(sizes):
        assert np.sum(pool.labels[held] == name) == max(1, round(fraction * size))


def test_holding_out_a_whole_class_is_refused_by_its_name() -> None:
    with pytest.raises(UserError, match=r"^data.x, split.test: to hold out 0\.1 of the 1 image of class b leaves none"):
        split.hold_out(pool_of([10, 1]), np.arange(11), 0.1, 0, "data.x, split.test")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test": 0}, "split.test is 0"),
        ({"duplicates": "keep"}, "split.duplicates is 'keep'"),
        ({"shots": [0]}, "split.shots.0 is 0"),
        ({"shots": [5, 1, 5]}, "[1, 5]"),
        ({"source_validation": 1.0}, "split.source_validation is 1.0"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused_by_name(changes: dict[str, object], words: str) -> None:
    refused(lambda: params(**changes), words)


def test_the_target_knows_no_label_but_those_of_its_draws_and_for_calibration(tmp_path: Path) -> None:
    pool = pool_of([6] * 5, test=[2] * 5)
    study = params(shots=[1, 3], seeds=2)
    parts = split.divide(pool, study, "data.target")
    write_target(tmp_path / "target", split.split_target(pool, parts, study))
    names = ["calibration_rows", "classes", "draws", "images", "labels", "preprocessing", "wanted"]
    assert sorted(file.name for file in (tmp_path / "target").glob("*.npy")) == [f"{name}.npy" for name in names]
    again = read_target(tmp_path / "target")
    draws = again.runs()
    assert [(draw.shots, draw.seed) for draw in draws] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    images, labels = pool.images[parts.train], pool.labels[parts.train]
    for draw in draws:
        assert len(draw.rows) == 5 * draw.shots
        assert (again.images[draw.rows] == images[draw.rows]).all()
        assert (labels[draw.rows] == draw.labels).all()
    assert set(draws[0].rows) < set(draws[2].rows)
    assert again.classes.tolist() == ["a", "b", "c", "d", "e"]
    assert str(again.preprocessing) == "a form"


def write_images(folder: Path, pool: Pool) -> None:
    """What `convert` writes, of a pool as the target and its opposite as the source."""
    for side, images in (("source", 255 - pool.images), ("target", pool.images)):
        write_folder(folder / side, vars(pool) | {"images": images})
    np.save(folder / "unlabelled.npy", pool.images[:0])
    write_json(folder / "about.json", {"source": {}, "target": {}, "notes": []})


@pytest.mark.parametrize("test", [[2, 2], None])
def test_the_test_data_are_the_same_file_for_any_number_of_draws(
    test: list[int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By which `transfer compare` knows that differences can be paired."""
    monkeypatch.chdir(tmp_path)
    write_images(Path("data/images"), pool_of([20, 20], test=test))
    written = []
    for seeds in (2, 3):
        write_json(Path("params.yaml"), {"split": PARAMS | {"test": "auto", "shots": [1, 3], "seeds": seeds}})
        stage.main()
        written.append([Path(name).read_bytes() for name in TEST_DATA])
    assert written[0] == written[1]


def test_images_without_labels_join_the_target_s_and_change_no_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(Path("params.yaml"), {"split": PARAMS | {"shots": [1, 3], "seeds": 2}})
    folder, pool = Path("data/images"), pool_of([20, 20], test=[2, 2])
    write_images(folder, pool)
    new = np.random.default_rng(1).integers(0, 256, (3, 4, 4, 1), np.uint8)
    for unlabelled in (new[:0], np.concatenate([new[:2], pool.images[[41, 0]], new[[1]], 255 - pool.images[[5]]])):
        np.save(folder / "unlabelled.npy", unlabelled)
        stage.main()
        target = read_target(Path("data/target_train"))
        assert (target.images[:40] == pool.images[:40]).all()
        added = np.concatenate([new[:2], 255 - pool.images[[5]]]) if len(unlabelled) else new[:0]
        assert (target.images[40:] == added).all()
        assert len(target.images) == 40 + len(added)
        wanted = nested_draws(pool.labels[:40], 3, 2)
        assert (target.draws.reshape(2, 3, 2).transpose(0, 2, 1) == wanted).all()
        assert target.calibration_rows.max() < 40
    facts = read_facts(Path("data/about.json"))
    assert (facts["target"]["unlabelled"], facts["target"]["unlabelled_dropped"]) == (3, 3)
    assert facts["source"]["dropped"] == 0


def test_source_parts_are_disjoint_and_complete() -> None:
    pool = pool_of([20] * 5, test=[4] * 5)
    study = params(source_validation=0.25)
    arrays = split.split_source(pool, split.divide(pool, study, "data.source"), study)
    given = [arrays[f"{part}_images"] for part in ("train", "validation", "test")]
    assert [len(images) for images in given] == [75, 25, 20]
    assert sorted(split.digests(np.concatenate(given)).tolist()) == sorted(split.digests(pool.images).tolist())
    assert arrays["classes"].tolist() == ["a", "b", "c", "d", "e"]


def test_without_test_images_a_part_of_each_class_is_held_out_by_the_seed() -> None:
    pool = pool_of([20, 40])
    parts = split.divide(pool, params(test=0.25), "data.target")
    assert np.bincount(pool.labels[parts.test]).tolist() == [5, 10]
    assert sorted([*parts.train, *parts.test]) == list(range(60))
    other = split.divide(pool, params(test=0.25, test_seed=1), "data.target")
    assert other.test.tolist() != parts.test.tolist()
    assert parts.how == "25% of the images, by seed 0"


@given(
    sizes=st.lists(st.integers(1, 6), min_size=12, max_size=40),
    fraction=st.sampled_from([0.2, 0.34, 0.5]),
    seed=st.integers(0, 9),
)
def test_groups_stay_on_one_side(sizes: list[int], fraction: float, seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    groups[groups % 5 == 4] = -1  # images by themselves
    labels = (np.arange(len(groups)) % 2).astype(np.int32)
    pool = replace(pool_of([1, 1]), labels=labels, groups=groups)
    train, test = split.hold_out(pool, np.arange(len(groups)), fraction, seed, "x")
    assert sorted([*train, *test]) == list(range(len(groups)))
    assert not set(groups[train]) & set(groups[test]) - {-1}
    assert len(test)


def test_groups_decide_the_division_where_there_are_any() -> None:
    pool = replace(pool_of([20, 20]), groups=np.tile(np.arange(10, dtype=np.int32), 4))
    parts = split.divide(pool, params(), "data.target")
    assert len(set(pool.groups[parts.test])) == 2
    assert not set(pool.groups[parts.test]) & set(pool.groups[parts.train])
    assert parts.how == "20% of the images, by seed 0, groups kept whole"
    few = replace(pool, groups=np.zeros(40, np.int32))
    with pytest.raises(UserError, match=r"^data.target, split.test: 1 group cannot be divided to hold out 0\.2"):
        split.divide(few, params(), "data.target")
    four = replace(pool, groups=np.tile(np.arange(4, dtype=np.int32), 10))
    said = "4 groups cannot be divided to hold out 0.1: hold out more, or give test images apart"
    refused(lambda: split.divide(four, params(test=0.1), "data.target"), said)
    assert len(set(four.groups[split.divide(four, params(test=0.25), "data.target").test])) == 1


def test_a_group_on_both_sides_of_a_given_division_is_refused() -> None:
    pool = replace(pool_of([3, 3], test=[1, 1]), groups=np.array([0, 1, 2, 3, 4, 5, 5, -1], np.int32))
    with pytest.raises(UserError, match=r"^data.target: 1 group with both training and test images"):
        split.divide(pool, params(), "data.target")


def test_each_image_is_trained_on_once_and_not_if_it_is_a_test_image() -> None:
    pool = pool_of([6, 6], test=[2, 2])
    images = pool.images[...].copy()
    images[[0, 7]] = images[[12, 14]]
    images[4] = images[3]
    pool = replace(pool, images=images)
    parts = split.divide(pool, params(), "data.target")
    assert parts.dropped == 3
    assert parts.train.tolist() == [1, 2, 3, 5, 6, 8, 9, 10, 11]
    assert parts.test.tolist() == [12, 13, 14, 15]
    with pytest.raises(UserError, match=r"^data.target: 3 training images with the same pixels after"):
        split.divide(pool, params(duplicates="refuse"), "data.target")
    others = split.digests(images[[1]])
    assert split.divide(pool, params(), "data.source", others).train.tolist() == [2, 3, 5, 6, 8, 9, 10, 11]
    with pytest.raises(UserError, match=r"^data.source: class a has no training image, after dropping 12 duplicates"):
        split.divide(pool, params(), "data.source", parts.known)


def test_an_image_that_is_there_often_falls_on_one_side_of_a_division_by_the_seed() -> None:
    pool = pool_of([10, 10])
    twice = replace(
        pool,
        images=np.concatenate([pool.images[...]] * 2),
        **{name: np.tile(getattr(pool, name), 2) for name in ("labels", "part", "groups")},
    )
    parts = split.divide(twice, params(), "data.target")
    assert parts.dropped == 20
    assert sorted([*parts.train, *parts.test]) == list(range(20))


def test_a_class_that_a_side_lacks_is_named() -> None:
    with pytest.raises(UserError, match=r"^data.target: class b has no test image"):
        split.divide(pool_of([3, 3], test=[2, 0]), params(), "data.target")
    pool = pool_of([1, 3], test=[1, 1])
    with pytest.raises(UserError, match=r"class a has no training image, after dropping 1 duplicate"):
        split.divide(replace(pool, images=pool.images[[4, 1, 2, 3, 4, 5]]), params(), "data.target")


def test_no_images_are_no_source() -> None:
    pool = replace(pool_of([1]), images=np.zeros((0, 2, 2, 1), np.uint8), labels=np.zeros(0, np.int32))
    parts = split.divide(pool, params(), "data.source")
    arrays = split.split_source(pool, parts, params())
    assert all(len(arrays[f"{part}_images"]) == 0 for part in ("train", "validation", "test"))


# Cross-validation, and draws that are chosen.


@given(sizes=st.lists(st.integers(3, 12), min_size=2, max_size=4), grouped=st.booleans())
def test_every_image_is_tested_once_in_a_repetition_by_models_that_lacked_it_and_its_group(
    sizes: list[int], grouped: bool
) -> None:
    pool = pool_of(sizes)
    if grouped:  # pairs of neighbours
        pool = replace(pool, groups=(np.arange(len(pool.labels)) // 2).astype(np.int32))
    study = params(test="auto", shots=[1, 2, 50], seeds=2)
    parts = split.divide(pool, study, "data.target")
    assert parts.train.tolist() == parts.test.tolist() == [*range(len(pool.labels))]
    folds = parts.folds
    count = int(folds.max()) + 1
    target = split.split_target(pool, parts, study)
    *runs, whole = target.runs()
    assert len(runs) == len({draw.shots for draw in runs}) * 2 * count
    for draw in runs:
        repetition, fold = divmod(draw.seed, count)
        tested = np.flatnonzero(folds[repetition] == fold)
        assert not {*draw.rows} & {*tested}
        assert not {*pool.groups[draw.rows]} & {*pool.groups[tested]} - {-1}
        assert (pool.labels[draw.rows] == draw.labels).all()
        left = np.bincount(pool.labels, minlength=len(sizes)) - np.bincount(pool.labels[tested], minlength=len(sizes))
        assert len(draw.rows) == draw.shots * len(sizes)
        if left.min() >= draw.shots:  # classes take turns
            assert np.bincount(draw.labels).tolist() == [draw.shots] * len(sizes)
    assert sorted(whole.rows) == [*range(len(pool.labels))]
    assert (whole.seed, whole.shots > max(draw.shots for draw in runs)) == (0, True)  # so it is the one that is shipped
    assert target.calibration_rows.size == 0


def test_many_images_or_test_images_are_not_cross_validated_and_other_ways_are_refused() -> None:
    study = params(test="auto", shots=[1])
    for pool in (pool_of([300, 200]), pool_of([20, 20], test=[2, 2])):
        assert not len(split.divide(pool, study, "data.target").folds)
    assert not len(split.divide(pool_of([20, 20]), study, "data.source").folds)
    for other in ({"looks": [2, 3]}, {"draw": "chosen"}):
        refused(
            partial(split.divide, pool_of([20, 20]), params(test="auto", **other), "data.target"),
            "needs test images: set split.test",
        )
    few = pool_of([1, 1, 2])
    refused(
        lambda: split.split_target(few, split.divide(few, study, "data.target"), study), "too few to be cross-valid"
    )


def test_repetitions_divide_groups_of_any_sizes_in_other_ways_and_more_of_them_leave_the_runs_as_they_are() -> None:
    pool = pool_of([60, 60, 60])
    sizes = [5, 8, 13, 21, 30, 40, 63]
    grouped = replace(pool, groups=np.random.default_rng(0).permutation(np.repeat(range(7), sizes)).astype(np.int32))
    for each in (grouped, pool_of([13, 7, 29, 41])):
        targets, divisions = [], []
        for seeds in (1, 10):
            study = params(test="auto", shots=[1], seeds=seeds)
            parts = split.divide(each, study, "data.target")
            targets.append(split.split_target(each, parts, study))
            divisions.append(parts.folds)
        assert len({tuple(pd.factorize(fold)[0]) for fold in divisions[1]}) > 8
        assert divisions[1][0].tolist() == divisions[0][0].tolist()
        assert {*map(tuple, targets[0].wanted.tolist())} < {*map(tuple, targets[1].wanted.tolist())}
        assert (targets[1].draws[:5] == targets[0].draws).all()


def test_classes_of_one_image_or_group_are_named_where_they_are_cross_validated() -> None:
    pool, study = pool_of([5, 1, 6]), params(test="auto", shots=[1])
    pool = replace(pool, groups=np.array([-1] * 6 + [2, 2, 2, 2, 2, 2], np.int32))
    assert split.seen_in_one_fold(pool, split.divide(pool, study, "data.target")) == ["b", "c"]
    held = pool_of([9, 2, 9])
    assert split.seen_in_one_fold(held, split.divide(held, params(), "data.target")) == []


def test_chosen_draws_can_be_larger_than_a_class_but_not_than_what_they_are_chosen_from() -> None:
    pool = pool_of([30, 30, 3], [1, 1, 1])
    target = split.split_target(pool, split.divide(pool, params(), "data.target"), params(shots=[2, 9], draw="chosen"))
    assert target.largest == 3  # of the draws that the chosen ones replace
    study = params(shots=[11], draw="chosen")
    refused(lambda: split.split_target(pool, split.divide(pool, study, "data.target"), study), "use at most 10")


def test_chosen_draws_and_their_controls_are_of_the_same_half_of_the_images() -> None:
    labels, given = labels_of([30, 30]), []

    def last(candidates: np.ndarray, count: int) -> np.ndarray:
        assert (np.diff(candidates) > 0).all()
        given.append(candidates)
        return candidates[::-1][:count]

    found = chosen_draws(labels, 2, [1, 5], 3, last)
    assert [len(each) for each in given] == [30] * 3
    assert len({each.tobytes() for each in given}) == 3
    for seed, candidates in enumerate(given):
        assert found.draws[seed].tolist() == candidates[::-1][:10].tolist()
        assert {*found.draws[seed + 3]} < {*candidates}
        assert len({*found.draws[seed + 3]}) == 10
    assert (found.labels == labels[found.draws]).all()
    assert found.wanted.tolist() == [[shots, seed] for shots in (1, 5) for seed in range(6)]
    refused(lambda: chosen_draws(labels, 2, [16], 1, last), "has 30 to choose from: use at most 15")
