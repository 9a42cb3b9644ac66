"""`transfer export`: every format answers as the Keras model does, or is not written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import write_head, write_sides

from transfer.cli import build
from transfer.console import UserError
from transfer.models.backend import keras, tf
from transfer.models.metadata import read_metadata
from transfer.models.networks import load_model, predictor
from transfer.serve import export

ROOT = Path(__file__).resolve().parents[1]
without_onnx = pytest.mark.skipif(bool(export.missing_modules("onnx")), reason="the extra onnx is not installed")
FORMATS = [pytest.param("onnx", marks=without_onnx), "tflite", "savedmodel"]
MODELS: dict[str, Callable[[Path], Path]] = {"head": write_head, "sides": write_sides}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MODELS[request.param](tmp_path_factory.mktemp("models") / "best.keras")


def run(*arguments: object) -> int:
    parsed = build(["export"]).parse_args(["export", *map(str, arguments)])
    code: int = parsed.run(parsed)
    return code


def ask(name: str, path: Path, images: np.ndarray) -> np.ndarray:
    """As somebody would who has the file alone."""
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        assert [(each.name, each.type, each.shape[0]) for each in session.get_inputs()] == [
            ("image", "tensor(uint8)", "images")
        ]
        return session.run(None, {"image": images})[0]
    if name == "tflite":
        interpreter = tf.lite.Interpreter(str(path))
        details = interpreter.get_input_details()[0]
        assert details["dtype"] == np.uint8
        interpreter.resize_tensor_input(details["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(details["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    module = tf.saved_model.load(path)
    return module.signatures["serving_default"](tf.constant(images))["probabilities"].numpy()


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_answers_as_the_model_does(
    name: str, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "folder" / f"model.{name}"
    assert run("--model", model, "--format", name, "--output", output) == 0
    out, err = capfd.readouterr()
    assert out.startswith(f"{output}: probabilities differ from the Keras model's by at most ")
    assert len(out.splitlines()) == 1
    assert err == ""
    network = load_model(model)
    for count in (1, 5):
        images = np.random.default_rng(count).integers(0, 256, (count, *network.inputs[0].shape[1:]), np.uint8)
        np.testing.assert_allclose(ask(name, output, images), network.predict(images, verbose=0), atol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_classes_and_form_go_with_it(name: str, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    export.export(model, name, output)
    metadata = read_metadata(model)
    expected = {
        "strategy": metadata.strategy,
        "shots": metadata.shots,
        "classes": list(metadata.classes),
        "preprocessing": json.loads(metadata.preprocessing),
    }
    if name == "onnx":
        import onnx

        content = {each.key: each.value for each in onnx.load(output).metadata_props}
        strategy = content.pop("strategy")
        assert {"strategy": strategy} | {key: json.loads(value) for key, value in content.items()} == expected
        assert list(tmp_path.iterdir()) == [output]
    else:
        assert json.loads((tmp_path / "out.json").read_text()) == expected
        assert sorted(tmp_path.iterdir()) == [output, tmp_path / "out.json"]


TWICE = """
import sys
from pathlib import Path
from transfer.serve.export import FORMATS, export, missing_modules
for name in FORMATS:
    if not missing_modules(name):
        export(Path(sys.argv[1]), name, Path(sys.argv[2]) / name)
"""


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    model = write_head(tmp_path / "model.keras")
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", TWICE, str(model), str(tmp_path / seed)],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    assert [each.wait() for each in runs] == [0, 0]
    one, other = (
        {
            file.relative_to(tmp_path / seed): file.read_bytes()
            for file in (tmp_path / seed).rglob("*")
            if file.is_file()
        }
        for seed in ("1", "2")
    )
    assert one == other
    assert Path("tflite") in one


def broken(change: Callable[[np.ndarray], np.ndarray]) -> export.Format:
    """TFLite with a runtime that changes probabilities."""
    tflite = export.FORMATS["tflite"]

    def read(path: Path) -> export.Answer:
        answer = tflite.read(path)
        return lambda images: change(answer(images))

    return tflite._replace(read=read)


@pytest.mark.parametrize(
    "change",
    [lambda given: given + 2e-4, lambda given: given * np.nan, lambda given: given[:-1]],
    ids=["shifted", "not a number", "one too few"],
)
def test_what_answers_otherwise_is_not_written_and_the_code_is_1(
    change: Callable[[np.ndarray], np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = write_head(tmp_path / "model.keras")
    monkeypatch.setitem(export.FORMATS, "tflite", broken(change))
    assert run("--model", model, "--format", "tflite", "--output", tmp_path / "out.tflite") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {model} as tflite gives probabilities that differ from the Keras model's by up to ")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [model]


def test_a_converter_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: Any) -> None:
        raise RuntimeError("no such operation\nand much more")

    monkeypatch.setitem(export.FORMATS, "tflite", export.FORMATS["tflite"]._replace(write=write))
    with pytest.raises(UserError, match=r"cannot be converted to tflite \(no such operation\): choose another"):
        export.export(write_sides(tmp_path / "model.keras"), "tflite", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.parametrize("there", ["out", "out.json"])
def test_nothing_that_is_there_is_overwritten(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(UserError, match=rf"{there} is there already: delete it or name another --output"):
        export.export(write_sides(tmp_path / "model.keras"), "savedmodel", tmp_path / "out")
    assert (tmp_path / there).read_text() == "mine"
    with pytest.raises(UserError, match=r"^\. is there already"):
        export.export(tmp_path / "model.keras", "savedmodel", Path())


def test_a_missing_package_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "tf2onnx" else name)
    with pytest.raises(UserError) as error:
        run("--model", tmp_path / "model.keras", "--format", "onnx", "--output", tmp_path / "out")
    said = str(error.value)
    assert said.startswith("--format onnx needs tf2onnx: run `pip install 'onnx>=")
    assert "'tf2onnx>=" in said
    assert "\n" not in said


def test_the_check_sees_a_layer_that_lost_its_statistics(tmp_path: Path) -> None:
    model = write_head(tmp_path / "model.keras")
    network = load_model(model)
    images = export.sample(network.inputs[0].shape[1:])
    whole = predictor(network)(images)[0]
    layer = network.get_layer("standardise")
    layer.mean = keras.ops.zeros_like(layer.mean)
    assert export.difference(predictor(network)(images)[0], whole) > 10 * export.TOLERANCE
