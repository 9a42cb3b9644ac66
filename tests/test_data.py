"""The section `data`: what source and target may be, and the form that follows from it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest

from transfer.console import UserError
from transfer.data import section as data
from transfer.data.preprocessing import Preprocessing
from transfer.data.sets import SETS
from transfer.params import parse_section, read_params

SECTION = read_params(Path(__file__).resolve().parents[1] / "params.yaml")["data"]


def own(side: str, **values: str) -> dict[str, str]:
    """Changes that name a folder of one's own."""
    return {f"{side}__{key}": value for key, value in ({"name": "folder", "classes": "all"} | values).items()}


def params(**changes: Any) -> data.Params:
    """The section with changes, as in `params(target__name="digits")`."""
    section = deepcopy(SECTION)
    for key, value in changes.items():
        *sections, name = key.split("__")
        reduce(getitem, sections, section)[name] = value
    return parse_section("data", section, data.Params)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": [28]}, "data.size is [28], but must be a list of at least 2"),
        ({"size": [28, 2]}, "data.size.1 is 2, but must be greater than or equal to 4"),
        ({"size": "large"}, "data.size is 'large', but must be 'auto'"),
        ({"colour": "blue"}, "data.colour is 'blue', but must be 'auto', 'grey' or 'rgb'"),
        ({"fit": "squeeze"}, "data.fit is 'squeeze', but must be 'stretch', 'pad' or 'crop'"),
        ({"sound__rate": 10}, "data.sound.rate is 10"),
        ({"source__name": "minst"}, "data.source.name is 'minst', but must be one of mnist, fashion_mnist, quickdraw"),
        ({"target__name": "none"}, "data.target.name is 'none', but must be one of"),
        ({"target__polarity": "negative"}, "data.target.polarity is 'negative', but must be 'same' or 'inverted'"),
        ({"target__shift": "tilted"}, "data.target.shift is 'tilted'"),
        ({"target__classes": []}, "data.target.classes is [], but must be all, or a list of two classes or more"),
        ({"target__classes": ["5"]}, "data.target.classes is ['5'], but must be all, or a list of two"),
        ({"target__classes": "cat"}, "data.target.classes is 'cat', but must be all, or a list of two"),
        ({"target__classes": [1.5, 2]}, "data.target.classes is [1.5, 2], but must be all"),
        ({"target__classes": [7, "7"]}, "data.target: classes names 7 more than once"),
        ({"target__classes": [4, 5, 6]}, "data: source and target are both mnist, and 4 is a class of both"),
        ({"target__classes": "all"}, "data: source and target are both mnist, and 0, 1, 2, 3, 4 is a class of both"),
        ({"target__name": "npz"}, "data.target: name is npz, so path must be that of your npz"),
        ({"target__path": "own"}, "data.target: name is mnist, which needs no path"),
        ({"source__test_path": "own"}, "data.source: name is mnist, which needs no path"),
        (
            {"target__name": "folder", "target__path": "own", "target__shift": "noisy"},
            "data.target: shift is noisy, but images of your own are taken as they are",
        ),
        (
            own("source", path="own") | own("target", path="own"),
            "data: source and target are both own: give each a list of classes",
        ),
        (
            own("source", path="own") | own("target", path="elsewhere", test_path="other/../own"),
            "data: source and target are both own: give each a list of classes",
        ),
        (
            own("source", path="own") | own("target", path="own/target"),
            "data: source own and target own/target lie inside of each other: put them apart",
        ),
        (
            own("target", path="own", test_path="own/test"),
            "data.target: path own and test_path own/test lie inside of each other: put them apart",
        ),
        ({"source__shift": "noisy"}, "data.source.shift is not a parameter"),
    ],
)
def test_data_that_make_no_sense_are_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        params(**changes)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_same_classes_on_both_sides_are_fine_of_other_data_or_under_a_shift() -> None:
    assert params(target__name="digits", target__classes="all", source__classes="all").shared == []
    shifted = params(target__classes=[3, 4, 5], target__shift="rotated")
    assert shifted.shared == ["3", "4"]


def test_classes_are_chosen_in_the_order_that_is_asked_for() -> None:
    side = params(target__name="fashion_mnist", target__classes=["Sneaker", "Bag"]).target
    assert side.choose(SETS["fashion_mnist"].classes, "data.target") == ["Sneaker", "Bag"]
    assert params().target.choose(SETS["mnist"].classes, "data.target") == ["5", "6", "7", "8", "9"]
    every = params(target__name="digits", target__classes="all").target
    assert every.choose(["b", "a"], "data.target") == ["b", "a"]


def test_an_unknown_class_is_named_with_those_that_are_like_it() -> None:
    side = params(target__name="fashion_mnist", target__classes=["Bag", "Sneakers"]).target
    with pytest.raises(UserError, match=r"data.target.classes names 'Sneakers', .*: there are Sneaker"):
        side.choose(SETS["fashion_mnist"].classes, "data.target")


@pytest.mark.parametrize(
    ("changes", "model", "shape"),
    [
        ({}, None, (28, 28, 1)),
        ({"source__name": "cifar10"}, None, (32, 32, 3)),
        ({"source__name": "digits"}, None, (8, 8, 1)),
        ({"source__name": "digits", "size": [28, 20], "colour": "rgb"}, None, (28, 20, 3)),
        ({}, (96, 64, 3), (96, 64, 3)),
        ({"size": [64, 64]}, (None, None, 3), (64, 64, 3)),
    ],
)
def test_the_shape_is_what_the_source_model_or_its_data_have(
    changes: dict[str, Any], model: data.ModelShape | None, shape: tuple[int, int, int]
) -> None:
    assert params(**changes).shape(model) == shape


@pytest.mark.parametrize(
    ("changes", "model", "words"),
    [
        (
            {"source__name": "folder", "source__path": "own"},
            None,
            "data.size is auto, but the source's data does not tell",
        ),
        ({"source__name": "folder", "source__path": "own", "size": [28, 28]}, None, "data.colour is auto"),
        ({"source__name": "none"}, None, "data.source.name is none, but source.model is none, too"),
        ({}, (None, None, 3), "data.size is auto, but the source model does not tell it: set it, as to [28, 28]"),
        ({"size": [32, 32]}, (28, 28, 1), "ask for 32 × 32 × 1, but the source model takes 28 × 28 × 1"),
        ({"colour": "rgb"}, (None, 28, 1), "data.size is auto"),
    ],
)
def test_a_shape_that_cannot_be_told_or_be_is_one_line(
    changes: dict[str, Any], model: data.ModelShape | None, words: str
) -> None:
    with pytest.raises(UserError) as caught:
        params(**changes).shape(model)
    assert words in str(caught.value)


def test_a_form_survives_being_text() -> None:
    section = params(target__polarity="inverted", fit="pad")
    form = section.preprocessing(section.target, (28, 20, 3))
    assert form.polarity == "inverted"
    assert section.preprocessing(section.source, (28, 20, 3)).polarity == "same"
    for sound in (None, section.sound):
        spoken = replace(form, sound=sound)
        assert Preprocessing.from_text(spoken.to_text()) == spoken
