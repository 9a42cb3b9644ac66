"""Intervals, verdicts and label equivalence against independent implementations and simulations."""

from __future__ import annotations

import json
import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from transfer.evaluation.comparison import on_front
from transfer.evaluation.looks import contenders, decided_at, going_on, means_at
from transfer.evaluation.outcomes import Correct
from transfer.evaluation.statistics import (
    UNDECIDED,
    VERDICTS,
    Sample,
    compare_pairs,
    label_equivalence,
    verdict,
)

NAMES = ("a", "b", "c", "d")


def crossed(
    seed: int, trials: int, means: list[float], draws: int, images: int, sd: tuple[float, float], own: float
) -> tuple[list[Sample], np.ndarray]:
    """Studies with known true accuracies: probit models of crossed draws and images, paired between strategies.

    Args:
        seed: of the generator.
        trials: number of studies.
        means: per strategy, on the probit scale.
        draws: per study.
        images: per study.
        sd: of the effects of draws and of images, beside noise of 1.
        own: the part of the effects' variances that strategies do not share.

    Returns:
        One sample per strategy, over all trials, and the true accuracies: the mean of Φ(μ + effects) is
        Φ(μ / √(1 + variances)).
    """
    rng = np.random.default_rng(seed)

    def effects(shape: tuple[int, ...], scale: float) -> np.ndarray:
        common = rng.standard_normal((trials, 1, *shape), np.float32)
        peculiar = rng.standard_normal((trials, len(means), *shape), np.float32)
        return np.float32(scale) * (np.float32(own**0.5) * peculiar + np.float32((1 - own) ** 0.5) * common)

    latent = rng.standard_normal((trials, len(means), draws, images), np.float32)
    latent += np.array(means, np.float32)[:, np.newaxis, np.newaxis]
    latent += effects((draws, 1), sd[0])
    latent += effects((1, images), sd[1])
    right = (latent > 0).astype(np.int8)
    samples = [Sample(right[:, i]) for i in range(len(means))]
    return samples, stats.norm.cdf(np.array(means) / math.sqrt(1 + sd[0] ** 2 + sd[1] ** 2))


def of_trial(samples: list[Sample], trial: int) -> dict[str, Sample]:
    return {name: Sample(sample.values[trial]) for name, sample in zip(NAMES, samples, strict=False)}


def sample_of(seed: int | list[int], mean: float, draws: int = 6, images: int = 40) -> Sample:
    """One with luck of draws and of images."""
    rng = np.random.default_rng(seed)
    ease = mean + rng.normal(0, 0.05, (draws, 1)) + rng.normal(0, 0.2, images)
    return Sample((rng.uniform(size=(draws, images)) < ease).astype(np.int8))


def certain(accuracy: float, draws: int = 3) -> Sample:
    """One without any variation over the draws, on a thousand images that are all alike but for being right."""
    right = np.arange(1000) < 1000 * accuracy
    return Sample(np.tile(right.astype(np.int8), (draws, 1)))


# Intervals


@given(seed=st.integers(0, 10_000), draws=st.integers(2, 5), images=st.integers(2, 8))
@settings(max_examples=15, deadline=None)
def test_variances_are_those_of_the_two_way_layout(seed: int, draws: int, images: int) -> None:
    """Independent: mean squares by statsmodels."""
    difference = sample_of(seed, 0.7, draws, images) - sample_of([seed, 1], 0.5, draws, images)
    draw, image = np.indices(difference.values.shape)
    frame = pd.DataFrame({"y": difference.values.ravel(), "draw": draw.ravel(), "image": image.ravel()}, dtype=float)
    table = anova_lm(smf.ols("y ~ C(draw) + C(image)", frame).fit())
    of_draws, of_images, residual = table["sum_sq"] / table["df"]
    cells = draws * images
    assert difference.variances[0] == pytest.approx(of_draws / cells, abs=1e-6)  # statsmodels errs in the 8th digit
    assert difference.variances[1] == pytest.approx(max(0, (of_images - residual) / cells), abs=1e-6)
    t, z = stats.t.ppf(0.975, draws - 1), stats.norm.ppf(0.975)
    seen = max(0, of_images - residual) / cells * images**2 + 2 + 2 * difference.mean**2  # and one more either way
    expected = math.sqrt(t**2 * of_draws / cells + z**2 * seen / (images + 2) ** 2)
    assert difference.margin() == pytest.approx(expected, abs=1e-3)


def test_intervals_at_their_edges() -> None:
    assert math.isnan(certain(0.5, draws=1).margin())
    assert (certain(0.5) - certain(0.5)).margin() == pytest.approx(1.96 * math.sqrt(2) / 1002, rel=1e-4)
    always_right = Sample(np.ones((3, 60), np.int8))
    assert always_right.margin() == pytest.approx(1.96 * math.sqrt(2) / 64, rel=1e-4)  # by hand: ± 4.3 points


# Measured, for the mean and for the difference:
#   draws dominate:  2 draws 0.954, 0.954;  10 draws 0.953, 0.956
#   images dominate: 2 draws 0.989, 0.989;  10 draws 0.950, 0.947
# Squares of half-widths add up to a little too much with 2 draws.
@pytest.mark.parametrize("setting", [((0.4, 0.5), 400, 0.5), ((0.02, 3), 200, 0.8)], ids=["draws", "images"])
@pytest.mark.parametrize(("draws", "most"), [(2, 0.993), (10, 0.965)])
def test_coverage_by_simulation(setting: tuple[tuple[float, float], int, float], draws: int, most: float) -> None:
    sd, images, own = setting
    (a, b), truth = crossed(draws, 2000, [0.5, 0.7], draws, images, sd, own)
    for sample, mean in ((a, truth[0]), (b - a, truth[1] - truth[0])):
        covered = np.mean(np.abs(sample.mean - mean) <= sample.margin())
        assert 0.935 <= covered <= most


# Pairs

tables = st.integers(0, 10_000).map(
    lambda seed: {
        name: sample_of([seed, i], 0.7 + np.random.default_rng(seed).choice([0, 0.02, 0.1]) * i)
        for i, name in enumerate(NAMES)
    }
)


def p_value(difference: Sample) -> float:
    """Independent of any step-down: the level at which the interval just touches 0."""
    if difference.mean == 0:
        return 1.0
    log_p = optimize.brentq(lambda x: float(difference.margin(1 - math.exp(x))) - abs(difference.mean), -30, -1e-9)
    return math.exp(log_p)


@given(samples=tables, within=st.sampled_from([0.0, 0.05, 0.2]))
@settings(max_examples=20, deadline=None)
def test_verdicts_are_those_of_holms_procedure_and_of_the_intervals(samples: dict[str, Sample], within: float) -> None:
    """Independent: statsmodels, from p values."""
    differences = [samples[first] - samples[second] for first, second in combinations(NAMES, 2)]
    rejected = multipletests([p_value(difference) for difference in differences], 0.05, method="holm")[0]
    pairs = compare_pairs(samples, within, [6])
    for pair, difference, reject in zip(pairs.itertuples(), differences, rejected, strict=True):
        assert (pair.difference, pair.margin) == (difference.mean, difference.margin())
        assert pair.margin <= pair.corrected
        assert (abs(pair.difference) > pair.corrected) == reject
        low, high = pair.difference - pair.corrected, pair.difference + pair.corrected
        equal = -within <= low and high <= within
        assert (pair.verdict == "equal") == equal
        assert equal or (pair.verdict != UNDECIDED) == reject
        assert (pair.more_draws > 0) == (pair.verdict == UNDECIDED)


@pytest.mark.parametrize(
    ("mean", "margin", "said"),
    [
        *((0.02, 0.01, "better"), (-0.02, 0.01, "worse"), (0.02, 0.02, "undecided"), (0.003, 0.001, "equal")),
        *((-0.004, 0.001, "equal"), (0.004, 0.002, "better"), (0.0, 0.006, "undecided"), (0.1, math.nan, "")),
    ],
)
def test_three_outcomes(mean: float, margin: float, said: str) -> None:
    assert verdict(mean, margin, 0.005) == said
    assert said in ("", *VERDICTS)


def only(samples: dict[str, Sample], within: float = 0.005) -> Any:
    """The comparison of the first two."""
    looks = [min(sample.draws for sample in samples.values())]
    return next(compare_pairs(samples, within, looks).itertuples())


def test_pairs_at_their_edges() -> None:
    sample, few = certain(0.7), sample_of(0, 0.7)
    margin = (sample - sample).margin()
    assert only({"a": sample, "b": sample})[1:] == ("a", "b", 3, 0, margin, margin, "equal", 0)
    assert only({"a": few, "b": few}).verdict == UNDECIDED  # 40 images cannot tell half a point
    a, b = (Sample(np.full((3, 9), right, np.int8)) for right in (1, 0))
    assert only({"a": a, "b": b}).verdict == "better"


def test_one_draw_compares_without_judging() -> None:
    pairs = compare_pairs({name: certain(mean, 1) for name, mean in (("a", 0.75), ("b", 0.5), ("c", 0.5))}, 0.005, [1])
    assert pairs["difference"].tolist() == [0.25, 0.25, 0]
    assert pairs[["margin", "corrected"]].isna().all().all()
    assert set(pairs["verdict"]) == {""}


@pytest.mark.parametrize("draws", [2, 10])
def test_family_wise_error_by_simulation(draws: int) -> None:
    """Four equal strategies, draws dominating. Measured: 0.039 with 2 draws, 0.040 with 10."""
    samples, _ = crossed(1, 1000, [0.5] * 4, draws, 800, (0.4, 0), 0.5)
    clear = [np.abs((a - b).mean) > (a - b).margin(1 - 0.05 / 6) for a, b in combinations(samples, 2)]
    wrong = np.any(clear, axis=0)
    assert wrong.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1000)
    for trial in [*np.flatnonzero(wrong)[:4], *np.flatnonzero(~wrong)[:4]]:  # Holm's first step decides
        verdicts = set(compare_pairs(of_trial(samples, trial), 0, [draws])["verdict"])
        assert (verdicts != {UNDECIDED}) == wrong[trial]


@pytest.mark.parametrize("means", [[0.5] * 4, [0.5, 0.5, 0.5, 0.1]], ids=["equal", "one is out"])
def test_family_wise_error_over_looks_by_simulation(means: list[float]) -> None:
    """Who is out gets no more draws; images matter as much as draws. Measured: 0.012 and 0.016 of 500."""
    looks, trials = [10, 20, 40], 150
    samples, truth = crossed(2, trials, means, looks[-1], 200, (0.3, 1), 0.5)
    wrong, trained = 0, 0
    for trial in range(trials):
        every, going = of_trial(samples, trial), list(NAMES)
        seen = {}
        for draws in looks:
            seen |= {name: Sample(every[name].values[:draws]) for name in going}
            pairs = compare_pairs(seen, 0.005, looks)
            going = contenders({name: means_at(each, looks) for name, each in seen.items()}, decided_at(pairs), looks)
        true = {(a, b): truth[NAMES.index(a)] - truth[NAMES.index(b)] for a, b in combinations(NAMES, 2)}
        sign = pairs["verdict"].map({"better": 1, "worse": -1}).fillna(0).to_numpy()
        wrong += bool(np.any((sign != 0) & (sign != np.sign([*true.values()]))))
        trained += sum(each.draws for each in seen.values())
    assert wrong / trials <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)
    assert (trained < 0.9 * trials * 4 * looks[-1]) == (means[3] < means[0])


def test_a_verdict_is_that_of_the_first_look_that_gives_one_and_every_pair_counts() -> None:
    samples = {
        name: sample_of([8, i], mean, 40, 400)
        for i, (name, mean) in enumerate(zip("abc", (0.8, 0.79, 0.2), strict=True))
    }
    pairs = compare_pairs(samples, 0, [10, 40]).set_index(["first", "second"])
    assert pairs["draws"].to_dict() == {("a", "b"): 40, ("a", "c"): 10, ("b", "c"): 10}
    assert pairs["verdict"].tolist() == [UNDECIDED, "better", "better"]
    ab = samples["a"] - samples["b"]
    assert pairs.loc[("a", "b"), "corrected"] == ab.margin(1 - 0.05 / 2)  # of two looks, and one pair is left
    few = compare_pairs(samples | {"d": Sample(samples["a"].values[:10])}, 0, [10, 40]).set_index(["first", "second"])
    assert few.loc[("b", "d"), "draws"] == 10  # all that d has
    assert few.loc[("a", "b"), "corrected"] == ab.margin(1 - 0.05 / 2 / 3)  # d is as good as a and b, and was left


def test_who_can_still_be_best_is_told_look_by_look() -> None:
    """`c` is out at the first look, and its mean over ten easy draws no reason to call it the best."""
    means = {"a": [0.8, 0.6], "b": [0.79, 0.61], "c": [0.7], "d": [0.75, 0.62]}
    decided = {("a", "c"): 10, ("c", "a"): 10, ("b", "c"): 10, ("a", "d"): 10, ("d", "a"): 10}
    assert contenders(means, decided | {("a", "b"): 20, ("b", "a"): 20}, [10, 20]) == ["b"]
    assert contenders(means, decided, [10, 20]) == ["b", "a"]
    assert contenders({"c": [0.7], "d": [0.75, 0.62]}, decided, [10, 20]) == ["d"]


def test_who_goes_on_is_undecided_in_a_group_and_learnt_something() -> None:
    """Without unlabelled images b and c are close; with them a is clearly the best. d fails, and is out."""
    values = {"a": 0.9, "b": 0.5, "c": 0.49, "d": 0.9}
    samples = {name: sample_of([3, i], mean, 10, 400).values for i, (name, mean) in enumerate(values.items())}
    needs = {"a": ["unlabelled images"], "b": ["source model"], "c": ["source model"], "d": []}
    correct = Correct(
        strategy=np.repeat(list(values), 10),
        shots=np.ones(40, np.int32),
        seed=np.tile(np.arange(10, dtype=np.int32), 4),
        collapsed=np.arange(40) == 35,
        images=np.array(400),
        bits=np.packbits(np.concatenate([*samples.values()]), axis=1),
        needs=np.array(json.dumps(needs)),
        looks=np.array([10, 20], np.int32),
    )
    assert going_on(correct, 0.0) == {1: {"b", "c"}}
    assert going_on(correct, 1.0) == {1: set()}  # all are equal


@pytest.mark.parametrize("draws", [2, 10])
def test_what_just_matters_is_seldom_called_equal_by_simulation(draws: int) -> None:
    """Differences of exactly the limit. Measured: 0.023 with 2 draws, 0.007 with 10."""
    samples, truth = crossed(1, 300, [1.9, 1.9, 2.2], draws, 4000, (0.05, 0.5), 0.1)
    within = float(truth[2] - truth[0])
    tables = [
        compare_pairs(of_trial(samples, trial), within, [draws]).set_index(["first", "second"]) for trial in range(300)
    ]
    wrong = [(table["verdict"][[("a", "c"), ("b", "c")]] == "equal").any() for table in tables]
    assert np.mean(wrong) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)
    assert np.mean([table["verdict"]["a", "b"] == "equal" for table in tables]) > 0.1  # and what is equal can be told


def test_more_draws_decide() -> None:
    """The same draws over and over have nearly the mean and the variances that were assumed."""
    samples = {"a": sample_of(0, 0.70, 10, 4000), "b": sample_of(1, 0.72, 10, 4000)}
    pair = only(samples)
    assert pair.verdict == UNDECIDED
    assert 1 <= pair.more_draws < 300
    times = math.ceil(1 + pair.more_draws / 10) + 1
    longer = {name: Sample(np.tile(each.values, (times, 1))) for name, each in samples.items()}
    assert only(longer).verdict == "worse"
    few = {name: Sample(np.tile(each.values[:1, :40], (3, 1))) for name, each in samples.items()}  # of few images
    assert math.isinf(only(few).more_draws)


# Label equivalence


def test_equivalent_labels_worked_by_hand() -> None:
    baseline = {shots: Sample(np.full((3, 90), shots >= 100, np.int8)) for shots in (1, 10, 100, 1000)}
    none, every = (Sample(np.full((3, 90), right, np.int8)) for right in (0, 1))
    assert label_equivalence(every, baseline) == (10, math.inf)
    assert label_equivalence(none, baseline) == (0, 100)
    noisy = sample_of(0, 0.5, 3, 90)
    assert label_equivalence(noisy, baseline) == (10, 100)
    assert all(map(math.isnan, label_equivalence(certain(0.5, 1), {1: certain(0.4, 1)})))


def test_budgets_hold_the_equivalent_number_of_labels_by_simulation() -> None:
    """The curve is known: the strategy is as accurate as the baseline with 30 labels. Measured: 0.976 of 1,000."""
    budgets, truth = [1, 5, 10, 30, 50, 100], 30
    means = [0.4 * math.log10(shots) for shots in [*budgets, truth]]
    samples, _ = crossed(3, 400, means, 6, 400, (0.2, 0.5), 0.5)
    held = []
    for trial in range(400):
        *curve, strategy = (Sample(sample.values[trial]) for sample in samples)
        low, high = label_equivalence(strategy, dict(zip(budgets, curve, strict=True)))
        held.append(low < truth < high)
    assert 0.95 - 2 * math.sqrt(0.05 * 0.95 / 400) <= np.mean(held)


# The Pareto front


@given(points=st.lists(st.tuples(st.integers(1, 2), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_the_front_is_what_no_point_of_the_budget_beats(points: list[tuple[int, int, int]]) -> None:
    def beaten(budget: int, cost: int, score: int) -> bool:
        return any(b == budget and c <= cost and s >= score and (c, s) != (cost, score) for b, c, s in points)

    front = on_front(pd.DataFrame(points, columns=["shots", "effort", "accuracy"], dtype=int))
    assert front.tolist() == [not beaten(*point) for point in points]
