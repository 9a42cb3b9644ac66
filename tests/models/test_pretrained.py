"""Somebody's own model in the place of the source CNN: taken over, transferred in every way, and exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_study, refused
from model_files import section
from scipy.special import expit, softmax

from transfer.data.target import Draw
from transfer.files import write_json
from transfer.models import model_file, networks
from transfer.models.backend import keras
from transfer.models.features import Scaling, chosen_layer, extract, read_features, save_classifier
from transfer.models.layers import nameable
from transfer.models.pretrained import MOMENTUM, Pretrained, load_pretrained
from transfer.strategies import dense_head, end_to_end, feature_extraction, scratch
from transfer.training import fine_tuning
from transfer.training.runs import Run

layers = keras.layers
SCHEDULE = {"steps": 3, "steps_growth": 0, "batch": 4, "peak_rate": 0.01, "warmup": 0, "beta_1": 0.9, "beta_2": 0.99}
TUNING = fine_tuning.Params(shift=1, **SCHEDULE)
LABELS = np.arange(8, dtype=np.int32) % 2
DRAW = Draw(4, 0, np.arange(8), LABELS, 2)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, *shape)).astype(np.uint8)


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
    shape = model_file.image_shape(params)
    assert shape == model.inputs[0].shape[1:]
    return model, scale, offset, load_pretrained(params, shape)


def logits(what: Pretrained, raw: np.ndarray) -> np.ndarray:
    """What a model that was taken over gives for raw images: logits, or features where it has no head."""
    return networks.predictor(what.model)(raw)[0]


def test_raw_pixels_give_what_the_model_gives_for_what_it_was_trained_on(taken: tuple[Any, ...]) -> None:
    model, scale, offset, what = taken
    raw = images(*what.model.input.shape[1:])
    expected = model.predict(raw.astype(np.float32) * np.float32(scale) + np.float32(offset), verbose=0)
    np.testing.assert_allclose(softmax(logits(what, raw), axis=1), expected, atol=1e-5)
    assert what.head is not None
    assert what.classes == 3
    inside = what.model.layers  # models inside the model are laid open, and every layer has a name of its own
    assert not any(isinstance(layer, keras.Model) for layer in inside)
    assert set(what.layers) < {layer.name for layer in inside}
    assert len({layer.name for layer in inside}) == len(inside)


def test_what_is_written_depends_on_the_file_alone_and_of_scratch_not_on_its_weights(tmp_path: Path) -> None:
    model = functional()
    for seed in (0, 1):
        path = saved(model, tmp_path / f"own{seed}.keras", seed)
        for turn in "ab":
            what = load_pretrained(section(path), (12, 12, 3))
            networks.save_model(tmp_path / f"{seed}{turn}.keras", what.model)
            write_json(tmp_path / f"{seed}{turn}.json", what.fresh.get_config())
    written = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert written["0a.keras"] == written["0b.keras"] != written["1a.keras"]
    assert written["0a.json"] == written["0b.json"] == written["1a.json"]


@pytest.fixture(scope="module")
def what(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    path = saved(functional(), tmp_path_factory.mktemp("own") / "own.keras")
    return load_pretrained(section(path), (12, 12, 3))


@pytest.fixture(scope="module")
def source(what: Pretrained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that `pretrain` writes."""
    path = tmp_path_factory.mktemp("source") / "source.keras"
    networks.save_model(path, what.model)
    return path


def bytes_of(weights: list[np.ndarray]) -> list[bytes]:
    return [np.asarray(weight).tobytes() for weight in weights]


def norm_of(model: keras.Model) -> list[bytes]:
    return bytes_of(model.get_layer("norm").get_weights())


def tuned(name: str, network: networks.Network, path: Path) -> tuple[Run, keras.Model]:
    """Train every layer, export the model, and load that with plain Keras."""
    raw = images(12, 12, 3)
    common = {"images": raw, "to_predict": raw, "params": TUNING, "precision": "float32"}
    initial_weights = fine_tuning.at_random if name == "scratch" else fine_tuning.as_given
    run = fine_tuning.start(network=network, initial_weights=initial_weights, **common)(DRAW)
    fine_tuning.export(run.weights, path, network=network)
    exported = keras.models.load_model(path)
    np.testing.assert_allclose(exported.predict(raw, verbose=0), run.probabilities, atol=1e-5)
    return run, exported


def test_fine_tuning_leaves_batch_normalisation_as_it_is_bit_for_bit_and_moves_the_rest(
    source: Path, tmp_path: Path
) -> None:
    before = networks.load_model(source)
    run, exported = tuned("end_to_end", end_to_end.network(before, 2), tmp_path / "end_to_end.keras")
    assert norm_of(exported) == norm_of(before)
    for name in ("first", "beside", "hidden"):
        for old, new in zip(before.get_layer(name).get_weights(), exported.get_layer(name).get_weights(), strict=True):
            assert (old != new).any(), name
    moved = [layer for layer in exported.layers if layer.name != "norm"]
    assert run.trainable_parameters == sum(layer.count_params() for layer in moved)


def test_from_scratch_batch_normalisation_learns_and_nothing_comes_from_the_source(
    what: Pretrained, tmp_path: Path
) -> None:
    network = scratch.network(what.fresh, 2)
    norm = network.build().get_layer("norm")
    assert norm.trainable
    assert norm.momentum == MOMENTUM
    assert [value[0] for value in norm.get_weights()] == [1, 0, 0, 1]  # as Keras starts it; the file has other values
    _, exported = tuned("scratch", network, tmp_path / "scratch.keras")
    for old, new in zip(norm.get_weights(), exported.get_layer("norm").get_weights(), strict=True):
        assert (old != new).all()
    other = load_pretrained(section(saved(functional(), tmp_path / "other.keras", seed=1)), (12, 12, 3))
    assert bytes_of(scratch.network(other.fresh, 2).weights) == bytes_of(network.weights)


def test_frozen_features_and_what_is_exported_on_them_leave_the_backbone_as_it_is(
    what: Pretrained, source: Path, tmp_path: Path
) -> None:
    raw = images(12, 12, 3)
    extract(tmp_path / "features", networks.load_model(source), [what.layer], what.layer, raw, raw[:3])
    layer = chosen_layer(tmp_path / "features", "auto")
    assert layer == what.layer == "mean"
    features = read_features(tmp_path / "features", "auto")
    scaling = Scaling.of_pool(features.train)
    scaled = features.scaled(scaling)
    head = dense_head.Params(layer="auto", units=4, dropout=0.2, **SCHEDULE)
    probe = feature_extraction.Params(
        layer="auto", l2=(0.1,), l2_default=0.1, folds=2, enough_held_out=9, max_iterations=50, tolerance=1e-4
    )
    runs = [
        dense_head.start(features=scaled, classes=2, params=head, precision="float32")(DRAW),
        next(feature_extraction.fit([DRAW], features=scaled, params=probe)),
    ]
    body, path = partial(networks.backbone, networks.load_model(source), layer), tmp_path / "exported.keras"
    for run in runs:
        save_classifier(run.weights, path, body=body, scaling=scaling)
        exported = keras.models.load_model(path)
        assert norm_of(exported) == norm_of(networks.load_model(source))
        np.testing.assert_allclose(exported.predict(raw[:3], verbose=0), run.probabilities, atol=1e-5)
        assert exported.inputs[0].shape[1:] == (12, 12, 3)
        assert exported.inputs[0].dtype == "uint8"


def test_the_article_s_own_network_is_taken_at_its_last_map(tmp_path: Path) -> None:
    params = section(saved(article_cnn(), tmp_path / "source_model.h5"), range="0-1")
    what = load_pretrained(params, model_file.image_shape(params))
    kinds = [type(layer).__name__ for layer in what.model.layers if layer.name in what.layers]
    assert kinds == ["MaxPooling2D", "Dense"]
    assert what.layer == what.layers[0]  # as for the CNN of `cnn`: the last map, flattened
    assert networks.backbone(what.model, what.layer).output.shape == (None, 12 * 12 * 64)


# Heads, preprocessing and shapes


HEADS: dict[str, tuple[list[keras.layers.Layer], str | None, int, str]] = {  # tail; head, classes, last feature layer
    "dense": ([layers.Flatten(), layers.Dense(3, name="out")], "out", 3, "conv"),
    "dense softmax": ([layers.Flatten(), layers.Dense(3, "softmax", name="out")], "out", 3, "conv"),
    "dense, softmax": ([layers.Flatten(), layers.Dense(3, name="out"), layers.Softmax()], "out", 3, "conv"),
    "activation": (
        [layers.Flatten(), layers.Dense(3, name="out"), layers.Activation("softmax")],
        "out",
        3,
        "conv",
    ),
    "mean of a convolution": (
        [layers.Conv2D(3, 1, name="out"), layers.GlobalAveragePooling2D(), layers.Activation("softmax")],
        *("out", 3, "pooled"),
    ),
    "mean of a wide convolution": (  # is no matrix on the mean of what it takes: the head goes, without logits
        [layers.Conv2D(3, 3, padding="same", name="out"), layers.GlobalAveragePooling2D(), layers.Softmax()],
        *("out", 0, "pooled"),
    ),
    "SqueezeNet": (  # nor is the mean of what a ReLU gives
        [layers.Conv2D(3, 1, name="out"), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Softmax()],
        *("out", 0, "pooled"),
    ),
    "sigmoid of one": ([layers.Flatten(), layers.Dense(1, "sigmoid", name="out")], "out", 2, "conv"),
    "dense of one, sigmoid": (
        [layers.Flatten(), layers.Dense(1, name="out"), layers.Activation("sigmoid")],
        *("out", 2, "conv"),
    ),
    "sigmoid of two": ([layers.Flatten(), layers.Dense(2, "sigmoid", name="out")], "out", 2, "conv"),
    "convolution of a mean": (
        [layers.GlobalMaxPooling2D(keepdims=True, name="top"), layers.Conv2D(3, 1, name="out"), layers.Flatten()],
        *("out", 3, "top"),
    ),
    "hidden layer": ([layers.Flatten(), layers.Dense(3, "relu", name="hidden")], None, 0, "hidden"),
    "map": ([layers.ReLU()], None, 0, "pooled"),
    "bent map": ([layers.Conv2D(3, 1, activation="relu"), layers.GlobalAveragePooling2D(name="mean")], None, 0, "mean"),
}


def small(*tail: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), *tail])


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_is_found_where_there_is_one_and_a_map_is_pooled(tmp_path: Path, kind: str) -> None:
    tail, head, classes, last = HEADS[kind]
    model = small(*tail)
    what = load_pretrained(section(saved(model, tmp_path / "a.keras"), range="0-1"), (8, 8, 3))
    assert (what.head, what.classes, what.layers[-1]) == (head, classes, last)
    raw = images(8, 8, 3)
    expected = model.predict(raw / np.float32(255), verbose=0)
    given = logits(what, raw)
    if kind == "sigmoid of two":
        np.testing.assert_allclose(expit(given), expected, atol=1e-5)
    elif classes == 2:
        np.testing.assert_allclose(softmax(given, axis=1)[:, 1:], expected, atol=1e-5)
    elif classes:
        given = softmax(given, axis=1) if np.allclose(expected.sum(axis=1), 1) else given
        np.testing.assert_allclose(given, expected, rtol=1e-4)
    elif head is None:
        np.testing.assert_allclose(given, expected.reshape(8, -1, expected.shape[-1]).mean(axis=1), rtol=1e-4)


def test_where_a_head_is_not_clear_it_is_asked_for_and_removed_from_the_named_layer_on(tmp_path: Path) -> None:
    tail = [
        layers.Flatten(),
        layers.Dense(5, "relu", name="first"),
        layers.Dense(3),
        layers.BatchNormalization(name="n"),
    ]
    path = saved(small(*tail, layers.Softmax()), tmp_path / "a.keras")
    refused(lambda: load_pretrained(section(path, range="0-1"), (8, 8, 3)), "set source.head", "first", "source.layers")
    what = load_pretrained(section(path, range="0-1", head="first"), (8, 8, 3))
    assert (what.head, what.classes) == ("first", 0)
    assert what.layers == ["conv"]
    assert what.model.output.shape == (None, 6 * 6 * 4)
    whole = load_pretrained(section(saved(functional(), tmp_path / "b.keras"), head="head"), (12, 12, 3))
    assert (whole.head, whole.classes) == ("head_1", 3)  # what `auto` finds; `head` is a name of ours
    wrong = section(path, range="0-1", head="last")
    refused(lambda: load_pretrained(wrong, (8, 8, 3)), "source.head is 'last'", "layers are conv, flatten, first")


def test_a_softmax_is_never_a_feature_layer(tmp_path: Path) -> None:
    inner = small(layers.Flatten(), layers.Dense(6, name="inside"), layers.Softmax(name="sure"))
    tail = [layers.Dense(5, "softmax", name="probable"), layers.Dense(4, "relu", name="hidden"), layers.Dense(2)]
    path = saved(keras.Sequential([keras.Input((8, 8, 3)), inner, *tail]), tmp_path / "a.keras")
    what = load_pretrained(section(path, range="0-1"), (8, 8, 3))
    assert what.layers == ["conv", "inside", "hidden"]
    assert {"sure", "probable"}.isdisjoint(nameable(what.fresh))
    for name in ("sure", "probable", "float_image"):  # the last, a layer of ours, gives pixels
        wrong = section(path, range="0-1", layers=[name])
        refused(lambda wrong=wrong: load_pretrained(wrong, (8, 8, 3)), f"source.layers names {name!r}", "hidden")


@pytest.mark.parametrize(
    ("scale", "offset", "told"),
    [(1 / 255, 0, "inside"), (1 / 127.5, -1, "inside"), ([0.017, 0.018, 0.017], 0, "inside"), (2, -1, "0-1")],
)
def test_what_a_file_scales_by_itself_is_known_and_not_done_twice(
    tmp_path: Path, scale: Any, offset: float, told: str
) -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(scale, offset), layers.Conv2D(2, 3)])
    path = saved(model, tmp_path / "a.keras")
    agree(model, section(path), lambda raw: raw if told == "inside" else raw / 255)
    for pixels in ("0-1", "-1-1") if told == "inside" else ():
        words = f"source.range is {pixels}, but its layer rescaling", "leave source.range at auto"
        refused(lambda pixels=pixels: model_file.check(section(path, range=pixels)), *words)
    agree(model, section(path, range="0-255"), lambda raw: raw)


def test_where_a_file_may_scale_by_itself_a_range_holds(tmp_path: Path) -> None:
    normalise = layers.Normalization()
    normalise.adapt(images(8, 8, 3) / np.float32(255))
    model = keras.Sequential([keras.Input((8, 8, 3)), normalise, layers.Conv2D(2, 3)])
    model.save(path := tmp_path / "a.keras")
    agree(model, section(path, range="0-1"), lambda raw: raw / 255)
    agree(model, section(path), lambda raw: raw)
    unscaled = keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(1.0, 0.0), layers.Conv2D(2, 3)])
    path = saved(unscaled, tmp_path / "b.keras")
    refused(lambda: model_file.check(section(path)), "set source.range to 0-255, 0-1 or -1-1")


def test_from_scratch_pixels_are_small(tmp_path: Path) -> None:
    path = saved(keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3)]), tmp_path / "a.keras")
    scales = {"0-255": 1 / 127.5, "0-1": 1 / 255, "-1-1": 1 / 127.5}
    for pixels, scale in scales.items():
        what = load_pretrained(section(path, range=pixels), (8, 8, 3))
        assert what.fresh.get_layer("float_image").scale == pytest.approx(scale)
    assert load_pretrained(section(path, network="VGG16"), (8, 8, 3)).fresh.get_layer("float_image").offset == -1
    inside = saved(functional(), tmp_path / "b.keras")
    assert load_pretrained(section(inside), (12, 12, 3)).fresh.get_layer("float_image").scale == 1


def test_augmentation_is_left_out(tmp_path: Path) -> None:
    random = [layers.RandomFlip(), layers.RandomRotation(0.2), layers.RandomContrast(0.5)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *random, layers.Rescaling(1 / 255), layers.Conv2D(2, 3)])
    for suffix in ("keras", "h5"):
        what = agree(model, section(saved(model, tmp_path / f"a.{suffix}")), lambda raw: raw)
        assert not [layer for layer in what.fresh.layers if "random" in layer.name and layer.variables]


def agree(model: keras.Model, params: model_file.Params, prepare: Callable[[np.ndarray], np.ndarray]) -> Pretrained:
    """Take a model without a head over: raw pixels must give what the model gives for those that are prepared."""
    model_file.check(params)
    raw = images(*model.input_shape[1:])
    what = load_pretrained(params, raw.shape[1:])
    expected = model.predict(prepare(raw.astype(np.float32)), verbose=0).mean(axis=(1, 2))
    np.testing.assert_allclose(logits(what, raw), expected, rtol=1e-4, atol=1e-4)
    return what


def test_arithmetic_and_learnt_statistics_count_as_preprocessing(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Conv2D(2, 3)(keras.applications.mobilenet_v2.preprocess_input(image)))
    agree(model, section(saved(model, tmp_path / "a.keras")), lambda raw: raw)
    normalise = layers.Normalization()
    normalise.adapt(images(8, 8, 3).astype(np.float32))
    model = keras.Sequential([keras.Input((8, 8, 3)), normalise, layers.Conv2D(2, 3)])
    model.save(tmp_path / "b.keras")
    agree(model, section(tmp_path / "b.keras"), lambda raw: raw)


@pytest.mark.parametrize(
    ("network", "module"), [("ResNet50", "resnet50"), ("MobileNet", "mobilenet"), ("DenseNet121", "densenet")]
)
def test_a_network_s_own_preprocessing_is_that_of_keras_applications(network: str, module: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3)])  # its weights do not matter
    params = section(saved(model, tmp_path / "a.keras"), network=network)
    what = agree(model, params, getattr(keras.applications, module).preprocess_input)
    learns = [layer.name for layer in scratch.network(what.fresh, 2).build().layers if layer.weights]
    assert learns == ["conv2d", "logits"]  # in training from scratch preprocessing is the same, and learns nothing


def test_a_model_of_any_size_takes_that_of_the_data(tmp_path: Path) -> None:
    free = section(saved(functional(None), tmp_path / "free.keras"))
    assert model_file.image_shape(free) == (None, None, 3)
    assert load_pretrained(free, (16, 10, 3)).model.input.shape == (None, 16, 10, 3)


def test_images_without_an_axis_for_channels_are_grey(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((6, 6)), layers.Flatten(), layers.Dense(5, "relu", name="d"), layers.Dense(2)]
    )
    params = section(saved(model, tmp_path / "a.h5"), range="0-255")
    assert model_file.image_shape(params) == (6, 6, 1)
    what = load_pretrained(params, (6, 6, 1))
    assert (what.layers, what.layer) == (["d"], "d")  # not the pixels, which nothing has learnt
    raw = images(6, 6, 1)
    np.testing.assert_allclose(logits(what, raw), model.predict(raw[..., 0].astype("f4"), verbose=0), rtol=1e-4)


def test_layers_can_be_named(tmp_path: Path) -> None:
    path = saved(functional(), tmp_path / "a.keras")
    what = load_pretrained(section(path, layers=["hidden", "halved"]), (12, 12, 3))
    assert what.layers == ["halved", "hidden"]
    assert what.layer == "hidden"  # as the one that would be taken is not among them
    wrong = section(path, layers=["block2"])
    refused(
        lambda: load_pretrained(wrong, (12, 12, 3)),
        "source.layers names 'block2', which is no layer of the source model that gives",
    )


def test_what_the_section_says_of_a_model_needs_a_model() -> None:
    model_file.check(section("none"))
    assert model_file.image_shape(section("none")) is None
    refused(lambda: model_file.check(section("none", range="0-1")), "source.range is for a model of yours")


@pytest.mark.slow
def test_a_study_runs_from_a_model_of_one_s_own_whose_source_nobody_knows(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study")
    saved(functional(28), study.root / "own.keras")
    saved(article_cnn(), study.root / "own.h5")
    study.set(source__model="own.keras", data__source__name="none", split__shots=[1, 3])
    assert {"pretrain", "extract", "end_to_end", "scratch", "report"} <= set(study.repro())
    page = study.read("results/report.md").decode()
    assert "**Warning.** The source model gives 100% of the target's images the same one" in page
    facts = json.loads(study.read("models/source.json"))
    assert (facts["accuracy"], facts["validation_accuracy"], facts["layer"]) == (None, None, "mean")
    for strategy in ("feature_extraction", "dense_head", "end_to_end", "scratch"):
        exported = keras.models.load_model(study.root / f"models/{strategy}.keras")
        assert exported.input.shape == (None, 28, 28, 3)
        assert exported.input.dtype == "uint8"
    study.set(source__model="own.h5", source__range="0-1")
    assert study.repro("end_to_end") == ["convert", "split", "pretrain", "extract", "choose", "end_to_end"]
    assert keras.models.load_model(study.root / "models/end_to_end.keras").input.shape == (None, 28, 28, 1)
