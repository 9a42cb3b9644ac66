"""The card of the model to take away: what it is, how good, how sure of itself, and what it is not."""

from __future__ import annotations

from transfer.console import counted
from transfer.evaluation.comparison import Comparison, Result
from transfer.report.blocks import Bullets, Section, Table, Text, decimal, plain
from transfer.report.method import few, source_model
from transfer.report.study import Study
from transfer.report.words import number, per_class, percent


def recommended(comparison: Comparison) -> Result:
    """What the report recommends at the largest number of labels: the strategy with the highest mean accuracy."""
    return comparison.best(comparison.shots[-1])


def write_card(study: Study) -> list[Section]:
    """The whole card."""
    result = recommended(study.comparison)
    return [_what(study, result), _accuracy(study, result), _calibration(result), _use(study), _limits(study, result)]


def _what(study: Study, result: Result) -> Section:
    target = study.data["target"]
    return Section(
        "what",
        "What it is",
        [
            Bullets(
                [
                    f"Strategy: `{result.strategy}`, trained on {per_class(result.shots)}, the first of "
                    f"{study.comparison.seeds} label draws.",
                    source_model(study),
                    f"Data: {target['title']}; classes, in the order of the model's probabilities: "
                    f"{few(target['classes'], 400)}.",
                    f"Test images: {target['test']:,}, {target['how']}; {counted(target['dropped'], 'duplicate')} "
                    "dropped.",
                ]
            ),
            *(Text(f"**Warning.** {note}") for note in study.data["notes"]),
        ],
    )


def _accuracy(study: Study, result: Result) -> Section:
    cells = study.cells
    own = cells[(cells["strategy"] == result.strategy) & (cells["shots"] == result.shots) & (cells["seed"] == 0)]
    seeds = study.comparison.seeds
    if seeds == 1:
        how = "One label draw: no interval can be given."
    else:
        how = f"± is half of the 95 % interval over label draws and test images ({seeds} draws)."
    sentences = [
        f"Accuracy of the strategy: **{percent(result.accuracy)} %**. {how}",
        f"This very model: {number(100 * float(own['accuracy'].iloc[0]))} % of the test images.",
    ]
    others = [other.strategy for other in study.comparison.at(result.shots) if other.level and not other.best]
    if others and seeds > 1:
        sentences.append(f"Not separated from it: {', '.join(others)}.")
    return Section("accuracy", "Accuracy", [Bullets(sentences)])


def _calibration(result: Result) -> Section:
    scores = {
        "log loss, nats": ("log_loss", 3, 1),
        "Brier score": ("brier", 3, 1),
        "expected calibration error, %": ("ece", 2, 100),
        "temperature": ("temperature", 2, 1),
    }
    rows = [
        [plain(name), decimal(result.calibration[key], places, scale)] for name, (key, places, scale) in scores.items()
    ]
    note = "Means over the draws. A temperature above 1: the model is surer of itself than it should be. – : not known."
    return Section(
        "calibration",
        "Calibration",
        [Table("How far its confidence can be believed", ["score", "value"], rows, note=note)],
    )


def _use(study: Study) -> Section:
    height, width, channels = study.test_images.shape[1:]
    return Section(
        "use",
        "Use",
        [
            Text(
                "`transfer predict IMAGE` reads raw files as in training. In code, `keras.models.load_model` loads it: "
                f"raw uint8 images ({height}, {width}, {channels}) in, probabilities out."
            )
        ],
    )


def _limits(study: Study, result: Result) -> Section:
    comparison = study.comparison
    limits = [
        "Measured on the test images that were given: on images made in another way it may be worse, and nothing here "
        "says how much.",
        "It knows its own classes alone, and gives one of them for any image whatever.",
        f"Trained on {per_class(result.shots)}; other draws of labels give other models.",
    ]
    if len(comparison.strategies) > 1:
        limits.append("It was chosen as the highest of several, which flatters its accuracy a little.")
    return Section("limits", "Limits", [Bullets(limits)])
