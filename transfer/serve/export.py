"""`transfer export`: a model in a format that other programs run, written only if it answers as the original does."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.console import UserError, one_line, quiet_stderr, say
from transfer.serve.files import DEFAULT, check_there, model_path, warn_of_others

if TYPE_CHECKING:
    import numpy as np

DESCRIPTION = """\
Write a model in a format that other programs run. It takes what the model takes, raw uint8 images, and gives what the
model gives, probabilities. It is written only if it answers as the original does, on 64 made-up images. Names of
classes and how images are prepared go into a JSON file beside it."""
EXAMPLE = "transfer export --format onnx --output digits.onnx"
FORMATS = {  # what Keras calls each, and how its file is named
    "onnx": ("onnx", "model.onnx"),
    "tflite": ("litert", "model.tflite"),
    "savedmodel": ("tf_saved_model", "model"),
}
ONNX = ("onnx", "onnxruntime", "tf2onnx")  # packages that Keras and the comparison need
# Runtimes sum in other orders, which in float32 moves a probability by about 1e-6. A hundred times that still shows in
# no percentage with two decimals, and a layer that was converted wrongly moves far more.
TOLERANCE = 1e-4
IMAGES = 64  # noise of rising contrast, that both are asked about


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "--model",
        type=model_path,
        default=DEFAULT,
        help="the model to write: a file, or the name of a strategy (default: %(default)s)",
    )
    parser.add_argument("--format", choices=FORMATS, required=True, help="in which to write it")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="what to write; must not exist yet")


def run(arguments: argparse.Namespace) -> int:
    """Write it and print how well it matches; 1 if it does not."""
    if arguments.format == "onnx" and any(find_spec(package) is None for package in ONNX):
        raise UserError(f"--format onnx needs more packages: run `pip install {' '.join(ONNX)}`")
    check_there(arguments.model)
    warn_of_others([arguments.model])
    largest = export(arguments.model, arguments.format, arguments.output)
    if not largest <= TOLERANCE:  # nor may it be NaN
        print(
            f"error: {arguments.model} as {arguments.format} gives probabilities that differ from the Keras model's by "
            f"up to {largest:.2g}, more than {TOLERANCE:g}: {arguments.output} was not written",
            file=sys.stderr,
        )
        return 1
    say(f"{arguments.output}: probabilities differ from the Keras model's by at most {largest:.1g}")
    return 0


def export(path: Path, name: str, output: Path) -> float:
    """Write a model in another format, and what is to be known of it into a JSON file beside it.

    Args:
        path: of the `.keras` file.
        name: of the format, from `FORMATS`.
        output: the file or, for `savedmodel`, the folder to write. The JSON file bears its name and `.json`.

    Returns:
        The largest difference of a probability from the Keras model's. Where it is more than
        `TOLERANCE`, nothing is written.

    Raises:
        UserError: if the model cannot be loaded or converted, or the output already exists or cannot be written.
    """
    import numpy as np

    from transfer.files import write_json, write_whole
    from transfer.serve.models import open_model

    facts = output.parent / f"{output.name}.json"
    for target in (output, facts):
        if target.exists():
            raise UserError(f"{target} already exists: delete it or name another --output")
    model = open_model(path)
    # Faint images keep a model undecided: a difference shows that full contrast would hide, where one class has it all.
    noise = np.random.default_rng(0).random((IMAGES, *model.preprocessing.shape))
    images = np.rint(noise * np.linspace(0, 255, IMAGES).reshape(-1, 1, 1, 1)).astype(np.uint8)
    expected = model.ask(images)[0]
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / FORMATS[name][1]
        try:
            with quiet_stderr(), warnings.catch_warnings(action="ignore"):
                convert(model.network, name, converted)
                given = ask(name, converted, images)
        except Exception as error:  # a converter raises whatever it stumbles over
            raise UserError(
                f"{path} cannot be converted to {name} ({one_line(error)}): choose another --format"
            ) from None
        largest = float(abs(given - expected).max())
        if largest <= TOLERANCE:
            write_whole(output, lambda partial: shutil.move(converted, partial))
            known = asdict(model.metadata) | {"preprocessing": json.loads(model.metadata.preprocessing)}
            write_json(facts, known)
    return largest


def convert(network: Any, name: str, path: Path) -> None:
    """Write a Keras model in a format of `FORMATS`, with the input `image` and the output `probabilities`."""
    from transfer.models.backend import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):  # else their tensors would become inputs of an ONNX model
            layer.mean, layer.variance = layer.mean.numpy(), layer.variance.numpy()
    signature = [keras.InputSpec(shape=(None, *network.inputs[0].shape[1:]), dtype="uint8", name="image")]
    named = keras.Model(network.inputs[0], {"probabilities": network.outputs[0]})
    named.export(str(path), format=FORMATS[name][0], input_signature=signature, verbose=False)


def ask(name: str, path: Path, images: np.ndarray) -> np.ndarray:
    """The probabilities that an exported model gives for images, in its own runtime."""
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(["probabilities"], {"image": images})[0]
    from transfer.models.backend import tf

    if name == "tflite":
        return tf.lite.Interpreter(str(path)).get_signature_runner()(image=images)["probabilities"]
    loaded = tf.saved_model.load(path)
    return loaded.serve(images)["probabilities"].numpy()
