"""`transfer compare` in real Git repositories that hold nothing but what is kept in Git."""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import json
import os
import re
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from test_revisions import lock

from transfer.cli import build
from transfer.compare.command import parse_tolerance
from transfer.console import UserError

WHO = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENVIRONMENT = os.environ | WHO | {"GIT_CONFIG_GLOBAL": os.devnull, "PYTHONPATH": str(ROOT), "GIT_CONFIG_NOSYSTEM": "1"}
STRATEGIES = {"dense_head": 0.85, "end_to_end": 0.9, "scratch": 0.8}
SHOTS = (1, 10)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


def runs(seeds: int = 10, **gains: float) -> str:
    """The text of cells.csv: every strategy's own luck in every draw, and the gains that are asked for."""
    rows = ["strategy,shots,seed,accuracy,log_loss,ece"]
    for i, (name, level) in enumerate(STRATEGIES.items()):
        for shots in SHOTS:
            accuracy = level + 0.01 * np.log(shots) + np.random.default_rng([i, shots]).normal(0, 0.02, 20)
            if name in gains:
                accuracy += gains[name] + np.random.default_rng([9, i, shots]).normal(0, 0.001, 20)
            for seed, value in enumerate(accuracy[:seeds]):
                rows.append(f"{name},{shots},{seed},{value:.6f},{2 - 2 * value:.6f},0.01")
    return "\n".join(rows) + "\n"


@dataclass
class Repository:
    """A Git repository with a study's results, in a folder of its own."""

    root: Path

    def git(self, *arguments: str) -> str:
        done = run(self.root, "git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, text: str, **changes: Any) -> None:
        """Results, parameters and a lock; `changes` are the lock's."""
        stages = lock(**changes)
        outs = [{"path": "results/cells.csv", "md5": hashlib.md5(text.encode()).hexdigest()}]
        stages["evaluate"] = {"deps": [], "outs": outs}
        params = stages["split"]["params"]["params.yaml"] | {"train": {"layer": "block2"}}
        (self.root / "results").mkdir(parents=True, exist_ok=True)
        (self.root / "results/cells.csv").write_text(text)
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
    for branch, text, changes in (
        ("gain", runs(dense_head=0.03), {"train": "t2"}),
        ("loss", runs(dense_head=-0.03), {"train": "t3"}),
        ("more", runs(seeds=12), {"seeds": 12, "draws": "d2"}),
    ):
        made.git("checkout", "-q", "main")
        made.write(text, **changes)
        made.commit(branch)
    made.git("checkout", "-q", "main")
    return made


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
    assert "accuracy the same in 6 of 6. Paired over the 10 draws that both have." in repository.compare("main", "more")


def test_numbers_are_those_of_the_runs(repository: Repository) -> None:
    old, new = (
        np.array([float(row.split(",")[3]) for row in text.splitlines() if row.startswith("dense_head,10,")])
        for text in (runs(), runs(dense_head=0.03))
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
    assert "| `split.seeds` | 10 | 10 | 12 |" in parameters
    assert "split.test" not in parameters
    assert "- **gain**, train: stages/train.py" in page.split("## Code")[1]
    page = repository.compare("main", "main~0", "--md")
    assert "No parameter differs." in page
    assert "No stage's code differs." in page


def test_results_that_do_not_fit_their_code_are_doubted(repository: Repository) -> None:
    (repository.root / "results/cells.csv").write_text(runs(scratch=0.1))
    params = repository.root / "params.yaml"
    params.write_text(params.read_text().replace("seeds: 10", "seeds: 11"))
    edited = (
        "- workspace: edited since its results were made: split.seeds, stages/split.py, stages/train.py; run dvc repro"
    )
    printed = repository.compare()
    assert edited in printed  # which has no stages: the lock is of others
    assert "- workspace: results/cells.csv is not what dvc.lock records: run dvc repro" in printed
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


@pytest.mark.parametrize("text", ["1", "-0.1", "nan", "x", "100%"])
def test_what_is_no_tolerance_is_refused(text: str) -> None:
    assert parse_tolerance("0.5%") == parse_tolerance("0.005") == 0.005
    with pytest.raises(UserError, match="must be at least 0 and below 1, or in percent"):
        parse_tolerance(text)


def test_hostile_names_are_shown_and_do_nothing_and_the_page_needs_nothing_else(repository: Repository) -> None:
    evil = "<script>alert(1)</script>|[x](y)"
    repository.write(runs().replace("scratch", evil))
    repository.commit("<b>")
    page = repository.compare("main", "<b>", "--html")
    assert page.startswith("<!doctype html>")
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert evil not in page
    assert html.escape(evil) in page
    assert r"\<script\>alert(1)\</script\>\|\[x\](y)" in repository.compare("main", "<b>", "--md")


def test_plain_text_is_not_wrapped_in_a_pipe(repository: Repository) -> None:
    printed = repository.compare("main", "gain", "loss", "more")
    assert "\x1b" not in printed
    value = r"\d\d\.\d\d ± \d\.\d\d"
    row = rf"^dense_head +1 +{value} +{value} +\+\S+ ± \S+ ▲ +{value} +−\S+ ± \S+ ▼ +{value} +=$"
    assert re.search(row, printed, re.MULTILINE)


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
        assert "| HEAD − main |" in summary.read_text()
