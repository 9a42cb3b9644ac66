"""`transfer compare` in real Git repositories that hold nothing but what is kept in Git."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from test_revisions import lock

from transfer.cli import build
from transfer.compare.command import parse_tolerance
from transfer.console import UserError
from transfer.evaluation.outcomes import COSTS, Correct
from transfer.evaluation.selection import CALIBRATION
from transfer.files import write_record

WHO = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENVIRONMENT = os.environ | WHO | {"GIT_CONFIG_GLOBAL": os.devnull, "PYTHONPATH": str(ROOT), "GIT_CONFIG_NOSYSTEM": "1"}
STRATEGIES = {"dense_head": 0.85, "end_to_end": 0.9, "scratch": 0.8}
SHOTS = (1, 10)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


def runs(seeds: int = 10, shots_of_gains: Sequence[int] = SHOTS, **gains: float) -> pd.DataFrame:
    """The table of runs: every strategy's own luck in every draw, and the gains that are asked for."""
    frames = []
    for i, (name, level) in enumerate(STRATEGIES.items()):
        for shots in SHOTS:
            accuracy = level + 0.01 * np.log(shots) + np.random.default_rng([i, shots]).normal(0, 0.02, 20)
            if name in gains and shots in shots_of_gains:
                accuracy += gains[name] + np.random.default_rng([9, i, shots]).normal(0, 0.001, 20)
            frames.append(pd.DataFrame({"strategy": name, "shots": shots, "seed": range(20), "accuracy": accuracy}))
    table = pd.concat(frames)
    table = table[table["seed"] < seeds].assign(accuracy=lambda runs: runs["accuracy"].round(3))
    table = table.assign(log_loss=2 - 2 * table["accuracy"], **dict.fromkeys(COSTS, 100))
    return table.assign(**dict.fromkeys([name for name in CALIBRATION if name != "log_loss"], 0.01))


def correct_of(table: pd.DataFrame) -> Correct:
    """Of 3,000 test images the first ones, as many as the accuracy says."""
    columns = {name: table[name].to_numpy() for name in ("strategy", "shots", "seed")}
    return Correct(
        **columns | {"strategy": columns["strategy"].astype(str)},
        collapsed=np.zeros(len(table), bool),
        images=np.array(3000),
        bits=np.packbits(np.arange(3000) < (3000 * table[["accuracy"]].to_numpy()).round(), axis=1),
        needs=np.array(json.dumps({name: ["labels"] for name in {*table["strategy"]}})),
    )


@dataclass
class Repository:
    """A Git repository with a study's results, in a folder of its own."""

    root: Path

    def git(self, *arguments: str) -> str:
        done = run(self.root, "git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, table: pd.DataFrame, **changes: Any) -> None:
        """Results, parameters and a lock; `changes` are the lock's."""
        stages = lock(**changes)
        files = [self.root / "results" / name for name in ("cells.csv", "correct.npz")]
        files[0].parent.mkdir(exist_ok=True)
        table.to_csv(files[0], index=False)
        write_record(files[1], correct_of(table))
        outs = [{"path": f"results/{each.name}", "md5": hashlib.md5(each.read_bytes()).hexdigest()} for each in files]
        stages["evaluate"] = {"deps": [], "outs": outs}
        params = stages["split"]["params"]["params.yaml"] | {"train": {"layer": "block2"}}
        (self.root / "results/metrics.json").write_text('{"source": {"accuracy": 0.99883}}')
        yaml = YAML()
        yaml.dump({"stages": stages}, self.root / "dvc.lock")
        yaml.dump(params, self.root / "params.yaml")

    def commit(self, branch: str | None = None) -> None:
        if branch:
            self.git("checkout", "-q", "-b", branch)
        self.git("add", "-A")
        self.git("commit", "-qm", branch or "start")

    def compare(self, *arguments: str, code: int = 0) -> str:
        """What is printed; on a mistake the one line that says so."""
        printed = io.StringIO()
        with contextlib.chdir(self.root), redirect_stdout(printed), redirect_stderr(printed):
            parsed = build(["compare"]).parse_args(["compare", *arguments])
            try:
                ended = parsed.run(parsed)
            except UserError as error:
                print(error)
                ended = 2
        assert ended == code, printed.getvalue()
        assert code != 2 or printed.getvalue().count("\n") == 1
        return printed.getvalue()

    def compared(self, *arguments: str) -> list[dict[str, Any]]:
        """With every other revision the comparison, as JSON."""
        return json.loads(self.compare(*arguments, "--json"))["comparisons"]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """On main results; on `gain` and `loss` those of an edited dense head; on `more` those of two more seeds."""
    made = Repository(tmp_path / "study")
    made.root.mkdir()
    made.git("init", "-q", "-b", "main")
    made.write(runs())
    made.commit()
    for branch, table, changes in (
        ("gain", runs(dense_head=0.03), {"train": "t2"}),
        ("loss", runs(dense_head=-0.03), {"train": "t3"}),
        ("nothing", runs(dense_head=-0.002), {"train": "t4"}),
        ("more", runs(seeds=12), {"seeds": 12, "draws": "d2"}),
    ):
        made.git("checkout", "-q", "main")
        made.write(table, **changes)
        made.commit(branch)
    made.git("checkout", "-q", "main")
    return made


def words(printed: str) -> str:
    """What is printed, in one line."""
    return " ".join(printed.split())


def verdicts(comparison: dict[str, Any]) -> dict[tuple[str, int], str]:
    return {(change["strategy"], change["shots"]): change["verdict"] for change in comparison["changes"]}


SAME = {(name, shots): "same" for name in STRATEGIES for shots in SHOTS}


def test_every_revision_is_compared_with_the_first(repository: Repository) -> None:
    gain, loss, more = repository.compared("main", "gain", "loss", "more")
    changed = {("dense_head", shots) for shots in SHOTS}
    assert verdicts(gain) == SAME | dict.fromkeys(changed, "better")
    assert verdicts(loss) == SAME | dict.fromkeys(changed, "worse")
    assert verdicts(more) == SAME
    assert {change["draws"] for change in more["changes"]} == {10}
    assert gain["code"] == {"train": ["stages/train.py"]}
    assert more["code"] == {}
    assert "accuracy the same in 6 of 6; paired over the 10 draws that both have" in words(
        repository.compare("main", "more")
    )


def test_numbers_are_those_of_the_runs(repository: Repository) -> None:
    old, new = (
        table[table.eval("strategy == 'dense_head' and shots == 10")]["accuracy"].to_numpy()
        for table in (runs(), runs(dense_head=0.03))
    )
    (comparison,) = repository.compared("main", "gain")
    change = next(each for each in comparison["changes"] if (each["strategy"], each["shots"]) == ("dense_head", 10))
    means = (change["before"], change["after"], change["difference"])
    assert means == pytest.approx((old.mean(), new.mean(), (new - old).mean()))
    page = repository.compare("main", "gain", "--md")
    row = next(line for line in page.splitlines() if line.startswith("| dense_head | 10 |"))
    assert f"| {100 * old.mean():.2f} ± " in row
    assert f"| {100 * new.mean():.2f} ± " in row
    assert re.search(rf"\| \+{100 * (new - old).mean():.2f} ± \d\.\d\d ▲ \|$", row)


def test_alone_the_workspace_is_compared_with_the_default_branch(repository: Repository, tmp_path: Path) -> None:
    repository.git("checkout", "-q", "gain")
    content = json.loads(repository.compare("--json"))
    assert [each["name"] for each in content["revisions"]] == ["main", "workspace"]
    assert content["revisions"][1]["place"].startswith("on gain at ")
    assert verdicts(content["comparisons"][0])["dense_head", 1] == "better"
    content = json.loads(repository.compare("loss", "--json"))
    assert [each["name"] for each in content["revisions"]] == ["loss", "workspace"]
    repository.git("checkout", "-q", "main")
    repository.git("branch", "-m", "main", "trunk")
    assert "there is no branch main or master here" in repository.compare(code=2)
    assert run(tmp_path, "git", "clone", "-q", str(repository.root), "clone").returncode == 0
    clone = Repository(tmp_path / "clone")
    clone.git("checkout", "-q", "--detach")
    clone.git("branch", "-D", "trunk")
    assert "- origin/trunk (at " in clone.compare()


def test_branches_tags_commits_and_the_workspace_are_revisions(repository: Repository) -> None:
    repository.git("tag", "v1", "gain")
    sha = repository.git("rev-parse", "loss")
    names = ["main", "v1", sha[:9], "more~1", "HEAD@{0}", "workspace"]
    assert [each["revision"] for each in repository.compared(*names)] == names[1:]


def test_nothing_is_written_or_checked_out(repository: Repository) -> None:
    def state() -> dict[str, bytes]:
        files = (file for file in repository.root.rglob("*") if file.is_file())
        return {file.as_posix(): file.read_bytes() for file in files}

    before = state()
    for form in ("--md", "--json", "--html"):
        repository.compare("main", "gain", form)
    assert state() == before


def test_only_differing_parameters_and_code_are_shown(repository: Repository) -> None:
    page = repository.compare("main", "gain", "more", "--md")
    parameters = page.split("## Parameters")[1].split("## Code")[0]
    assert "| split.seeds | 10 | 10 | 12 |" in parameters
    assert "split.test" not in parameters
    assert "- **gain**, train: stages/train.py" in page.split("## Code")[1]
    page = repository.compare("main", "main~0", "--md")
    assert "No parameter differs." in page
    assert "No stage's code differs." in page


def test_results_that_do_not_fit_their_code_are_doubted(repository: Repository) -> None:
    runs(scratch=0.1).to_csv(repository.root / "results/cells.csv", index=False)
    params = repository.root / "params.yaml"
    params.write_text(params.read_text().replace("seeds: 10", "seeds: 11"))
    edited = (
        "- workspace: edited since its results were made: split.seeds, stages/split.py, stages/train.py; run dvc repro"
    )
    printed = words(repository.compare())
    assert edited in printed  # which has no stages: the lock is of others
    assert "- workspace: results/cells.csv is not what dvc.lock records: run dvc repro" in printed
    assert (
        "- workspace: results/correct.npz is missing or does not match results/cells.csv: intervals are over draws"
        in printed
    )
    assert "edited" not in repository.compare("main", "gain")


def test_other_test_data_are_said(repository: Repository) -> None:
    repository.write(runs(), images="i2")
    repository.commit("tested")
    assert "- tested: its test data are not those of main" in repository.compare("main", "tested")


def test_a_study_without_lock_and_parameters_is_compared(repository: Repository) -> None:
    for name in ("dvc.lock", "params.yaml", "results/metrics.json"):
        (repository.root / name).unlink()
    assert "No dvc.lock in workspace: what code made the results is unknown." in repository.compare()


@pytest.mark.parametrize(
    ("branch", "options", "code", "line"),
    [
        ("loss", [], 1, "regression: loss: dense_head with 1 label per class, accuracy −"),
        ("gain", [], 0, "no regression\n"),
        ("more", [], 0, "no regression\n"),
        ("loss", ["--tolerance", "0.02"], 1, "regression beyond 0.02: loss: dense_head with 1"),
        ("loss", ["--tolerance", "5%"], 0, "no regression beyond 5%\n"),
        ("nothing", [], 0, "no regression\n"),
        ("loss", ["--metric", "ece"], 0, "no regression\n"),
        ("loss", ["--metric", "log_loss"], 1, "regression: loss: dense_head with 1 label per class, log_loss +0.0"),
        ("loss", ["--metric", "all", "--json"], 1, "regression: loss: "),
    ],
)
def test_it_fails_on_a_significant_loss_alone(
    repository: Repository, branch: str, options: list[str], code: int, line: str
) -> None:
    without = repository.compare("main", branch, *options)
    printed = repository.compare("main", branch, "--fail-on-regression", *options, code=code)
    assert printed.removeprefix(without).startswith(line)


def test_what_cannot_be_compared_is_one_line(repository: Repository, tmp_path: Path) -> None:
    for name in ("nowhere", "-x", "main:params.yaml", "main..gain"):
        assert f"there is no branch, tag or commit {name} here" in repository.compare("main", "--", name, code=2)
    (repository.root / "params.yaml").write_text("a: [")
    assert "params.yaml of workspace is not valid YAML" in repository.compare(code=2)
    (repository.root / "results/cells.csv").unlink()
    assert "workspace has no results/cells.csv in this folder: run `dvc repro`" in repository.compare(code=2)
    assert "is not in a Git repository" in Repository(tmp_path).compare(code=2)


@pytest.mark.parametrize("text", ["-0.1", "nan", "x", "100%"])
def test_what_is_no_tolerance_is_refused(text: str) -> None:
    assert parse_tolerance("0.5%") == parse_tolerance("0.005") == 0.005
    with pytest.raises(UserError, match="must be at least 0 and below 1, or in percent"):
        parse_tolerance(text)


@pytest.mark.parametrize(("text", "points"), [("0.5", "50"), ("1", "100"), ("0.11", "11")])
def test_a_tolerance_that_was_meant_in_percent_is_refused(text: str, points: str) -> None:
    assert parse_tolerance("0.1") == 0.1
    with pytest.raises(UserError, match=f"^--tolerance {text} is {points} points: write {text}% for {text} points$"):
        parse_tolerance(text)


def test_the_page_needs_no_other_file(repository: Repository) -> None:
    page = repository.compare("main", "gain", "--html")
    assert page.startswith("<!doctype html>")
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)


def test_two_revisions_fit_a_terminal_and_what_is_the_same_is_folded(repository: Repository) -> None:
    printed = repository.compare("main", "loss")
    assert "\x1b" not in printed
    assert "`" not in printed
    assert max(map(len, printed.splitlines())) < 100
    value = r"\d+\.\d\d ± \d\.\d\d"
    rows = [rf"^{name} +{shots} +{value} +{value} −{value} ▼$" for name, shots in (("dense_head", 1), (" ", 10))]
    assert re.search("\n".join(rows), printed, re.MULTILINE), printed
    assert "\n4 of 6 the same, draw by draw\n" in printed
    assert not re.search(r"^(scratch|end_to_end) ", printed, re.MULTILINE)
    assert "| scratch | 10 |" in repository.compare("main", "loss", "--md")


def test_it_says_first_whether_the_recommendation_changed(repository: Repository) -> None:
    repository.write(runs(end_to_end=-0.1, shots_of_gains=[10]))
    repository.commit("lost")
    lines = repository.compare("main", "gain", "lost").splitlines()
    assert lines[:4] == [
        "Recommendation",
        "- main: end_to_end with 1 to 10 labels per class",
        "- gain: no change",
        "- lost: changed: end_to_end → dense_head with 10 labels per class; no change with 1",
    ]
    repository.write(runs().replace({"shots": {10: 20}}))
    repository.commit("further")
    lines = repository.compare("main", "further").splitlines()
    assert lines[2] == "- further: no change with 1; end_to_end with 20 labels per class"
    content = json.loads(repository.compare("main", "lost", "--json"))
    assert content["revisions"][1]["recommended"] == {"1": "end_to_end", "10": "dense_head"}


def test_an_older_revision_is_compared_over_its_draws_and_recommends_nothing(repository: Repository) -> None:
    (repository.root / "results/correct.npz").unlink()
    repository.commit("old")
    printed = words(repository.compare("old", "gain"))
    assert printed.startswith("Recommendation - old: not known - gain: end_to_end with 1 to 10 labels per class")
    assert (
        "- old: results/correct.npz is missing or does not match results/cells.csv: intervals are over draws alone"
        in printed
    )
    (old,), (new,) = (repository.compared(base, "gain") for base in ("old", "main"))
    for before, after in zip(old["changes"], new["changes"], strict=True):
        assert (before["before"], before["verdict"]) == (pytest.approx(after["before"]), after["verdict"])
        assert before["before_margin"] < after["before_margin"]


def test_revisions_without_a_common_draw_are_shown_beside_each_other(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "others", "main")
    repository.write(runs().assign(seed=lambda table: table["seed"] + 10))
    repository.commit()
    assert "paired over the 0 draws that both have" in " ".join(repository.compare("main", "others").split())


def test_what_is_equal_in_practice_is_told_with_how_much(repository: Repository) -> None:
    repository.git("checkout", "-q", "nothing")
    assert "accuracy equal within 0.5 points in 2, the same in 4 of 6" in words(repository.compare())
    params = repository.root / "params.yaml"
    params.write_text(params.read_text() + "report: {equal_within: 0}\n")
    repository.git("checkout", "-q", "-b", "strict")
    repository.commit()
    assert "accuracy better in 2, the same in 4 of 6" in words(repository.compare("strict", "main"))


def test_continuous_integration_compares_with_the_base(repository: Repository, tmp_path: Path) -> None:
    jobs = YAML(typ="safe").load(ROOT / ".github/workflows/ci.yml")["jobs"]
    step = jobs["compare"]["steps"][-1]
    (repository.root / ".venv").symlink_to(ROOT / ".venv")
    repository.git("checkout", "-q", "loss")
    for tolerance, code in (("", 0), ("0", 1), ("5%", 0)):
        summary = tmp_path / f"summary{code}"
        variables = {"BASE": "main", "TOLERANCE": tolerance, "GITHUB_STEP_SUMMARY": str(summary)}
        assert set(step["env"]) == {"BASE", "TOLERANCE"}
        done = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=repository.root, env=ENVIRONMENT | variables)
        assert done.returncode == code
        assert "| main | HEAD | − main |" in summary.read_text()
