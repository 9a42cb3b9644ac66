"""What a Git repository holds of a study, at any commit, without checking anything out."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from transfer.compare.revisions import Revision, code_of, edited_params, flatten, parse_cells
from transfer.console import UserError, some
from transfer.params import parse_params

WORKSPACE = "workspace"
CELLS, METRICS = "results/cells.csv", "results/metrics.json"
PARAMS, LOCK = "params.yaml", "dvc.lock"
FILES = (CELLS, METRICS, PARAMS, LOCK)
CODE = ("stages/", "transfer/")  # data of the user's own may be large: DVC alone looks at them
DEFAULT_BRANCHES = ("main", "master")


class Repository:
    """The repository that a folder lies in.

    Args:
        folder: any in it.

    Raises:
        UserError: if it lies in none, or Git is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        facts = self._git("rev-parse", "--is-shallow-repository", "--is-inside-work-tree")
        if facts is None:
            raise UserError(f"{folder} is not in a Git repository: run this in a clone of the study")
        shallow, inside = facts.split()
        self.shallow = shallow == "true"
        top = self._git("rev-parse", "--show-toplevel") if inside == "true" else None
        self.root = Path(top) if top else None
        self._prefix = ""
        if self.root:
            within = (each for each in (folder, *folder.parents) if each.is_relative_to(self.root))
            self.root = next((each for each in within if (each / "dvc.yaml").exists()), self.root)
            self._prefix = self.root.relative_to(Path(top or "")).as_posix().removeprefix(".")
            self._prefix += "/" if self._prefix else ""

    def _git(self, *arguments: str) -> str | None:
        """What Git prints; None where it fails."""
        try:
            done = subprocess.run(["git", *arguments], cwd=self._folder, capture_output=True, text=True)
        except FileNotFoundError:
            raise UserError("git is not installed, or not on PATH: install it") from None
        return done.stdout.strip() if done.returncode == 0 else None

    def _objects(self, names: Sequence[str]) -> list[tuple[str, bytes] | None]:
        """Object identifier and content of every name, or None where there is no such object; in one call of Git."""
        done = subprocess.run(
            ["git", "cat-file", "--batch"],
            cwd=self._folder,
            input="".join(f"{name}\n" for name in names).encode(),
            capture_output=True,
        )
        found: list[tuple[str, bytes] | None] = []
        rest = done.stdout
        for name in names:
            head, _, rest = rest.partition(b"\n")
            words = head.decode(errors="replace").removeprefix(name).split()
            if len(words) != 3:  # "<name> missing" and the like
                found.append(None)
                continue
            size = int(words[2])
            found.append((words[0], rest[:size]))
            rest = rest[size + 1 :]
        return found

    def default_branch(self) -> str:
        """The branch that others start from.

        Raises:
            UserError: if none can be told.
        """
        remote = (self._git("symbolic-ref", "--short", "refs/remotes/origin/HEAD") or "").removeprefix("origin/")
        configured = self._git("config", "init.defaultBranch") or ""
        names = dict.fromkeys(name for name in (remote, configured, *DEFAULT_BRANCHES) if name)
        candidates = [f"{place}{name}" for name in names for place in ("", "origin/")]
        for name, found in zip(candidates, self._objects([f"{name}^{{commit}}" for name in candidates]), strict=True):
            if found:
                return name
        if not self._objects(["HEAD^{commit}"])[0]:
            raise UserError("this repository has no commit yet: commit the study before you compare it")
        raise UserError(f"there is no branch {' or '.join(names)} here: name a revision, as in `transfer compare HEAD`")

    def revisions(self, names: Sequence[str]) -> list[Revision]:
        """The study at every revision.

        Args:
            names: of branches, tags or commits, or `workspace`.

        Raises:
            UserError: naming the first that is not there or holds no results.
        """
        for name in names:
            if not name.strip() or "\n" in name:
                raise UserError(f"{name!r} is not the name of a revision")
        commits = self._commits([name for name in names if name != WORKSPACE])
        files = iter(self._objects([f"{sha}:{self._prefix}{path}" for sha in commits.values() for path in FILES]))
        found = {name: [next(files) for _ in FILES] for name in commits}
        contents = {
            name: {path: file[1] for path, file in zip(FILES, entries, strict=True) if file}
            for name, entries in found.items()
        }
        return [
            self._workspace() if name == WORKSPACE else _read(name, f"at {commits[name][:7]}", contents[name])
            for name in names
        ]

    def _commits(self, names: Sequence[str]) -> dict[str, str]:
        """The commit of every name, which may be that of a DVC experiment."""
        objects = dict(zip(names, self._objects([f"{name}^{{commit}}" for name in names]), strict=True))
        commits = {name: found[0] for name, found in objects.items() if found}
        if missing := [name for name in names if name not in commits]:
            experiments = self._git("for-each-ref", "--format=%(refname:lstrip=-1) %(objectname)", "refs/exps") or ""
            commits |= {name: sha for name, sha in map(str.split, experiments.splitlines()) if name in missing}
        for name in missing:
            if name not in commits:
                raise self._unknown(name)
        return {name: commits[name] for name in names}

    def _unknown(self, name: str) -> UserError:
        if not self._objects(["HEAD^{commit}"])[0]:
            return UserError(f"there is no revision {name}: this repository has no commit yet")
        shallow = "; this clone is shallow, so fetch it first, as with `git fetch --unshallow`" if self.shallow else ""
        return UserError(f"there is no branch, tag or commit {name} in this repository{shallow}")

    def _workspace(self) -> Revision:
        if self.root is None:
            raise UserError("this repository is bare and has no workspace: name two revisions")
        content = {path: (self.root / path).read_bytes() for path in FILES if (self.root / path).is_file()}
        branch, head = self._git("symbolic-ref", "--quiet", "--short", "HEAD"), self._objects(["HEAD^{commit}"])[0]
        at = f"at {head[0][:7]}" if head else "before its first commit"
        place = f"on {branch} {at}" if branch else f"{at}, HEAD is detached"
        revision = _read(WORKSPACE, place, content)
        edited = {
            path
            for files in code_of(revision.lock).values()
            for path, md5 in files.items()
            if path.startswith(CODE) and _md5_of(self.root / path) != md5
        }
        if edited:
            revision.doubts.append(_have_changed(edited))
        return revision


def _read(name: str, place: str, content: dict[str, bytes]) -> Revision:
    """A revision from the contents of those of `FILES` that it has."""

    def text(path: str) -> str:
        try:
            return content.get(path, b"").decode()
        except UnicodeDecodeError:
            raise UserError(f"{path} of {name} is not UTF-8 text: mend it, or run `dvc repro` there") from None

    if CELLS not in content:
        raise UserError(f"{name} has no results, as it has no {CELLS}: run `dvc repro` there and commit results/")
    cells = parse_cells(text(CELLS), f"{CELLS} of {name}")
    try:
        params, lock = _parse_params(text(PARAMS)), _parse_lock(text(LOCK))
    except UserError as error:
        raise UserError(f"at {name}, {error}") from None
    doubts = []
    if edited := edited_params(params, lock):
        doubts.append(_have_changed(edited))
    recorded = {entry["path"]: entry.get("md5") for stage in lock.values() for entry in stage.get("outs", [])}
    if recorded.get(CELLS) not in (None, _md5(content[CELLS])):
        doubts.append(f"{CELLS} is not what {LOCK} records: run `dvc repro`")
    return Revision(name, place, cells, params, lock, _source_accuracy(text(METRICS)), doubts)


@cache  # revisions have much in common
def _parse_params(text: str) -> dict[str, Any]:
    """Parameters by their dotted names; none where there is no file."""
    return flatten(parse_params(text, PARAMS)) if text else {}


@cache
def _parse_lock(text: str) -> dict[str, Any]:
    """The stages of `dvc.lock`; empty where there is none."""
    try:
        content = YAML(typ="safe").load(text) or {}
        stages = content.get("stages", {})
        for stage in stages.values():
            for entry in [*stage.get("deps", []), *stage.get("outs", [])]:
                entry["path"]
    except (YAMLError, AttributeError, TypeError, KeyError):
        raise UserError(f"{LOCK} is not what DVC writes: mend it, or run `dvc repro`") from None
    return stages


def _source_accuracy(text: str) -> float | None:
    try:
        return float(json.loads(text)["source"]["accuracy"])
    except (ValueError, KeyError, TypeError):
        return None


def _md5_of(path: Path) -> str:
    """What DVC records of a file or a folder; empty where there is none."""
    if path.is_file():
        return _md5(path.read_bytes())
    files = [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    entries = [{"md5": _md5(file.read_bytes()), "relpath": file.relative_to(path).as_posix()} for file in files]
    return f"{_md5(json.dumps(sorted(entries, key=lambda entry: entry['relpath'])).encode())}.dir" if files else ""


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _have_changed(names: Collection[str]) -> str:
    verb = "has" if len(names) == 1 else "have"
    return f"{some(sorted(names))} {verb} changed since its results were made: run `dvc repro`"
