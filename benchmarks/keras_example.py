"""The classic Keras transfer example, as its recipe goes: one run, to time beside the whole study.

Source digits 0-4, target digits 5-9, all labels of both: two 3×3 convolutions of 32 filters, max pooling, dropout,
a dense layer of 128; batches of 128; 5 epochs on the source, then the convolutions are frozen and 5 epochs are
spent on the target. The recipe's `adadelta` had a default rate of 1.0 then and 0.001 now, with which it no longer
learns; Adam stands in its place. Written anew from the recipe of `mnist_transfer_cnn.py` (keras-team, Apache 2.0).

    python -m benchmarks.keras_example    # after `make repro`, which downloads the data
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from transfer.console import run
from transfer.files import read_arrays
from transfer.models.backend import keras


def main() -> None:
    """Run the recipe and print its test accuracies; a number on the command line stands for its 5 epochs."""
    epochs = int(sys.argv[1]) if sys.argv[1:] else 5
    data = read_arrays(Path("data/raw/mnist.npz"))
    keras.utils.set_random_seed(0)
    features = [
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Dropout(0.25),
        keras.layers.Flatten(),
    ]
    head = [
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(5, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((28, 28, 1)), *features, *head])

    def fit(first_class: int) -> float:
        part = {}
        for name in ("train", "test"):
            labels = data[f"{name}_labels"]
            kept = (labels >= first_class) & (labels < first_class + 5)
            images = data[f"{name}_images"][kept][..., np.newaxis].astype("float32") / 255
            part[name] = images, keras.utils.to_categorical(labels[kept] - first_class, 5)
        model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
        model.fit(*part["train"], batch_size=128, epochs=epochs, verbose=0, validation_data=part["test"])
        return model.evaluate(*part["test"], verbose=0)[1]

    source = fit(0)
    for layer in features:
        layer.trainable = False
    print(json.dumps({"source": source, "target": fit(5)}))


if __name__ == "__main__":
    run(main)
