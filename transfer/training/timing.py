"""How long a call takes; apart from all else, as it runs in processes that must start at once."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def timed(call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> tuple[Result, float]:
    """What a call returns, and the seconds that it took."""
    began = perf_counter()
    result = call(*args, **kwargs)
    return result, perf_counter() - began
