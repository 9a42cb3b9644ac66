"""What became better or worse: pairing, intervals, and verdicts that hold together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import reports
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from transfer.compare.metrics import METRICS, RUN
from transfer.compare.revisions import Revision
from transfer.compare.verdicts import compare
from transfer.evaluation import comparison as report
from transfer.evaluation.outcomes import Correct, Outcomes
from transfer.evaluation.statistics import Sample

Groups = Mapping[tuple[str, int], Sequence[float] | np.ndarray]  # values by strategy and shots


def runs_of(groups: Groups, metric: str = "accuracy", first: int = 0) -> pd.DataFrame:
    """Runs whose seeds count from `first`."""
    rows = [
        {"strategy": name, "shots": shots, "seed": first + i, metric: value}
        for (name, shots), values in groups.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows).reindex(columns=[*RUN, *METRICS])


def revision(runs: pd.DataFrame, equal_within: float = 0.0, correct: Correct | None = None) -> Revision:
    """Of which nothing is known but its runs."""
    return Revision("main", "at 1234567", runs, correct, {"report.equal_within": equal_within}, {}, None, [])


def changes_of(
    old: Groups, new: Groups, tolerance: float = 0, metric: str = "accuracy", first: int = 0, within: float = 0.0
) -> list[Any]:
    """What `compare` says of draws alone."""
    revisions = revision(runs_of(old, metric), within), revision(runs_of(new, metric, first))
    return list(compare(*revisions, [METRICS[metric]], tolerance).itertuples())


def noise(seed: int, n: int = 10, size: float = 0.01) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, n)


def test_a_mean_has_student_s_interval_and_a_single_draw_none() -> None:
    values = [0.5, 0.6, 0.75, 0.55]
    (change,) = changes_of({("a", 1): values}, {("a", 1): [0.9]})
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (change.before, change.before_margin) == pytest.approx((np.mean(values), (high - low) / 2))
    assert (change.after, change.difference, change.draws) == pytest.approx((0.9, 0.4, 1))
    assert np.isnan([change.after_margin, change.margin]).all()
    assert change.verdict == "different"
    assert not change.regression


@given(seed=st.integers(0, 10**6), n=st.integers(2, 12), shift=st.floats(-0.1, 0.1))
def test_a_single_difference_is_judged_as_by_the_paired_t_test(seed: int, n: int, shift: float) -> None:
    old = noise(seed, n, 0.1)
    new = old + shift + noise(seed + 1, n)
    (change,) = changes_of({("a", 1): old}, {("a", 1): new})
    test = stats.ttest_rel(new, old)
    interval = test.confidence_interval()
    sign = "better" if np.mean(new - old) > 0 else "worse"
    assert change.verdict == (sign if test.pvalue < 0.05 else "undecided")
    assert change.difference - change.margin == pytest.approx(interval.low, abs=1e-9)
    assert change.difference + change.margin == pytest.approx(interval.high, abs=1e-9)


def test_verdicts_of_many_are_holm_s() -> None:
    groups = [(name, shots) for name in "abcd" for shots in (1, 5, 10)]
    old = {group: noise(i) for i, group in enumerate(groups)}
    new = {group: old[group] + noise(50 + i) + 0.001 * i for i, group in enumerate(groups)}
    p = [stats.ttest_rel(new[group], old[group]).pvalue for group in groups]
    rejected = multipletests(p, method="holm")[0]
    assert 0 < rejected.sum() < len(groups)
    assert [change.verdict != "undecided" for change in changes_of(old, new)] == rejected.tolist()


@pytest.mark.parametrize(
    ("metric", "verdict"),
    [("accuracy", "better"), ("log_loss", "worse"), ("ece", "worse"), ("model_bytes", "different")],
)
def test_a_verdict_knows_which_direction_is_better_and_costs_are_not_judged(metric: str, verdict: str) -> None:
    old, new = ({("a", 1): base + noise(i, size=0.001)} for i, base in enumerate((0.5, 0.7)))
    (change,) = changes_of(old, new, metric=metric)
    assert change.verdict == verdict
    assert change.difference == pytest.approx(0.2, abs=0.01)
    assert change.regression == (verdict == "worse")


def test_only_shared_seeds_are_paired_and_means_are_over_all() -> None:
    (change,) = changes_of({("a", 1): [0.1, 0.2, 0.3]}, {("a", 1): [0.25, 0.3, 0.9, 0.9]}, first=1)
    assert change.draws == 2
    means = (change.before, change.after, change.difference)
    assert means == pytest.approx((0.2, np.mean([0.25, 0.3, 0.9, 0.9]), np.mean([0.05, 0.0])))


def test_what_is_in_one_alone_has_no_difference() -> None:
    for change in changes_of({("a", 1): [0.1, 0.2]}, {("b", 1): [0.1, 0.2]}):
        assert np.isnan(change.difference)
        assert change.verdict == "in one revision only"
        assert np.isnan(change.before) != np.isnan(change.after)


def test_a_cost_that_an_older_table_lacks_has_no_difference() -> None:
    new = runs_of({("a", 1): [0.1, 0.2]}).assign(unlabelled_images=500)
    old = new.assign(unlabelled_images=np.nan)
    change = compare(revision(old), revision(new), [METRICS["unlabelled_images"]]).iloc[0]
    assert (change["after"], change["verdict"]) == (500, "in one revision only")
    assert np.isnan(change["difference"])


def test_the_same_runs_are_the_same_and_cost_the_others_nothing() -> None:
    old, new = {("a", 1): noise(0)}, {("a", 1): noise(0) - 0.009 + noise(1)}
    equal = {(f"s{i}", 1): noise(i) for i in range(40)}
    (alone,) = changes_of(old, new)
    first, *others = changes_of(old | equal, new | equal)
    assert first == alone
    assert {change.verdict for change in others} == {"same"}


@given(seed=st.integers(0, 10**6), loss=st.floats(0, 0.05), tolerance=st.floats(0, 0.05))
def test_a_regression_is_a_loss_whose_interval_is_beyond_the_tolerance(
    seed: int, loss: float, tolerance: float
) -> None:
    old = noise(seed)
    new = old - loss + noise(seed + 1)
    (change,) = changes_of({("a", 1): old}, {("a", 1): new}, tolerance)
    high = np.mean(new - old) + stats.t.ppf(0.975, 9) * stats.sem(new - old)
    assert change.regression == (high < -tolerance)
    assert not change.regression or change.verdict == "worse"


def test_a_clear_gain_lends_its_level_to_no_loss() -> None:
    """A loss that is clear on its own alone must not become a regression because another strategy gained."""
    old = {("a", 1): noise(0), ("b", 1): noise(1)}
    loss = noise(2)
    loss += -2.4 * stats.sem(loss) - loss.mean()
    assert 0.025 < stats.ttest_1samp(loss, 0).pvalue < 0.05
    gain, loser = changes_of(old, {("a", 1): old["a", 1] + 0.5 + noise(3), ("b", 1): old["b", 1] + loss})
    assert gain.verdict == "better"
    assert loser.verdict == "worse"  # two-sided and step-down: the gain was judged first
    assert not loser.regression


STUDY, OTHER = (reports.outcomes_of(reports.MEANS | {"dense_head": mean}) for mean in (0.7, 0.72))


def study(outcomes: Outcomes, seeds: Sequence[int] = range(8)) -> Revision:
    """A study of which it is known which test images are right; some of its seeds."""
    runs, correct = reports.runs_of(outcomes), Correct.of(outcomes)
    own = np.isin(correct.seed, seeds)
    by_run = {name: getattr(correct, name)[own] for name in ("strategy", "shots", "seed", "collapsed", "bits")}
    return revision(runs[own].reset_index(drop=True), 0.5, replace(correct, **by_run))


def right(outcomes: Outcomes, shots: int, seeds: Sequence[int] = range(8)) -> Sample:
    """Which images the dense head gets right."""
    own = (outcomes.strategy == "dense_head") & (outcomes.shots == shots) & np.isin(outcomes.seed, seeds)
    return Sample((outcomes.predicted[own] == outcomes.labels).astype(np.int8))


def judged(base: Revision, other: Revision, metric: str = "accuracy", tolerance: float = 0.0) -> list[Any]:
    """What is said of the dense head."""
    table = compare(base, other, [METRICS[metric]], tolerance)
    return list(table[table["strategy"] == "dense_head"].itertuples())


def test_a_cell_has_the_interval_of_the_report() -> None:
    comparison = report.compare(reports.runs_of(STUDY), Correct.of(STUDY), list(reports.MEANS), 0.005)
    cells = comparison.results.set_index(["strategy", "shots"])
    for change in compare(study(STUDY), study(OTHER), [METRICS["accuracy"]]).itertuples():
        cell = cells.loc[change.strategy, change.shots]
        assert (change.before, change.before_margin) == (cell["accuracy"], cell["margin"])
        assert (change.verdict == "same") == (change.strategy != "dense_head")


@pytest.mark.parametrize("seeds", [range(8), range(3, 8)])
def test_differences_of_accuracy_are_paired_over_shared_draws_and_images(seeds: Sequence[int]) -> None:
    few, many = judged(study(STUDY), study(OTHER, seeds))
    for change in (few, many):
        difference = right(OTHER, change.shots, seeds) - right(STUDY, change.shots, seeds)
        levels = [0.975, 0.95]  # of the clearer, and of the other
        assert change.difference == difference.mean
        assert change.margin in [difference.margin(level) for level in levels]


def test_where_test_images_are_others_or_not_known_the_draws_alone_count() -> None:
    fewer = study(reports.outcomes_of(reports.MEANS, images=500))
    for base, other in ((study(STUDY), fewer), (study(STUDY), replace(study(OTHER), correct=None))):
        alone = judged(*(replace(each, correct=None) for each in (base, other)))
        for change, expected in zip(judged(base, other), alone, strict=True):
            assert change.margin == expected.margin
            assert change.before_margin > expected.before_margin


def test_of_accuracy_alone_differences_are_equal_in_practice() -> None:
    old = {("a", 1): noise(0)}
    new = {("a", 1): old["a", 1] - 0.002 + noise(1, size=0.0001)}
    (change,) = changes_of(old, new, within=0.5, metric="brier")
    assert change.verdict == "better"  # half a point of accuracy says nothing about it
