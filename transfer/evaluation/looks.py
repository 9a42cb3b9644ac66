"""Interim looks: only strategies that are still undecided against the best get further draws.

This is a group-sequential design: the looks are declared before there are results, and share the error of 5 %.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from transfer.evaluation.outcomes import SOURCE_MODEL, UNLABELLED, Correct
from transfer.evaluation.statistics import DECIDED, Sample, compare_pairs


def samples_without_failures(correct: Correct, strategies: Iterable[str], shots: int) -> dict[str, Sample]:
    """The accuracies of some strategies at a budget, without those of which a training failed."""
    rows = {name: correct.runs_of(name, shots) for name in strategies}
    return {name: Sample(correct.right(own)) for name, own in rows.items() if not correct.collapsed[own].any()}


def means_at(sample: Sample, looks: Sequence[int]) -> list[float]:
    """The mean accuracy of a strategy at every look that it has the draws of."""
    return [float(Sample(sample.values[:draws]).mean) for draws in looks if sample.draws >= draws]


def decided_at(pairs: pd.DataFrame) -> dict[tuple[str, str], int]:
    """After how many draws the verdict on a pair fell, both ways round; without pairs that are undecided.

    Args:
        pairs: of one budget, as `compare_pairs` gives them.
    """
    judged = pairs[pairs["verdict"].isin(DECIDED)][["first", "second", "draws"]].itertuples(index=False)
    return {pair: draws for first, second, draws in judged for pair in ((first, second), (second, first))}


def contenders(
    means: Mapping[str, Sequence[float]], decided: Mapping[tuple[str, str], int], looks: Sequence[int]
) -> list[str]:
    """Of some strategies those that can still be the best, at one budget; the first is the highest so far.

    At every look these are the highest of those that were left, and who is undecided against it. So one that was
    dropped is not the best because the later draws, which it does not have, are harder.

    Args:
        means: as `means_at`, by strategy.
        decided: as `decided_at`.
        looks: numbers of draws, ascending.
    """
    left = list(means)
    for number, draws in enumerate(looks):
        here = [name for name in left if len(means[name]) > number]
        if not here:
            break
        best = max(here, key=lambda name: means[name][number])
        left = [best, *(name for name in here if name != best and decided.get((name, best), looks[-1] + 1) > draws)]
    return left


def going_on(correct: Correct, within: float) -> dict[int, set[str]]:
    """Which strategies get the draws of the next look, by budget: those that a verdict is missing for.

    The best is looked for among all strategies, those without unlabelled images, and those without a source model. The
    best of a group continues, with those that are undecided against it. A strategy of which a training failed is
    dropped.

    Args:
        correct: all runs so far, image by image.
        within: the difference of accuracies, a fraction, up to which strategies are equal in practice.
    """
    needs, looks = json.loads(str(correct.needs)), correct.looks.tolist()
    going = {}
    for shots in sorted({*correct.shots.tolist()}):
        sound = samples_without_failures(correct, sorted(needs), shots)
        means = {name: means_at(sample, looks) for name, sample in sound.items()}
        decided = decided_at(compare_pairs(sound, within, looks))
        groups = [
            contenders({name: each for name, each in means.items() if need not in needs[name]}, decided, looks)
            for need in ("", UNLABELLED, SOURCE_MODEL)
        ]
        going[shots] = {name for group in groups if len(group) > 1 for name in group}
    return going
