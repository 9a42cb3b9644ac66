"""Numbers and lists as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def number(value: float, decimals: int = 2) -> str:
    """A number with thousands separators and a minus sign that is as wide as a plus."""
    return f"{value:,.{decimals}f}".replace("-", "−")


def signed(value: float, decimals: int = 2) -> str:
    """A number with its sign."""
    return f"{value:+,.{decimals}f}".replace("-", "−")


def percent(mean: float, margin: float = math.nan) -> str:
    """A fraction in %, as in `92.82 ± 0.92`, without the half-width of its interval where that is NaN."""
    return number(100 * mean) + _plus_minus(margin)


def points(mean: float, margin: float = math.nan) -> str:
    """A difference of fractions in percentage points, as in `+0.86 ± 0.99`."""
    return signed(100 * mean) + _plus_minus(margin)


def _plus_minus(margin: float) -> str:
    return "" if math.isnan(margin) else f" ± {number(100 * margin)}"


def listed(names: Sequence[object]) -> str:
    """Names as in `a, b and c`."""
    words = [f"{name:,}" if isinstance(name, int) else str(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def per_class(*shots: int) -> str:
    """Budgets in words, as in `1 label per class` and `5 and 10 labels per class`."""
    return f"{listed(shots)} label{'' if shots == (1,) else 's'} per class"
