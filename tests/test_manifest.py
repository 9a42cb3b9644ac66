"""What a model file says of itself, and that no code in it ever runs."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.basics.console import UserError
from transfer.networks import manifest
from transfer.networks.backend import keras
from transfer.networks.given import Params
from transfer.networks.manifest import CONFIG, WEIGHTS, read_manifest
from transfer.networks.takeover import take_over

ROOT = Path(__file__).resolve().parents[1]
layers = keras.layers


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same model as `.keras`, as `.h5`, and its weights alone."""
    folder = tmp_path_factory.mktemp("good")
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3, name="inside")], name="inner")
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(inner(layers.Rescaling(1 / 255)(image)))
    model = keras.Model(image, layers.Dense(2, activation="softmax", name="told")(x))
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    return folder


def change_archive(source: Path, path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """A copy of a `.keras` file with changed members."""
    with zipfile.ZipFile(source) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return path


def change_config(good: Path, folder: Path, suffix: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the model whose configuration is another."""
    path = folder / f"changed{suffix}"
    if suffix == ".keras":

        def edit(members: dict[str, bytes]) -> None:
            config = json.loads(members[CONFIG])
            change(config)
            members[CONFIG] = json.dumps(config).encode()

        return change_archive(good / "model.keras", path, edit)
    path.write_bytes((good / "model.h5").read_bytes())
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def named(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A layer of the model by its name."""
    found = [layer for layer in config["config"]["layers"] if layer["config"].get("name") == name]
    return (
        found[0] if found else named(next(layer for layer in config["config"]["layers"] if "inner" in str(layer)), name)
    )


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_file_tells_its_input_and_its_layers_those_inside_others_too(good: Path, name: str) -> None:
    told = read_manifest(good / name)
    assert told.input_shape == (8, 8, 3)
    assert told.scales
    assert not told.weights_only
    kinds = [kind for kind, _ in told.layers if kind != "InputLayer"]
    assert kinds == ["Rescaling", "Conv2D", "GlobalAveragePooling2D", "Dense"]
    assert {"inside", "told"} <= {name for _, name in told.layers}


def test_weights_alone_tell_their_shapes(good: Path) -> None:
    told = read_manifest(good / "model.weights.h5")
    assert told.weights_only
    assert told.shapes == ((2,), (2,), (2, 2), (3, 3, 3, 2))


def test_a_file_is_read_once_for_each_of_its_states(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    original = manifest._of_archive

    def counted(*given: Any) -> Any:
        opened.append(given)
        return original(*given)

    monkeypatch.setattr(manifest, "_of_archive", counted)
    path = change_archive(good / "model.keras", tmp_path / "a.keras", lambda _: None)
    assert read_manifest(path) == read_manifest(path) == read_manifest(good / "model.keras")
    assert len([file for file, of in opened if of == path]) == 1
    path.write_bytes(change_config(good, tmp_path, ".keras", CODE["a custom layer"]).read_bytes())
    for _ in range(2):
        with pytest.raises(UserError, match="layer innocent"):
            read_manifest(path)
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        read_manifest(path)


def test_reading_imports_neither_keras_nor_tensorflow(good: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from transfer.networks import given\n"
        f"for path in Path({str(good)!r}).iterdir(): given.image_shape(given.Params(model=str(path), "
        "network='ResNet50', range='auto', taps='auto'))\n"
        "sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


EVIL = {"module": "evil", "class_name": "Evil", "config": {"name": "innocent"}, "registered_name": "Custom>Evil"}
FUNCTION = {"module": "evil", "class_name": "function", "config": "touch", "registered_name": "touch"}
UNSAFE = {"class_name": "function", "config": "enable_unsafe_deserialization", "module": "keras.config"}


def wrapped(content: dict[str, Any]) -> dict[str, Any]:
    config = {"name": "each", "layer": content}
    return {"module": "keras.layers", "class_name": "TimeDistributed", "config": config, "registered_name": None}


CODE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a custom layer": lambda config: named(config, "told").update(EVIL),
    "a custom layer inside a model": lambda config: named(config, "inside").update(EVIL),
    "a custom layer inside a layer": lambda config: named(config, "told").update(wrapped(EVIL)),
    "a custom activation": lambda config: named(config, "told")["config"].update(activation=FUNCTION),
    "a custom initializer": lambda config: named(config, "told")["config"].update(kernel_initializer=EVIL),
    "a custom regularizer": lambda config: named(config, "inside")["config"].update(kernel_regularizer=EVIL),
    "a custom quantisation": lambda config: named(config, "told")["config"].update(quantization_config=EVIL),
    "a custom layer that bears a name of Keras": lambda config: named(config, "told").update(
        registered_name="Custom>Dense"
    ),
    "a custom model": lambda config: config.update(class_name="Evil", module="evil"),
    "Keras's own switches": lambda config: named(config, "told")["config"].update(activation=UNSAFE),
    "a module that only begins as Keras does": lambda config: named(config, "told").update(module="keras_evil"),
    "a saved model": lambda config: named(config, "told").update(class_name="TFSMLayer"),
    "a pickle": lambda config: named(config, "told").update(class_name="TorchModuleWrapper"),
    "an operation of TensorFlow": lambda config: named(config, "told").update(class_name="TFOpLambda"),
    "a pickled function": lambda config: named(config, "told").update(class_name="Lambda"),
    "a pickled function as a value": lambda config: named(config, "told")["config"].update(
        activation={"class_name": "__lambda__", "config": {"value": "gAM="}}
    ),
    "a file's vocabulary": lambda config: named(config, "told").update(class_name="StringLookup"),
    "a custom loss of a model inside": lambda config: next(
        layer for layer in config["config"]["layers"] if layer["config"].get("name") == "inner"
    ).update(compile_config={"loss": FUNCTION}),
}


@pytest.mark.fault("Arrays and models", "code that a model file names: layers, functions, pickles")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("what", CODE)
def test_code_is_refused_in_one_line_and_never_runs(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, suffix: str
) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"import pathlib; pathlib.Path({str(marker)!r}).touch()")
    (tmp_path / "keras_evil.py").write_text((tmp_path / "evil.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    path = change_config(good, tmp_path, suffix, CODE[what])
    for read in (read_manifest, lambda path: take_over(params(path), (8, 8, 3))):
        with pytest.raises(UserError, match=rf"changed\{suffix}: layer \S+") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.fault("Arrays and models", "a Lambda layer")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_that_keras_has_saved_is_refused_by_name_and_never_runs(tmp_path: Path, suffix: str) -> None:
    marker = tmp_path / "ran"
    image = keras.Input((8, 8, 1))
    layer = layers.Lambda(lambda x, path=str(marker): (__import__("pathlib").Path(path).touch(), x)[1], name="a_lambda")
    keras.Model(image, layer(image)).save(path := tmp_path / f"evil{suffix}")
    marker.unlink()
    for read in (read_manifest, lambda path: take_over(params(path), (8, 8, 1))):
        with pytest.raises(UserError, match="layer a_lambda is a Lambda, which may run code"):
            read(path)
    assert not marker.exists()


def params(path: Path) -> Params:
    return Params(model=str(path), network="none", range="auto", taps="auto")


def test_a_loss_that_is_keras_s_own_or_not_used_is_no_reason_to_refuse(good: Path, tmp_path: Path) -> None:
    path = change_config(good, tmp_path, ".keras", lambda config: config.update(compile_config={"loss": FUNCTION}))
    assert read_manifest(path).input_shape == (8, 8, 3)  # what the whole model was compiled with is not read


@pytest.mark.fault("Arrays and models", "a path that climbs out of the archive")
@pytest.mark.parametrize("member", ["../out", "/out", "..\\out", "C:\\out", "assets/../../out"])
def test_a_member_that_climbs_out_of_the_archive_is_refused(good: Path, tmp_path: Path, member: str) -> None:
    path = change_archive(good / "model.keras", tmp_path / "a.keras", lambda members: members.update({member: b""}))
    with pytest.raises(UserError, match="leads out of the archive"):
        read_manifest(path)


@pytest.mark.fault("Arrays and models", "a link in the archive")
def test_a_member_that_is_a_link_is_refused(good: Path, tmp_path: Path) -> None:
    path = change_archive(good / "model.keras", tmp_path / "a.keras", lambda _: None)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("assets")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="leads out of the archive"):
        read_manifest(path)


def outside(file: h5py.File, other: Path) -> None:
    file["x"] = h5py.ExternalLink(str(other), "/x")


def soft(file: h5py.File, _: Path) -> None:
    file["x"] = h5py.SoftLink("/y")


def external(file: h5py.File, other: Path) -> None:
    other.write_bytes(bytes(8))
    file.create_dataset("x", (2,), "f4", external=[(str(other), 0, 8)])


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "x", (2,))
    file.create_virtual_dataset("x", layout)


def huge(file: h5py.File, _: Path) -> None:
    file.create_dataset("x", (5 << 30,), "i1", chunks=(1 << 20,))


def chunks(file: h5py.File, _: Path) -> None:
    for number in range(5):
        file.create_dataset(f"x{number}", (1,), "f4", maxshape=(None,), chunks=(1 << 28,), compression="gzip")


@pytest.mark.fault("Arrays and models", "weights that lead to another file, or are enormous")
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (outside, "a link at /x"),
        (soft, "a link at /x"),
        (external, "keeps the numbers of /x in another file"),
        (virtual, "keeps the numbers of /x in another file"),
        (huge, "holds 5.0 GB, but at most 4"),
        (chunks, "holds 5.0 GB, but at most 4"),
    ],
)
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_weights_that_lead_elsewhere_or_are_too_large_are_refused(
    good: Path, tmp_path: Path, spoil: Callable[[h5py.File, Path], None], words: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes((good / name).read_bytes())
    inside = path
    if name == "model.keras":
        inside = tmp_path / "weights"
        with zipfile.ZipFile(path) as archive:
            inside.write_bytes(archive.read(WEIGHTS))
    with h5py.File(inside, "a") as file:
        spoil(file, tmp_path / "other")
    if inside != path:
        change_archive(good / name, path, lambda members: members.update({WEIGHTS: inside.read_bytes()}))
    with pytest.raises(UserError, match=words):
        read_manifest(path)


@pytest.mark.fault("Arrays and models", "an archive that says it is enormous")
def test_an_archive_that_says_it_is_too_large_is_refused(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "LARGEST", 1 << 10)
    with pytest.raises(UserError, match="but at most 4 are read"):
        read_manifest(change_archive(good / "model.keras", tmp_path / "a.keras", lambda _: None))


@pytest.mark.fault("Arrays and models", "an archive that says it is enormous")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_configuration_that_is_too_long_is_not_parsed(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(manifest, "LONGEST", 1 << 20)
    path = change_config(good, tmp_path, suffix, lambda config: config.update(more="x" * (1 << 20)))
    with pytest.raises(UserError, match="has a configuration of more than 1 MB"):
        read_manifest(path)


@pytest.mark.fault("Arrays and models", "a layer that is wider than any of its weights")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(("name", "key", "value"), [("told", "units", 10**9), ("inside", "kernel_size", [3, 10**6])])
def test_a_layer_wider_than_the_weights_is_refused_before_keras_makes_it(
    good: Path, tmp_path: Path, suffix: str, name: str, key: str, value: Any
) -> None:
    path = change_config(good, tmp_path, suffix, lambda config: named(config, name)["config"].update({key: value}))
    with pytest.raises(UserError, match=f"layer {name} has {key} .*, but there are no such weights"):
        read_manifest(path)


@pytest.mark.fault("Arrays and models", "a model of enormous images")
def test_a_model_of_images_that_nothing_can_hold_is_refused(good: Path, tmp_path: Path) -> None:
    def enlarge(config: dict[str, Any]) -> None:
        config["config"]["layers"][0]["config"]["batch_shape"] = [None, 60_000, 60_000, 3]

    with pytest.raises(UserError, match=r"takes images of \(60000, 60000, 3\), but sides of at most 2048 are read"):
        read_manifest(change_config(good, tmp_path, ".keras", enlarge))


@pytest.mark.fault("Arrays and models", "what is no model file")
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.keras", None, "is missing: put the model there"),
        ("a.keras", b"", "is empty: name a .keras or .h5 file"),
        ("a.h5", b"<html>503</html>", "is no model file"),
        ("a.keras", b"\x89HDF\r\n\x1a\n", r"is a \.h5 file by its content: rename it to a\.h5"),
        ("a.h5", b"PK\x03\x04", r"is a \.keras file by its content"),
        ("a.keras", b"PK\x03\x04", "cannot be read as a model"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "cannot be read as a model"),
    ],
)
def test_what_is_no_model_is_one_line(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_manifest(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.fault("Arrays and models", "a model of something else than one image")
def test_other_archives_and_models_of_something_else_than_one_image_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("word/document.xml", "")
    with pytest.raises(UserError, match=r"has no config\.json"):
        read_manifest(tmp_path / "a.keras")
    one, two = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    keras.Model([one, two], layers.Add()([one, two])).save(tmp_path / "b.keras")
    with pytest.raises(UserError, match="has 2 inputs"):
        read_manifest(tmp_path / "b.keras")
    keras.Model(one, [one, layers.ReLU()(one)]).save(tmp_path / "c.keras")
    with pytest.raises(UserError, match="has 2 outputs"):
        read_manifest(tmp_path / "c.keras")
    keras.Sequential([keras.Input((8,)), layers.Dense(2)]).save(tmp_path / "d.keras")
    with pytest.raises(UserError, match=r"takes \(8,\), not images"):
        read_manifest(tmp_path / "d.keras")


@pytest.mark.fault("Arrays and models", "a model that takes channels first")
def test_channels_first_are_refused(good: Path, tmp_path: Path) -> None:
    def turn(config: dict[str, Any]) -> None:
        named(config, "inside")["config"]["data_format"] = "channels_first"

    with pytest.raises(UserError, match="layer inside takes channels first"):
        read_manifest(change_config(good, tmp_path, ".keras", turn))


@pytest.mark.fault("Fuzzing", "damage of any kind to a model file")
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
@given(data=st.data())
@settings(max_examples=60)
def test_a_damaged_file_is_read_or_refused_in_one_line(good: Path, tmp_path_factory: Any, name: str, data: Any) -> None:
    content = bytearray((good / name).read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    assert len(complaint(path).splitlines()) <= 1


def complaint(path: Path) -> str:
    """What is said of a file that cannot be read; nothing of one that can."""
    try:
        read_manifest(path)
    except UserError as error:
        return str(error)
    return ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["Lambda", "Dense", "keras"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["class_name", "config", "layers", "module", "name"]), inner, max_size=4)
    ),
)


@pytest.mark.fault("Fuzzing", "any configuration of a model")
@given(value=JSON)
@settings(max_examples=100)
def test_any_configuration_is_read_or_refused_in_one_line(good: Path, tmp_path_factory: Any, value: Any) -> None:
    path = change_archive(
        good / "model.keras",
        tmp_path_factory.getbasetemp() / "any.keras",
        lambda members: members.update({CONFIG: json.dumps(value).encode()}),
    )
    with pytest.raises(UserError) as caught:
        read_manifest(path)
    assert len(str(caught.value).splitlines()) == 1


def test_every_layer_of_keras_that_takes_images_is_known() -> None:
    known = manifest.known_classes(manifest.PARTS)
    assert {"Conv2D", "DepthwiseConv2D", "BatchNormalization", "GlorotUniform", "L2", "MaxNorm", "relu"} <= known
    assert not known & manifest.RUNS_CODE
    assert np.all([hasattr(layers, name) for name in ("Conv2D", "ReLU", "Rescaling")])
