"""What is checked before anything runs, beside every section by itself."""

from __future__ import annotations

from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest

from stages.check import check, check_predictions
from transfer.console import UserError
from transfer.params import read_params
from transfer.training import cluster

ROOT = Path(__file__).resolve().parents[1]
PARAMS = read_params(ROOT / "params.yaml")


def params(**changes: Any) -> dict[str, Any]:
    content = deepcopy(PARAMS)
    for key, value in changes.items():
        *sections, name = key.split("__")
        reduce(getitem, sections, content)[name] = value
    return content


def test_the_study_as_it_is_passes() -> None:
    check(params())


def test_without_ray_a_study_on_ray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"compute\.engine is ray, but Ray is not installed"):
        check(params(compute__engine="ray"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
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
        ({"data__pixels": [8, 8]}, "cnn.blocks: block 2 gets 2×2 pixels"),
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


def given_model(path: Path) -> Path:
    from transfer.models.backend import keras

    layers = keras.layers
    body = [layers.Normalization(), layers.Conv2D(2, 3, name="conv"), layers.Flatten(), layers.Dense(3, name="dense")]
    keras.Sequential([keras.Input((8, 8, 1)), *body, layers.Softmax(name="sure")]).save(path)
    return path


def test_a_given_model_is_loaded_and_the_layers_that_strategies_name_are_looked_for(tmp_path: Path) -> None:
    given = {"source__model": str(given_model(tmp_path / "a.keras")), "source__range": "0-1"}
    check(params(**given, dense_head__layer="conv"))
    for name in ("block1", "sure"):
        with pytest.raises(UserError, match=rf"dense_head\.layer is '{name}', but must be auto or one of conv$"):
            check(params(**given, dense_head__layer=name))


def test_a_given_model_that_keras_cannot_load_is_refused_before_anything_runs(tmp_path: Path) -> None:
    import h5py

    path = given_model(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"filters"', '"nb_filter"')
        file.attrs["keras_version"] = "1.2.2"
    words = r"layer conv \(Conv2D\): .*'filters'.*: build the same layers"
    with pytest.raises(UserError, match=rf"a\.h5, written by Keras 1\.2\.2, cannot be loaded: {words}"):
        check(params(source__model=str(path)))


def test_a_network_s_own_size_is_taken_where_nothing_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_source: object, shape: tuple[int, ...]) -> None:
        raise UserError(f"asked for {shape}")

    monkeypatch.setattr("stages.check.load_pretrained", load)
    imagenet = {"source__model": "imagenet", "source__network": "NASNetLarge"}
    for pixels, asked in (("auto", r"\(331, 331, 3\)"), ([64, 64], r"\(64, 64, 3\)")):
        with pytest.raises(UserError, match=asked):
            check(params(**imagenet, data__pixels=pixels))


def test_a_section_that_is_unknown_or_missing_is_named() -> None:
    with pytest.raises(UserError, match="studdy is not a section"):
        check(params() | {"studdy": {}})
    with pytest.raises(UserError, match="section cnn is missing"):
        check({name: content for name, content in PARAMS.items() if name != "cnn"})


def test_predictions_that_no_stage_makes_are_named(tmp_path: Path) -> None:
    made, stray = tmp_path / "a.npz", tmp_path / "b.npz"
    for file in (made, tmp_path / ".9.b.npz"):
        file.touch()
    stages = {"a": {"outs": [made.as_posix()]}, "b": {}}
    check_predictions(stages, tmp_path)
    stray.touch()
    with pytest.raises(UserError, match=r"b\.npz is made by no stage of dvc\.yaml"):
        check_predictions(stages, tmp_path)
