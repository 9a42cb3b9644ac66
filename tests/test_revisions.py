"""What Git holds of a study at a revision, and what differs between revisions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from transfer.compare.revisions import (
    Revision,
    code_changes,
    differing_params,
    edited_params,
    flatten,
    parse_cells,
    unpaired_because,
)
from transfer.compare.verdicts import Cells
from transfer.console import UserError


def revision(cells: Cells, name: str = "main", **changes: Any) -> Revision:
    return replace(Revision(name, "at 1234567", cells, {}, {}, None), **changes)


HEAD = "strategy,shots,seed,accuracy,log_loss\n"


def test_cells_are_read_without_specimens() -> None:
    text = HEAD + "a,1,0,0.5,0.1\na,1,1,0.25,\narticle,1,0,0.1,0.1\n"
    cells = parse_cells(text, "x")
    assert set(cells) == {("a", 1)}
    assert cells["a", 1][0] == {"accuracy": 0.5, "log_loss": 0.1}
    assert math.isnan(cells["a", 1][1]["log_loss"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column accuracy"),
        (HEAD, "has no cell"),
        (HEAD + "article,1,0,0.5,0.1\n", "has no cell"),
        (HEAD + "a,1,0,nan,0.1\n", "line 2, is no cell"),
        (HEAD + "a,1\n", "line 2, is no cell"),
        (HEAD + "<<<<<<< HEAD\na,1,0,0.5,0.1\n", "line 2, is no cell"),
        (HEAD + "a,1,0,0.5,0.1\na,1,0,0.5,0.1\n", "line 3, has a with 1 shots and seed 0 once more"),
    ],
)
def test_what_is_no_table_of_cells_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_cells(text, "cells of x")


def test_params_are_flattened_and_only_those_that_differ_are_named() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}}) == {"a.b": 1, "a.c.d": [1, {"e": 2}]}
    old, new = revision({}, params={"a.b": 1, "a.c": 2}), revision({}, params={"a.b": 1, "a.c": 3, "a.d": 4})
    assert differing_params([old, new, old]) == {"a.c": [2, 3, 2], "a.d": [None, 4, None]}


def lock(**changes: Any) -> dict[str, Any]:
    """The stages of a `dvc.lock`; `changes` are its parts."""
    part = {
        "code": "c1", "raw": "r1", "draws": "d1", "images": "i1", "labels": "l1", "seeds": 10, "classes": [5, 6],
        "cmd": "python -m stages.split", "train_code": "t1",
    } | changes  # fmt: skip
    return {
        "split": {
            "cmd": part["cmd"],
            "deps": [{"path": "data/raw.npz", "md5": part["raw"]}, {"path": "stages/split.py", "md5": part["code"]}],
            "params": {"params.yaml": {"split": {"seeds": part["seeds"], "target_classes": part["classes"]}}},
            "outs": [
                {"path": "data/target_train", "md5": part["draws"]},
                {"path": "data/target_test_images.npz", "md5": part["images"]},
                {"path": "data/target_test_labels.npz", "md5": part["labels"]},
            ],
        },
        "train": {
            "cmd": "x",
            "deps": [
                {"path": "data/target_train", "md5": part["draws"]},
                {"path": "stages/train.py", "md5": part["train_code"]},
            ],
            "params": {"params.yaml": {"train.layer": "block2"}},
            "outs": [{"path": "data/parts/a.npz", "md5": "a"}],
        },
        "gather": {"cmd": "y", "deps": [{"path": "data/parts", "md5": "p"}]},
    }


DRAWS, IMAGES = "its label draws may be others", "its test images are others"


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, []),
        ({"code": "c2"}, []),  # and the same data: a comment
        ({"draws": "d2", "seeds": 12}, []),  # nested: those that were there are as they were
        ({"draws": "d2", "classes": [7, 8]}, [DRAWS]),
        ({"draws": "d2", "code": "c2", "seeds": 12}, [DRAWS]),
        ({"draws": "d2", "raw": "r2", "images": "i2", "labels": "l2"}, [IMAGES, DRAWS]),
        ({"labels": "l2"}, [IMAGES]),
    ],
)
def test_other_draws_and_images_are_noticed(changes: dict[str, Any], reasons: list[str]) -> None:
    base = revision({}, lock=lock())
    assert unpaired_because(base, revision({}, lock=lock(**changes))) == reasons
    assert unpaired_because(revision({}, lock=lock(**changes)), base) == reasons


@pytest.mark.parametrize(
    ("name", "value", "reasons"),
    [("split.seeds", 12, []), ("train.rate", 1, []), ("split.target_classes", [7, 8], ["its data may be others"])],
)
def test_without_a_lock_the_parameters_of_the_data_tell(name: str, value: object, reasons: list[str]) -> None:
    params = {"split.seeds": 10, "split.target_classes": [5, 6]}
    other = revision({}, params=params | {name: value}, lock=lock())
    assert unpaired_because(revision({}, params=params), other) == reasons


def test_stages_whose_code_differs_are_named_with_their_files() -> None:
    base = revision({}, lock=lock())
    assert code_changes(base, base) == {}
    other = lock(code="c2", draws="d2", cmd="python -m stages.divide")
    other["train"]["deps"].append({"path": "transfer/new.py", "md5": "n"})
    other["more"] = {"cmd": "z"}
    del other["gather"]
    assert code_changes(base, revision({}, lock=other)) == {
        "split": ["its command", "stages/split.py"],
        "train": ["transfer/new.py"],
        "gather": ["the stage is gone"],
        "more": ["the stage is new"],
    }


def test_edited_parameters_are_those_that_the_lock_was_not_made_with() -> None:
    params = {
        "split.seeds": 10,
        "split.target_classes": [5, 6],
        "train.layer": "block2",
        "train.rate": 1,
        "compute.workers": 2,
    }
    assert edited_params(params, lock()) == []
    assert edited_params(params | {"split.seeds": 11, "train.layer": "block1"}, lock()) == [
        "split.seeds",
        "train.layer",
    ]
    assert edited_params(params | {"split.new": 1, "train.rate": 2}, lock()) == ["split.new"]
    assert edited_params({name: params[name] for name in ("split.seeds", "train.layer")}, lock()) == [
        "split.target_classes"
    ]
