"""What differs between revisions, by their parameters and their `dvc.lock`."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from transfer.compare.metrics import METRICS, RUN
from transfer.compare.revisions import (
    Revision,
    code_changes,
    differing_params,
    edited_params,
    flatten,
    has_other_test_data,
    parse_runs,
)
from transfer.console import UserError

HEAD = "strategy,shots,seed,accuracy,log_loss\n"


@pytest.mark.parametrize("text", ["<html>", "strategy,shots\na,1\n", HEAD + "<<<<<<< HEAD\na,1,0,0.5,0.1\n"])
def test_what_is_not_a_table_of_runs_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="x is not a table of runs: run `dvc repro` there"):
        parse_runs(text, "x")


def revision(stages: dict[str, Any] | None = None, **params: Any) -> Revision:
    return Revision("main", "at 1234567", pd.DataFrame(columns=[*RUN, *METRICS]), None, params, stages or {}, None, [])


def test_params_are_flattened_and_only_those_that_differ_are_named() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}}) == {"a.b": 1, "a.c.d": [1, {"e": 2}]}
    old, new = revision(a=1, b=2), revision(a=1, b=3, c=4)
    assert differing_params([old, new, old]) == {"b": [2, 3, 2], "c": [None, 4, None]}


def lock(**changes: Any) -> dict[str, Any]:
    """The stages of a `dvc.lock`; `changes` are its parts."""
    part = {"draws": "d1", "images": "i1", "seeds": 10, "code": "c1", "train": "t1"} | changes
    return {
        "split": {
            "deps": [{"path": "data/raw.npz", "md5": "r"}, {"path": "stages/split.py", "md5": part["code"]}],
            "params": {"params.yaml": {"split": {"seeds": part["seeds"], "test": 0.2}}},
            "outs": [
                {"path": "data/target_train", "md5": part["draws"]},
                {"path": "data/target_test_images.npz", "md5": part["images"]},
            ],
        },
        "train": {
            "deps": [
                {"path": "data/target_train", "md5": part["draws"]},
                {"path": "stages/train.py", "md5": part["train"]},
            ],
            "params": {"params.yaml": {"train.layer": "block2"}},
        },
    }


def test_stages_whose_code_differs_are_named_with_their_files() -> None:
    base = revision(lock())
    assert code_changes(base, revision(lock(draws="d2"))) == {}  # data are no code
    other = lock(code="c2")
    other["more"] = other.pop("train") | {"deps": [{"path": "transfer/new.py", "md5": "n"}]}
    assert code_changes(base, revision(other)) == {
        "split": ["stages/split.py"],
        "train": ["the stage is gone"],
        "more": ["the stage is new"],
    }


def test_other_test_data_are_noticed() -> None:
    base = revision(lock())
    assert has_other_test_data(base, revision(lock(images="i2")))
    assert not has_other_test_data(base, revision(lock(draws="d2", code="c2")))
    assert not has_other_test_data(base, revision())


def test_edited_parameters_are_those_that_the_stages_did_not_run_with() -> None:
    params = {"split.seeds": 10, "split.test": 0.2, "train.layer": "block2", "train.rate": 1}
    assert edited_params(params, lock()) == []
    assert edited_params(params | {"split.seeds": 11, "train.rate": 2}, lock()) == ["split.seeds"]
    assert edited_params(params | {"train.layer": "block1"}, lock()) == ["train.layer"]
