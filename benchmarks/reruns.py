"""The table of what runs again after which edit, made from `dvc.yaml` and `params.yaml`: `make reruns` renews it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from transfer.compare.revisions import flatten
from transfer.console import run, say
from transfer.files import write_text
from transfer.params import read_params

PAGE = Path("docs/reruns.md")
START, END = "<!-- made by `make reruns` -->\n", "<!-- end -->\n"
HEAD = "| you edit | runs again | then, where what these write has changed |\n| --- | --- | --- |\n"


def readers(stages: dict[str, Any], key: str) -> list[str]:
    """The stages that read a parameter, by its dotted name, in their order."""
    return [
        name
        for name, stage in stages.items()
        if any(f"{key}.".startswith(f"{read}.") for read in stage.get("params", []))  # itself, or what it is in
    ]


def followers(stages: dict[str, Any], names: Iterable[str]) -> list[str]:
    """The stages that depend on what others write, directly or not, those not included; all in the order of a run."""
    made, found = [out for name in names for out in outs(stages[name])], list[str]()
    for name, stage in stages.items():
        if any(PurePosixPath(out).is_relative_to(dep) for dep in stage.get("deps", []) for out in made):
            made += outs(stage)
            found.append(name)
    return [name for name in found if name not in names]


def outs(stage: dict[str, Any]) -> list[str]:
    """Paths of all that a stage writes."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def table(stages: dict[str, Any], params: dict[str, Any]) -> str:
    """One row for all parameters of a section that have the same answer."""
    rows = []
    for section, content in params.items():
        answers: dict[tuple[str, ...], list[str]] = {}
        for key in flatten(content, f"{section}."):
            answers.setdefault(tuple(readers(stages, key)), []).append(key)
        for names, keys in answers.items():
            rows.append(f"| {_listed(keys)} | {_listed(names)} | {_listed(followers(stages, names))} |\n")
    return HEAD + "".join(rows)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"


def main() -> None:
    """Put the table into its page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    write_text(PAGE, before + START + table(read_params(Path("dvc.yaml"))["stages"], read_params()) + END + after)
    say(f"reruns: {PAGE}")


if __name__ == "__main__":
    run(main)
