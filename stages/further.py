"""Stage `further`: after each declared look, train the next draws of the strategies that it leaves undecided.

It reads the test labels for that alone: no strategy learns anything from it but whether it goes on. Without
`split.looks` there is nothing to do.
"""

import shutil
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from importlib import import_module
from itertools import pairwise
from pathlib import Path

from transfer.console import run, say
from transfer.data.predictions import read_every_run
from transfer.data.target import every_run
from transfer.evaluation.looks import going_on
from transfer.evaluation.outcomes import Correct
from transfer.evaluation.scores import outcomes_of
from transfer.evaluation.selection import Params
from transfer.files import read_arrays, write_text
from transfer.params import read_section

FURTHER = Path("data/further")
TARGET_LABELS = Path("data/target_test_labels.npz")
PROTOCOL = Path("data/protocol.npz")
ABOUT = "Predictions of the draws that were trained after each declared look, if any.\n"  # DVC warns of empty folders


def main() -> None:
    """Judge what every strategy has left, look by look; write `data/further/<draws>/<strategy>.npz`."""
    test = read_arrays(TARGET_LABELS, "labels", "classes") | read_arrays(PROTOCOL, "looks")
    within = read_section("report", Params).equal_within / 100
    shutil.rmtree(FURTHER, ignore_errors=True)
    write_text(FURTHER / "README.txt", ABOUT)
    looks = test["looks"].tolist()
    if len(looks) == 1:
        say("further: no looks are declared")
    for before, draws in pairwise(looks):
        names = sorted(file.stem for file in Path("data/predictions").glob("[!.]*.npz"))
        every = {name: read_every_run(name) for name in names}
        predictions = {name: given for name, given in every.items() if len(given.shots)}
        going = going_on(Correct.of(outcomes_of(predictions, **test)), within)
        count = sum(map(len, going.values()))
        say(f"further: look at {before} draws: {count} of {len(predictions) * len(going)} go on to {draws}")
        if count:
            train(going, sorted(predictions), range(before, draws), FURTHER / f"{draws:04}")


def train(going: Mapping[int, set[str]], names: Sequence[str], seeds: Sequence[int], folder: Path) -> None:
    """Train further draws of some strategies, and of those that they learn from.

    Args:
        going: names of the strategies, by number of shots.
        names: of all strategies that were run.
        seeds: of the draws.
        folder: that predictions are written to.
    """
    from stages.strategy import run_strategy  # imports TensorFlow

    modules = {name: import_module(f"transfer.strategies.{name}") for name in names}
    teachers = {
        name: module.teachers(read_section(name, module.Params)) if hasattr(module, "teachers") else []
        for name, module in modules.items()
    }
    order = list(TopologicalSorter(teachers).static_order())  # teachers first
    shots_of = {name: {shots for shots, those in going.items() if name in those} for name in names}
    for name in reversed(order):
        for teacher in teachers[name]:
            shots_of[teacher] |= shots_of[name]
    for name in order:
        if shots_of[name]:
            run_strategy(modules[name], every_run(sorted(shots_of[name]), seeds), folder)


if __name__ == "__main__":
    run(main)
