"""Somebody's own model in the place of the source CNN: taken over, transferred in every way, and shipped."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_study, refused
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from transfer import article
from transfer.basics.console import UserError
from transfer.features import Scaling, extract, read_features, read_taps, taken_tap
from transfer.networks import engines, given, models
from transfer.networks.backend import keras
from transfer.networks.engines import Engine
from transfer.networks.graph import MOMENTUM, Graph, find_taps
from transfer.networks.layers import read_architecture, read_network, write_architecture, write_network
from transfer.networks.takeover import Taken, take_over
from transfer.networks.training import Program
from transfer.predictions import softmax
from transfer.running.shipping import shipping
from transfer.strategies import dense_head, end_to_end, feature_extraction, scratch
from transfer.target import Draw

layers = keras.layers
KERAS = engines.Params(engine="auto", precision="float32")
SCHEDULE = {"steps": 3, "steps_growth": 0, "batch": 4, "peak_rate": 0.01, "warmup": 0, "beta_1": 0.9, "beta_2": 0.99}
TUNING = end_to_end.Params(shift=1, **SCHEDULE)
LABELS = np.arange(8, dtype=np.int32) % 2
DRAW = Draw(4, 0, np.arange(8), LABELS)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, *shape)).astype(np.uint8)


def section(path: Path | str, **values: Any) -> given.Params:
    return given.Params(**{"model": str(path), "network": "none", "range": "auto", "taps": "auto"} | values)


def saved(model: keras.Model, path: Path, seed: int = 0) -> Path:
    """Save a model whose weights, also what normalises, are not those that Keras starts with."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 0.5, weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    model.save(path)
    return path


def article_cnn(classes: int = 3) -> keras.Model:
    """The article's own source CNN, for floats from 0 to 1."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def functional(side: int | None = 12) -> keras.Model:
    """Parallel paths, batch normalisation, dropout; it scales raw pixels itself."""
    image = keras.Input((side, side, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="first")(x)
    x = layers.BatchNormalization(name="norm")(x, training=False)  # as it may have been trained; not as it trains here
    x = layers.ReLU(name="bent")(x)
    x = layers.MaxPooling2D(name="halved")(x)
    y = layers.Conv2D(4, 1, name="beside")(x)
    x = layers.Add(name="sum")([x, y])
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    x = layers.Dropout(0.5, name="dropped")(x)
    return keras.Model(image, layers.Activation("softmax")(layers.Dense(3, name="head")(x)))


def nested() -> keras.Model:
    """A sequential model inside a functional one inside a sequential one, two layers of one name."""
    inner = keras.Sequential(
        [keras.Input((12, 12, 3)), layers.Conv2D(4, 3, name="same"), layers.BatchNormalization(), layers.ReLU()]
    )
    image = keras.Input((12, 12, 3))
    middle = keras.Model(image, layers.Conv2D(5, 3, strides=2, name="same")(inner(image, training=False)))
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Rescaling(1 / 127.5, offset=-1),
            middle,
            layers.GlobalMaxPooling2D(),
            layers.Dense(3, activation="softmax", name="image"),  # a name that we need
        ]
    )


MODELS: dict[str, tuple[Callable[[], keras.Model], dict[str, Any], float, float]] = {  # section; scale and offset
    "article.h5": (article_cnn, {"range": "0-1"}, 1 / 255, 0),
    "article.keras": (article_cnn, {"range": "0-1"}, 1 / 255, 0),
    "functional.keras": (functional, {}, 1, 0),
    "functional.h5": (functional, {}, 1, 0),
    "nested.keras": (nested, {}, 1, 0),
    "nested.h5": (nested, {}, 1, 0),
}


@pytest.fixture(scope="module", params=MODELS)
def taken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """A model, its file, and what became of it."""
    build, values, scale, offset = MODELS[request.param]
    model = build()
    path = saved(model, tmp_path_factory.mktemp("given") / request.param)
    params = section(path, **values)
    shape = given.image_shape(params)
    assert shape == model.inputs[0].shape[1:]
    return model, scale, offset, take_over(params, shape)


def test_raw_pixels_give_what_the_model_gives_for_what_it_was_trained_on(taken: tuple[Any, ...]) -> None:
    model, scale, offset, what = taken
    raw = images(*what.graph.shape)
    program = Program(what.graph.build("source"))
    program.start(what.weights, 0)
    expected = model.predict(raw.astype(np.float32) * np.float32(scale) + np.float32(offset), verbose=0)
    np.testing.assert_allclose(softmax(program.predict(raw)), expected, atol=1e-5)
    assert what.head is not None
    assert what.graph.classes == 3


def test_a_graph_is_kept_hashed_and_sent_as_it_is(taken: tuple[Any, ...], tmp_path: Path) -> None:
    what: Taken = taken[-1]
    write_network(tmp_path / "source.npz", what.graph, what.weights)
    write_architecture(tmp_path / "network.json", what.fresh)
    graph, weights = read_network(tmp_path / "source.npz")
    assert graph == what.graph
    assert pickle.loads(pickle.dumps(graph)) == graph
    assert hash(graph) == hash(what.graph)
    assert [value.tobytes() for value in weights] == [value.tobytes() for value in what.weights]
    assert read_architecture(tmp_path / "network.json") == what.fresh
    assert [tuple(weight.shape) for weight in graph.build("again").trainable_variables] == graph.weights


def test_inner_models_are_laid_open_and_every_name_is_one_layer_s(taken: tuple[Any, ...]) -> None:
    built = taken[-1].graph.build("source")
    assert not any(isinstance(layer, keras.Model) for layer in built.layers)
    assert len({layer.name for layer in built.layers}) == len(built.layers)
    assert built.inputs[0].dtype == "uint8"
    assert set(taken[-1].graph.taps) <= {layer.name for layer in built.layers}


def test_what_is_written_depends_on_the_file_alone(tmp_path: Path) -> None:
    path = saved(functional(), tmp_path / "a.keras")
    one, other = (take_over(section(path), (12, 12, 3)) for _ in range(2))
    assert one.graph == other.graph
    assert one.fresh == other.fresh


def test_the_network_without_weights_does_not_depend_on_them(tmp_path: Path) -> None:
    model = functional()
    paths = [saved(model, tmp_path / f"{seed}.keras", seed) for seed in (0, 1)]
    for number, path in enumerate(paths):
        write_architecture(tmp_path / f"{number}.json", take_over(section(path), (12, 12, 3)).fresh)
    assert (tmp_path / "0.json").read_bytes() == (tmp_path / "1.json").read_bytes()


class Source:
    """A model that was taken over, in the files that `pretrain` writes."""

    def __init__(self, folder: Path, what: Taken) -> None:
        self.npz, self.keras, self.what = folder / "source.npz", folder / "source.keras", what
        write_network(self.npz, what.graph, what.weights)
        what.graph.save("source", what.weights, path=self.keras)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("source")
    return Source(folder, take_over(section(saved(functional(), folder / "own.keras")), (12, 12, 3)))


def bytes_of(weights: list[np.ndarray]) -> list[bytes]:
    return [np.asarray(weight).tobytes() for weight in weights]


def norm_of(model: keras.Model) -> list[bytes]:
    return bytes_of(model.get_layer("norm").get_weights())


def tune(source: Source, path: Path) -> tuple[Any, keras.Model]:
    """Fine-tune it, ship the model, and load that with plain Keras."""
    network = partial(end_to_end.network, source.npz, 2, TUNING, Engine("keras"))
    raw = images(12, 12, 3)
    cell = end_to_end.fit(DRAW, network=network, images=raw, to_predict=raw, params=TUNING)
    ship = partial(end_to_end.ship, layers=end_to_end.layers(source.npz, 2), source=source.npz, name="end_to_end")
    with shipping() as process:
        process.submit(partial(ship, cell.weights, path=path)).result()
    return cell, keras.models.load_model(path)


def test_fine_tuning_leaves_batch_normalisation_as_it_is_bit_for_bit_and_moves_the_rest(
    source: Source, tmp_path: Path
) -> None:
    cell, shipped = tune(source, tmp_path / "end_to_end.keras")
    before = models.load_model(source.keras)
    assert norm_of(shipped) == norm_of(before)
    for name in ("first", "beside", "hidden"):
        for old, new in zip(before.get_layer(name).get_weights(), shipped.get_layer(name).get_weights(), strict=True):
            assert (old != new).any(), name
    assert cell.trainable_parameters == sum(np.prod(shape) for shape in end_to_end.layers(source.npz, 2).weights)
    np.testing.assert_allclose(shipped.predict(images(12, 12, 3), verbose=0), cell.probabilities, atol=1e-5)


def test_a_cell_is_the_same_whatever_was_trained_before(source: Source) -> None:
    network = partial(end_to_end.network, source.npz, 2, TUNING, Engine("keras"))
    raw = images(12, 12, 3)
    one, two = (end_to_end.fit(DRAW, network=network, images=raw, to_predict=raw, params=TUNING) for _ in range(2))
    assert one.probabilities.tobytes() == two.probabilities.tobytes()
    assert bytes_of(one.weights) == bytes_of(two.weights)


def test_dropout_of_the_source_model_goes_on_in_fine_tuning_and_never_in_prediction(source: Source) -> None:
    start = end_to_end.network(source.npz, 2, TUNING, Engine("keras")).start(0)
    start[len(end_to_end.layers(source.npz, 2).weights) - 2][:] = 0.5  # the head's kernel: what it takes must matter
    raw, plan = images(12, 12, 3), TUNING.plan(8, 4, 0)
    program = engines.program(end_to_end.layers(source.npz, 2), Engine("keras"))
    losses = []
    for seed in (0, 1):
        program.start(start, seed)
        losses.append(program.train(raw, LABELS, plan, seed=0))
    assert losses[0] != losses[1]
    assert program.predict(raw).tobytes() == program.predict(raw).tobytes()


def test_from_scratch_batch_normalisation_trains_and_nothing_comes_from_the_source(source: Source) -> None:
    graph = replace(source.what.fresh, classes=2)
    start = graph.fresh(3)
    assert bytes_of(start) == bytes_of(graph.fresh(3))
    assert bytes_of(start) != bytes_of(graph.fresh(4))
    built = graph.build("scratch")
    norm = built.get_layer("norm")
    assert norm.trainable
    assert norm.momentum == MOMENTUM
    place = [variable.path for variable in built.trainable_variables].index(norm.gamma.path)
    assert (start[place] == 1).all()  # as Keras starts it; the file has other values
    assert (start[place + 1] == 0).all()
    network = partial(scratch.network, graph, TUNING, Engine("keras"))
    raw = images(12, 12, 3)
    cell = scratch.fit(DRAW, network=network, images=raw, to_predict=raw, params=TUNING)
    assert len(cell.weights) == len(start) + 2  # the running statistics too
    assert (cell.weights[-2] != 0).all()


def test_a_model_from_scratch_is_shipped_with_its_statistics(source: Source, tmp_path: Path) -> None:
    graph = replace(source.what.fresh, classes=2)
    raw = images(12, 12, 3)
    network = partial(scratch.network, graph, TUNING, Engine("keras"))
    cell = scratch.fit(DRAW, network=network, images=raw, to_predict=raw, params=TUNING)
    scratch.ship(cell.weights, layers=graph, name="scratch", path=tmp_path / "scratch.keras")
    shipped = keras.models.load_model(tmp_path / "scratch.keras")
    np.testing.assert_allclose(shipped.predict(raw, verbose=0), cell.probabilities, atol=1e-5)


def test_frozen_features_and_what_is_shipped_on_them_leave_the_backbone_as_it_is(
    source: Source, tmp_path: Path
) -> None:
    raw = images(12, 12, 3)
    extract(tmp_path / "features", ["auto"], raw, raw[:3], source=source.npz, training=KERAS)
    tap = taken_tap(tmp_path / "features", "auto")
    assert tap == source.what.graph.tap == "mean"
    features = read_features(tmp_path / "features", "auto")
    scaling = Scaling.of_pool(features.train)
    scaled = features.scaled(scaling)
    head = dense_head.Params(tap="auto", units=4, dropout=0.2, **SCHEDULE)
    probe = feature_extraction.Params(
        tap="auto", l2=(0.1,), l2_default=0.1, folds=2, enough_held_out=9, max_iterations=50
    )
    engine = KERAS.engine_for(dense_head.layers(scaled.train.shape[1], 2, head))
    cells = {
        dense_head: dense_head.fit(DRAW, features=scaled, classes=2, engine=engine, params=head),
        feature_extraction: feature_extraction.fit(DRAW, features=scaled, params=probe),
    }
    for strategy, cell in cells.items():
        path = tmp_path / "shipped.keras"
        with shipping() as process:
            ship = partial(strategy.ship, source=source.keras, scaling=scaling, tap=tap, path=path)
            process.submit(partial(ship, cell.weights)).result()
        shipped = keras.models.load_model(path)
        assert norm_of(shipped) == norm_of(models.load_model(source.keras))
        np.testing.assert_allclose(shipped.predict(raw[:3], verbose=0), cell.probabilities, atol=1e-5)
        assert shipped.inputs[0].shape[1:] == (12, 12, 3)
        assert shipped.inputs[0].dtype == "uint8"


def test_every_tap_is_taken_where_none_is_named(source: Source, tmp_path: Path) -> None:
    extract(tmp_path / "features", None, images(12, 12, 3), images(12, 12, 3)[:1], source=source.npz, training=KERAS)
    assert list(read_taps(tmp_path / "features")) == list(source.what.graph.taps)
    with pytest.raises(UserError, match="tap 'block2' is not in the source model: choose from bent, sum, mean, hidden"):
        extract(tmp_path / "no", ["block2"], images(12, 12, 3), images(12, 12, 3), source=source.npz, training=KERAS)


def test_the_specimen_stands_on_the_model_s_own_probabilities(source: Source) -> None:
    network = article.network(source.keras, 2, Engine("keras"), (0.9, 0.99))
    params = article.Params(measure=True, **SCHEDULE)
    raw = images(12, 12, 3)
    cell = article.fit(DRAW, network=lambda: network, images=raw, to_predict=raw, params=params)
    start = network.start(0)
    assert start[len(cell.weights) - 2].shape == (3, 2)  # its head takes the source's three probabilities
    assert bytes_of(start[len(cell.weights) :]) == norm_of(models.load_model(source.keras))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_article_s_own_network_runs_in_all_three_ways(tmp_path: Path, suffix: str) -> None:
    params = section(saved(article_cnn(), tmp_path / f"source_model{suffix}"), range="0-1")
    what = take_over(params, given.image_shape(params))
    kinds = [type(layer).__name__ for layer in what.graph.build("source").layers if layer.name in what.graph.taps]
    assert kinds == ["MaxPooling2D", "Dense"]
    assert what.graph.tap == what.graph.taps[0]  # as for the CNN of `cnn`: the last map, flattened
    source, raw = Source(tmp_path, what), images(28, 28, 1)
    extract(tmp_path / "features", ["auto"], raw, raw, source=source.npz, training=KERAS)
    features = read_features(tmp_path / "features", "auto")
    assert features.train.shape == (8, 12 * 12 * 64)
    features = features.scaled(Scaling.of_pool(features.train))
    head = dense_head.Params(tap="auto", units=4, dropout=0, **SCHEDULE)
    assert dense_head.fit(DRAW, features=features, classes=2, engine=Engine("keras"), params=head).gradient_steps == 3
    network = partial(end_to_end.network, source.npz, 2, TUNING, Engine("keras"))
    tuned = end_to_end.fit(DRAW, network=network, images=raw, to_predict=raw, params=TUNING)
    assert np.isfinite(tuned.probabilities).all()
    fresh = partial(scratch.network, replace(what.fresh, classes=2), TUNING, Engine("keras"))
    assert scratch.fit(DRAW, network=fresh, images=raw, to_predict=raw, params=TUNING).probabilities.shape == (8, 2)


# Heads, preprocessing and shapes


def small(*tail: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), *tail])


@pytest.mark.parametrize(
    ("tail", "head", "classes", "last"),
    [
        (lambda: [layers.Flatten(), layers.Dense(3)], "dense", 3, "conv"),
        (lambda: [layers.Flatten(), layers.Dense(1, activation="sigmoid")], "dense", 2, "conv"),
        (lambda: [layers.Flatten(), layers.Dense(3), layers.Dropout(0.1), layers.Softmax()], "dense", 3, "conv"),
        (lambda: [layers.Conv2D(3, 1), layers.GlobalAveragePooling2D()], "conv2d", 3, "pooled"),
        (
            lambda: [layers.GlobalAveragePooling2D(keepdims=True), layers.Conv2D(3, 1), layers.Flatten()],
            "conv2d",
            3,
            "",
        ),
        (lambda: [layers.Flatten(), layers.Dense(3, activation="relu")], None, 0, "dense"),
        (lambda: [layers.Conv2D(3, 1, activation="relu"), layers.GlobalAveragePooling2D()], None, 0, ""),
        (lambda: [layers.ReLU()], None, 0, "pooled"),
    ],
)
def test_a_head_is_found_where_there_is_one_and_a_map_is_pooled(
    tmp_path: Path, tail: Callable[[], list[keras.layers.Layer]], head: str | None, classes: int, last: str
) -> None:
    keras.utils.clear_session()
    model = small(*tail())
    what = take_over(section(saved(model, tmp_path / "a.keras"), range="0-1"), (8, 8, 3))
    assert what.head == head
    assert what.graph.classes == classes
    assert last in what.graph.taps[-1]
    assert len(what.weights) == len(what.graph.weights)
    raw = images(8, 8, 3)
    program = Program(what.graph.build("source"))
    program.start(what.weights, 0)
    expected = model.predict(raw / np.float32(255), verbose=0)
    if model.layers[-1].name.startswith(("soft", "dense")) and head and classes == 3:
        expected = np.log(expected) if "softmax" in model.layers[-1].name else expected
        logits = program.predict(raw)
        np.testing.assert_allclose(softmax(logits), softmax(expected), atol=1e-5)
    elif classes == 2:
        np.testing.assert_allclose(softmax(program.predict(raw))[:, 1], expected[:, 0], atol=1e-5)
    elif head:
        np.testing.assert_allclose(program.predict(raw), expected, rtol=1e-4)


@pytest.mark.fault("Arrays and models", "a model with weights that are no numbers, or a variance below zero")
@pytest.mark.parametrize(("layer", "number", "value"), [("first", 0, np.nan), ("head", 1, np.inf), ("norm", 3, -1.0)])
def test_weights_that_no_training_has_come_to_are_refused(
    layer: str, number: int, value: float, tmp_path: Path
) -> None:
    saved(model := functional(), tmp_path / "a.keras")
    weights = model.get_layer(layer).get_weights()
    weights[number][..., -1] = value
    model.get_layer(layer).set_weights(weights)
    model.save(tmp_path / "a.keras")
    refused(lambda: take_over(section(tmp_path / "a.keras"), (12, 12, 3)), "a.keras: ", layer)


def test_features_that_are_no_numbers_are_refused(source: Source, tmp_path: Path) -> None:
    network, weights = read_network(source.npz)
    write_network(tmp_path / "source.npz", network, [weight * np.float32(1e30) for weight in weights])
    images = np.full((2, *network.shape), 255, np.uint8)
    training = engines.Params(engine="keras", precision="float32")
    refused(
        lambda: extract(
            tmp_path / "features", ["hidden"], images, images, source=tmp_path / "source.npz", training=training
        ),
        "source.npz: hidden gives NaN or infinity",
    )
    assert not (tmp_path / "features").exists()


def test_what_does_not_say_its_pixels_asks_for_them(tmp_path: Path) -> None:
    params = section(saved(small(), tmp_path / "a.keras"))
    for ask in (lambda: given.check(params, "auto"), lambda: take_over(params, (8, 8, 3))):
        with pytest.raises(UserError, match=r"set source\.range to 0-255, 0-1 or -1-1"):
            ask()


def test_arithmetic_and_learnt_statistics_count_as_preprocessing(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Conv2D(2, 3)(keras.applications.mobilenet_v2.preprocess_input(image)))
    params = section(saved(model, tmp_path / "a.keras"))
    given.check(params, "auto")
    raw = images(8, 8, 3)
    what = take_over(params, (8, 8, 3))
    program = Program(what.graph.build("source"))
    program.start(what.weights, 0)
    expected = model.predict(raw.astype(np.float32), verbose=0).mean(axis=(1, 2))
    np.testing.assert_allclose(program.predict(raw), expected, rtol=1e-5)

    normalise = layers.Normalization()
    normalise.adapt(raw.astype(np.float32))
    model = keras.Sequential([keras.Input((8, 8, 3)), normalise, layers.Conv2D(2, 3)])
    model.save(tmp_path / "b.keras")
    what = take_over(section(tmp_path / "b.keras"), (8, 8, 3))
    program = Program(what.graph.build("source"))
    program.start(what.weights, 0)
    expected = model.predict(raw.astype(np.float32), verbose=0).mean(axis=(1, 2))
    np.testing.assert_allclose(program.predict(raw), expected, atol=1e-5)


@pytest.mark.parametrize("network", ["ResNet50", "MobileNet", "DenseNet121"])
def test_a_network_s_own_preprocessing_is_that_of_keras_applications(network: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3)])  # its weights do not matter
    params = section(saved(model, tmp_path / "a.keras"), network=network)
    what = take_over(params, (8, 8, 3))
    program = Program(what.graph.build("source"))
    program.start(what.weights, 0)
    raw = images(8, 8, 3)
    module = {"ResNet50": "resnet50", "MobileNet": "mobilenet", "DenseNet121": "densenet"}[network]
    prepared = getattr(keras.applications, module).preprocess_input(raw.astype(np.float32))
    np.testing.assert_allclose(
        program.predict(raw), model.predict(prepared, verbose=0).mean(axis=(1, 2)), rtol=1e-4, atol=1e-4
    )
    fresh = Program(replace(what.fresh, classes=2).build("scratch"))  # is fixed there too
    assert len(fresh.weights()) - len(what.fresh.body) - 2 == (1 if network == "ResNet50" else 0)


def test_weights_alone_need_the_name_of_their_network(tmp_path: Path) -> None:
    path = tmp_path / "a.weights.h5"
    small().save_weights(path)
    with pytest.raises(UserError, match=r"holds weights alone: name their keras\.applications network"):
        given.image_shape(section(path))
    with pytest.raises(UserError, match=r"source\.network is 'LeNet', but must be none or one of ResNet50"):
        given.image_shape(section(path, network="LeNet"))
    assert given.image_shape(section(path, network="ResNet50")) == (None, None, 3)
    with pytest.raises(UserError, match="does not hold the weights of VGG16"):
        take_over(section(path, network="VGG16"), (32, 32, 3))


def test_the_weights_of_a_network_are_found_in_the_form_that_they_fit(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3), alpha=0.25, include_top=False)
    model.save_weights(tmp_path / "a.weights.h5")
    params = section(tmp_path / "a.weights.h5", network="MobileNet")
    assert given.image_shape(params) == (None, None, 3)
    what = take_over(params, (32, 32, 3))
    assert what.head is None
    raw = images(32, 32, 3)
    program = Program(what.graph.build("source"))
    program.start(what.weights, 0)
    expected = model.predict(keras.applications.mobilenet.preprocess_input(raw.astype(np.float32)), verbose=0)
    np.testing.assert_allclose(program.predict(raw), expected.mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)
    assert what.graph.taps[-1] == what.graph.tap
    assert len(what.graph.taps) <= 8


def test_a_model_of_any_size_takes_that_of_the_data_and_of_another_size_refuses(tmp_path: Path) -> None:
    free = section(saved(functional(None), tmp_path / "free.keras"))
    assert given.image_shape(free) == (None, None, 3)
    assert take_over(free, (16, 10, 3)).graph.shape == (16, 10, 3)
    with pytest.raises(UserError, match="takes images of any×any×3, but they are 16×16×1"):
        take_over(free, (16, 16, 1))
    with pytest.raises(UserError, match="takes images of 12×12×3, but they are 16×16×3"):
        take_over(section(saved(functional(), tmp_path / "a.keras")), (16, 16, 3))


def test_images_without_an_axis_for_channels_are_grey(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((6, 6)), layers.Flatten(), layers.Dense(5, "relu", name="d"), layers.Dense(2)]
    )
    params = section(saved(model, tmp_path / "a.h5"), range="0-255")
    assert given.image_shape(params) == (6, 6, 1)
    what = take_over(params, (6, 6, 1))
    assert (what.graph.taps, what.graph.tap) == (("d",), "d")  # not the pixels, which nothing has learnt
    program = Program(what.graph.build("source"))
    program.start(what.weights, 0)
    raw = images(6, 6, 1)
    np.testing.assert_allclose(program.predict(raw), model.predict(raw[..., 0].astype("f4"), verbose=0), rtol=1e-4)


def test_taps_can_be_named(tmp_path: Path) -> None:
    path = saved(functional(), tmp_path / "a.keras")
    what = take_over(section(path, taps=["hidden", "halved"]), (12, 12, 3))
    assert what.graph.taps == ("halved", "hidden")
    assert what.graph.tap == "hidden"  # as the one that would be taken is not among them
    assert given.known_taps(section(path, taps=["halved"]), []) == ["halved"]
    assert given.known_taps(section(path), []) is None
    assert given.known_taps(section("pretrain"), ["block1"]) == ["block1"]
    with pytest.raises(UserError, match=r"source\.taps names 'block2', which is no layer of the source model"):
        take_over(section(path, taps=["block2"]), (12, 12, 3))
    with pytest.raises(UserError, match=r"source\.taps names 'block2', which is no layer of .*a\.keras"):
        given.check(section(path, taps=["block2"], range="0-1"), "auto")
    given.check(section(path, taps=["halved"], range="0-1"), "auto")


def test_taps_too_wide_to_be_kept_are_left_out() -> None:
    model = keras.Sequential(
        [
            keras.Input((64, 64, 1)),
            layers.Conv2D(16, 3, padding="same", name="wide"),
            layers.MaxPooling2D(name="narrower"),
            layers.Conv2D(8, 3, padding="same", name="narrow"),
            layers.MaxPooling2D(name="last"),
            layers.Flatten(),
            layers.Dense(2, name="told"),
        ]
    )
    assert find_taps(keras.Model(model.inputs, model.layers[-2].output)) == (["narrow", "last"], "last")


@settings(max_examples=25)
@for_all(sides=st.lists(st.sampled_from(["conv", "pool", "bn", "skip", "drop"]), min_size=1, max_size=6))
def test_any_stack_has_taps_of_which_the_last_is_what_the_logits_are_made_of(sides: list[str]) -> None:
    x = image = keras.Input((32, 32, 2))
    x = layers.Conv2D(2, 3, padding="same")(x)
    for kind in sides:
        made = {
            "conv": lambda: layers.Conv2D(2, 3, padding="same"),
            "pool": lambda: layers.AveragePooling2D(2, padding="same"),
            "bn": lambda: layers.BatchNormalization(),
            "skip": lambda: layers.Conv2D(2, 1),
            "drop": lambda: layers.Dropout(0.1),
        }[kind]()
        x = layers.Add()([x, made(x)]) if kind == "skip" else made(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    taps, tap = find_taps(keras.Model(image, x))
    assert taps[-1] == tap == "pooled"
    assert len(taps) == len(set(taps)) <= 8


def test_what_the_section_says_of_a_model_needs_a_model() -> None:
    given.check(section("pretrain"), "native")
    assert given.image_shape(section("pretrain")) is None
    with pytest.raises(UserError, match=r"source\.range is for a model of yours"):
        given.check(section("pretrain", range="0-1"), "auto")


def test_a_native_engine_is_refused_for_a_model_of_one_s_own(tmp_path: Path, source: Source) -> None:
    native = engines.Params(engine="native", precision="float32")
    with pytest.raises(UserError, match=r"training\.engine is native, which knows no layers of files"):
        given.check(section(saved(small(), tmp_path / "a.keras"), range="0-1"), "native")
    with pytest.raises(UserError, match=r"training\.engine is native, but source\.model is a file"):
        native.engine_for(source.what.graph)
    assert isinstance(source.what.graph, Graph)
    assert KERAS.engine_for(source.what.graph) == Engine("keras")


@pytest.mark.slow
def test_a_study_runs_from_a_model_of_one_s_own_whose_source_nobody_knows(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study")
    saved(functional(28), study.root / "own.keras")
    study.set(source__model="own.keras", data__source__name="none", split__shots=[1, 3])
    assert {"pretrain", "extract", "end_to_end", "scratch", "report"} <= set(study.repro())
    facts = json.loads(study.read("models/source.json"))
    assert (facts["accuracy"], facts["validation_accuracy"]) == (None, None)
    for strategy in ("feature_extraction", "dense_head", "end_to_end", "scratch"):
        shipped = keras.models.load_model(study.root / f"models/{strategy}.keras")
        assert shipped.inputs[0].shape[1:] == (28, 28, 3)
        assert shipped.inputs[0].dtype == "uint8"
