"""What is checked before anything runs, beside every section by itself."""

from __future__ import annotations

from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest

from stages.check import check, check_given, made_by
from transfer.console import UserError
from transfer.params import read_params
from transfer.training import cluster

ROOT = Path(__file__).resolve().parents[1]
PARAMS = read_params(ROOT / "params.yaml")
MADE = made_by(read_params(ROOT / "dvc.yaml")["stages"])


def params(**changes: Any) -> dict[str, Any]:
    content = deepcopy(PARAMS)
    for key, value in changes.items():
        *sections, name = key.split("__")
        reduce(getitem, sections, content)[name] = value
    return content


def test_the_study_as_it_is_passes() -> None:
    check(params())
    check_given(params(), MADE)


def test_without_ray_a_study_on_ray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"compute\.engine is ray, but Ray is not installed"):
        check(params(compute__engine="ray"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"data__target__name": "quickdraw", "data__target__classes": ["cat", "Eiffel Tower"]},
            "data.target.classes names 'Eiffel Tower', which is no class of it",
        ),
        ({"data__source__classes": [0, 11]}, "data.source.classes names '11', which is no class of it"),
        (
            {"data__target__name": "folder", "data__target__path": "no/such", "data__target__classes": "all"},
            "data.target.path is no/such, which is not there: name the folder of your images",
        ),
        (
            {"data__target__name": "npz", "data__target__path": "stages", "data__target__classes": "all"},
            "data.target.path is stages, which is no file: name an .npz file",
        ),
        ({"data__source__name": "none"}, "data.source.name is none, but source.model is none, too"),
        ({"data__source__name": "digits"}, "cnn.blocks: block 2 gets 2×2 pixels"),
        ({"data__size": [8, 8]}, "cnn.blocks: block 2 gets 2×2 pixels"),
        ({"split__shots": [1, 6000]}, "but class 5 of data.target has 5421 to train on: use at most 5421"),
        (
            {"data__target__name": "quickdraw", "data__target__classes": ["cat", "dog"]},
            "class cat of data.target has 80",
        ),
        (
            {"data__source__name": "digits", "split__source_validation": 0.999},
            "split.source_validation is 0.999, which leaves none of the 178 images of class 0 of data.source to train",
        ),
        ({"report__strategies": ["scratch", "scratch"]}, "a list that names no strategy twice"),
        (
            {"data__target__name": "folder", "data__target__path": "long" * 100, "data__target__classes": "all"},
            "which cannot be read (File name too long)",
        ),
        ({"source__model": "a\x1b\n.keras"}, r"source.model: a\x1b\n.keras is missing"),
        ({"source__range": "0-1"}, "source.range is for a model of yours"),
        ({"source__model": "no/such.keras"}, "no/such.keras"),
        (
            {"dense_head__layer": "block7"},
            "dense_head.layer is 'block7', but must be auto or one of block1, block2, dense1",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        check(params(**changes))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [["a"], {"a": None}, {"a": {"outs": 1}}, {"a": {"outs": [{}]}}])
def test_a_dvc_yaml_that_is_none_is_one_line(content: Any) -> None:
    with pytest.raises(UserError, match=r"dvc\.yaml is not as DVC wants it"):
        made_by(content)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data__target__path": "data"}, "data.target.path is data, where the pipeline writes data/"),
        ({"data__target__path": "."}, "data.target.path is ., where the pipeline writes "),
        (
            {"data__source__test_path": "data/images/target"},
            "where the pipeline writes data/images: put yours elsewhere",
        ),
        ({"source__model": "models/source.keras"}, "source.model is models/source.keras, where the pipeline writes"),
    ],
)
def test_nothing_of_the_user_s_own_may_lie_where_the_pipeline_writes(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        check_given(params(**changes), MADE)
    assert words in str(caught.value)
    check_given(params(data__target__path="data/mine", source__model="models/mine.keras"), MADE)
