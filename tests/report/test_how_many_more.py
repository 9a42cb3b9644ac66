"""The section on more labels: what it says, and where it keeps silent."""

from __future__ import annotations

import dataclasses

import pandas as pd
from reports import MEANS, outcomes_of, study_of, tables_in

from transfer.evaluation.outcomes import Outcomes
from transfer.report import pages
from transfer.report.forecast import NONE, how_many_more
from transfer.report.study import Study

SHOTS = (1, 2, 4, 8, 16)
CAPTION = "Labels per class for 65 %, and accuracy in % with more labels"


def page_of(study: Study) -> str:
    return pages.markdown("x", how_many_more(study))


def more_of(outcomes: Outcomes) -> tuple[str, pd.DataFrame]:
    page = page_of(dataclasses.replace(study_of(outcomes), target_accuracy=0.65))
    return page, tables_in(page)[CAPTION].set_index("strategy")


def test_every_strategy_is_told_with_its_back_test() -> None:
    page, table = more_of(outcomes_of(MEANS, SHOTS))
    assert list(table.columns) == ["labels for 65 %", "with 32", "with 64", "back-test"]
    assert table.loc["dense_head", "labels for 65 %"] == "at most 1"
    assert "8: " in str(table.loc["scratch", "back-test"])
    assert "16: " in str(table.loc["scratch", "back-test"])
    assert "Of 9 hidden means " in page


def test_too_few_numbers_of_labels_are_interpolated_alone() -> None:
    page, table = more_of(outcomes_of({"dense_head": 0.6, "scratch": 0.3}))
    assert set(table[["with 20", "with 40"]].to_numpy().ravel()) == {NONE}
    assert set(table["back-test"]) == {"not possible"}
    assert table.loc["scratch", "labels for 65 %"] == "more than 10"
    assert "**The forecast could not be tested**" in page


def test_one_draw_or_one_number_of_labels_has_no_section() -> None:
    assert how_many_more(study_of(outcomes_of(MEANS, SHOTS, seeds=1))) == []
    assert how_many_more(study_of(outcomes_of(MEANS, (5,)))) == []


def test_failed_runs_and_draws_that_not_all_budgets_have_are_left_out() -> None:
    outcomes = outcomes_of(MEANS, SHOTS)
    whole = more_of(outcomes)[1]
    scratch = outcomes.strategy == "scratch"
    collapsed = scratch & (outcomes.shots == 16) & (outcomes.seed == 3)
    table = more_of(dataclasses.replace(outcomes, collapsed=collapsed))[1]
    assert table.loc["scratch", "with 64"] == NONE  # its curve ends at 8
    assert table.drop("scratch").equals(whole.drop("scratch"))

    study = dataclasses.replace(study_of(outcomes), target_accuracy=0.65)
    late = study.runs.eval("strategy == 'scratch' and shots > 4 and seed > 4")  # strategies out after 5 draws there
    early = study.runs.eval("strategy == 'scratch' and seed > 4")
    pages_of = [page_of(dataclasses.replace(study, runs=study.runs[~dropped])) for dropped in (late, early)]
    assert pages_of[0] == pages_of[1]
    assert pages_of[0] != page_of(study)
