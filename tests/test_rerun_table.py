"""The table in docs/reruns.md of what runs again after which edit."""

from __future__ import annotations

import re
from typing import Any

from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from benchmarks.reruns import END, PAGE, START, followers, table
from transfer.compare.revisions import flatten

STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PARAMS: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")
TABLE = (ROOT / PAGE).read_text(encoding="utf-8").split(START)[1].split(END)[0]


def test_the_table_in_the_docs_is_what_dvc_yaml_and_params_yaml_say() -> None:
    assert table(STAGES, PARAMS) == TABLE, "run `make reruns`"
    named = re.findall(r"`([a-z_]+\.[a-z0-9_.]+)`", "".join(row.split("|")[1] for row in TABLE.splitlines()))
    assert sorted(named) == sorted(flatten(PARAMS))


@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=6))
def test_followers_are_all_that_can_be_reached(after: list[set[int]]) -> None:
    """Stage i depends on the stages in `after[i]` with smaller numbers; compared with a walk from every stage."""
    stages = {
        str(i): {"deps": [f"out/{j}" for j in wanted if j < i] + ["code.py"], "outs": [f"out/{i}"]}
        for i, wanted in enumerate(after)
    }

    def reaches(start: int, end: int) -> bool:
        return any(j < end and (j == start or reaches(start, j)) for j in after[end])

    for start in range(len(after)):
        assert followers(stages, [str(start)]) == [str(end) for end in range(len(after)) if reaches(start, end)]


def test_a_stage_follows_what_is_in_a_folder_that_it_depends_on() -> None:
    stages = {
        "a": {"outs": ["parts/a.npz"]},
        "b": {"deps": ["parts"], "outs": [{"b.csv": {"cache": False}}]},
        "c": {"deps": ["b.csv"]},
    }
    assert followers(stages, ["a"]) == ["b", "c"]
    assert followers(stages, ["b"]) == ["c"]
