from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic_digits

from transfer.basics.console import UserError
from transfer.networks import precision
from transfer.networks.backend import keras
from transfer.networks.engines import Engine, Params
from transfer.networks.layers import Convolution, Layers, fresh_weights
from transfer.networks.models import load_model, save_model
from transfer.networks.precision import Precision, computing_in, processor, resolve
from transfer.networks.schedule import Plan, shuffled_batches, warmup_cosine
from transfer.networks.training import Program

AMD, INTEL = "AuthenticAMD", "GenuineIntel"
NETWORK = Layers((28, 28, 1), (Convolution(8, 5, 4), Convolution(12, 3, 2)), (32,), 10)
LAYERS = keras.layers


@pytest.mark.parametrize(
    ("wanted", "flags", "vendor", "accelerators", "expected"),
    [
        ("float32", {"avx512_bf16", "amx_bf16"}, AMD, [9.0], "float32"),
        ("mixed_bfloat16", {"sse2"}, "", [], "mixed_bfloat16"),
        ("auto", {"avx512f", "avx512_bf16"}, AMD, [], "mixed_bfloat16"),
        ("auto", {"avx512f"}, AMD, [], "float32"),
        ("auto", {"avx512f", "avx512_bf16"}, INTEL, [], "float32"),
        ("auto", {"avx512_bf16", "amx_tile", "amx_bf16"}, INTEL, [], "mixed_bfloat16"),
        ("auto", {"avx512_bf16", "amx_bf16"}, "HygonGenuine", [], "float32"),
        ("auto", set(), "", [], "float32"),
        ("auto", set(), "", [8.0], "mixed_bfloat16"),
        ("auto", {"avx512_bf16"}, AMD, [7.5], "float32"),
        ("auto", set(), INTEL, [9.0, 7.0], "float32"),
    ],
)
def test_auto_goes_by_flags_vendor_and_accelerators_and_the_rest_is_itself(
    wanted: str, flags: set[str], vendor: str, accelerators: list[float], expected: str
) -> None:
    assert resolve(wanted, flags, vendor, accelerators) == expected


def test_flags_are_read_as_linux_writes_them_and_elsewhere_there_are_none(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    one = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512_bf16\nvmx flags\t: vnmi\nbugs\t\t:\n\n"
    told.write_text(one + one)
    assert processor(told) == ({"fpu", "avx512_bf16"}, AMD)
    told.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")  # Arm: nothing was measured there
    assert resolve("auto", *processor(told), []) == "float32"
    assert processor(tmp_path / "none") == (set(), "")


def test_the_machine_is_looked_at_for_auto_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "accelerators", lambda: [9.0])
    assert precision.choose("auto") == "mixed_bfloat16"
    monkeypatch.setattr(precision, "accelerators", lambda: pytest.fail("looked"))
    assert precision.choose("float32") == "float32"
    assert precision.choose("mixed_bfloat16") == "mixed_bfloat16"


def test_a_gpu_that_is_hidden_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '9.0\\n8.6\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert precision.accelerators() == [9.0, 8.6]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert precision.accelerators() == []


def test_the_native_engine_is_float32_and_mixed_precision_asks_for_keras() -> None:
    assert Params(engine="keras", precision="float32").engine_for(NETWORK) == Engine("keras")
    assert Params(engine="auto", precision="mixed_bfloat16").engine_for(NETWORK) == Engine("keras", "mixed_bfloat16")
    with pytest.raises(UserError, match=r"engine is native, but training.precision is mixed_bfloat16: set it to"):
        Params(engine="native", precision="mixed_bfloat16").engine_for(NETWORK)


def test_every_layer_computes_in_the_precision_but_the_last_and_the_model_stays_as_it_was() -> None:
    inner = keras.Sequential([keras.Input((6, 6, 2)), LAYERS.Conv2D(3, 3), LAYERS.BatchNormalization()])
    inputs = keras.Input((6, 6, 2), dtype="uint8")
    x = LAYERS.Flatten()(inner(LAYERS.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, LAYERS.Dense(2)(LAYERS.Dropout(0.5)(x)))
    mixed = computing_in(model, "mixed_bfloat16")
    names = {layer.name: layer.compute_dtype for layer in [*mixed.layers[1:], *mixed.layers[2].layers]}
    assert names.pop(model.layers[-1].name) == "float32"
    names.pop(inner.name)  # a container computes nothing
    assert set(names.values()) == {"bfloat16"}
    assert {str(variable.dtype) for variable in mixed.trainable_variables} == {"float32"}
    assert [v.shape for v in mixed.variables] == [v.shape for v in model.variables]
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def trained(model: keras.Model, precision: Precision, weights: list[np.ndarray]) -> Program:
    images, labels = synthetic_digits(40, seed=0)
    steps = 120
    plan = Plan(shuffled_batches(len(images), 32, steps, 0), warmup_cosine(steps, 0.003, 0.1))
    program = Program(model, shift=1, precision=precision)
    program.start(weights, 0)
    program.train(images[..., np.newaxis], labels.astype(np.int32), plan, seed=0)
    return program


def test_mixed_precision_costs_no_accuracy_and_a_model_from_a_file_is_trained_in_it(tmp_path: Path) -> None:
    start = fresh_weights(NETWORK.weights, 0)
    save_model(tmp_path / "source.keras", NETWORK.build("source", start))
    images, labels = synthetic_digits(100, seed=1)
    accuracies, weights = {}, {}
    for kind in ("float32", "mixed_bfloat16"):
        program = trained(load_model(tmp_path / "source.keras"), kind, start)
        accuracies[kind] = np.mean(program.predict(images[..., np.newaxis]).argmax(axis=1) == labels)
        weights[kind] = program.weights()
    assert accuracies["float32"] > 0.95
    assert abs(accuracies["mixed_bfloat16"] - accuracies["float32"]) <= 0.01
    assert {weight.dtype for weight in weights["mixed_bfloat16"]} == {np.dtype(np.float32)}
    distances = [np.abs(a - b).max() for a, b in zip(*weights.values(), strict=True)]
    assert max(distances) > 1e-4  # it did compute in other numbers


def test_what_is_saved_and_predicted_is_float32(tmp_path: Path) -> None:
    program = trained(NETWORK.build("net"), "mixed_bfloat16", fresh_weights(NETWORK.weights, 0))
    save_model(tmp_path / "net.keras", program.model)
    images = synthetic_digits(2, seed=2)[0][..., np.newaxis]
    saved = load_model(tmp_path / "net.keras")
    assert {layer.compute_dtype for layer in saved.layers} == {"float32"}
    np.testing.assert_allclose(saved(images).numpy(), program.predict(images), atol=1e-5)
