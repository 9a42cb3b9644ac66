"""The report: every number in it follows from the runs, and it stays true where there is little to tell."""

from __future__ import annotations

import dataclasses
import itertools
import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, refused
from reports import ACCURACY, MEANS, TEN, check_numbers, check_sentences, numbers, outcomes_of, study_of, tables_in
from sklearn.metrics import confusion_matrix

from transfer.data.target import Draws
from transfer.evaluation.comparison import Comparison
from transfer.evaluation.details import confusion, hard_images
from transfer.evaluation.outcomes import UNLABELLED, Correct
from transfer.evaluation.selection import choose_strategies
from transfer.report import advice, charts, pages
from transfer.report.sections import charts_of, write_report
from transfer.report.study import Study, write_card

STUDY = study_of(outcomes_of(MEANS))
SECTIONS = write_report(STUDY)
PAGE = pages.markdown("Which way to transfer", SECTIONS, charts="charts")
TITLE = "Which way to transfer"


def test_every_number_of_the_committed_report_follows_from_the_committed_runs() -> None:
    page = (ROOT / "results/report.md").read_text(encoding="utf-8")
    runs = pd.read_csv(ROOT / "results/cells.csv")
    assert check_numbers(page, runs) > 450
    check_sentences(page, runs)
    layers = pd.read_csv(ROOT / "results/probes.csv").groupby("layer")["accuracy"].mean()
    probes = next(table for caption, table in tables_in(page).items() if "linear probe" in caption)
    for _, row in probes.iterrows():
        assert numbers(row["accuracy, %"])[0] == pytest.approx(100 * layers[row["layer"]], abs=0.00501)


def test_every_number_of_a_page_follows_from_its_runs() -> None:
    assert check_numbers(PAGE, STUDY.runs) > 60
    check_sentences(PAGE, STUDY.runs)
    changed = STUDY.runs.copy()
    changed.loc[3, "accuracy"] += 0.05
    with pytest.raises(AssertionError):  # the check is worth something
        check_numbers(PAGE, changed)


def test_the_printed_interval_is_that_of_the_comparison() -> None:
    table = tables_in(PAGE)["Accuracy in % over the draws"]
    width = table["to"].astype(float) - table["from"].astype(float)
    np.testing.assert_allclose(width / 200, STUDY.comparison.results["margin"], atol=0.00005)


def test_verdicts_follow_the_corrected_intervals_and_marks_the_verdicts() -> None:
    caption = "Gain over scratch in percentage points, by labelled images per class"
    gains = tables_in(PAGE)[caption].set_index("strategy")
    for head in ("1", "10"):
        assert gains.loc["dense_head", head].endswith("▲")
        for text in gains[head]:
            mean, half = numbers(text)
            equal = abs(mean) + half <= 0.5
            assert text[-1] == ("≈" if equal else "▲" if mean > half else "▼" if -mean > half else "?")
    table = tables_in(PAGE)[ACCURACY].set_index("strategy")
    assert table.loc["dense_head", "1"].endswith("✓")
    assert not re.search("[★≈?]", table.loc["scratch", "1"])


def test_charts_are_whole_svg_of_the_same_bytes_without_an_address() -> None:
    names = []
    for chart in charts_of(SECTIONS):
        svg = chart.svg
        assert ET.fromstring(svg).tag.endswith("svg")
        assert "NaN" not in svg
        assert not re.findall(r'(?:href|src)="https?:', svg)
        assert svg == dataclasses.replace(chart).svg
        assert f"](charts/{chart.name}.svg)" in PAGE
        names.append(chart.name)
    assert names == ["accuracy", "gains", "cost", "confusion", "errors", "reliability"]


def test_the_learning_curves_show_only_accuracies_that_can_be() -> None:
    """Two draws that differ have an interval far wider than 0 to 100 %."""
    wild = outcomes_of({"scratch": 0.5, "dense_head": 0.6}, seeds=2, images=10)
    data = charts.learning_curves(study_of(wild).comparison, 10).panels[0].to_dict()["datasets"]
    for row in itertools.chain(*data.values()):
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 100
        assert 0 < row["error_low"] <= row["error"] <= row["error_high"] <= 100


def page_of(study: Study, drawn: bool = False) -> str:
    """The page as Markdown; where `drawn`, its charts and its HTML are made as well, which takes seconds."""
    sections = write_report(study)
    if drawn:
        assert "NaN" not in "".join(chart.svg for chart in charts_of(sections))
        assert "<html" in pages.html(TITLE, sections, study.comparison.strategies)
    return pages.markdown(TITLE, sections, charts="charts")


def test_one_seed_gives_no_interval_and_no_verdict() -> None:
    study = study_of(outcomes_of(MEANS, seeds=1))
    page = page_of(study, drawn=True)
    assert "±" not in page
    assert not re.search("[✓★▲▼≈]", page)
    assert "Every pair" not in page
    assert "Label equivalence" not in page
    assert "One draw says nothing about the next" in page
    assert "**Highest in one label draw: dense_head with 1 to 10 labels per class.**\n" in page
    check_numbers(page, study.runs)
    card = pages.markdown("The model", write_card(study))
    assert "One label draw gives no interval." in card
    assert "±" not in card


def test_without_the_baseline_nothing_is_said_of_gains() -> None:
    page = page_of(study_of(outcomes_of(MEANS), strategies=["end_to_end", "dense_head"]), drawn=True)
    assert "Gains need `scratch`" in page
    assert "Gain over scratch" not in page
    assert "Negative transfer" not in page
    assert "dense_head" in page
    assert "| scratch" not in page


@pytest.mark.parametrize("alone", ["scratch", "dense_head"])
def test_one_strategy_alone_is_no_comparison(alone: str) -> None:
    page = page_of(study_of(outcomes_of(MEANS), strategies=[alone]), drawn=True)
    assert f"Only {alone} was measured" in page
    assert not re.search("[✓★▲▼≈]", page.split("## Cost")[0])


def test_perfect_strategies_are_equal_and_the_one_without_a_source_model_is_recommended() -> None:
    page = page_of(study_of(outcomes_of(dict.fromkeys(MEANS, 2.0), shots=(3,), images=2000)), drawn=True)
    assert "**Use scratch with 3 labels per class.**\n\nA source model is not needed with 3 labels per class.\n" in page
    assert "Equal within 0.5 points: dense_head and end_to_end." in page
    assert "No test image is misclassified" in page
    assert "nan" not in page.lower()


def test_strategies_without_runs_are_refused_with_those_that_have_some() -> None:
    wrong = ["scratch", "dense_haed"]
    refused(lambda: choose_strategies(STUDY.runs, wrong), "names 'dense_haed'", "choose from dense_head, end_to_end")
    assert choose_strategies(STUDY.runs, ["scratch", "dense_head"]) == ["dense_head", "scratch"]


def test_confusion_and_recall_against_scikit_learn() -> None:
    outcomes = STUDY.outcomes
    rows = (outcomes.strategy == "end_to_end") & (outcomes.shots == 1)
    true = np.tile(outcomes.labels, rows.sum())
    expected = confusion_matrix(true, outcomes.predicted[rows].ravel(), normalize="true")
    np.testing.assert_allclose(confusion(outcomes, "end_to_end", 1), expected)
    recalls = next(table for caption, table in tables_in(PAGE).items() if caption.startswith("Recall"))
    row = recalls.set_index("strategy").loc["end_to_end"]
    assert [numbers(text)[0] for text in row] == pytest.approx(100 * expected.diagonal(), abs=0.0501)


def test_hard_images_are_those_that_most_trainings_get_wrong() -> None:
    outcomes = STUDY.outcomes
    wrong = (outcomes.predicted != outcomes.labels)[outcomes.shots == 10]
    hard = hard_images(outcomes, list(MEANS), 10)
    assert len(hard) == min(24, int((wrong.sum(axis=0) > len(wrong) / 2).sum())) > 0
    assert hard["wrong"].tolist() == sorted(wrong[:, hard["row"]].sum(axis=0), reverse=True)
    assert (hard["wrong"] > len(wrong) / 2).all()
    assert (hard["mistaken_for"] != hard["label"]).all()


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(10, 1000, "10 to 1,000"), (1000, np.inf, "more than 1,000"), (0, 5, "fewer than 5"), (0, np.inf, "not known")],
)
def test_label_equivalence_in_words(low: float, high: float, words: str) -> None:
    assert advice.equivalence(SimpleNamespace(equivalent_low=low, equivalent_high=high)) == words


def comparison_of(means: dict[str, float], within: float = 0.005) -> Comparison:
    return study_of(outcomes_of(means, images=2000), within=within).comparison


def test_advice_where_transfer_wins() -> None:
    comparison = comparison_of({"dense_head": 0.7, "end_to_end": 0.6, "scratch": 0.5})
    assert advice.headline(comparison) == [
        "**Use dense_head with 1 to 10 labels per class.**",
        "A source model helps with 1 to 10 labels per class.",
    ]
    first = advice.advise(comparison, 1)
    assert first.startswith("With 1 label per class use dense_head: ")
    assert "points above scratch. It needs labels and source model." in first
    assert not advice.negative_transfer(comparison)


def test_advice_where_transfer_loses() -> None:
    comparison = comparison_of({"dense_head": 0.5, "end_to_end": 0.6, "scratch": 0.7})
    assert advice.headline(comparison) == [
        "**Use scratch with 1 to 10 labels per class.**",
        "A source model is not needed with 1 to 10 labels per class.",
    ]
    [negative] = advice.negative_transfer(comparison)
    assert negative == (
        "Negative transfer (worse than scratch): dense_head and end_to_end with 1 to 10 labels per class."
    )


def test_ties_go_to_what_needs_least() -> None:
    """No source model before one, then no unlabelled images, then fewer trained parameters."""
    tied = dict.fromkeys(["label_propagation", "end_to_end", "dense_head", "scratch"], 0.7)
    comparison = comparison_of(tied, within=0.05)
    assert comparison.recommended(1).strategy == "scratch"
    with_source = comparison_of({**tied, "scratch": 0.5}, within=0.05)
    assert (
        with_source.recommended(1).strategy == "end_to_end"
    )  # of which the small study counts fewer than of dense_head
    assert "Equal within 5 points: dense_head and label_propagation." in advice.advise(with_source, 1)
    assert comparison_of({**tied, "label_propagation": 0.8}, within=0.05).recommended(1).strategy == "label_propagation"
    result = comparison.recommended(10)
    card = pages.markdown("Card", write_card(study_of(outcomes_of(tied, images=2000), within=0.05)))
    assert "Strategy: `scratch`" in card
    assert result.best or f"It needs less than {comparison.best(10).strategy}, the highest (" in card


def test_what_is_undecided_is_told_with_the_draws_that_would_decide() -> None:
    comparison = comparison_of({"dense_head": 0.7, "end_to_end": 0.697, "scratch": 0.7}, within=0.0001)
    said = advice.advise(comparison, 1)
    assert re.search(
        r"Undecided against \w+: .*\((about [\d,]+ more draws? would|more draws alone would not) tell\)", said
    )
    best = comparison.best(1)
    assert comparison.recommended(1).strategy == best.strategy
    if best.strategy != "scratch":
        assert "may help" in advice.headline(comparison)[1]
    assert advice.more_draws(1) == "about 1 more draw would tell"


@pytest.fixture(scope="module")
def ten() -> Study:
    return study_of(outcomes_of(TEN, classes=4))


@pytest.fixture(scope="module")
def page_of_ten(ten: Study) -> str:
    return page_of(ten)


def test_the_headline_answers_without_unlabelled_images_too(ten: Study) -> None:
    comparison = ten.comparison
    assert advice.headline(comparison) == [
        "**Use self_training with 1 to 10 labels per class.**",
        "Unlabelled images help with 1 to 10 labels per class. Without them use end_to_end with 1 to 10 labels per "
        "class; a source model helps with 1 to 10 labels per class.",
    ]
    pair = comparison.pairs.eval("first == 'self_training' and second == 'scratch' or first == 'scratch'")
    doubtful = dataclasses.replace(
        comparison,
        pairs=comparison.pairs.assign(
            verdict=comparison.pairs["verdict"].mask(pair & (comparison.pairs["shots"] == 10), "undecided")
        ),
    )
    assert "images help with 1 label per class and may help with 10." in advice.headline(doubtful)[1]
    other = comparison.results.query("strategy == 'end_to_end' and shots == 1")
    accuracy = f"{100 * other['accuracy'].item():.2f} ± {100 * other['margin'].item():.2f} %"
    assert advice.advise(comparison, 1).endswith(f"Without unlabelled images end_to_end, {accuracy}.")
    alone = comparison.without(UNLABELLED)
    assert alone is not None
    assert "Without" not in advice.advise(alone, 1)


def test_what_lies_below_pixels_is_negative_transfer_and_pixels_are_no_transfer() -> None:
    means = {"dense_head": 0.5, "pixels": 0.8, "prototypes": 0.55, "source_model": 0.4, "scratch": 0.7}
    said = advice.negative_transfer(comparison_of(means))
    assert said == [
        f"Negative transfer (worse than {than}): dense_head and prototypes with 1 to 10 labels per class."
        for than in ("pixels", "scratch")
    ]  # source_model is no training on labels


def test_one_table_ranks_all_strategies_and_says_what_they_need(ten: Study, page_of_ten: str) -> None:
    assert check_numbers(page_of_ten, ten.runs) > 200
    ranking = tables_in(page_of_ten)[ACCURACY].set_index("strategy")
    assert set(ranking.index) == set(TEN)
    assert ranking.index[0] == "self_training"
    assert ranking["1"]["self_training"].endswith("✓")
    needs = ranking["needs beside labels"]
    assert needs[["source_model", "self_training"]].tolist() == [
        "source model, no labels",
        "unlabelled images, source model",
    ]
    assert page_of_ten.index(ACCURACY) < page_of_ten.index("## Learning curves")
    assert "- `self_training`: do as self_training does.\n" in page_of_ten
    assert "in some runs, by labels per class: 3 of 8 with 10." in page_of_ten
    assert "used no unlabelled images" not in PAGE


def test_without_unlabelled_images_verdicts_stay_those_of_all_pairs() -> None:
    study = study_of(
        outcomes_of({"self_training": 0.8, "end_to_end": 0.6, "dense_head": 0.6, "pixels": 0.4}, images=2000)
    )
    alone = study.comparison.without(UNLABELLED)
    assert alone is not None
    assert alone.best(1).strategy in ("end_to_end", "dense_head")
    assert study.comparison.best(1).strategy == "self_training"
    for first, second in itertools.permutations(alone.strategies, 2):
        assert alone.verdict(first, second, 1) == study.comparison.verdict(first, second, 1) != ""
    assert (alone.verdict("pixels", "dense_head", 1), alone.verdict("dense_head", "pixels", 1)) == ("worse", "better")


def test_cautions_stand_only_where_unlabelled_images_are_used_and_nothing_checks_them(
    ten: Study, page_of_ten: str
) -> None:
    few, groups = advice.cautions(ten.comparison, 7)
    assert "With 1 label per class nothing inside the labels" in few
    assert "can reduce accuracy if the test images come from other people" in groups
    assert advice.cautions(ten.comparison, 0) == [few]
    assert few in page_of_ten
    assert advice.cautions(STUDY.comparison, 7) == []
    many = study_of(outcomes_of(TEN, shots=(10, 50), classes=4)).comparison
    assert advice.cautions(many, 0) == []


def test_of_many_strategies_details_are_drawn_for_a_few_and_all_look_different(ten: Study, page_of_ten: str) -> None:
    assert ten.comparison.shown == ["end_to_end", "self_training", "scratch"]
    assert len(charts.confusions(ten.comparison, ten.outcomes).panels) == 3
    assert "Drawn, here and below, are the best strategy" in page_of_ten
    assert "Drawn, here and below" not in PAGE
    looks = [(each["colour"], each["glyph"]) for each in charts.Looks([f"s{i}" for i in range(12)]).key]
    assert len(set(looks)) == 12
    assert len({colour for colour, _ in looks[:10]}) == 10
    assert len(charts.GLYPHS) == len(charts.SHAPES) == len(charts.DASHES)


def test_the_card_says_what_the_recommended_needs(ten: Study) -> None:
    card = pages.markdown("The model", write_card(ten))
    assert (
        "Needs: labels, unlabelled images, source model. Images without labels that its training used: 4,321." in card
    )
    card = pages.markdown("The model", write_card(study_of(outcomes_of({"source_model": 0.9, "scratch": 0.5}))))
    assert "the source model as it is: it was trained on no label of the target." in card
    assert "trained on 10 labels" not in card
    assert "Needs: source model." in card


def test_the_data_are_told_with_what_was_dropped_and_noticed() -> None:
    rows = tables_in(PAGE)["Source and target"]
    assert rows["data"].tolist() == ["MNIST", "5 files of own"]
    assert rows["duplicates dropped"].tolist() == ["3", "3"]
    target = STUDY.data["target"] | {"test_groups": 7}
    data = STUDY.data | {"notes": ["Light and dark may be turned round."], "target": target}
    warned = dataclasses.replace(STUDY, data=data)
    for said in ("**Warning.** Light and dark may be turned round.", "images come from 7 groups. Images of one group"):
        assert said in page_of(warned)
        assert said not in PAGE
    assert "**Warning.** Light" in pages.markdown("Card", write_card(warned))
    probes = dataclasses.replace(STUDY.probes, notes=np.array(["One class for all."]))
    source = STUDY.source | {"notes": ["The source model is poor."]}
    page = page_of(dataclasses.replace(STUDY, probes=probes, source=source))
    assert "**Warning.** The source model is poor." in page
    assert "**Warning.** One class for all." in page
    assert "The section Data has 2 warnings: read that before you rely on this." in page
    assert "The section Data has" not in PAGE


def test_a_given_source_model_is_told_as_that_and_nothing_is_claimed_of_it() -> None:
    given = STUDY.source | {"accuracy": None, "params": {"source": {"model": "/home/me/own.h5"}}, "classes": []}
    told = "Source model: own.h5, trained elsewhere. Its training data are unknown"
    assert told in page_of(dataclasses.replace(STUDY, source=given))
    assert told not in PAGE
    network = given | {"params": {"source": {"model": "imagenet", "network": "MobileNetV2"}}}
    assert "MobileNetV2 with ImageNet weights, trained elsewhere." in page_of(
        dataclasses.replace(STUDY, source=network)
    )
    known = given | {"accuracy": 0.5, "classes": ["cat", "dog"]}
    page = page_of(dataclasses.replace(STUDY, source=known))
    assert "If its outputs are cat, dog, its accuracy on them is 50.00 %." in page


def test_the_card_is_of_what_the_report_recommends_at_most_labels() -> None:
    card = pages.markdown("The model", write_card(STUDY))
    best = STUDY.recommended
    assert (best.strategy, best.shots) == ("dense_head", 10)
    assert "Strategy: `dense_head`, trained on 10 labels per class, the first of 8 label draws." in card
    mean = STUDY.runs.query("strategy == 'dense_head' and shots == 10")["brier"].mean()
    assert f"Brier score: {mean:.3f}, from 0 to 2." in card


def test_class_names_are_escaped_everywhere() -> None:
    outcomes = dataclasses.replace(STUDY.outcomes, classes=np.array(["<b>cat</b>", 'a"b|c', "</script>"]))
    sections = write_report(study_of(outcomes))
    body = pages.html(TITLE, sections, STUDY.comparison.strategies).split('<script type="module">')[0]
    assert "<b>cat" not in body
    assert body.count("</script>") == body.count("<script")
    assert "<b>" not in pages.markdown(TITLE, sections, charts="charts").replace(r"\<b\>", "")
    for chart in charts_of(sections):
        ET.fromstring(chart.svg)


def test_long_names_of_emoji_are_drawn() -> None:
    """vl-convert fails where it shortens a text in the middle of one."""
    images = charts.pictures(STUDY.test_images[:9], ["x" * i + "🐈" * 40 for i in range(9)], [""] * 9)
    ET.fromstring(images.svg)


def test_nothing_is_concluded_from_trainings_that_failed() -> None:
    outcomes = outcomes_of({"dense_head": 0.7, "end_to_end": 0.6, "scratch": 0.2})
    dead = (outcomes.strategy == "scratch") & (outcomes.shots == 1) & (outcomes.seed == 3)
    page = page_of(study_of(dataclasses.replace(outcomes, collapsed=dead)))
    assert "Training failed: scratch with 1 label per class." in page
    tables = tables_in(page)
    gains = tables["Gain over scratch in percentage points, by labelled images per class"]
    assert gains["1"].tolist() == ["–", "–"]
    assert "▲" in gains["10"][0]
    accuracy = tables[ACCURACY].set_index("strategy")
    assert "†" in accuracy["1"]["scratch"]
    assert "†" not in accuracy["10"]["scratch"]
    pairs = tables["Every pair"]
    assert not (pairs["labels per class"].eq("1") & pairs["second"].eq("scratch")).any()
    every = study_of(dataclasses.replace(outcomes, collapsed=np.ones(len(dead), bool)))
    assert "With 1 label per class no strategy learnt anything." in page_of(every)
    assert not tables_in(page_of(every))["What one training costs"]["effort"].str.contains("◆").any()
    late = (outcomes.strategy == "scratch") & (outcomes.shots == 10)
    failed = study_of(dataclasses.replace(outcomes, collapsed=late))
    assert "more than half of the 16 models trained on 10 labels per class" in page_of(failed)  # 8 draws, 2 strategies
    assert "**Warning.** Its training failed" in pages.markdown("Card", write_card(every))


def test_estimates_by_cross_validation_and_the_worth_of_choosing_are_told_where_there_are_any() -> None:
    assert "**Estimates.**" not in PAGE
    assert "What choosing was worth" not in PAGE
    target = STUDY.data["target"] | {"folds": 5}
    crossed = page_of(dataclasses.replace(STUDY, data=STUDY.data | {"target": target}))
    assert "**Estimates.** There are no test images" in crossed
    assert "trained on the other 4 of 5 folds" in crossed
    assert "class-balanced" not in crossed
    card = write_card(dataclasses.replace(STUDY, data=STUDY.data | {"target": target}))
    assert "trained on all 4,321 labelled images" in pages.markdown("", card)

    correct = Correct.of(STUDY.outcomes)
    controls = dataclasses.replace(correct, bits=0 * correct.bits)
    classes, seeds = len(STUDY.outcomes.classes), STUDY.comparison.seeds
    labels = np.tile(np.arange(30, dtype=np.int32) % classes, (2 * seeds, 1))
    labels[seeds:, :classes] = 0  # random draws of one label per class have those of one class alone
    draws = Draws(labels, labels, np.zeros((1, 2), np.int32))
    chosen = page_of(dataclasses.replace(STUDY, controls=controls, chosen=draws))
    table = tables_in(chosen)["What choosing the images was worth"]
    assert set(table["random"]) == {"0.00"}
    assert (table["difference"].str.endswith("▲")).all()
    assert (
        f"of {classes}, in the mean of chosen and of random draws: 0 and {classes - 1} with 1 label per class; none"
        in chosen
    )
    never = page_of(dataclasses.replace(STUDY, controls=controls, chosen=dataclasses.replace(draws, labels=0 * labels)))
    assert f"{classes - 1} and {classes - 1} with 10 labels per class." in never
