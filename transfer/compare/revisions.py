"""What Git holds of a study at a revision, and what differs of its parameters, code and test data between revisions."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from transfer.compare.metrics import METRICS, RUN
from transfer.console import UserError, some
from transfer.evaluation.comparison import compare
from transfer.evaluation.outcomes import Correct
from transfer.evaluation.selection import choose_strategies
from transfer.params import parse_params

WORKSPACE = "workspace"
RUNS, CORRECT, SCORES = "results/cells.csv", "results/correct.npz", "results/metrics.json"
PARAMS, LOCK = "params.yaml", "dvc.lock"
EQUAL_WITHIN = 0.5  # points, of a revision older than `report.equal_within`
CODE = ("stages/", "transfer/")
TEST_DATA = ("data/target_test_images.npz", "data/target_test_labels.npz")


@dataclass(frozen=True, eq=False)
class Revision:
    """A study as a commit or the workspace holds it.

    Attributes:
        name: what the user calls it.
        place: where it is, in words.
        runs: one row per run; the columns `RUN` and those of `METRICS` are there, NaN where an older table lacks one.
        correct: the same runs, image by image; None where it is not known.
        params: every parameter by its dotted name.
        stages: those of `dvc.lock`, by name; empty where there is none.
        source_accuracy: of its source model, if it is known.
        doubts: sentences on why its results may not be those of its code and parameters.
    """

    name: str
    place: str
    runs: pd.DataFrame
    correct: Correct | None
    params: dict[str, Any]
    stages: dict[str, Any]
    source_accuracy: float | None
    doubts: list[str]

    @property
    def seeds(self) -> list[int]:
        """Of all runs."""
        return sorted(self.runs["seed"].unique().tolist())

    @property
    def within(self) -> float:
        """The difference of accuracies, a fraction, up to which strategies are equal in practice."""
        return self.params.get("report.equal_within", EQUAL_WITHIN) / 100

    @cached_property
    def recommended(self) -> dict[int, str]:
        """What its report recommends, by labels per class; empty where `correct` is not known."""
        if self.correct is None:
            return {}
        wanted = self.params.get("report.strategies", "all")
        strategies = choose_strategies(self.runs, None if wanted == "all" else wanted)
        comparison = compare(self.runs, self.correct, strategies, self.within)
        return {shots: comparison.recommended(shots).strategy for shots in comparison.shots}


def read_revisions(names: Sequence[str]) -> list[Revision]:
    """The study at every revision, as Git holds it: nothing is checked out.

    Args:
        names: of branches, tags, commits or DVC experiments, or `workspace`; one name stands for itself and the
            workspace, none for the default branch and the workspace.

    Raises:
        UserError: if this is no Git repository, there is no such revision, or it holds no results.
    """
    if not _git("rev-parse", "--git-dir"):
        raise UserError(f"{Path.cwd()} is not in a Git repository: run this in a clone of the study")
    if len(names) < 2:
        names = [*(names or [_default_branch()]), WORKSPACE]
    return [_read_revision(name) for name in names]


def _git(*arguments: str) -> str:
    """What Git prints; nothing where it fails."""
    return _git_bytes(*arguments).decode()


def _git_bytes(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], capture_output=True)
    return b"" if done.returncode else done.stdout


def _commit(name: str) -> str:
    """The commit of a branch, tag, commit or DVC experiment; nothing if there is none of this name."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    return (commit or _git("for-each-ref", "--count=1", "--format=%(objectname)", f"refs/exps/*/*/{name}")).strip()


def _default_branch() -> str:
    remote = _git("symbolic-ref", "--short", "refs/remotes/origin/HEAD").strip().removeprefix("origin/")
    names = [name for name in (remote, "main", "master") if name]
    for branch in (f"{place}{name}" for name in names for place in ("", "origin/")):
        if _commit(branch):
            return branch
    raise UserError(f"there is no branch {' or '.join(names)} here: name a revision, as in `transfer compare HEAD`")


def _read_revision(name: str) -> Revision:
    commit = _commit("HEAD" if name == WORKSPACE else name)
    if not commit:
        raise UserError(f"there is no branch, tag or commit {name} here: fetch it, or see `git branch --all`")
    place = f"at {commit[:7]}"
    if name == WORKSPACE:
        place = f"on {_git('branch', '--show-current').strip() or 'no branch'} {place}"
        commit = ""
    results = {path: _read(commit, path) for path in (RUNS, CORRECT)}
    if not results[RUNS]:
        raise UserError(f"{name} has no {RUNS} in this folder: run `dvc repro` there and commit results/")
    runs = parse_runs(results[RUNS].decode(), f"{RUNS} of {name}")
    params, lock = (parse_params(_read(commit, path).decode() or "{}", f"{path} of {name}") for path in (PARAMS, LOCK))
    params, stages = flatten(params), lock.get("stages", {})
    edited = edited_params(params, stages) + (_edited_code(stages) if name == WORKSPACE else [])
    doubts = [f"edited since its results were made: {some(edited)}; run `dvc repro`"] if edited else []
    recorded = _outs(stages)
    doubts += [
        f"{path} is not what {LOCK} records: run `dvc repro`"
        for path, content in results.items()
        if content and recorded.get(path) not in (None, _md5(content))
    ]
    correct = parse_correct(results[CORRECT], runs)
    if correct is None:
        doubts.append(
            f"{CORRECT} is missing or does not match {RUNS}: intervals are over draws alone, without a recommendation"
        )
    source_accuracy = json.loads(_read(commit, SCORES) or "{}").get("source", {}).get("accuracy")
    return Revision(name, place, runs, correct, params, stages, source_accuracy, doubts)


def _read(commit: str, path: str) -> bytes:
    """A file of a commit, or of the workspace where that is empty; nothing where there is none."""
    if commit:
        return _git_bytes("show", f"{commit}:./{path}")
    return Path(path).read_bytes() if Path(path).exists() else b""


def parse_runs(text: str, where: str) -> pd.DataFrame:
    """The runs of the strategies, from the text of `results/cells.csv`.

    Raises:
        UserError: if the text is not a table of runs.
    """
    try:
        table = pd.read_csv(io.StringIO(text)).astype({"strategy": str, "shots": int, "seed": int, "accuracy": float})
    except (ValueError, KeyError) as error:
        raise UserError(f"{where} is not a table of runs: run `dvc repro` there ({error})") from None
    return table.reindex(columns=table.columns.union([*RUN, *METRICS], sort=False))


def parse_correct(content: bytes, runs: pd.DataFrame) -> Correct | None:
    """What `results/correct.npz` holds; None where it is empty or of other runs."""
    if not content:
        return None
    with np.load(io.BytesIO(content)) as arrays:
        correct = Correct(**arrays)
    accuracy = correct.right(np.arange(len(correct.seed))).mean(axis=1)
    own = pd.DataFrame({"strategy": correct.strategy, "shots": correct.shots, "seed": correct.seed, "right": accuracy})
    both = runs.merge(own, how="outer", on=RUN)
    return correct if np.allclose(both["accuracy"], both["right"], rtol=0, atol=1e-6) else None


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by their dotted names; lists stay whole."""
    flat: dict[str, Any] = {}
    for name, value in params.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def differing_params(revisions: Sequence[Revision]) -> dict[str, list[Any]]:
    """Parameters that are not the same in all revisions, with their value in each; None where there is none."""
    names = sorted({name for revision in revisions for name in revision.params})
    values = {name: [revision.params.get(name) for revision in revisions] for name in names}
    return {name: row for name, row in values.items() if any(value != row[0] for value in row)}


def edited_params(params: Mapping[str, Any], stages: Mapping[str, Any]) -> list[str]:
    """Parameters whose value is not that with which the stages of `dvc.lock` ran."""
    recorded = [flatten(section) for stage in stages.values() for section in stage.get("params", {}).values()]
    return sorted({name for used in recorded for name in used if params.get(name, used[name]) != used[name]})


def code_changes(base: Revision, other: Revision) -> dict[str, list[str]]:
    """What differs of the stages' code, by `dvc.lock`: for each stage its files, or that it is new or gone."""
    changes: dict[str, list[str]] = {}
    for stage in dict.fromkeys([*base.stages, *other.stages]):
        if stage not in base.stages or stage not in other.stages:
            changes[stage] = ["the stage is new" if stage in other.stages else "the stage is gone"]
            continue
        old, new = (_code(revision.stages[stage]) for revision in (base, other))
        if differ := sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path)):
            changes[stage] = differ
    return changes


def has_other_test_data(base: Revision, other: Revision) -> bool:
    """Whether the target's test images or labels are others, by their number and `dvc.lock`."""
    if base.correct and other.correct and base.correct.images != other.correct.images:
        return True
    old, new = _outs(base.stages), _outs(other.stages)
    return any(old[path] != new[path] for path in TEST_DATA if path in old and path in new)


def not_recorded(files: Sequence[Path]) -> list[Path]:
    """Those of a study's files, all in one of its folders, that are not what its `dvc.lock` records of them.

    None where there is no `dvc.lock`, and none that it does not name.
    """
    folder = files[0].absolute().parent
    lock = folder.parent / LOCK
    if not lock.is_file():
        return []
    recorded = _outs(parse_params(lock.read_text("utf-8"), lock).get("stages", {}))
    return [file for file in files if recorded.get(f"{folder.name}/{file.name}") not in (None, _md5_of(file))]


def _outs(stages: Mapping[str, Any]) -> dict[str, str]:
    """Paths and MD5 of all that the stages of `dvc.lock` wrote."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def _code(stage: Mapping[str, Any]) -> dict[str, str]:
    """Paths and MD5 of the code that a stage of `dvc.lock` ran."""
    return {dep["path"]: dep["md5"] for dep in stage.get("deps", []) if dep["path"].startswith(CODE)}


def _edited_code(stages: Mapping[str, Any]) -> list[str]:
    """The files and folders of code in the workspace that are not those which the stages ran."""
    recorded = {path: md5 for stage in stages.values() for path, md5 in _code(stage).items()}
    return sorted(path for path, md5 in recorded.items() if _md5_of(Path(path)) != md5)


def _md5_of(path: Path) -> str:
    """What DVC records of a file or a folder."""
    if path.is_file():
        return _md5(path.read_bytes())
    files = [file for file in path.rglob("*") if file.is_file() and not {"__pycache__", ".DS_Store"} & {*file.parts}]
    entries = [{"md5": _md5(file.read_bytes()), "relpath": file.relative_to(path).as_posix()} for file in files]
    return f"{_md5(json.dumps(sorted(entries, key=lambda entry: entry['relpath'])).encode())}.dir"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
