"""The section `data`: what source and target may be, and the form that follows from it."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import date
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, refused
from small_models import recording

from transfer.data import section as data
from transfer.data.audio import read_sound
from transfer.data.preprocessing import Preprocessing
from transfer.data.sets import SETS
from transfer.params import parse_section, read_params

SECTION = read_params(ROOT / "params.yaml")["data"]
OWN_SOURCE = {"source__name": "folder", "source__path": "own", "source__classes": "all"}


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
        ({"pixels": [28, 2]}, "data.pixels.1 is 2"),
        ({"colour": "blue"}, "data.colour is 'blue', but must be 'auto', 'grey' or 'rgb'"),
        ({"sound__rate": 10}, "data.sound.rate is 10"),
        ({"source__name": "minst"}, "data.source.name is 'minst', but must be 'mnist', 'fashion_mnist'"),
        ({"target__name": "none"}, "data.target.name is 'none', but must be 'mnist'"),
        ({"target__classes": ["5"]}, "data.target.classes is ['5'], but must be"),
        *(
            (
                {"target__classes": ["a", value]},
                "data.target.classes.1 is " + words + ", but must be a name: write it in",
            )
            for value, words in (
                (None, "None"),
                (True, "True"),
                (1e3, "1000.0"),
                (date(2001, 1, 2), "datetime.date(2001, 1, 2)"),
            )
        ),
        ({"target__classes": "cat"}, "data.target.classes is 'cat', but must be"),
        ({"target__classes": [4, 5, 6]}, "data: source and target are both mnist, and 4 is a class of both"),
        ({"target__classes": "all"}, "data: source and target are both mnist, and 0, 1, 2, 3, 4 is a class of both"),
        ({"target__name": "npz"}, "data.target: name is npz, so path must be that of your npz"),
        ({"target__path": "own"}, "data.target: name is mnist, which needs no path"),
        ({"target__unlabelled": "own"}, "data.target: name is mnist, which needs no path: leave unlabelled at none"),
        ({"target__name": "folder", "target__path": "own", "target__shift": "noisy"}, "data.target: shift is noisy"),
        ({"source__shift": "noisy"}, "data.source.shift is not a parameter"),
    ],
)
def test_data_that_make_no_sense_are_refused_by_name(changes: dict[str, Any], words: str) -> None:
    refused(lambda: params(**changes), words)


def test_the_same_classes_on_both_sides_are_fine_of_other_data_or_under_a_shift() -> None:
    assert params(target__name="digits", target__classes="all", source__classes="all").shared == []
    assert params(target__classes=[3, 4, 5], target__shift="rotated").shared == ["3", "4"]


def test_classes_are_chosen_in_the_order_that_is_asked_for() -> None:
    side = params(target__name="fashion_mnist", target__classes=["Sneaker", "Bag"]).target
    assert side.choose(SETS["fashion_mnist"].classes, "data.target") == ["Sneaker", "Bag"]
    none = params(source__name="none", source__classes=["b", "a"]).source
    assert none.choose([], "data.source") == ["b", "a"]  # the outputs of the given model, in their order
    seven = params(target__name="npz", target__path="x", target__classes=[7, 8]).target
    refused(
        lambda: seven.choose(["007", "8"], "data.target"), "names '7', but the data have 007: write '007', in quotes"
    )
    every = params(target__name="digits", target__classes="all").target
    assert every.choose(["b", "a"], "data.target") == ["b", "a"]
    side = params(target__name="fashion_mnist", target__classes=["Bag", "Sneakers"]).target
    refused(
        lambda: side.choose(SETS["fashion_mnist"].classes, "data.target"),
        "data.target.classes names 'Sneakers', but the data have the classes Sneaker",
    )


@pytest.mark.parametrize(
    ("changes", "model", "shape"),
    [
        ({}, None, (28, 28, 1)),
        ({"source__name": "cifar10"}, None, (32, 32, 3)),
        ({"source__name": "digits", "pixels": [28, 20], "colour": "rgb"}, None, (28, 20, 3)),
        ({}, (96, 64, 3), (96, 64, 3)),
        ({"pixels": [64, 64]}, (None, None, 3), (64, 64, 3)),
        ({}, (None, None, 3), (28, 28, 3)),
    ],
)
def test_the_shape_is_what_the_source_model_or_its_data_have(
    changes: dict[str, Any], model: data.ModelShape | None, shape: tuple[int, int, int]
) -> None:
    assert params(**changes).shape(model) == shape


@pytest.mark.parametrize(
    ("changes", "model", "words"),
    [
        (OWN_SOURCE, None, "data.pixels is auto, but cannot be inferred: set it, as to [28, 28]"),
        (OWN_SOURCE | {"pixels": [28, 28]}, None, "data.colour is auto"),
        ({"source__margin": 14}, None, "data.source.margin is 14, too large for 28×28 pixels"),
        ({"source__name": "none"}, None, "data.source.name is none, but source.model is none, too"),
        ({"pixels": [32, 32]}, (28, 28, 1), "ask for 32 × 32 × 1, but the source model takes 28 × 28 × 1"),
    ],
)
def test_a_shape_that_cannot_be_told_or_be_is_one_line(
    changes: dict[str, Any], model: data.ModelShape | None, words: str
) -> None:
    refused(lambda: params(**changes).shape(model), words)


def test_a_model_that_takes_any_size_gets_the_one_that_it_was_made_for() -> None:
    assert params().shape((None, None, 3), 96) == (96, 96, 3)
    assert params(pixels=[64, 48]).shape((None, None, 3), 96) == (64, 48, 3)
    assert params().shape((28, 28, 1), 96) == (28, 28, 1)


def test_a_folder_of_unlabelled_images_is_there_and_is_no_class(tmp_path: Path) -> None:
    (tmp_path / "own/more/2024").mkdir(parents=True)

    def check(**changes: Any) -> None:
        own = {"name": "folder", "path": str(tmp_path / "own"), "classes": "all"} | changes
        params(**{f"target__{name}": value for name, value in own.items()}).target.check_paths("data.target")

    refused(
        lambda: check(unlabelled="no/such"), "data.target.unlabelled is no/such, which is not there: name the folder"
    )
    inside = str(tmp_path / "own/more/2024")
    refused(lambda: check(unlabelled=inside), "2024, a folder in data.target.path, where folders are classes: put it")
    check(unlabelled=inside, classes=["cat", "dog"])
    check(unlabelled=str(tmp_path / "own"))
    (tmp_path / "own/labels.csv").touch()
    check(unlabelled=inside)


@pytest.mark.parametrize("side", ["source", "target"])
def test_the_shape_of_recordings_follows_from_how_they_are_heard(tmp_path: Path, side: str) -> None:
    (tmp_path / "own/yes").mkdir(parents=True)
    (tmp_path / "own/yes/1.WAV").write_bytes(recording())
    changes = {f"{side}__name": "folder", f"{side}__path": str(tmp_path / "own"), f"{side}__classes": "all"}
    section = params(**changes, sound__mels=32)
    heard = read_sound(recording(), section.sound, "a.wav").shape
    assert heard[0] == 32
    if side == "source":
        assert section.shape(None) == (*heard, 1)
    assert section.shape((None, None, None)) == (*heard, 1)
    assert section.shape((None, None, 3), 96) == (96, 96, 3)


def test_preprocessing_survives_being_text() -> None:
    for sound in (None, params().sound):
        preprocessing = Preprocessing(28, 20, 3, "pad", "inverted", sound, 4)
        assert Preprocessing.from_text(preprocessing.to_text()) == preprocessing
    saved = json.loads(Preprocessing(28, 20, 3, "pad", "same").to_text())
    del saved["margin"]  # as of models from before there was one
    assert Preprocessing.from_text(json.dumps(saved)).margin == 0
