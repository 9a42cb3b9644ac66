"""The card of the model to take away: what it is, how good, how sure of itself, and what it is not."""

from __future__ import annotations

from typing import Any

from transfer.console import counted
from transfer.evaluation.comparison import Comparison
from transfer.report.blocks import Section, Table, plain
from transfer.report.method import few, source_model
from transfer.report.pages import written
from transfer.report.study import Study
from transfer.report.words import per_class, percent


def recommended(comparison: Comparison) -> Any:
    """What the report recommends at the largest number of labels: the result of the highest mean accuracy."""
    return comparison.best(comparison.shots[-1])


def write_card(study: Study) -> list[Section]:
    """The whole card."""
    comparison, runs, target = study.comparison, study.runs, study.data["target"]
    result = recommended(comparison)
    own = runs[(runs["strategy"] == result.strategy) & (runs["shots"] == result.shots) & (runs["seed"] == 0)]
    what, accuracy, *others = written(
        "card",
        result=result,
        budget=per_class(result.shots),
        seeds=comparison.seeds,
        source=source_model(study),
        target=target,
        classes=few(target["classes"], 400),
        dropped=counted(target["dropped"], "duplicate"),
        notes=study.data["notes"],
        accuracy=percent(result.accuracy, result.margin),
        own=percent(own["accuracy"].item()),
        others=[other.strategy for other in comparison.at(result.shots) if other.level and not other.best],
        shape=study.test_images.shape[1:],
        strategies=len(comparison.strategies),
    )
    return [what, accuracy, Section("calibration", "Calibration", [_calibration(result)]), *others]


def _calibration(result: Any) -> Table:
    rows = [
        ("log loss, nats", plain(result.log_loss, 3)),
        ("Brier score", plain(result.brier, 3)),
        ("expected calibration error, %", plain(100 * result.ece)),
        ("temperature", plain(result.temperature)),
    ]
    return Table(
        "How far its confidence can be believed",
        ["score", "value"],
        [[plain(name), value] for name, value in rows],
        note="Means over the draws. A temperature above 1: the model is surer of itself than it should be. "
        "–: not known.",
    )
