"""What differs between revisions: pairing, verdicts, and what they were made from."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from transfer.console import UserError
from transfer.intervals import holm_levels
from transfer.revisions import (
    METRICS,
    Cells,
    Change,
    Revision,
    code_changes,
    compare,
    differing_params,
    edited_params,
    flatten,
    parse_cells,
    unpaired_because,
)

ACCURACY, LOG_LOSS = METRICS["accuracy"], METRICS["log_loss"]


def cells_of(values: dict[tuple[str, int], list[float]], metric: str = "accuracy", first: int = 0) -> Cells:
    return {group: {first + i: {metric: value} for i, value in enumerate(row)} for group, row in values.items()}


def revision(cells: Cells, name: str = "main", **changes: Any) -> Revision:
    return replace(Revision(name, "at 1234567", cells, {}, {}, None), **changes)


def changes_of(
    old: Cells, new: Cells, *, paired: bool = True, tolerance: float = 0, metric: Any = ACCURACY
) -> list[Change]:
    return compare(revision(old), revision(new, "b"), [metric], paired=paired, tolerance=tolerance)


def noise(seed: int, n: int = 10, size: float = 0.01) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, n)


def test_a_mean_has_student_s_interval() -> None:
    values = [0.5, 0.6, 0.75, 0.55]
    (change,) = changes_of(cells_of({("a", 1): values}), cells_of({("a", 1): [0.5]}))
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert change.before == pytest.approx((np.mean(values), low, high))
    assert change.after == (0.5, None, None)


@given(seed=st.integers(0, 10**6), n=st.integers(2, 12), shift=st.floats(-0.1, 0.1))
def test_a_single_paired_difference_is_judged_as_by_the_paired_t_test(seed: int, n: int, shift: float) -> None:
    old = noise(seed, n, 0.1)
    new = old + shift + noise(seed + 1, n)
    (change,) = changes_of(cells_of({("a", 1): old.tolist()}), cells_of({("a", 1): new.tolist()}))
    p = stats.ttest_rel(new, old).pvalue
    assert (change.verdict == "not separated") == (p >= 0.05)
    if p < 0.05:
        assert change.verdict == ("better" if np.mean(new - old) > 0 else "worse")
    assert change.difference is not None
    assert change.difference.mean == pytest.approx(np.mean(new - old), abs=1e-9)


@given(seed=st.integers(0, 10**6), m=st.integers(2, 12), n=st.integers(2, 12))
def test_a_single_unpaired_difference_is_judged_as_by_welch_s_t_test(seed: int, m: int, n: int) -> None:
    old, new = noise(seed, m), noise(seed + 1, n, 0.03) + 0.02
    (change,) = changes_of(cells_of({("a", 1): old.tolist()}), cells_of({("a", 1): new.tolist()}), paired=False)
    assert (change.verdict == "not separated") == (stats.ttest_ind(new, old, equal_var=False).pvalue >= 0.05)
    assert change.draws == min(m, n)


def test_verdicts_of_many_are_holm_s() -> None:
    from statsmodels.stats.multitest import multipletests

    groups = [(name, shots) for name in "abcd" for shots in (1, 5, 10)]
    old = {group: noise(i).tolist() for i, group in enumerate(groups)}
    new = {group: (np.array(old[group]) + noise(50 + i) + 0.001 * i).tolist() for i, group in enumerate(groups)}
    changes = changes_of(cells_of(old), cells_of(new))
    p = [stats.ttest_rel(new[group], old[group]).pvalue for group in groups]
    rejected = multipletests(p, method="holm")[0]
    assert 0 < rejected.sum() < len(groups)
    assert [change.verdict != "not separated" for change in changes] == rejected.tolist()


@pytest.mark.parametrize(("metric", "verdict"), [("accuracy", "better"), ("log_loss", "worse"), ("ece", "worse")])
def test_a_verdict_knows_which_direction_is_better(metric: str, verdict: str) -> None:
    old, new = ({("a", 1): (base + noise(i, size=0.001)).tolist()} for i, base in enumerate((0.5, 0.7)))
    (change,) = changes_of(cells_of(old, metric), cells_of(new, metric), metric=METRICS[metric])
    assert change.verdict == verdict
    assert change.difference is not None
    assert change.difference.mean > 0
    assert change.regression == (verdict == "worse")


def test_only_shared_seeds_are_paired_and_means_are_over_all() -> None:
    old, new = cells_of({("a", 1): [0.1, 0.2, 0.3]}), cells_of({("a", 1): [0.25, 0.3, 0.9, 0.9]}, first=1)
    (change,) = changes_of(old, new)
    assert change.draws == 2
    assert change.before is not None
    assert change.before.mean == pytest.approx(0.2)
    assert change.after is not None
    assert change.after.mean == pytest.approx(np.mean([0.25, 0.3, 0.9, 0.9]))
    assert change.difference is not None
    assert change.difference.mean == pytest.approx(np.mean([0.05, 0.0]))


def test_what_is_in_one_alone_has_no_difference() -> None:
    old, new = cells_of({("a", 1): [0.1, 0.2]}), cells_of({("b", 1): [0.1, 0.2]})
    for change in [*changes_of(old, new), *changes_of(old, new, paired=False)]:
        assert change.difference is None
        assert change.verdict is None
        assert not change.regression
        assert (change.before is None) != (change.after is None)


def test_one_draw_gives_no_verdict() -> None:
    for paired in (True, False):
        (change,) = changes_of(cells_of({("a", 1): [0.9]}), cells_of({("a", 1): [0.1]}), paired=paired)
        assert change.verdict is None
        assert not change.regression
        assert change.difference == (pytest.approx(-0.8), None, None)


def test_the_same_cells_are_the_same_and_cost_the_others_nothing() -> None:
    old, new = noise(0).tolist(), (noise(0) - 0.009 + noise(1)).tolist()
    alone = changes_of(cells_of({("a", 1): old}), cells_of({("a", 1): new}))
    groups = {(f"s{i}", 1): noise(i).tolist() for i in range(40)}
    beside = changes_of(cells_of({("a", 1): old} | groups), cells_of({("a", 1): new} | groups))
    assert alone[0] == beside[0]
    assert all(change.same and change.verdict == "not separated" for change in beside[1:])
    assert not alone[0].same


def test_unpaired_cells_are_never_called_the_same() -> None:
    (change,) = changes_of(cells_of({("a", 1): [0.1, 0.2]}), cells_of({("a", 1): [0.1, 0.2]}), paired=False)
    assert not change.same
    assert change.verdict == "not separated"


@given(seed=st.integers(0, 10**6), loss=st.floats(0, 0.05), tolerance=st.floats(0, 0.05))
def test_a_regression_is_a_loss_whose_interval_is_beyond_the_tolerance(
    seed: int, loss: float, tolerance: float
) -> None:
    old = noise(seed)
    new = old - loss + noise(seed + 1)
    (change,) = changes_of(cells_of({("a", 1): old.tolist()}), cells_of({("a", 1): new.tolist()}), tolerance=tolerance)
    high = np.mean(new - old) + stats.t.ppf(0.975, 9) * stats.sem(new - old)
    assert change.regression == (high < -tolerance)
    assert not change.regression or change.verdict == "worse"


def test_a_clear_gain_lends_its_level_to_no_loss() -> None:
    """A loss that is clear on its own alone must not become a regression because another strategy gained."""
    old = {("a", 1): noise(0).tolist(), ("b", 1): noise(1).tolist()}
    loss = noise(2)
    loss += -2.4 * stats.sem(loss) - loss.mean()
    p = stats.ttest_1samp(loss, 0).pvalue
    assert 0.025 < p < 0.05
    new = {
        ("a", 1): (np.array(old["a", 1]) + 0.5 + noise(3)).tolist(),
        ("b", 1): (np.array(old["b", 1]) + loss).tolist(),
    }
    gain, loser = changes_of(cells_of(old), cells_of(new))
    assert gain.verdict == "better"
    assert loser.verdict == "worse"  # two-sided and step-down: the gain was judged first
    assert not loser.regression


def test_missing_values_leave_a_seed_out() -> None:
    old, new = (cells_of({("a", 1): row}, "log_loss") for row in ([0.1, math.nan, 0.3], [0.2, 0.3, math.nan]))
    (change,) = changes_of(old, new, metric=LOG_LOSS)
    assert change.draws == 1
    (nothing,) = changes_of(old, cells_of({("a", 1): [0.5]}), metric=LOG_LOSS)
    assert nothing.after is None
    assert nothing.difference is None


def test_equal_losses_in_every_draw_are_clear() -> None:
    (change,) = changes_of(cells_of({("a", 1): [0.5, 0.6, 0.7]}), cells_of({("a", 1): [0.4, 0.5, 0.6]}))
    assert change.verdict == "worse"
    assert change.regression
    assert change.difference == pytest.approx((-0.1, -0.1, -0.1))


def test_holm_levels_worked_by_hand() -> None:
    clear = [5.0, 0.5, 2.0]
    assert holm_levels(3, lambda i, _: clear[i]) == pytest.approx([1 - 0.05 / 3, 0.95, 1 - 0.05 / 2])
    assert len(holm_levels(0, lambda *_: 0.0)) == 0


HEAD = "strategy,shots,seed,accuracy,log_loss\n"


def test_cells_are_read_without_specimens() -> None:
    text = HEAD + "a,1,0,0.5,0.1\na,1,1,0.25,\narticle,1,0,0.1,0.1\n"
    cells = parse_cells(text, "x")
    assert set(cells) == {("a", 1)}
    assert cells["a", 1][0] == {"accuracy": 0.5, "log_loss": 0.1}
    assert math.isnan(cells["a", 1][1]["log_loss"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column accuracy"),
        ("<html>", "no column accuracy"),
        ("strategy,shots,seed\n", "no column accuracy"),
        (HEAD, "has no cell"),
        (HEAD + "article,1,0,0.5,0.1\n", "has no cell"),
        (HEAD + "a,1,0,x,0.1\n", "line 2, is no cell"),
        (HEAD + "a,1,0,nan,0.1\n", "line 2, is no cell"),
        (HEAD + "a,1,0,,0.1\n", "line 2, is no cell"),
        (HEAD + "a,1.5,0,0.5,0.1\n", "line 2, is no cell"),
        (HEAD + "a,1\n", "line 2, is no cell"),
        (HEAD + "<<<<<<< HEAD\na,1,0,0.5,0.1\n", "line 2, is no cell"),
        (HEAD + "a,1,0,0.5,0.1\na,1,0,0.5,0.1\n", "line 3, has a with 1 shots and seed 0 once more"),
    ],
)
def test_what_is_no_table_of_cells_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_cells(text, "cells of x")


@given(start=st.sampled_from(["", HEAD]), text=st.text(max_size=60))
def test_any_text_is_cells_or_refused(start: str, text: str) -> None:
    with pytest.raises(UserError):
        parse_cells(start + text, "x")


def test_params_are_flattened_and_only_those_that_differ_are_named() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}}) == {"a.b": 1, "a.c.d": [1, {"e": 2}]}
    old, new = revision({}, params={"a.b": 1, "a.c": 2}), revision({}, params={"a.b": 1, "a.c": 3, "a.d": 4})
    assert differing_params([old, new, old]) == {"a.c": [2, 3, 2], "a.d": [None, 4, None]}


def lock(**changes: Any) -> dict[str, Any]:
    """The stages of a `dvc.lock`; `changes` are its parts."""
    part = {
        "code": "c1", "raw": "r1", "draws": "d1", "images": "i1", "labels": "l1", "seeds": 10, "classes": [5, 6],
        "cmd": "python -m stages.split", "train_code": "t1",
    } | changes  # fmt: skip
    return {
        "split": {
            "cmd": part["cmd"],
            "deps": [{"path": "data/raw.npz", "md5": part["raw"]}, {"path": "stages/split.py", "md5": part["code"]}],
            "params": {"params.yaml": {"split": {"seeds": part["seeds"], "target_classes": part["classes"]}}},
            "outs": [
                {"path": "data/target_train.npz", "md5": part["draws"]},
                {"path": "data/target_test_images.npz", "md5": part["images"]},
                {"path": "data/target_test_labels.npz", "md5": part["labels"]},
            ],
        },
        "train": {
            "cmd": "x",
            "deps": [
                {"path": "data/target_train.npz", "md5": part["draws"]},
                {"path": "stages/train.py", "md5": part["train_code"]},
            ],
            "params": {"params.yaml": {"train.tap": "block2"}},
            "outs": [{"path": "data/parts/a.npz", "md5": "a"}],
        },
        "gather": {"cmd": "y", "deps": [{"path": "data/parts", "md5": "p"}]},
    }


DRAWS, IMAGES = "its label draws may be others", "its test images are others"


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, []),
        ({"code": "c2"}, []),  # and the same data: a comment
        ({"draws": "d2", "seeds": 12}, []),  # nested: those that were there are as they were
        ({"draws": "d2", "classes": [7, 8]}, [DRAWS]),
        ({"draws": "d2", "code": "c2", "seeds": 12}, [DRAWS]),
        ({"draws": "d2", "raw": "r2", "images": "i2", "labels": "l2"}, [IMAGES, DRAWS]),
        ({"labels": "l2"}, [IMAGES]),
    ],
)
def test_other_draws_and_images_are_noticed(changes: dict[str, Any], reasons: list[str]) -> None:
    base = revision({}, lock=lock())
    assert unpaired_because(base, revision({}, lock=lock(**changes))) == reasons
    assert unpaired_because(revision({}, lock=lock(**changes)), base) == reasons


@pytest.mark.parametrize(
    ("name", "value", "reasons"),
    [("split.seeds", 12, []), ("train.rate", 1, []), ("split.target_classes", [7, 8], ["its data may be others"])],
)
def test_without_a_lock_the_parameters_of_the_data_tell(name: str, value: object, reasons: list[str]) -> None:
    params = {"split.seeds": 10, "split.target_classes": [5, 6]}
    other = revision({}, params=params | {name: value}, lock=lock())
    assert unpaired_because(revision({}, params=params), other) == reasons


def test_stages_whose_code_differs_are_named_with_their_files() -> None:
    base = revision({}, lock=lock())
    assert code_changes(base, base) == {}
    other = lock(code="c2", draws="d2", cmd="python -m stages.divide")
    other["train"]["deps"].append({"path": "transfer/new.py", "md5": "n"})
    other["more"] = {"cmd": "z"}
    del other["gather"]
    assert code_changes(base, revision({}, lock=other)) == {
        "split": ["its command", "stages/split.py"],
        "train": ["transfer/new.py"],
        "gather": ["the stage is gone"],
        "more": ["the stage is new"],
    }


def test_edited_parameters_are_those_that_the_lock_was_not_made_with() -> None:
    params = {
        "split.seeds": 10,
        "split.target_classes": [5, 6],
        "train.tap": "block2",
        "train.rate": 1,
        "compute.workers": 2,
    }
    assert edited_params(params, lock()) == []
    assert edited_params(params | {"split.seeds": 11, "train.tap": "block1"}, lock()) == ["split.seeds", "train.tap"]
    assert edited_params(params | {"split.new": 1, "train.rate": 2}, lock()) == ["split.new"]
    assert edited_params({name: params[name] for name in ("split.seeds", "train.tap")}, lock()) == [
        "split.target_classes"
    ]
