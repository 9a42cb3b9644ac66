"""Configurations that older versions of Keras wrote, brought to the form that Keras 3 reads; their weights fit.

Nothing is taken away that computes, but for `preprocess_input` of keras.applications, which becomes the model's range.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

Pixels = Literal["0-255", "0-1", "-1-1"]
Scale = Pixels | Literal["caffe", "torch", "inside"]
Config = dict[str, Any]

MODELS = {"Functional", "Model", "Sequential"}
OPERATIONS = {"SlicingOpLambda", "TFOpLambda"}  # functions of TensorFlow, called on what a layer gives
INITIALIZERS = "tensorflow.python.ops.init_ops_v2"  # TensorFlow's own, which Keras has by the same names
ARITHMETIC = {  # of these, with a number; what Keras 3 does it with
    **{f"{module}.add": "Add" for module in ("__operators__", "math")},
    **{"math.multiply": "Multiply", "math.subtract": "Subtract", "math.truediv": "TrueDivide"},
}
AUGMENTATIONS = {  # change images at random in training, and do nothing else
    *("RandomBrightness", "RandomContrast", "RandomFlip", "RandomHeight", "RandomRotation", "RandomTranslation"),
    *("RandomWidth", "RandomZoom"),
}
KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
UNKNOWN = {  # what Keras 2 wrote of convolutions that have no such thing
    "Conv2DTranspose": ("groups",),
    "DepthwiseConv2D": ("groups", *KERNEL),
    "SeparableConv2D": ("groups", *KERNEL),
}
PREPROCESSING: dict[Scale, list[tuple[str, Config]]] = {  # by mode, as Keras 2 saved `preprocess_input`
    "-1-1": [("math.truediv", {"y": 127.5}), ("math.subtract", {"y": 1.0})],
    "torch": [
        ("math.truediv", {"y": 255.0}),
        ("nn.bias_add", {"bias": [-0.485, -0.456, -0.406]}),
        ("math.truediv", {"y": [0.229, 0.224, 0.225]}),
    ],
    "caffe": [  # RGB to BGR first
        (
            "__operators__.getitem",
            {"slice_spec": [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]},
        ),
        ("nn.bias_add", {"bias": [-103.939, -116.779, -123.68]}),
    ],
}


def rewrite(model: Config) -> tuple[Config, Scale | None]:
    """The configuration of a model as Keras 3 reads it.

    What today's Keras writes stays as it is, but for random augmentation, which becomes `Identity`.

    Returns:
        A changed copy; and the mode of the `preprocess_input` that it began with, now `Identity`, too.
    """
    model = _rewritten(model)
    scale = _take_preprocessing(model["config"]["layers"]) if "input_layers" in model["config"] else None
    _name_operations(model)
    return model, scale


def _rewritten(value: Any) -> Any:
    if isinstance(value, list):
        return [_rewritten(part) for part in value]
    if not isinstance(value, dict):
        return value
    kind = str(value.get("class_name"))
    if kind == "Policy":  # of mixed precision
        return "float32"
    if kind == "Sequential":
        value = value | {"config": _with_input(value["config"], value.get("name"))}
    if kind == "Functional" and "module" in value:  # keras.src.engine.functional
        value = value | {"module": "keras.src.models.functional"}
    if value.get("module") == INITIALIZERS:
        value = value | {"module": "keras.initializers"}
    if kind == "BatchNormalizationV1":  # of TensorFlow 1
        value = value | {"class_name": "BatchNormalization"}
    value = {key: _rewritten(part) for key, part in value.items()}
    if kind in AUGMENTATIONS:
        return value | {"class_name": "Identity", "config": {"name": value["config"]["name"]}}
    if isinstance(content := value.get("config"), dict):
        if "output_layers" in content:
            _rewrite_graph(content)
        _rewrite_layer(kind, content)
    return value


def _with_input(content: Any, name: str | None) -> Config:
    """What a sequential model is made of, with an input where the first layer alone says what it takes."""
    if isinstance(content, list):  # before Keras 2.2.3
        content = {"name": name, "layers": content}
    first = content["layers"][0]["config"] if content["layers"] else {}
    if "batch_input_shape" not in first or content["layers"][0]["class_name"] == "InputLayer":
        return content
    image = {"batch_shape": first["batch_input_shape"], "name": f"{first['name']}_input"}
    return content | {"layers": [{"class_name": "InputLayer", "config": image}, *content["layers"]]}


def _rewrite_layer(kind: str, content: Config) -> None:
    if isinstance(content.get("name"), str):
        content["name"] = _named(content["name"])
    shape = content.pop("batch_input_shape", None)
    if kind == "InputLayer" and shape:
        content["batch_shape"] = shape
    for key in UNKNOWN.get(kind, ()):
        content.pop(key, None)
    if kind.startswith("BatchNormalization") and isinstance(content.get("axis"), list):
        (content["axis"],) = content["axis"]
    for key, part in content.items():
        if key.endswith("_initializer") and isinstance(part, dict) and isinstance(part.get("config"), dict):
            part["config"].pop("dtype", None)


def _rewrite_graph(content: Config) -> None:
    """Of a functional model: a single input or output is no list, and calls of models inside count from 0."""
    for ends in ("input_layers", "output_layers"):
        if isinstance(content[ends], list) and len(content[ends]) == 1:
            (content[ends],) = content[ends]
    inbound = [call for layer in content["layers"] for call in _calls(layer.get("inbound_nodes"))]
    outbound = list(_calls(content["output_layers"]))
    for call in [*inbound, *outbound, *_calls(content["input_layers"])]:
        call[0] = _named(call[0])
    for layer in content["layers"]:
        layer["name"] = _named(layer["name"])
        if layer["class_name"] in MODELS:
            named = [[call for call in calls if call[0] == layer["name"]] for calls in (inbound, outbound)]
            first = min((call[1] for calls in named for call in calls), default=0)
            for call in named[0] + (named[1] if layer["class_name"] == "Sequential" else []):
                call[1] -= first  # as an output, Keras 3 too counts calls of functional models from 1


def _named(name: str) -> str:
    """The name of a layer, as Keras 3 allows it."""
    return name.replace("/", "_")


def _calls(value: Any) -> Iterator[list[Any]]:
    """Every [name of a layer, number of its call, number of its output, ...] in lists of Keras 2, to be changed."""
    if isinstance(value, list) and len(value) > 2 and isinstance(value[0], str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _calls(part)


def _take_preprocessing(layers: list[Config]) -> Scale | None:
    """Make `Identity` of the operations that follow the input, if they are a `preprocess_input`; which it was."""
    inputs = [layer["config"]["name"] for layer in layers if layer["class_name"] == "InputLayer"]
    name, operations = inputs[0], []
    while len(inputs) == 1:
        takers = [(layer, call) for layer in layers for call in _calls(layer.get("inbound_nodes")) if call[0] == name]
        if len(takers) != 1:  # another path takes the pixels as they are
            break
        ((layer, call),) = takers
        if layer["class_name"] in OPERATIONS:
            operations.append((layer, call))
        elif not _passes_on(layer):
            break
        name = layer["config"]["name"]
    found = [(layer["config"].get("function"), _settings(call)) for layer, call in operations]
    for scale, wanted in PREPROCESSING.items():
        if found == wanted:
            for layer, call in operations:
                layer |= {"class_name": "Identity", "module": "keras.layers", "registered_name": None}
                layer |= {"config": {"name": layer["config"]["name"]}, "inbound_nodes": [[[*call[:3], {}]]]}
            return scale
    return None


def _name_operations(model: Config) -> None:
    """Arithmetic is called what it is in `.keras` files of Keras 3; in its HDF5 files the module is missing."""
    for layer in model["config"]["layers"]:
        if layer["class_name"] in MODELS:
            _name_operations(layer)
            continue
        content, calls = layer["config"], list(_calls(layer.get("inbound_nodes")))
        kind = ARITHMETIC.get(str(content.get("function")))
        if layer["class_name"] == "TFOpLambda" and kind and isinstance(number := calls[0][3].get("y"), float | int):
            layer |= {"class_name": kind, "inbound_nodes": [[[*calls[0][:3], {"x2": number}]]]}
            layer["config"] = content = {"name": content["name"]}
            layer.pop("build_config", None)
        if layer["class_name"] in ARITHMETIC.values() and "trainable" not in content:
            layer |= {"module": "keras.src.ops.numpy", "registered_name": layer["class_name"]}


def _passes_on(layer: Config) -> bool:
    if layer["class_name"] == "Sequential":
        return all(map(_passes_on, layer["config"]["layers"]))
    return layer["class_name"] in ("Identity", "InputLayer")


def _settings(call: list[Any]) -> Config:
    """The arguments of an operation beside what it is called on, rounded, without those that say nothing."""
    given = json.loads(json.dumps(call[3] if len(call) > 3 else {}), parse_float=lambda text: round(float(text), 4))
    return {key: value for key, value in given.items() if value not in (None, "NHWC")}
