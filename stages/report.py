"""Stage `report`: turn the runs into a page that people can read, as Markdown with charts and as one HTML file."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from transfer.console import UserError, counted, run, say
from transfer.data.target import Draws
from transfer.evaluation.comparison import compare
from transfer.evaluation.outcomes import Correct, Outcomes, Probes
from transfer.evaluation.selection import Params, choose_strategies
from transfer.files import digest, read_arrays, read_facts, read_record, write_record, write_text, write_whole
from transfer.params import read_section
from transfer.report import pages
from transfer.report.sections import charts_of, write_report
from transfer.report.study import Study, write_card
from transfer.report.words import listed

MODELS, RESULTS = Path("models"), Path("results")
PROTOCOL = Path("data/protocol.npz")
TITLE = "Which way to transfer"


def main() -> None:
    """Read what was measured; write the report and its charts, and copy the recommended model."""
    params = read_section("report", Params)
    outcomes = read_record(Path("data/outcomes.npz"), Outcomes)
    data = read_facts(Path("data/about.json"))
    kept = RESULTS / "correct.npz"
    correct = replace(Correct.of(outcomes), draw=np.array(data["draw"]))
    correct = correct.after(read_arrays(kept) if kept.is_file() else {})
    write_record(kept, correct)
    if len(correct.seen):
        note = (
            f"These are {counted(int(correct.looks[-1]), 'draw')} after results with {listed(correct.seen.tolist())} "
            "were seen: the 5 % error of the verdicts is not guaranteed. Declare split.looks before there are results."
        )
        say(f"warning: {note}")
        data["notes"].append(note)
    runs = pd.read_csv(RESULTS / "cells.csv")
    strategies = choose_strategies(runs, None if params.strategies == "all" else params.strategies)
    say(f"report: {counted(len(runs), 'run')}; {', '.join(strategies)}")

    study = Study(
        comparison=compare(runs, correct, strategies, params.equal_within / 100),
        runs=runs,
        outcomes=outcomes,
        probes=read_record(Path("data/probes.npz"), Probes).merged(read_arrays(PROTOCOL, "folds")["folds"]),
        test_images=read_arrays(Path("data/target_test_images.npz"))["images"],
        source=read_facts(Path("models/source.json")),
        data=data,
        chosen=read_record(Path("data/chosen.npz"), Draws),
        controls=Correct.of(read_record(Path("data/controls.npz"), Outcomes)),
        target_accuracy=params.target_accuracy / 100,
    )
    sections = write_report(study)
    write_text(RESULTS / "report.md", pages.markdown(TITLE, sections, charts="charts"))
    write_text(RESULTS / "report.html", pages.html(TITLE, sections, strategies))
    for chart in charts_of(sections):
        write_text(RESULTS / "charts" / f"{chart.name}.svg", chart.svg)
    best = study.recommended.strategy
    take_away(best, study.made_with[best]["model"])
    write_text(MODELS / "best.md", pages.markdown(f"The model `best.keras`: {best}", write_card(study)))
    say(f"report: results/report.md, results/report.html; models/best.keras is {best}")


def take_away(strategy: str, sha256: str) -> None:
    """Copy the model of a strategy, which must be the one that was measured."""
    model = MODELS / f"{strategy}.keras"
    if digest(model) != sha256:
        raise UserError(
            f"{model} is not the model that was measured: run `dvc checkout {model}`, or `dvc repro {strategy}`"
        )
    write_whole(MODELS / "best.keras", partial(shutil.copyfile, model))


if __name__ == "__main__":
    run(main)
