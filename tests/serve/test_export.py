"""`transfer export`: every format answers as the Keras model does, or is not written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import refused
from small_models import write_head, write_sides

from transfer.cli import build
from transfer.models.metadata import read_metadata
from transfer.models.networks import load_model
from transfer.serve import export

ASK = {  # as somebody would who has the file alone
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(path)
assert [(each.name, each.type) for each in session.get_inputs()] == [("image", "tensor(uint8)")]
answer = session.run(["probabilities"], {"image": images})[0]
""",
    "tflite": """
import tensorflow as tf
interpreter = tf.lite.Interpreter(path)
details = interpreter.get_input_details()[0]
interpreter.resize_tensor_input(details["index"], images.shape)
interpreter.allocate_tensors()
interpreter.set_tensor(details["index"], images)
interpreter.invoke()
answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
""",
    "savedmodel": """
import tensorflow as tf
module = tf.saved_model.load(path)
answer = module.signatures["serving_default"](tf.constant(images))["probabilities"].numpy()
""",
}
ALONE = "import sys, numpy as np\npath, folder = sys.argv[1:]\nimages = np.load(f'{folder}/images.npy')\n"


def run(*arguments: object) -> int:
    parsed = build(["export"]).parse_args(["export", *map(str, arguments)])
    code: int = parsed.run(parsed)
    return code


@pytest.mark.parametrize("name", ASK)
def test_what_is_written_answers_as_the_model_does_in_a_process_of_its_own(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if name == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
    model, output = write_head(tmp_path / "best.keras"), tmp_path / "folder" / f"model.{name}"
    capfd.readouterr()
    assert run("--model", model, "--format", name, "--output", output) == 0
    out, err = capfd.readouterr()
    assert out.startswith(f"{output}: probabilities differ from the Keras model's by at most ")
    assert (len(out.splitlines()), err) == (1, "")
    network = load_model(model)
    images = np.random.default_rng(0).integers(0, 256, (5, *network.inputs[0].shape[1:]), np.uint8)
    np.save(tmp_path / "images.npy", images)
    code = f"{ALONE}{ASK[name]}\nnp.save(f'{{folder}}/answer.npy', answer)"
    subprocess.run([sys.executable, "-c", code, output, tmp_path], check=True, cwd=tmp_path)
    expected = network.predict(images, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, atol=1e-5)
    metadata = read_metadata(model)
    assert json.loads((tmp_path / "folder" / f"model.{name}.json").read_text()) == {
        "strategy": metadata.strategy,
        "shots": metadata.shots,
        "classes": list(metadata.classes),
        "preprocessing": json.loads(metadata.preprocessing),
    }
    assert len(list(output.parent.iterdir())) == 2


@pytest.mark.parametrize("shift", [2e-4, np.nan])
def test_what_answers_otherwise_is_not_written_and_the_code_is_1(
    shift: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_sides(tmp_path / "model.keras")
    ask = export.ask
    monkeypatch.setattr(export, "ask", lambda *arguments: ask(*arguments) + shift)
    assert run("--model", model, "--format", "tflite", "--output", tmp_path / "out.tflite") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {model} as tflite gives probabilities that differ from the Keras model's by up to ")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [model]


def test_a_converter_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(*_: object) -> None:
        raise RuntimeError("no such operation\nand much more")

    model = write_sides(tmp_path / "model.keras")
    monkeypatch.setattr(export, "convert", convert)
    said = "cannot be converted to tflite (no such operation): choose another --format"
    refused(lambda: export.export(model, "tflite", tmp_path / "out"), said)
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize("there", ["out", "out.json"])
def test_nothing_that_is_there_is_overwritten(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine")
    model = write_sides(tmp_path / "model.keras")
    refused(lambda: export.export(model, "savedmodel", tmp_path / "out"), f"{there} already exists: delete it")
    assert (tmp_path / there).read_text() == "mine"


def test_a_missing_package_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "tf2onnx" else name)
    arguments = ("--model", tmp_path / "model.keras", "--format", "onnx", "--output", tmp_path / "out")
    refused(lambda: run(*arguments), "--format onnx needs more packages: run `pip install onnx onnxruntime tf2onnx`")
