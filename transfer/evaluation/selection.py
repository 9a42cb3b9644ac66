"""Which runs and strategies the report is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from transfer.console import UserError
from transfer.params import Section

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "scratch"
CALIBRATION = ("log_loss", "brier", "ece", "temperature", "log_loss_tempered", "ece_tempered")


class Params(Section):
    """The `report` section."""

    strategies: Literal["all"] | Annotated[list[str], Field(min_length=1)]
    equal_within: Annotated[float, Field(ge=0, le=100)]
    target_accuracy: Annotated[float, Field(gt=0, le=100)]


def choose_strategies(runs: pd.DataFrame, wanted: Sequence[str] | None) -> list[str]:
    """The strategies to compare, by name, the baseline last.

    Args:
        runs: a row per run.
        wanted: names; None for all that have runs.

    Raises:
        UserError: if a name has no runs.
    """
    known = sorted(set(runs["strategy"]))
    if missing := [name for name in wanted or () if name not in known]:
        raise UserError(
            f"params.yaml: report.strategies names {missing[0]!r}, which has no runs; choose from {', '.join(known)}"
        )
    return sorted(set(wanted or known), key=lambda name: (name == BASELINE, name))
