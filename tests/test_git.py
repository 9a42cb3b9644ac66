"""Git and DVC together, as people use them: branches, merges, clones, remotes and experiments."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import OTHERS, STRATEGIES, Study
from test_reruns import TRAINING


@pytest.fixture
def study(finished: Study) -> Any:
    """The finished study on a branch of its own; afterwards it is as it was."""
    finished.run("git", "checkout", "-qb", "work")
    yield finished
    finished.run("git", "checkout", "-qf", "main")
    for branch in finished.run("git", "for-each-ref", "--format=%(refname:short)", "refs/heads").stdout.split():
        if branch != "main":
            finished.run("git", "branch", "-qD", branch)
    finished.run("dvc", "checkout", "-q", "--force")
    assert finished.run("git", "status", "--porcelain").stdout == ""
    assert set(finished.repro()) <= {"report"}


def edit(study: Study, branch: str, **values: Any) -> list[str]:
    """A branch from main with edited parameters and their results; the stages that ran."""
    study.run("git", "checkout", "-q", "main")
    study.run("git", "checkout", "-qb", branch)
    study.set(**values)
    stages = study.repro()
    study.run("git", "add", "-A")
    study.run("git", "commit", "-qm", branch)
    return stages


def clone_of(study: Study, folder: Path) -> Study:
    study.run("git", "clone", "-q", str(study.root), str(folder))
    clone = Study(folder)
    for name, value in (("user.name", "A Tester"), ("user.email", "tester@example.org")):
        clone.run("git", "config", name, value)
    return clone


def transfer(study: Study, *arguments: str) -> str:
    return study.run(sys.executable, "-m", "transfer.cli", *arguments).stdout


def test_two_edited_branches_are_compared_and_merged(study: Study, tmp_path: Path) -> None:
    """The way that docs/git.md describes."""
    assert edit(study, "a", dense_head__units=9) == ["dense_head", "further", "evaluate", "report"]
    assert edit(study, "b", feature_extraction__l2_default=0.1) == [
        "feature_extraction",
        "further",
        "evaluate",
        "report",
    ]

    clone = clone_of(study, tmp_path / "clone")  # without a cache
    content = json.loads(transfer(clone, "compare", "origin/main", "origin/a", "origin/b", "--json"))
    assert all(each["recommended"] for each in content["revisions"])
    for comparison, strategy in zip(content["comparisons"], ("dense_head", "feature_extraction"), strict=True):
        assert {change["strategy"] for change in comparison["changes"] if change["verdict"] != "same"} <= {strategy}
        assert comparison["code"] == {}
    assert content["parameters"] == {
        "feature_extraction.l2_default": {"origin/main": 0.01, "origin/a": 0.01, "origin/b": 0.1},
        "dense_head.units": {"origin/main": 8, "origin/a": 9, "origin/b": 8},
    }
    assert "| dense_head.units |" in transfer(clone, "compare", "origin/main", "origin/a", "--md")

    assert study.run("dvc", "metrics", "diff", "a", "b").returncode == 0
    merged = study.run("git", "merge", "a", code=1)
    conflicts = study.run("git", "diff", "--name-only", "--diff-filter=U").stdout.split()
    assert "dvc.lock" in conflicts
    assert set(conflicts) <= {"dvc.lock", *(name for name in conflicts if name.startswith("results/"))}, merged.stdout
    assert b"<<<<<<<" not in study.read("dvc.lock") + study.read("results/cells.csv") + study.read("params.yaml")
    stages = study.repro()
    assert stages == ["further", "evaluate", "report"]  # what each branch has trained is in the cache
    study.run("git", "add", "params.yaml", "dvc.lock", "results")
    study.run("git", "commit", "-qm", "Merge a")
    assert study.run("git", "status", "--porcelain").stdout == ""
    assert study.repro() == []
    assert "paired over 2 draws" in transfer(study, "compare", "a", "b", "--md")


@pytest.mark.slow
def test_a_merge_in_which_both_edit_one_parameter_asks_for_a_choice(study: Study) -> None:
    edit(study, "a", dense_head__units=9)
    edit(study, "b", dense_head__units=10)
    study.run("git", "merge", "a", code=1)
    assert b"<<<<<<<" in study.read("params.yaml")
    done = study.run("dvc", "repro", code=None)
    assert done.returncode != 0
    study.run("git", "checkout", "--theirs", "params.yaml")
    stages = study.repro()
    assert not set(stages) & set(TRAINING)
    study.run("git", "add", "params.yaml", "dvc.lock", "results")
    study.run("git", "commit", "-qm", "Merge a")
    assert study.run("git", "diff", "a", "--", "dvc.lock", "results").stdout == ""


def test_with_a_remote_a_clone_pulls_and_trains_nothing(study: Study, tmp_path: Path) -> None:
    study.run("dvc", "remote", "add", "--local", "--default", "storage", str(tmp_path / "storage"))
    study.run("dvc", "push")
    study.run("dvc", "remote", "remove", "--local", "storage")
    clone = clone_of(study, tmp_path / "clone")
    (clone.root / "data/raw").mkdir(parents=True)
    shutil.copy(study.root / "data/raw/mnist.npz", clone.root / "data/raw")  # what `download` would have made
    clone.run("dvc", "remote", "add", "--local", "--default", "storage", str(tmp_path / "storage"))
    clone.run("dvc", "pull")
    assert clone.repro() == []
    assert clone.run("git", "status", "--porcelain").stdout == ""
    for name in ("models/scratch.keras", "results/report.html", "data/predictions/dense_head.npz"):
        assert clone.read(name) == study.read(name)


@pytest.mark.slow
def test_an_experiment_is_run_shown_and_brought_back(study: Study) -> None:
    printed = study.run("dvc", "exp", "run", "--name", "wide", "--set-param", "dense_head.units=9").stdout
    assert "dense_head" in printed
    assert "wide" in printed
    shown = study.run("dvc", "exp", "show", "--only-changed", "--csv").stdout.splitlines()
    columns = shown[0].split(",")
    assert {"dense_head.units", "dense_head.shots_0001"} <= set(columns)
    assert not any(name.startswith(("scratch", "end_to_end")) for name in columns)
    assert any(row.startswith("wide,") or ",wide," in row for row in shown)
    changed = study.run("dvc", "params", "diff").stdout
    assert "dense_head.units" in changed
    diff = json.loads(study.run("dvc", "metrics", "diff", "--json").stdout)["results/metrics.json"]
    assert set(diff) <= {f"dense_head.shots_{shots:04d}" for shots in (1, 3, 4)}
    assert "| dense_head.units | 8 | 9 |" in transfer(study, "compare", "main", "wide", "--md")
    study.run("git", "checkout", "-q", "params.yaml", "dvc.lock", "results")
    study.run("dvc", "checkout", "-q")
    study.run("dvc", "exp", "remove", "wide")


SPECIFICATION = re.compile(r"var spec = (\{.*?\});\n", re.DOTALL)


def test_one_plot_has_the_learning_curves_of_every_strategy_and_one_the_layers(study: Study, tmp_path: Path) -> None:
    from vl_convert import vegalite_to_svg

    for revisions, command in enumerate((["show"], ["diff", "main"]), 1):
        folder = tmp_path / command[0]
        study.run("dvc", "plots", *command, "--out", str(folder))
        specifications = SPECIFICATION.findall((folder / "index.html").read_text())
        assert len(specifications) == 2
        curves, probes = sorted(specifications, key=lambda each: "Linear probes" in each)
        svg = vegalite_to_svg(curves)
        for name in ("dense_head", "end_to_end", "feature_extraction", "scratch", "workspace"):
            assert f">{name}</text>" in svg
        assert svg.count('aria-roledescription="line mark"') == 4 * revisions
        svg, draws = vegalite_to_svg(probes), pd.read_csv(study.root / "results/probes.csv")
        for name in {*draws["layer"]}:
            assert f">{name}</text>" in svg
        assert svg.count('aria-roledescription="point"') == len(draws) * revisions


ARTIFACTS = """
import json
from dvc.repo import Repo
with Repo() as repo:
    print(json.dumps([vars(artifact) for artifact in repo.artifacts.read()["dvc.yaml"].values()]))
"""


def test_every_shipped_model_is_an_artifact(study: Study) -> None:
    artifacts = json.loads(study.run(sys.executable, "-c", ARTIFACTS).stdout)
    shipped = ("best", "source", *STRATEGIES, *OTHERS)
    assert {artifact["path"] for artifact in artifacts} == {f"models/{name}.keras" for name in shipped}
    for artifact in artifacts:
        assert artifact["type"] == "model"
        assert artifact["desc"]
        assert artifact["labels"]


def test_the_workspace_is_doubted_where_code_was_edited_and_nowhere_else(study: Study) -> None:
    assert "edited since" not in transfer(study, "compare", "HEAD", "workspace")
    for file, named in (
        ("transfer/files.py", "transfer/files.py"),
        ("stages/split.py", "stages/split.py"),
    ):
        path = study.root / file
        content = path.read_text()
        path.write_text(content + "# edited\n")
        assert f"- workspace: edited since its results were made: {named};" in transfer(
            study, "compare", "HEAD", "workspace"
        )
        path.write_text(content)
