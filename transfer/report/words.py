"""Numbers and lists as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence


def number(value: float, decimals: int = 2) -> str:
    """A number with thousands separators and a minus sign that is as wide as a plus."""
    return f"{value:,.{decimals}f}".replace("-", "−").replace("inf", "∞")


def signed(value: float, decimals: int = 2) -> str:
    """A number with its sign."""
    return f"{value:+,.{decimals}f}".replace("-", "−")


def percent(mean: float, margin: float = math.nan) -> str:
    """A fraction in %, as in `92.82 ± 0.92`, without the half-width of its interval where that is NaN."""
    return number(100 * mean) + plus_minus(margin)


def points(mean: float, margin: float = math.nan) -> str:
    """A difference of fractions in percentage points, as in `+0.86 ± 0.99`."""
    return signed(100 * mean) + plus_minus(margin)


def plus_minus(margin: float, scale: float = 100, decimals: int = 2) -> str:
    """Half of an interval, scaled, as in ` ± 0.92`; empty where there is none (NaN)."""
    return "" if math.isnan(margin) else f" ± {number(scale * margin, decimals)}"


def least_to_most(counts: Iterable[int]) -> str:
    """The least and the most of some counts, as in `10` and `10 to 40`."""
    every = sorted({*counts})
    return f"{every[0]:,} to {every[-1]:,}" if len(every) > 1 else f"{every[0]:,}"


def in_points(within: float) -> str:
    """A fraction as in `0.5 points`."""
    return f"{100 * within:g} points"


def listed(names: Sequence[object]) -> str:
    """Names as in `a, b and c`."""
    words = [f"{name:,}" if isinstance(name, int) else str(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def per_class(*shots: int) -> str:
    """Budgets in words, as in `1 label per class` and `5 and 10 labels per class`."""
    return f"{listed(shots)} label{'' if shots == (1,) else 's'} per class"


def spans(shots: Sequence[int], measured: Sequence[int]) -> str:
    """Budgets in words, neighbours among the measured ones together, as in `1 to 50 and 1,000`."""
    groups: list[list[int]] = []
    for before, budget in zip([None, *measured], measured, strict=False):
        if budget in shots:
            if groups and groups[-1][-1] == before:
                groups[-1].append(budget)
            else:
                groups.append([budget])
    return listed([f"{each[0]:,}" if len(each) == 1 else f"{each[0]:,} to {each[-1]:,}" for each in groups])


def budgets(shots: Sequence[int], measured: Sequence[int]) -> str:
    """The same with what they count, as in `1 label per class` and `5 to 50 labels per class`."""
    return f"{spans(shots, measured)} label{'' if list(shots) == [1] else 's'} per class"


def by_budget(words: Mapping[int, str]) -> str:
    """Words with all their budgets, as in `scratch with 1 to 10 labels per class and dense_head with 50`.

    Args:
        words: by budget, ascending; a budget without any is left out.
    """
    kinds: dict[str, list[int]] = {}
    for shots, each in words.items():
        kinds.setdefault(each, []).append(shots)
    kinds.pop("", None)
    if not kinds:
        return ""
    said = [f"{each} with {spans(own, list(words))}" for each, own in kinds.items()]
    first, its_budgets = next(iter(kinds.items()))
    return listed([f"{first} with {budgets(its_budgets, list(words))}", *said[1:]])  # "labels" stands once
