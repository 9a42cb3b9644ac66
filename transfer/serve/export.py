"""A model in another format, for use without Keras; written only if it answers as the Keras model does."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from transfer.console import UserError, one_line, quiet_stderr
from transfer.files import write_json, write_whole
from transfer.serve.models import Model, open_model

# Runtimes sum in other orders, which in float32 moves a probability by about 1e-6. A hundred times that still shows in
# no percentage with two decimals, and a layer that was converted wrongly moves far more.
TOLERANCE = 1e-4
IMAGES = 64  # random ones that both are asked about
OPSET = 17  # of ONNX, from 2022: runtimes of today and of some years ago read it

Answer = Callable[[np.ndarray], np.ndarray]  # from images to probabilities


class ParityError(Exception):
    """An exported model answers otherwise than the Keras model; its text is one line."""


class Format(NamedTuple):
    """A format that models are exported to.

    Attributes:
        write: the model into a file or a folder, with what is to be known of it.
        read: opens that, as its users would.
        modules: that both need beside what the pipeline needs.
        beside: whether what is to be known goes into a JSON file beside it, for want of a place inside.
    """

    write: Callable[[Model, Path, dict[str, Any]], None]
    read: Callable[[Path], Answer]
    modules: tuple[str, ...] = ()
    beside: bool = True


def missing_modules(name: str) -> list[str]:
    """What must be installed before a format can be written."""
    return [module for module in FORMATS[name].modules if find_spec(module) is None]


def export(path: Path, name: str, output: Path) -> float:
    """Write a model in another format.

    What the model is, its classes and the form of its images go into the metadata of an ONNX file, else into a JSON
    file beside the output that bears its name and `.json`.

    Args:
        path: of the `.keras` file.
        name: of the format, from `FORMATS`.
        output: the file or, for `savedmodel`, the folder to write.

    Returns:
        The largest difference of a probability from the Keras model's on the images of `sample`.

    Raises:
        UserError: if the model cannot be loaded or converted, or the output is there already or cannot be written.
        ParityError: if a probability differs by more than `TOLERANCE`; nothing is written then.
    """
    preprocessing = FORMATS[name]
    facts = output.parent / f"{output.name}.json"
    for target in [output, facts] if preprocessing.beside else [output]:
        if target.exists():
            raise UserError(f"{target} is there already: delete it or name another --output")
    model = open_model(path)
    known = asdict(model.metadata) | {"preprocessing": json.loads(model.metadata.preprocessing)}
    images = sample(model.preprocessing.shape)
    expected = model.probabilities(images)
    differences = []

    def write(partial: Path) -> None:
        with quiet_stderr(), warnings.catch_warnings(action="ignore"):
            try:
                preprocessing.write(model, partial, known)
                differences.append(difference(preprocessing.read(partial)(images), expected))
            except OSError:
                raise
            except Exception as error:  # a converter raises whatever it stumbles over
                raise UserError(
                    f"{path} cannot be converted to {name} ({one_line(error)}): choose another --format"
                ) from None
        if not differences[0] <= TOLERANCE:  # nor may it be NaN
            raise ParityError(
                f"{path} as {name} gives probabilities that differ from the Keras model's by up to "
                f"{differences[0]:.2g}, more than {TOLERANCE:g}: {output} was not written"
            )

    write_whole(output, write)
    if preprocessing.beside:
        write_json(facts, known)
    return differences[0]


def sample(shape: tuple[int, int, int]) -> np.ndarray:
    """Images on which two models are compared: seeded noise from faint to full contrast, all black, all white.

    Faint ones keep a model undecided, so that a difference shows that full contrast would hide: there one class has
    nearly all the probability.

    Args:
        shape: (height, width, channels).

    Returns:
        (`IMAGES` + 2, height, width, channels) uint8.
    """
    noise = np.random.default_rng(0).random((IMAGES, *shape))
    contrast = np.linspace(0, 1, IMAGES + 1)[1:].reshape(-1, 1, 1, 1)
    plain = [np.full((1, *shape), value, np.uint8) for value in (0, 255)]
    return np.concatenate([np.rint(255 * contrast * noise).astype(np.uint8), *plain])


def difference(given: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of two arrays of probabilities; infinite if their shapes differ."""
    return float(np.abs(given - expected).max()) if given.shape == expected.shape else float("inf")


def _function(model: Model) -> Any:
    """The network as a TensorFlow function of any number of images, without training, its weights constants."""
    from transfer.models.backend import tf

    network = model.network
    # The states of random numbers, which inference does not use, are other ones in every process.
    kept = {id(variable) for variable in network.weights}
    weights = [
        [variable.numpy() if id(variable) in kept else np.zeros(variable.shape, variable.dtype) for variable in kind]
        for kind in (network.trainable_variables, network.non_trainable_variables)
    ]
    # Statistics that a layer keeps as a tensor would become one more input in ONNX, and zeros in TFLite.
    for layer in network.layers:
        for name, value in list(vars(layer).items()):
            if isinstance(value, tf.Tensor):
                setattr(layer, name, value.numpy())

    def probabilities(image: Any) -> Any:
        return {"probabilities": network.stateless_call(*weights, image, training=False)[0]}

    spec = tf.TensorSpec((None, *model.preprocessing.shape), tf.uint8, name="image")
    return tf.function(probabilities, input_signature=[spec], autograph=False)


def _write_onnx(model: Model, path: Path, known: dict[str, Any]) -> None:
    import onnx
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    function = _function(model)
    converted, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    _rename(converted.graph)
    for tensor in (*converted.graph.input, *converted.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "images"
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in known.items()}
    onnx.helper.set_model_props(converted, texts)
    path.write_bytes(converted.SerializeToString(deterministic=True))


def _rename(graph: Any) -> None:
    """Name all within an ONNX graph by its place: tf2onnx numbers by sets, in another order in every process."""
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # a branch or a loop, which uses names of the graph around it
    names = {tensor.name: tensor.name for tensor in (*graph.input, *graph.output)} | {"": ""}
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        for place, name in enumerate(node.input):
            node.input[place] = names.setdefault(name, f"{node.name}_input_{place}")
        for place, name in enumerate(node.output):
            node.output[place] = names.setdefault(name, f"{node.name}_output_{place}")
    constants = sorted(graph.initializer, key=lambda constant: list(names).index(constant.name))
    for constant in constants:
        constant.name = names[constant.name]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(constants)


def _read_onnx(path: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(["probabilities"], {"image": images})[0])


def _write_tflite(model: Model, path: Path, _: dict[str, Any]) -> None:
    from transfer.models.backend import tf

    function = _function(model).get_concrete_function()
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module()).convert())


def _read_tflite(path: Path) -> Answer:
    from transfer.models.backend import tf

    interpreter = tf.lite.Interpreter(model_content=path.read_bytes())
    run = interpreter.get_signature_runner()
    return lambda images: np.asarray(run(image=images)["probabilities"])


def _write_saved_model(model: Model, path: Path, _: dict[str, Any]) -> None:
    from transfer.models.backend import tf

    module = tf.Module()
    module.serve = _function(model)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    (path / "fingerprint.pb").unlink(missing_ok=True)  # holds a random number, and nothing needs it


def _read_saved_model(path: Path) -> Answer:
    from transfer.models.backend import tf

    module = tf.saved_model.load(str(path))
    return lambda images: np.asarray(module.serve(images)["probabilities"])


FORMATS = {
    "onnx": Format(_write_onnx, _read_onnx, ("onnx", "onnxruntime", "tf2onnx"), beside=False),
    "tflite": Format(_write_tflite, _read_tflite),
    "savedmodel": Format(_write_saved_model, _read_saved_model),
}
