"""`transfer compare` in real Git repositories that hold nothing but what is kept in Git."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from test_revisions import lock

from transfer.compare.command import parse_tolerance
from transfer.console import UserError

TRANSFER = [sys.executable, "-P", "-m", "transfer.cli"]
WHO = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENVIRONMENT = os.environ | WHO | {"GIT_CONFIG_GLOBAL": os.devnull, "PYTHONPATH": str(ROOT), "GIT_CONFIG_NOSYSTEM": "1"}
STRATEGIES = {"dense_head": 0.85, "end_to_end": 0.9, "scratch": 0.8}
SHOTS = (1, 10)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


def cells(seeds: int = 10, **gains: float) -> str:
    """The text of cells.csv: every strategy's own luck in every draw, and the gains that are asked for."""
    rows = ["strategy,shots,seed,accuracy,log_loss,ece"]
    for i, (name, level) in enumerate(STRATEGIES.items()):
        for shots in SHOTS:
            luck = np.random.default_rng([i, shots]).normal(0, 0.02, 1000)
            change = (
                np.random.default_rng([9, i, shots]).normal(0, 0.001, 1000) + gains[name] if name in gains else 0 * luck
            )
            for seed in range(seeds):
                accuracy = min(level + 0.01 * np.log(shots) + luck[seed] + change[seed], 1)
                rows.append(f"{name},{shots},{seed},{accuracy:.6f},{2 - 2 * accuracy:.6f},0.01")
    return "\n".join(rows) + "\n"


@dataclass
class Repository:
    """A Git repository with a study's results, in a folder of its own."""

    root: Path

    def git(self, *arguments: str) -> str:
        done = run(self.root, "git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, text: str | None = None, **changes: Any) -> None:
        """Results, parameters and a lock; `changes` are the lock's."""
        text = cells() if text is None else text
        stages = lock(**changes)
        outs = [{"path": "results/cells.csv", "md5": hashlib.md5(text.encode()).hexdigest()}]
        stages["evaluate"] = {"cmd": "z", "deps": [], "outs": outs}
        params = stages["split"]["params"]["params.yaml"] | {"train": {"layer": "block2"}}
        (self.root / "results").mkdir(parents=True, exist_ok=True)
        (self.root / "stages").mkdir(exist_ok=True)
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
        """What is printed; on an error the one line that says so."""
        done = run(self.root, *TRANSFER, "compare", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        if code == 2:
            assert done.stdout == ""
            assert done.stderr.startswith("error: ")
            assert done.stderr.count("\n") == 1
            return done.stderr.removeprefix("error: ").strip()
        return done.stdout + done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """On main results; on `gain` and `loss` those of an edited dense head; on `more` those of two more seeds."""
    made = Repository(tmp_path / "study")
    made.root.mkdir()
    made.git("init", "-q", "-b", "main")
    made.write()
    made.commit()
    for branch, text, changes in (
        ("gain", cells(dense_head=0.03), {"train_code": "t2"}),
        ("loss", cells(dense_head=-0.03), {"train_code": "t3"}),
        ("more", cells(seeds=12), {"seeds": 12, "draws": "d2"}),
    ):
        made.git("checkout", "-q", "main")
        made.write(text, **changes)
        made.commit(branch)
    made.git("checkout", "-q", "main")
    return made


def compared(repository: Repository, *arguments: str) -> list[dict[str, Any]]:
    return json.loads(repository.compare(*arguments, "--json"))["comparisons"]


def verdicts(comparison: dict[str, Any]) -> dict[tuple[str, int], str]:
    return {
        (change["strategy"], change["shots"]): "same" if change["same"] else change["verdict"]
        for change in comparison["changes"]
    }


SAME = {(name, shots): "same" for name in STRATEGIES for shots in SHOTS}


def test_every_revision_is_compared_with_the_first(repository: Repository) -> None:
    gain, loss, more = compared(repository, "main", "gain", "loss", "more")
    changed = {("dense_head", shots) for shots in SHOTS}
    assert verdicts(gain) == SAME | dict.fromkeys(changed, "better")
    assert verdicts(loss) == SAME | dict.fromkeys(changed, "worse")
    assert verdicts(more) == SAME
    assert [each["paired"] for each in (gain, loss, more)] == [True] * 3
    assert {change["draws"] for change in more["changes"]} == {10}
    assert gain["code"] == {"train": ["stages/train.py"]}
    assert more["code"] == {}
    assert verdicts(compared(repository, "loss", "main")[0])["dense_head", 1] == "better"


def test_numbers_are_those_of_the_cells(repository: Repository) -> None:
    old, new = (
        np.array([float(row.split(",")[3]) for row in text.splitlines() if row.startswith("dense_head,10,")])
        for text in (cells(), cells(dense_head=0.03))
    )
    (comparison,) = compared(repository, "main", "gain")
    change = next(each for each in comparison["changes"] if (each["strategy"], each["shots"]) == ("dense_head", 10))
    assert change["before"]["mean"] == pytest.approx(old.mean())
    assert change["after"]["mean"] == pytest.approx(new.mean())
    assert change["difference"]["mean"] == pytest.approx((new - old).mean())
    page = repository.compare("main", "gain", "--md")
    row = next(line for line in page.splitlines() if line.startswith("| dense_head | gain − main |"))
    assert f"| +{100 * (new - old).mean():.2f} ± " in row
    assert row.count("▲") == 2


def test_alone_the_workspace_is_compared_with_the_default_branch(repository: Repository) -> None:
    repository.git("checkout", "-q", "gain")
    content = json.loads(repository.compare("--json"))
    assert [each["name"] for each in content["revisions"]] == ["main", "workspace"]
    assert content["revisions"][1]["place"].startswith("on gain at ")
    assert verdicts(content["comparisons"][0])["dense_head", 1] == "better"
    content = json.loads(repository.compare("loss", "--json"))
    assert [each["name"] for each in content["revisions"]] == ["loss", "workspace"]
    content = json.loads(repository.compare("workspace", "HEAD~1", "--json"))
    assert [each["name"] for each in content["revisions"]] == ["workspace", "HEAD~1"]


def test_the_default_branch_may_be_known_from_the_remote_alone(repository: Repository, tmp_path: Path) -> None:
    repository.git("branch", "-m", "main", "trunk")
    clone = Repository(tmp_path / "clone")
    assert run(tmp_path, "git", "clone", "-q", str(repository.root), "clone").returncode == 0
    clone.git("checkout", "-q", "--detach")
    clone.git("branch", "-D", "trunk")
    assert "- origin/trunk (at " in clone.compare()


def test_branches_tags_commits_and_dates_are_revisions(repository: Repository) -> None:
    repository.git("tag", "v1", "gain")
    sha = repository.git("rev-parse", "loss")
    names = ["main", "v1", sha[:9], "more~1", "HEAD@{0}"]
    assert [each["revision"] for each in compared(repository, *names)] == names[1:]


def test_a_clone_without_checkout_or_cache_is_enough(repository: Repository, tmp_path: Path) -> None:
    for options in (["--no-checkout"], ["--bare"]):
        name = "clone" + options[0]
        assert run(tmp_path, "git", "clone", "-q", *options, str(repository.root), name).returncode == 0
        clone = Repository(tmp_path / name)
        prefix = "" if options == ["--bare"] else "origin/"
        assert verdicts(compared(clone, f"{prefix}main", f"{prefix}gain")[0])["dense_head", 1] == "better"
    assert clone.compare("main", code=2) == "this repository is bare and has no workspace: name two revisions"


def test_nothing_is_written_or_checked_out(repository: Repository) -> None:
    def state() -> dict[str, bytes]:
        files = (file for file in repository.root.rglob("*") if file.is_file())
        return {file.as_posix(): file.read_bytes() for file in files}

    before = state()
    for form in ("--md", "--json", "--html"):
        repository.compare("main", "gain", form)
    assert state() == before


def test_unequal_draws_are_said_and_compared_unpaired(repository: Repository) -> None:
    repository.write(cells(dense_head=0.03), classes=[7, 8], draws="d9")
    repository.commit("other")
    page = repository.compare("main", "other", "--md")
    assert "Its label draws may be others, so it is compared with main unpaired." in page
    (comparison,) = compared(repository, "main", "other")
    assert not comparison["paired"]
    assert "same" not in verdicts(comparison).values()
    repository.write(images="i9")
    repository.commit("tested")
    assert "Its test images are others, so it is compared with main unpaired." in repository.compare("main", "tested")


def test_only_differing_parameters_and_code_are_shown(repository: Repository) -> None:
    page = repository.compare("main", "gain", "more", "--md")
    parameters = page.split("## Parameters")[1].split("## Code")[0]
    assert "| `split.seeds` | 10 | 10 | 12 |" in parameters
    assert "target_classes" not in parameters
    assert "| train | stages/train.py | – |" in page.split("## Code")[1]
    page = repository.compare("main", "main~0", "--md")
    assert "No parameter differs." in page
    assert "No stage's code differs." in page


def test_results_that_do_not_fit_their_code_are_doubted(repository: Repository) -> None:
    (repository.root / "stages/split.py").write_text("x")
    (repository.root / "results/cells.csv").write_text(cells(scratch=0.1))
    params = repository.root / "params.yaml"
    params.write_text(params.read_text().replace("seeds: 10", "seeds: 11"))
    printed = repository.compare()
    assert "- workspace: split.seeds has changed since its results were made: run dvc repro" in printed
    assert "- workspace: results/cells.csv is not what dvc.lock records: run dvc repro" in printed
    assert "- workspace: stages/split.py, stages/train.py have changed since" in printed  # of data, DVC tells
    assert "has changed" not in repository.compare("main", "gain")


@pytest.mark.parametrize(
    ("branch", "options", "code", "line"),
    [
        ("loss", [], 1, "regression: loss: dense_head with 1 label per class, accuracy −"),
        ("gain", [], 0, "no regression"),
        ("more", [], 0, "no regression"),
        ("loss", ["--tolerance", "0.02"], 1, "regression beyond 2.00 points: loss: dense_head with 1"),
        ("loss", ["--tolerance", "2%"], 1, "regression beyond 2.00 points: loss: dense_head with 1"),
        ("loss", ["--tolerance", "0.05"], 0, "no regression beyond 5.00 points"),
        ("loss", ["--metric", "ece"], 0, "no regression"),
        ("loss", ["--metric", "log_loss"], 1, "regression: loss: dense_head with 1 label per class, log_loss +0.0"),
        ("gain", ["--metric", "log_loss"], 0, "no regression"),
        ("loss", ["--metric", "all", "--json"], 1, "regression: loss: "),
    ],
)
def test_it_fails_on_a_significant_loss_alone(
    repository: Repository, branch: str, options: list[str], code: int, line: str
) -> None:
    done = run(repository.root, *TRANSFER, "compare", "main", branch, "--fail-on-regression", *options)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(line)
    assert done.stdout
    without = run(repository.root, *TRANSFER, "compare", "main", branch, *options)
    assert (without.returncode, without.stderr, without.stdout) == (0, "", done.stdout)


def test_a_revision_without_results_is_one_line(repository: Repository) -> None:
    (repository.root / "results/cells.csv").unlink()
    assert repository.compare(code=2).startswith(
        "workspace has no results, as it has no results/cells.csv: run `dvc repro`"
    )
    repository.commit("empty")
    assert repository.compare("main", "empty", "gain", code=2).startswith("empty has no results")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("results/cells.csv", b"<html>", "results/cells.csv of workspace is no table of cells"),
        ("results/cells.csv", b"\xff\xfe", "results/cells.csv of workspace is not UTF-8 text"),
        ("params.yaml", b"a: [", "at workspace, params.yaml is not valid YAML: line "),
        ("dvc.lock", b"<<<<<<< HEAD\n", "at workspace, dvc.lock is not what DVC writes"),
        ("dvc.lock", b"stages: {a: {deps: [1]}}", "at workspace, dvc.lock is not what DVC writes"),
    ],
)
def test_a_damaged_file_is_one_line(repository: Repository, file: str, content: bytes, words: str) -> None:
    (repository.root / file).write_bytes(content)
    assert repository.compare(code=2).startswith(words)


def test_missing_extras_are_said_and_no_error(repository: Repository) -> None:
    for name in ("dvc.lock", "params.yaml", "results/metrics.json"):
        (repository.root / name).unlink()
    printed = repository.compare()
    assert "No dvc.lock in workspace: what code made the results is unknown." in printed


@pytest.mark.parametrize("name", ["nowhere", "-x", "main:params.yaml", "main..gain", ""])
def test_what_is_no_revision_is_one_line(repository: Repository, name: str) -> None:
    assert name in repository.compare("main", "--", name, code=2)


def test_a_shallow_clone_is_one_line(repository: Repository, tmp_path: Path) -> None:
    command = ["git", "clone", "-q", "--depth", "1", f"file://{repository.root}", "shallow"]
    assert run(tmp_path, *command).returncode == 0
    clone = Repository(tmp_path / "shallow")
    line = clone.compare("gain", code=2)
    assert line.startswith("there is no branch, tag or commit gain in this repository; this clone is shallow, so fetch")
    assert "accuracy the same in 6 of 6" in clone.compare()


def test_no_default_branch_is_one_line(repository: Repository) -> None:
    repository.git("branch", "-m", "main", "trunk")
    assert (
        repository.compare(code=2)
        == "there is no branch main or master here: name a revision, as in `transfer compare HEAD`"
    )


def test_no_repository_is_one_line(tmp_path: Path) -> None:
    assert Repository(tmp_path).compare(code=2).endswith("is not in a Git repository: run this in a clone of the study")


def test_a_revision_is_not_compared_with_itself(repository: Repository) -> None:
    assert repository.compare("main", "main", code=2) == "main cannot be compared with itself: name two revisions"


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("0.005", 0.005), ("0.5%", 0.005), ("1e-3", 0.001), ("99.9%", 0.999)]
)
def test_tolerances(text: str, value: float) -> None:
    assert parse_tolerance(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["1", "-0.1", "nan", "x", "", "100%"])
def test_what_is_no_tolerance_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be at least 0 and below 1, or in percent"):
        parse_tolerance(text)


def test_hostile_names_are_shown_and_do_nothing(repository: Repository) -> None:
    evil = "<script>alert(1)</script>|[x](y)"
    repository.write(cells().replace("scratch", evil))
    repository.git("checkout", "-q", "-b", "<b>")
    repository.commit()
    page = repository.compare("main", "<b>", "--html")
    assert evil not in page
    assert html.escape(evil).replace("&#x27;", "&#39;") in page
    assert r"\<script\>alert(1)\</script\>\|\[x\](y)" in repository.compare("main", "<b>", "--md")
    assert f"{evil} " in repository.compare("main", "<b>")


def test_the_html_page_needs_nothing_else(repository: Repository) -> None:
    page = repository.compare("main", "gain", "--html")
    assert page.startswith("<!doctype html>")
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert len(page) < 60_000  # no chart library


def test_plain_text_is_not_wrapped_in_a_pipe(repository: Repository) -> None:
    printed = repository.compare("main", "gain", "loss", "more")
    assert "\x1b" not in printed
    assert re.search(r"^dense_head +main +\S+ ± \S+ +\S+ ± \S+$", printed, re.MULTILINE)
    assert re.search(r"^ +loss − main +−\S+ ± \S+ ▼ +−\S+ ± \S+ ▼$", printed, re.MULTILINE)


def test_the_command_is_installed_beside_the_environment_s_python(repository: Repository) -> None:
    done = run(repository.root, str(ROOT / ".venv/bin/transfer"), "compare", "main", "gain", "--md")
    assert done.returncode == 0, done.stderr
    assert done.stdout == repository.compare("main", "gain", "--md")


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
        assert "| dense_head | HEAD − main | −" in summary.read_text()
