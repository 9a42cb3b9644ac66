"""The report: every number in it follows from the cells, and it stays true where there is little to tell."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from transfer.console import UserError
from transfer.evaluation.comparison import Comparison, compare, confusion, hard_images
from transfer.evaluation.intervals import Estimate
from transfer.evaluation.outcomes import COSTS, Outcomes, Probes
from transfer.evaluation.selection import CALIBRATION, choose_strategies, read_cells
from transfer.files import digest
from transfer.report import advice, charts, pages, vega
from transfer.report.card import recommended, write_card
from transfer.report.charts import charts_of
from transfer.report.sections import write_report
from transfer.report.study import Study

ROOT = Path(__file__).resolve().parents[1]
MEANS = {"dense_head": 0.7, "end_to_end": 0.6, "scratch": 0.6}


def outcomes_of(
    means: dict[str, float], shots: tuple[int, ...] = (1, 10), seeds: int = 8, images: int = 600, classes: int = 3
) -> Outcomes:
    """Cells whose accuracy is about the strategy's mean, a little more with more shots; draws' luck is shared."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images).astype(np.int32)
    grid = list(itertools.product(means, shots, range(seeds)))
    luck = {(n, seed): rng.normal(0, 0.05) for n in shots for seed in range(seeds)}
    ease = rng.uniform(size=images)
    predicted, confidence = [], []
    for name, n, seed in grid:
        accuracy = means[name] + luck[n, seed] + rng.normal(0, 0.004) + 0.1 * shots.index(n) / max(len(shots) - 1, 1)
        wrong = (labels + rng.integers(1, classes, images)) % classes
        predicted.append(np.where(ease < accuracy, labels, wrong))
        confidence.append(rng.uniform(0.4, 1, images))
    names, budgets, seed_of = (list(column) for column in zip(*grid, strict=True))
    versions = {"versions": {"keras": "3"}, "params": {"layer": "block2"}, "precision": "float32"}
    return Outcomes(
        strategy=np.array(names),
        shots=np.array(budgets, np.int32),
        seed=np.array(seed_of, np.int32),
        predicted=np.array(predicted, np.int16),
        confidence=np.array(confidence, np.float32),
        scaled=np.array(confidence, np.float32) ** 1.1,
        labels=labels,
        classes=np.arange(classes),
        made_with=np.array(json.dumps(dict.fromkeys(means, versions))),
        table=np.array(""),
    )


def cells_of(outcomes: Outcomes) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    cells = pd.DataFrame({"strategy": outcomes.strategy, "shots": outcomes.shots, "seed": outcomes.seed})
    cells["accuracy"] = (outcomes.predicted == outcomes.labels).mean(axis=1).round(6)
    for i, name in enumerate(COSTS):
        cells[name] = 10 ** (i + 1) * cells["shots"] + 7 * (cells["strategy"] == "dense_head")
    for name in CALIBRATION:
        cells[name] = rng.uniform(0.1, 2, len(cells)).round(6)
    return cells


def side(title: str, classes: list[str]) -> dict[str, Any]:
    counts = {"train": 4321, "test": 600, "dropped": 3, "how": "the data's own test images", "grouped": False}
    return {"title": title, "classes": classes, "raw": {"images": {"shape": [4, 28, 28], "sha256": "abc"}}} | counts


def study_of(outcomes: Outcomes, strategies: list[str] | None = None) -> Study:
    cells = cells_of(outcomes)
    seeds = int(outcomes.seed.max()) + 1
    views = Probes(
        names=np.array(["block1", "dense1"]),
        shots=np.array(1, np.int32),
        rows=np.arange(40),
        predicted=np.random.default_rng(3).integers(0, 3, (2, seeds, 40)).astype(np.int16),
    )
    return Study(
        comparison=compare(cells, outcomes, choose_strategies(cells, strategies), 300),
        cells=cells,
        outcomes=outcomes,
        views=views,
        test_images=np.random.default_rng(4).integers(0, 256, (len(outcomes.labels), 28, 28, 1)).astype(np.uint8),
        source={
            "accuracy": 0.99,
            "classes": [0, 1],
            "params": {"cnn": {"dense": [8]}},
            "versions": {"keras": "3"},
            "precision": "mixed_bfloat16",
        },
        data={
            "source": side("MNIST", ["0", "1"]),
            "target": side("5 files of own", [str(name) for name in outcomes.classes]),
            "notes": [],
        },
        replicates=300,
    )


STUDY = study_of(outcomes_of(MEANS))
SECTIONS = write_report(STUDY)
PAGE = pages.markdown("Which way to transfer", SECTIONS, charts="charts")


def tables_in(page: str) -> dict[str, pd.DataFrame]:
    """Every table of a Markdown page by its caption, as text."""
    tables = {}
    for caption, content in re.findall(r"^\*\*(.+)\*\*\n\n((?:\|.*\n)+)", page, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|\n").split(" |")] for line in content.splitlines()]
        tables[caption] = pd.DataFrame(rows, columns=head)
    return tables


def numbers(text: str) -> list[float]:
    found = re.findall(r"[+−-]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?", text)
    return [float(part.replace(",", "").replace("−", "-")) for part in found]


def shown(value: float, decimals: int = 2) -> float:
    return float(f"{value:.{decimals}f}")


def check_cell_numbers(page: str, cells: pd.DataFrame) -> int:
    """Recompute every number of the page's tables that follows from the cells; returns how many were compared."""
    tables, compared = tables_in(page), 0
    accuracy = cells.pivot_table(index=["strategy", "shots"], columns="seed", values="accuracy") * 100

    def check(text: str, *expected: float, decimals: int = 2, tolerance: float = 0.0) -> None:
        nonlocal compared
        got = numbers(text)
        assert len(got) >= len(expected), text
        for one, value in zip(got, expected, strict=False):
            assert one == pytest.approx(float(value), abs=10.0**-decimals * 0.5 + 1e-9 + tolerance), text
            compared += 1

    def budget(head: str) -> int:
        return int(head.replace(",", ""))

    for _, row in tables["Accuracy in % by labelled images per class"].iterrows():
        for head in row.index[1:]:
            check(row[head], accuracy.loc[(row["strategy"], budget(head))].mean())
    for _, row in tables["Accuracy in % over the draws"].iterrows():
        values = accuracy.loc[(row["strategy"], budget(row["labels per class"]))]
        check(row["mean"], values.mean())
        if len(values) > 1:
            check(row["standard deviation"], values.std())
        for column, value in (("lowest", values.min()), ("median", values.median()), ("highest", values.max())):
            check(row[column], value)
    for caption, table in tables.items():
        if caption.startswith("Gain over"):
            for _, row in table.iterrows():
                for head in row.index[1:]:
                    own, base = (accuracy.loc[(name, budget(head))] for name in (row["strategy"], "scratch"))
                    check(row[head], (own - base).mean(), tolerance=1e-4)
    if "Every pair" in tables:
        pairs = tables["Every pair"]
        for shots, rows in pairs.groupby("labels per class"):
            differences = [
                accuracy.loc[(a, budget(str(shots)))] - accuracy.loc[(b, budget(str(shots)))]
                for a, b in zip(rows["first"], rows["second"], strict=True)
            ]
            differences = [difference.round(6) for difference in differences]
            for text, wins, difference in zip(rows["difference"], rows["first wins"], differences, strict=True):
                check(text, difference.mean(), tolerance=1e-4)
                check(wins, 100 * ((difference > 1e-3).mean() + (difference.abs() <= 1e-3).mean() / 2), decimals=0)
            if "p" in pairs:
                untied = [difference.where(difference.abs() > 1e-3, 0) for difference in differences]
                raw = [stats.wilcoxon(d, method="exact").pvalue if (d != 0).all() else np.nan for d in untied]
                ranks_tied = any(len(set(d.abs().round(3))) < len(d) for d in untied)
                if not np.isnan(raw).any() and not ranks_tied:
                    for text, p in zip(rows["p"], multipletests(raw, method="holm")[1], strict=True):
                        check(text, p, decimals=4)
    medians = cells.groupby(["strategy", "shots"]).median(numeric_only=True)
    for _, row in tables["What one training costs"].iterrows():
        cost = medians.loc[(row["strategy"], budget(row["labels per class"]))][list(COSTS)].astype(int)
        check(row["trained parameters"], cost["trainable_parameters"], decimals=0)
        check(row["gradient steps"], cost["gradient_steps"], decimals=0)
        check(row["images seen"], cost["examples_seen"], decimals=0)
        assert numbers(row["effort"])[0] == float(f"{cost['trainable_parameters'] * cost['examples_seen']:.2e}")
        check(row["file"], cost["model_bytes"] / 1e6)
    means = cells.groupby(["strategy", "shots"]).mean(numeric_only=True)
    columns = {"log loss": ("log_loss", 1, 3), "Brier": ("brier", 1, 3), "ECE, %": ("ece", 100, 2)}
    columns |= {"temperature": ("temperature", 1, 2), "ECE, temperature-scaled": ("ece_tempered", 100, 2)}
    columns |= {"log loss, temperature-scaled": ("log_loss_tempered", 1, 3)}
    for _, row in tables["Calibration, means over the draws"].iterrows():
        for head, (name, scale, decimals) in columns.items():
            mean = means.loc[(row["strategy"], budget(row["labels per class"])), name]
            if np.isnan(mean):
                assert row[head] == "–"
            else:
                check(row[head], scale * mean, decimals=decimals)
    return compared


def check_sentences(page: str, cells: pd.DataFrame) -> None:
    """Recompute which strategy is highest, and what it leads the baseline by."""
    means = cells.groupby(["shots", "strategy"])["accuracy"].mean() * 100
    sentences = re.findall(r"^- With ([\d,]+) labels? per class (.*)$", page, re.MULTILINE)
    assert [int(shots.replace(",", "")) for shots, _ in sentences] == sorted(cells["shots"].unique())
    for shots, sentence in sentences:
        at = means.loc[int(shots.replace(",", ""))]
        best = at.idxmax()
        assert best in sentence
        assert numbers(sentence.split("%")[0])[-1] == shown(at[best])
        if lead := re.search(r"([\d.]+) points above training from scratch", sentence):
            assert float(lead[1]) == pytest.approx(at[best] - at["scratch"], abs=0.0051)


def test_every_number_of_the_committed_report_follows_from_the_committed_cells() -> None:
    page = (ROOT / "results/report.md").read_text(encoding="utf-8")
    cells = pd.read_csv(ROOT / "results/cells.csv")
    assert check_cell_numbers(page, cells) > 450
    check_sentences(page, cells)
    layers = pd.read_csv(ROOT / "results/probes.csv").groupby("layer")["accuracy"].mean()
    probes = next(table for caption, table in tables_in(page).items() if "linear probe" in caption)
    for _, row in probes.iterrows():
        assert numbers(row["accuracy, %"])[0] == shown(100 * layers[row["layer"]])


def test_every_number_of_a_page_follows_from_its_cells() -> None:
    assert check_cell_numbers(PAGE, STUDY.cells) > 60
    check_sentences(PAGE, STUDY.cells)


def test_a_changed_cell_is_noticed_by_the_recomputation() -> None:
    """The check above is worth something: with one accuracy changed it fails."""
    cells = STUDY.cells.copy()
    cells.loc[3, "accuracy"] += 0.05
    with pytest.raises(AssertionError):
        check_cell_numbers(PAGE, cells)


def test_intervals_come_from_the_outcomes_by_a_bootstrap_over_draws_and_images() -> None:
    """Independent: a plain loop that draws seeds and images anew; only the spread is compared."""
    outcomes, rng = STUDY.outcomes, np.random.default_rng(5)
    rows = (outcomes.strategy == "dense_head") & (outcomes.shots == 10)
    correct = (outcomes.predicted == outcomes.labels)[rows]
    seeds, images = correct.shape
    means = [
        correct[np.ix_(rng.integers(seeds, size=seeds - 1), rng.integers(images, size=images))].mean()
        for _ in range(3000)
    ]
    estimate = STUDY.comparison.of("dense_head", 10).accuracy
    assert estimate.high is not None
    half = estimate.high - estimate.mean
    assert 1.96 * np.std(means) * 0.95 < half < 2.37 * np.std(means) * 1.05  # between the normal and t with 7 degrees
    text = tables_in(PAGE)["Accuracy in % by labelled images per class"].set_index("strategy").loc["dense_head", "10"]
    assert numbers(str(text))[1] == shown(100 * half)


def test_verdicts_follow_the_corrected_intervals_and_marks_the_verdicts() -> None:
    gains = tables_in(PAGE)["Gain over scratch in percentage points, by labelled images per class"].set_index(
        "strategy"
    )
    for head in ("1", "10"):
        assert gains.loc["dense_head", head].endswith("▲")
        assert gains.loc["end_to_end", head].endswith("≈")
        for text in gains[head]:
            mean, half = numbers(text)
            assert (abs(mean) > half) == (not text.endswith("≈"))
    table = tables_in(PAGE)["Accuracy in % by labelled images per class"].set_index("strategy")
    assert table.loc["dense_head", "1"].endswith("★")
    assert not re.search("[★≈]", table.loc["scratch", "1"])


def test_charts_are_whole_svg_of_the_same_bytes_without_an_address() -> None:
    names = []
    for chart in charts_of(SECTIONS):
        svg = vega.svg(chart.whole())
        assert ET.fromstring(svg).tag.endswith("svg")
        assert "NaN" not in svg
        assert not re.findall(r'(?:href|src)="https?:', svg)
        assert svg == vega.svg(chart.whole())
        assert f"]({'charts'}/{chart.name}.svg)" in PAGE
        names.append(chart.name)
    assert names == ["accuracy", "gains", "cost", "confusion", "errors", "reliability"]


def test_the_learning_curves_show_only_accuracies_that_can_be() -> None:
    """Two draws that differ have an interval far wider than 0 to 100 %."""
    wild = outcomes_of({"scratch": 0.5, "dense_head": 0.6}, seeds=2, images=10)
    comparison = study_of(wild).comparison
    data = charts.learning_curves(comparison, 10).panels[0].to_dict()["datasets"]
    for row in itertools.chain(*data.values()):
        assert 0 <= row["from"] <= row["accuracy"] <= row["to"] <= 100
        assert 0 < row["low"] <= row["error"] <= row["high"] <= 100


def page_of(study: Study, drawn: bool = False) -> str:
    """The page as Markdown; where `drawn`, its charts and its HTML are made as well, which takes seconds."""
    sections = write_report(study)
    if drawn:
        assert "NaN" not in "".join(vega.svg(chart.whole()) for chart in charts_of(sections))
        assert "<html" in pages.html("Which way to transfer", sections, study.comparison.strategies)
    return pages.markdown("Which way to transfer", sections, charts="charts")


def test_one_seed_gives_no_interval_and_no_verdict() -> None:
    study = study_of(outcomes_of(MEANS, seeds=1))
    page = page_of(study, drawn=True)
    assert "±" not in page.split("## How it was measured")[0]
    assert not re.search("[★▲▼≈]", page)
    assert "Every pair" not in page
    assert "One label draw tells nothing of the next" in page
    assert "too little for advice" in page
    check_cell_numbers(page, study.cells)


@pytest.mark.parametrize("seeds", [2, 5])
def test_few_seeds_say_that_no_signed_rank_test_can_be_significant(seeds: int) -> None:
    study = study_of(outcomes_of(MEANS, seeds=seeds))
    page = page_of(study)
    assert f"With {seeds} draws no signed-rank test can be significant" in page
    assert "p" not in tables_in(page)["Every pair"].columns
    assert "±" in page
    check_cell_numbers(page, study.cells)


def test_enough_seeds_for_one_test_but_not_for_many_are_told_so() -> None:
    page = page_of(study_of(outcomes_of(MEANS, seeds=6)))  # three pairs: 3 × 2 / 2⁶ = 0.094
    assert "the smallest can be 0.0938, so that no such test can be significant" in page


def test_without_the_baseline_nothing_is_said_of_gains() -> None:
    page = page_of(study_of(outcomes_of(MEANS), strategies=["end_to_end", "dense_head"]), drawn=True)
    assert "`scratch` is not among the strategies" in page
    assert "Gain over scratch" not in page
    assert "Negative transfer" not in page
    assert "dense_head" in page
    assert "| scratch" not in page


@pytest.mark.parametrize("alone", ["scratch", "dense_head"])
def test_one_strategy_alone_is_no_comparison(alone: str) -> None:
    page = page_of(study_of(outcomes_of(MEANS), strategies=[alone]), drawn=True)
    assert f"{alone} alone was measured" in page
    assert not re.search("[★▲▼≈]", page.split("## Cost")[0])


@pytest.mark.parametrize("shots", [(1,), (3, 7)])
def test_one_or_two_numbers_of_shots_give_a_true_page(shots: tuple[int, ...]) -> None:
    study = study_of(outcomes_of(MEANS, shots=shots))
    page = page_of(study, drawn=True)
    check_cell_numbers(page, study.cells)
    check_sentences(page, study.cells)


def test_perfect_and_equal_strategies_are_not_separated() -> None:
    page = page_of(study_of(outcomes_of(dict.fromkeys(MEANS, 2.0))), drawn=True)
    assert "nothing is separated" in page
    assert "No test image is got wrong" in page
    assert "nan" not in page.lower().replace("dominan", "")


def test_strategies_that_have_no_cells_are_refused_with_those_that_have() -> None:
    with pytest.raises(
        UserError, match=r"report\.strategies names 'dense_haed', .* choose from dense_head, end_to_end"
    ):
        choose_strategies(STUDY.cells, ["scratch", "dense_haed"])
    assert choose_strategies(STUDY.cells, ["scratch", "dense_head"]) == ["dense_head", "scratch"]


def test_cells_that_are_not_those_that_were_measured_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    STUDY.cells.to_csv(path, index=False)
    measured = digest(path)
    assert len(read_cells(path, measured)) == len(STUDY.cells)
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(UserError, match=r"cells\.csv is not the one that was measured"):
        read_cells(path, measured)


def test_confusion_and_recall_against_scikit_learn() -> None:
    from sklearn.metrics import confusion_matrix

    outcomes = STUDY.outcomes
    rows = (outcomes.strategy == "end_to_end") & (outcomes.shots == 1)
    true = np.tile(outcomes.labels, rows.sum())
    expected = confusion_matrix(true, outcomes.predicted[rows].ravel(), normalize="true")
    np.testing.assert_allclose(confusion(outcomes, "end_to_end", 1), expected)
    recalls = next(table for caption, table in tables_in(PAGE).items() if caption.startswith("Recall"))
    row = recalls.set_index("strategy").loc["end_to_end"]
    assert [numbers(text)[0] for text in row] == [shown(100 * value, 1) for value in expected.diagonal()]


def test_hard_images_are_those_that_most_trainings_get_wrong() -> None:
    outcomes = STUDY.outcomes
    wrong = (outcomes.predicted != outcomes.labels)[outcomes.shots == 10]
    hard = hard_images(outcomes, list(MEANS), 10)
    assert hard
    assert [image.wrong for image in hard] == sorted((int(wrong[:, image.row].sum()) for image in hard), reverse=True)
    assert all(image.wrong > len(wrong) / 2 and image.mistaken_for != image.label for image in hard)
    assert len(hard) == min(24, int((wrong.sum(axis=0) > len(wrong) / 2).sum()))


def test_label_equivalence_in_words() -> None:
    assert advice.labels(Estimate(12.34, 9.9, 160.4), 1000) == "12.3 (9.9 to 160)"
    assert advice.labels(Estimate(float("inf"), 800, float("inf")), 1000) == "more than 1,000 (800 to more than 1,000)"
    assert advice.labels(Estimate(0.0, 0.0, 2.0), 10) == "fewer than the fewest (fewer than the fewest to 2)"
    assert advice.labels(Estimate(5.0, None, None), 10) == "5"


def advise_on(results: dict[str, float], seeds: int = 10) -> tuple[Comparison, list[str]]:
    comparison = study_of(outcomes_of(results, seeds=seeds, images=2000)).comparison
    return comparison, [advice.advise(comparison, shots) for shots in comparison.shots]


def test_advice_where_transfer_wins() -> None:
    comparison, (first, _) = advise_on({"dense_head": 0.7, "end_to_end": 0.6, "scratch": 0.5})
    assert first.startswith("With 1 label per class use dense_head: ")
    assert "points above training from scratch" in first
    assert "beats it with 1 and 10 labels per class" in advice.conclude(comparison)
    assert advice.negative_transfer(comparison) == ""


def test_advice_where_transfer_loses() -> None:
    comparison, (first, _) = advise_on({"dense_head": 0.5, "end_to_end": 0.6, "scratch": 0.7})
    assert "train from scratch" in first
    assert "points above end_to_end, the closest of those that lose to it" in first
    assert "loses to it with 1 and 10 labels per class" in advice.conclude(comparison)
    assert "Negative transfer, worse than training from scratch: dense_head and end_to_end with 1 and 10" in (
        advice.negative_transfer(comparison)
    )


def test_advice_names_what_is_not_separated() -> None:
    _, (first, _) = advise_on({"dense_head": 0.70, "end_to_end": 0.7, "scratch": 0.5})
    assert re.search(r"not separated from (dense_head|end_to_end)\.", first)


def test_the_data_are_told_with_what_was_dropped_and_noticed() -> None:
    rows = tables_in(PAGE)["Source and target"]
    assert rows["data"].tolist() == ["MNIST", "5 files of own"]
    assert rows["duplicates dropped"].tolist() == ["3", "3"]
    assert "**Warning.**" not in PAGE
    warned = dataclasses.replace(STUDY, data=STUDY.data | {"notes": ["Light and dark may be turned round."]})
    assert "**Warning.** Light and dark may be turned round." in page_of(warned)
    assert "**Warning.** Light" in pages.markdown("Card", write_card(warned))


def test_a_given_source_model_is_told_as_that_and_nothing_is_claimed_of_it() -> None:
    given = STUDY.source | {"accuracy": None, "params": {"source": {"model": "/home/me/own.h5"}}, "classes": []}
    told = "Source: a model that was given, own.h5. What it was trained on is not known here"
    assert told in page_of(dataclasses.replace(STUDY, source=given))
    assert told not in PAGE
    known = given | {"accuracy": 0.5, "classes": ["cat", "dog"]}
    page = page_of(dataclasses.replace(STUDY, source=known))
    assert "own.h5. If its outputs stand for cat and dog, in this order, it is right on 50.00 % of their test" in page


def test_groups_are_a_limit_where_there_are_any() -> None:
    assert "Test images of one group" not in PAGE
    target = STUDY.data["target"] | {"grouped": True}
    assert "Test images of one group" in page_of(dataclasses.replace(STUDY, data=STUDY.data | {"target": target}))


def test_the_card_is_of_what_the_report_recommends_at_most_labels() -> None:
    card = pages.markdown("The model", write_card(STUDY))
    best = recommended(STUDY.comparison)
    assert (best.strategy, best.shots) == ("dense_head", 10)
    assert best.best
    assert "Strategy: `dense_head`, trained on 10 labels per class, the first of 8 label draws." in card
    assert "classes, in the order of the model's probabilities: 0, 1 and 2." in card
    assert "3 duplicates dropped." in card
    shown_accuracy = numbers(card.split("Accuracy of the strategy:")[1])[:2]
    mean, half = best.accuracy.mean, best.accuracy.high - best.accuracy.mean
    assert shown_accuracy == [shown(100 * mean), shown(100 * half)]
    cells = STUDY.cells.query("strategy == 'dense_head' and shots == 10 and seed == 0")
    assert numbers(card.split("This very model:")[1])[0] == shown(100 * cells["accuracy"].item())
    scores = tables_in(card)["How far its confidence can be believed"].set_index("score")["value"]
    assert float(scores["Brier score"]) == shown(
        STUDY.cells.query("strategy == 'dense_head' and shots == 10")["brier"].mean(), 3
    )


def test_the_card_of_one_draw_has_no_interval() -> None:
    card = pages.markdown("The model", write_card(study_of(outcomes_of(MEANS, seeds=1))))
    assert "One label draw: no interval can be given." in card
    assert "±" not in card


def test_class_names_are_escaped_everywhere() -> None:
    outcomes = outcomes_of(MEANS)
    named = Outcomes(**{**outcomes.__dict__, "classes": np.array(["<b>cat</b>", 'a"b|c', "</script>"])})
    sections = write_report(study_of(named))
    body = pages.html("Which way to transfer", sections, STUDY.comparison.strategies).split('<script type="module">')[0]
    assert "<b>cat" not in body
    assert body.count("</script>") == body.count("<script")
    assert "<b>" not in pages.markdown("Which way to transfer", sections, charts="charts").replace(r"\<b\>", "")
    for chart in charts_of(sections):
        ET.fromstring(vega.svg(chart.whole()))


def test_code_in_the_page_is_not_escaped() -> None:
    committed = (ROOT / "results/report.md").read_text(encoding="utf-8")
    for page in (PAGE, committed):
        assert not re.findall(r"`[^`\n]*\\[^`\n]*`", page)
