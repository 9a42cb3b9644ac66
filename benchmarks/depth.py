"""How high a peak rate networks of several depths survive in fine-tuning: the rule behind `peak_rate: auto`.

    python -m benchmarks.depth 0.004 0.001 0.0005    # one to two hours on two cores

Three networks learn five classes of CIFAR-10, and are fine-tuned on few labels of the five others. Only training images
are used, some of them to score. Downloads CIFAR-10.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from transfer.console import run, say
from transfer.data.download import Params as Download
from transfer.data.download import fetch
from transfer.data.target import few_shot
from transfer.models import model_file
from transfer.models.backend import keras
from transfer.models.pretrained import load_pretrained
from transfer.params import read_section
from transfer.strategies import end_to_end, scratch
from transfer.training import fine_tuning
from transfer.training.threads import set_threads

layers = keras.layers
SHOTS, SEEDS = [1, 10, 50], 4
KNOWN, POOL, SCORED = 5, 2500, 1000  # classes of the source; images of the others to draw from, and to score


def plain(x: keras.KerasTensor, widths: list[int], depth: int) -> keras.KerasTensor:
    """Convolutions and pooling, then a dense layer, as LeNet and VGG have it."""
    for width in widths:
        for _ in range(depth):
            x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    return layers.Dense(128, activation="relu")(layers.Flatten()(x))


def residual(x: keras.KerasTensor, widths: list[int], depth: int) -> keras.KerasTensor:
    """Residual blocks with batch normalisation first (He et al. 2016, section 4.1)."""
    x = layers.Conv2D(widths[0], 3, padding="same")(x)
    for width in widths:
        for number in range(depth):
            stride = 2 if number == 0 and width > widths[0] else 1
            y = layers.ReLU()(layers.BatchNormalization()(x))
            beside = layers.Conv2D(width, 1, strides=stride)(y) if number == 0 else x
            y = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False)(y)
            y = layers.ReLU()(layers.BatchNormalization()(y))
            x = layers.Add()([beside, layers.Conv2D(width, 3, padding="same")(y)])
    return layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))


NETWORKS = {"LeNet": (plain, [32, 64], 1), "VGG": (plain, [24, 48, 96], 3), "ResNet": (residual, [16, 32, 64], 4)}


def main() -> None:
    """Train each network, and print the accuracy of every strategy by rate and labels."""
    rates = [*map(float, sys.argv[1:])] or [0.004, 0.001, 0.0005]
    set_threads(2)
    arrays, _ = fetch("cifar10", read_section("download", Download))
    images, labels = arrays["train_images"], arrays["train_labels"].astype(np.int32)
    known = np.flatnonzero(labels < KNOWN)
    others = np.random.default_rng(0).permutation(np.flatnonzero(labels >= KNOWN))
    pool, scored = others[:POOL], others[POOL : POOL + SCORED]
    target = few_shot(images[pool], labels[pool] - KNOWN, [*"56789"], SHOTS, SEEDS)
    for name, (body, widths, depth) in NETWORKS.items():
        image = keras.Input(images.shape[1:])
        features = body(layers.Rescaling(1 / 127.5, -1)(image), widths, depth)
        model = keras.Model(image, layers.Dense(KNOWN, activation="softmax")(features))
        model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
        model.fit(images[known], labels[known], batch_size=64, epochs=5, verbose=0)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.keras")
            model.save(file)
            section = model_file.Params(model=str(file), network="none", range="auto", head="auto", layers="auto")
            given = load_pretrained(section, images.shape[1:])
        networks = {"end_to_end": end_to_end.network(given.model, 5), "scratch": scratch.network(given.fresh, 5)}
        for strategy, network in networks.items():
            params = read_section(strategy, fine_tuning.Params)
            for rate in dict.fromkeys([params.suited_to(network).peak_rate, *rates]):
                fit = fine_tuning.start(
                    network=network,
                    initial_weights=fine_tuning.at_random if strategy == "scratch" else fine_tuning.as_given,
                    images=target.images,
                    to_predict=images[scored],
                    params=params.model_copy(update={"peak_rate": rate}),
                    precision="float32",
                )
                predicted = [fit(draw).probabilities.argmax(axis=1) for draw in target.runs()]
                right = [(classes == labels[scored] - KNOWN).mean() for classes in predicted]
                means = 100 * np.reshape(right, (len(SHOTS), SEEDS)).mean(axis=1)
                found = ", ".join(f"{mean:.1f} % at {count}" for mean, count in zip(means, SHOTS, strict=True))
                say(f"{name} {strategy}, peak rate {rate:g}: {found}")


if __name__ == "__main__":
    run(main)
