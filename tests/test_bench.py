"""The benchmarks: what the page says of what was measured, that unequal work is refused, and that every part runs."""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Study, make_study, refused

from benchmarks import __main__ as bench

STAGE, FIT = "stage `end_to_end`", "Keras `fit`"


def rounds(*times: tuple[float, float], peer: float = 0.9) -> list[bench.Round]:
    """Rounds in which Keras and the stage took some seconds, and a stage grew."""
    return [
        {
            FIT: {"seconds": keras, "accuracy": peer},
            STAGE: {"seconds": ours, "accuracy": 0.905},
            "`extract`, images × 1": {"seconds": 2.0},
            "`extract`, images × 16": {"seconds": 34.0},
            bench.ARTICLE: {"1": 40.0, "10": 70.0, "1000": 90.0},
        }
        for keras, ours in times
    ]


def test_the_page_follows_from_what_was_measured() -> None:
    page = bench.write_page("Machine: one.", rounds((10, 5), (30, 10), (8, 1)))
    assert f"| {FIT} / {STAGE} | 3.00 (2.00 to 8.00) | at least 4.5 | no |" in page  # of medians it would be 2
    assert "| time of `extract`, images × 16 / × 1 | 17.00 | at most 16 | no |" in page
    assert f"| {STAGE} | 5.00 (1.00 to 10.00) | 90.50 |" in page
    assert "PyTorch is left out" in page
    assert "1: 40.00 %, 10: 70.00 %, 1000: 90.00 %" in page


@pytest.mark.parametrize(("peer", "writes"), [(0.896, True), (0.894, False)])
def test_times_of_unequal_accuracy_are_not_written(
    peer: float, writes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (measured,) = rounds((10, 2), peer=peer)
    example = {"seconds": 1.0, "accuracy": 0.99}
    measured |= {bench.EXAMPLE: example, bench.STUDY: example, bench.EDITED: example}
    measured |= dict.fromkeys(("stage `dense_head`", "Keras `fit`, backbone in the model"), example)

    def measure(*_: object, first: bool) -> Iterator[tuple[str, dict[str, float]]]:
        assert first
        return iter(measured.items())

    monkeypatch.setattr(bench, "measure", measure)
    for name in ("copy_tree", "read_facts", "machine"):
        monkeypatch.setattr(bench, name, lambda *_: {"precision": "float32"})
    monkeypatch.setattr(bench, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(sys, "argv", ["bench", "--runs", "1"])
    if writes:
        bench.main()
    else:
        refused(bench.main, FIT, "89.40 %", STAGE, "90.50 %", "not of equal work")
    assert (tmp_path / "results.md").exists() == writes


@pytest.mark.slow
def test_a_quick_run_measures_everything_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(tmp_path / "study")
    shutil.copytree(ROOT / "benchmarks", study.root / "benchmarks")
    before = study.read("benchmarks/results.md")
    monkeypatch.setattr(bench, "TREE", study.root)
    monkeypatch.setattr(bench, "PAGE", study.root / "benchmarks/results.md")
    monkeypatch.setattr(bench, "GROWTH", {"images": ["extract"]})  # of eight, to save time
    monkeypatch.setattr(sys, "argv", ["bench", "--quick"])
    bench.main()
    printed = capsys.readouterr().out
    for text, *_ in bench.ratios({"`extract`, images × 2": {}}):
        assert f"| {text} | " in printed or text.startswith("PyTorch")
    assert re.search(r"by labels per class: 1: [\d.]+ %, 10: [\d.]+ %", printed)
    assert study.read("benchmarks/results.md") == before
    assert not (study.root / "models/source.keras").exists()


def test_the_readme_quotes_the_page() -> None:
    rows = re.findall(r"^\| .* \| (?:yes|no) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rows) <= set(bench.PAGE.read_text(encoding="utf-8").splitlines())


def test_a_rehearsal_trains_the_strategies_that_are_asked_for(finished: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import rehearsal

    monkeypatch.chdir(finished.root)
    wanted = ["training.precision=float32,mixed_bfloat16", "feature_extraction.tolerance=0.01"]
    strategies = ["feature_extraction", "self_training"]  # and what this learns from
    table = rehearsal.settings(wanted, strategies)
    bfloat16 = "self_training", "training.precision=mixed_bfloat16"
    tried = [bfloat16, ("feature_extraction", "feature_extraction.tolerance=0.01")]
    assert set(table) == {*tried, *((strategy, rehearsal.BASE) for strategy in strategies)}
    job = 0, range(2), table["self_training", rehearsal.BASE].pretraining
    scores = rehearsal.measure(job, table, [1, 3])
    assert {key: accuracies.shape for key, accuracies in scores.items()} == dict.fromkeys(table, (2, 2))
    assert np.mean([*scores.values()]) > 0.5  # of two digits, most are told apart


def test_the_trials_of_the_rehearsal_can_be_tried_and_are_as_many_of_every_strategy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from benchmarks import rehearsal

    monkeypatch.chdir(ROOT)
    table = rehearsal.settings([*rehearsal.TRIALS], [*rehearsal.STRATEGIES])
    tried = Counter(strategy for strategy, name in table if name != rehearsal.BASE)
    assert tried == dict.fromkeys(rehearsal.STRATEGIES, 4) | {"prototypes": 2}
