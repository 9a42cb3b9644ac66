"""The table of what runs again after which edit, made from `dvc.yaml` and `params.yaml`: `make reruns` renews it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from transfer.compare.revisions import flatten
from transfer.console import run, say
from transfer.files import write_text
from transfer.params import read_params

PAGE = Path("docs/reruns.md")
START, END = "<!-- made by `make reruns` -->\n", "<!-- end -->\n"
HEAD = "| you edit | runs again | then, where what these write has changed |\n| --- | --- | --- |\n"


def readers(stages: dict[str, Any], section: str, key: str) -> list[str]:
    """The stages that read a parameter, in their order."""
    parts = [section, *key.split(".")]
    named = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}  # itself, and all that it is in
    return [name for name, stage in stages.items() if named & set(stage.get("params", []))]


def followers(stages: dict[str, Any], names: list[str]) -> list[str]:
    """The stages that depend on what some stages write, directly or not, in the order of a run; those not included."""
    reached, ahead = set[str](), set(names)
    while ahead:
        reached |= ahead
        ahead = {name for name in stages for before in ahead if _follows(stages[name], stages[before])} - reached
    return [name for name in stages if name in reached - set(names)]


def _follows(stage: dict[str, Any], before: dict[str, Any]) -> bool:
    made = [PurePosixPath(out) for out in outs(before)]
    return any(PurePosixPath(dep) in (out, *out.parents) for dep in stage.get("deps", []) for out in made)


def outs(stage: dict[str, Any]) -> list[str]:
    """Paths of all that a stage writes."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def table(stages: dict[str, Any], params: dict[str, Any]) -> str:
    """One row for all parameters of a section that have the same answer."""
    rows = []
    for section, content in params.items():
        answers: dict[tuple[str, ...], list[str]] = {}
        for key in flatten(content):
            answers.setdefault(tuple(readers(stages, section, key)), []).append(f"`{section}.{key}`")
        for names, keys in answers.items():
            after = followers(stages, list(names))
            rows.append(f"| {', '.join(keys)} | {_listed(names)} | {_listed(after)} |\n")
    return HEAD + "".join(rows)


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"


def main() -> None:
    """Put the table into its page."""
    stages = read_params(Path("dvc.yaml"))["stages"]
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    write_text(PAGE, before + START + table(stages, read_params()) + END + after)
    say(f"reruns: {PAGE}")


if __name__ == "__main__":
    run(main)
