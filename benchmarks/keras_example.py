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
import time
from pathlib import Path

from transfer.basics.arrays import read_arrays
from transfer.basics.console import run

EPOCHS, BATCH = 5, 128


def main() -> None:
    """Run the recipe and print its accuracies and its time; a number on the command line stands for its 5 epochs."""
    start = time.monotonic()
    epochs = int(sys.argv[1]) if sys.argv[1:] else EPOCHS
    import numpy as np

    from transfer.networks.backend import keras

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

    def fit(task: str, first_class: int) -> float:
        part = {}
        for name in ("train", "test"):
            labels = data[f"{name}_labels"]
            kept = (labels >= first_class) & (labels < first_class + 5)
            images = data[f"{name}_images"][kept][..., np.newaxis].astype("float32") / 255
            part[name] = images, keras.utils.to_categorical(labels[kept] - first_class, 5)
        model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
        began = time.monotonic()
        model.fit(*part["train"], batch_size=BATCH, epochs=epochs, verbose=0, validation_data=part["test"])
        _, accuracy = model.evaluate(*part["test"], verbose=0)
        print(f"{task}: test accuracy {accuracy:.4f}, {time.monotonic() - began:.1f} s", flush=True)
        return accuracy

    source = fit("source 0-4", 0)
    for layer in features:
        layer.trainable = False
    target = fit("target 5-9", 5)
    print(f"whole run, imports included: {time.monotonic() - start:.1f} s", flush=True)
    print(json.dumps({"source_accuracy": source, "target_accuracy": target}))


if __name__ == "__main__":
    run(main)
