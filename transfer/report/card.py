"""The card of the model to take away: what it is, how good, how sure of itself, and what it is not."""

from __future__ import annotations

from typing import Any

from transfer.console import counted
from transfer.evaluation.comparison import Comparison
from transfer.report.blocks import Bullets, Section, Table, Text, plain
from transfer.report.method import few, source_model
from transfer.report.study import Study
from transfer.report.words import per_class, percent


def recommended(comparison: Comparison) -> Any:
    """What the report recommends at the largest number of labels: the result of the highest mean accuracy."""
    return comparison.best(comparison.shots[-1])


def write_card(study: Study) -> list[Section]:
    """The whole card."""
    result = recommended(study.comparison)
    height, width, channels = study.test_images.shape[1:]
    use = (
        "`transfer predict IMAGE` reads raw files as in training. In code, `keras.models.load_model` loads it: raw "
        f"uint8 images ({height}, {width}, {channels}) in, probabilities out."
    )
    limits = [
        "Measured on the test images that were given. On images made in another way it may be worse, and nothing here "
        "says how much.",
        "It knows its own classes alone, and gives one of them for any image whatever.",
        f"Trained on {per_class(result.shots)}; other draws of labels give other models.",
    ]
    if len(study.comparison.strategies) > 1:
        limits.append("It was chosen as the highest of several, which flatters its accuracy a little.")
    return [
        _what(study, result),
        Section("accuracy", "Accuracy", [Bullets(_accuracy(study, result))]),
        Section("calibration", "Calibration", [_calibration(result)]),
        Section("use", "Use", [Text(use)]),
        Section("limits", "Limits", [Bullets(limits)]),
    ]


def _what(study: Study, result: Any) -> Section:
    target = study.data["target"]
    facts = [
        f"Strategy: `{result.strategy}`, trained on {per_class(result.shots)}, the first of {study.comparison.seeds} "
        "label draws.",
        source_model(study),
        f"Data: {target['title']}; classes, in the order of the model's probabilities: {few(target['classes'], 400)}.",
        f"Test images: {target['test']:,}, {target['how']}; {counted(target['dropped'], 'duplicate')} dropped.",
    ]
    warnings = [Text(f"**Warning.** {note}") for note in study.data["notes"]]
    return Section("what", "What it is", [Bullets(facts), *warnings])


def _accuracy(study: Study, result: Any) -> list[str]:
    runs, seeds = study.runs, study.comparison.seeds
    own = runs[(runs["strategy"] == result.strategy) & (runs["shots"] == result.shots) & (runs["seed"] == 0)]
    how = f"± is half of the 95 % interval over label draws and test images ({seeds} draws)."
    sentences = [
        f"Accuracy of the strategy: **{percent(result.accuracy, result.margin)} %**. "
        + (how if seeds > 1 else "One label draw: no interval can be given."),
        f"This very model: {percent(own['accuracy'].item())} % of the test images.",
    ]
    others = [other.strategy for other in study.comparison.at(result.shots) if other.level and not other.best]
    return [*sentences, f"Not separated from it: {', '.join(others)}."] if others else sentences


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
