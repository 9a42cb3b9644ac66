"""What runs again after an edit, with real DVC: the table in docs/reruns.md, stage by stage."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import OTHERS, ROOT, STRATEGIES, Study, copy_of, make_study
from reports import check_numbers, check_sentences
from ruamel.yaml import YAML

from benchmarks.reruns import followers, readers

STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
STAGES = {name: stage for name, stage in STAGES.items() if name not in OTHERS}
TRAINING = ["pretrain", *STRATEGIES]


def answer(section: str, key: str) -> tuple[list[str], list[str]]:
    """What the table says for a parameter."""
    names = readers(STAGES, f"{section}.{key}")
    return names, followers(STAGES, names)


SCORED = ["further", "evaluate", "report"]
TRANSFERRED = ["extract", "choose", "feature_extraction", "dense_head", "end_to_end"]
EDITS: dict[str, tuple[Any, list[str]]] = {  # a value, and the stages that run then
    "data.fit": ("pad", ["convert", "split", *TRANSFERRED, "scratch", *SCORED]),  # which every model says of itself
    "training.precision": ("mixed_bfloat16", ["pretrain", *TRANSFERRED, "scratch", *SCORED]),
    "pretrain.seed": (1, ["pretrain", *TRANSFERRED, *SCORED]),
    "probes.images": (20, ["extract", "evaluate", "report"]),
    "dense_head.units": (11, ["dense_head", *SCORED]),
    "report.equal_within": (0.1, ["further", "report"]),
    "compute.workers": (1, []),
}


QUICK = ("dense_head.units", "compute.workers")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in EDITS]
)
def test_an_edit_runs_what_the_table_says_and_its_undoing_trains_nothing(finished: Study, name: str) -> None:
    value, expected = EDITS[name]
    section, _, key = name.partition(".")
    now, then = answer(section, key)
    finished.set(**{f"{section}__{key}": value})
    stages = finished.repro()
    assert sorted(stages) == sorted(expected)
    assert set(now) <= set(stages) <= {*now, *then}
    take_back(finished, "params.yaml")


def take_back(study: Study, *files: str) -> None:
    """Undo an edit: DVC brings everything back and runs nothing, but for the report, which Git brings back here."""
    study.run("git", "checkout", "-q", *files)
    assert study.repro("evaluate") == []
    changed = study.run("git", "status", "--porcelain").stdout.split()[1::2]
    assert all(
        name == "dvc.lock" or name.startswith(("results/report.md", "results/correct.npz", "results/charts/"))
        for name in changed
    )
    study.run("git", "checkout", "-q", ".")
    study.run("dvc", "checkout", "-q", "report")
    assert study.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


@pytest.mark.slow
def test_a_number_of_draws_that_was_tried_is_told_of_after_the_edit_is_undone(tmp_path: Path, finished: Study) -> None:
    """Though DVC brings `split` back from its run cache."""
    study = copy_of(finished, tmp_path / "study")
    stages = []
    for seeds, seen in ((1, 2), (2, 1)):
        study.set(split__seeds=seeds)
        stages = study.repro()
        assert f"after results with {seen} were seen" in study.read("results/report.md").decode()
    assert "split" not in stages


@pytest.mark.slow
def test_a_download_that_finds_the_same_data_runs_alone(tmp_path: Path, finished: Study) -> None:
    """With a copy in the place of the download, whose edited parameter changes nothing that it writes.

    In a study of its own: DVC remembers a folder that a stage has written, and removes it once that stage is gone.
    """
    study = copy_of(finished, tmp_path / "study")
    raw = tmp_path / "mnist.npz"
    shutil.copy(study.root / "data/raw/mnist.npz", raw)
    copy = f"import os, shutil; os.makedirs({'data/raw'!r}); shutil.copy({raw.as_posix()!r}, {'data/raw'!r})"
    command = f'python -c "{copy}"'

    def add(content: dict[str, Any]) -> None:
        content["stages"] = {"download": STAGES["download"] | {"cmd": command}} | content["stages"]

    study.edit_yaml("dvc.yaml", add)
    assert study.repro() == ["download"]
    study.set(download__timeout=21)
    assert study.repro() == ["download"]
    assert answer("download", "timeout")[0] == ["download"]
    study.run("git", "checkout", "-q", "dvc.yaml", "params.yaml", "dvc.lock")
    assert study.repro() == []
    assert study.run("git", "status", "--porcelain").stdout == ""


def remembered(printed: str) -> dict[str, tuple[int, int]]:
    """Of each strategy the number of its runs, and how many of them were remembered."""
    said = r"^(\w+): (\d+) runs? of up to \d+ shots?(?:, (\d+) of them remembered)?$"
    return {name: (int(runs), int(known or 0)) for name, runs, known in re.findall(said, printed, re.MULTILINE)}


@pytest.mark.slow
def test_more_seeds_and_shots_train_the_new_runs_alone_and_give_the_bytes_of_one_cold_run(
    tmp_path: Path, finished: Study
) -> None:
    """From a study of one seed, whose page must be true as well; with another number of workers, which is no matter."""
    study = make_study(tmp_path / "study")
    study.set(split__seeds=1, split__shots=[1, 3], compute__workers=1)
    study.repro()
    page, cells = study.read("results/report.md").decode(), pd.read_csv(study.root / "results/cells.csv")
    assert len(cells) == 2 * len(TRAINING[1:])
    assert "±" not in page.split("## How it was measured")[0]
    assert "One draw says nothing about the next" in page
    check_numbers(page, cells)
    check_sentences(page, cells)

    (study.root / "results/correct.npz").unlink()  # or the report says that results with one draw were seen
    study.set(split__seeds=2, split__shots=[1, 3, 4])
    stages, printed = study.ran()
    now, then = answer("split", "seeds")
    assert set(now) <= set(stages) <= {*now, *then}
    assert "pretrain" not in stages
    assert remembered(printed) == dict.fromkeys(TRAINING[1:], (6, 2))
    assert study.read("dvc.lock") == finished.read("dvc.lock")
    for file in sorted((finished.root / "results").rglob("*")):
        if file.is_file() and file.name != "seconds.js":
            name = file.relative_to(finished.root).as_posix()
            assert study.read(name) == file.read_bytes(), name


KILL = """
import os, runpy, sys
sys.path.insert(0, os.getcwd())
from transfer.training.cache import RunCache
write, count = RunCache.write, [0]
def counted(self, task, arrays):
    write(self, task, arrays)
    count[0] += 1
    if count[0] == 2:
        os.kill(os.getpid(), 9)
RunCache.write = counted
runpy.run_module("stages.scratch", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.slow
def test_a_stage_that_was_killed_goes_on_where_it_stopped(tmp_path: Path, finished: Study) -> None:
    before = finished.read("dvc.lock")
    script = tmp_path / "kill.py"
    script.write_text(KILL)
    with finished.nothing_remembered():
        assert finished.run(sys.executable, str(script), code=None).returncode == -9
        printed = finished.run("dvc", "repro", "--force", "--single-item", "scratch").stdout
    assert remembered(printed)["scratch"] == (6, 2)
    assert finished.read("dvc.lock") == before  # the same bytes as those of one run
    assert finished.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize(
    ("file", "old", "new", "stage", "known"),
    [
        ("stages/strategy.py", '"""', '"""Edited. ', "dense_head", {"dense_head": (6, 6)}),
        (
            "transfer/strategies/dense_head.py",
            "params.units,",
            "params.units + 1,",
            "dense_head",
            {"dense_head": (6, 0)},
        ),
    ],
)
def test_an_edit_of_code_runs_its_stage_and_trains_again_only_if_it_computes(
    finished: Study, file: str, old: str, new: str, stage: str, known: dict[str, tuple[int, int]]
) -> None:
    path = finished.root / file
    code = path.read_text()
    assert old in code
    path.write_text(code.replace(old, new, 1))
    stages, printed = finished.ran(stage)
    assert stages == [stage]
    assert remembered(printed) == known
    take_back(finished, file)


@pytest.mark.slow
def test_another_layer_for_one_strategy_trains_no_other(finished: Study) -> None:
    finished.set(feature_extraction__layer="block1")
    stages, printed = finished.ran("dense_head", "feature_extraction")
    assert stages == ["extract", "choose", "feature_extraction", "dense_head"]
    assert remembered(printed) == {"feature_extraction": (6, 0), "dense_head": (6, 6)}
    take_back(finished, "params.yaml")


@pytest.mark.slow
def test_forgetting_changes_no_byte(finished: Study) -> None:
    before = finished.read("dvc.lock")
    with finished.nothing_remembered():
        printed = finished.run("dvc", "repro", "--force", "--single-item", "feature_extraction").stdout
        assert remembered(printed)["feature_extraction"] == (6, 0)
    assert finished.read("dvc.lock") == before
