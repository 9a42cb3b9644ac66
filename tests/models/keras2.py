"""Write models as Keras 2 does, and what they give for `images.npy`; run as a program, as it must not meet Keras 3."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tf_keras as keras

layers = keras.layers
SHAPE = (16, 16, 3)


def inner() -> keras.Model:
    image = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, use_bias=False, name="block/conv")(image)
    x = layers.DepthwiseConv2D(3)(layers.BatchNormalization()(x))
    return keras.Model(image, layers.ReLU(6.0)(x), name="inner")


def convolutions() -> keras.Model:
    """Every kind of convolution; the first layer alone says what the model takes."""
    return keras.Sequential(
        [
            layers.Conv2D(4, 3, input_shape=SHAPE),
            layers.DepthwiseConv2D(3),
            layers.SeparableConv2D(4, 3),
            layers.Conv2DTranspose(4, 3),
            layers.LeakyReLU(0.1),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )


def functional_in_sequential() -> keras.Model:
    return keras.Sequential([inner(), layers.Flatten(), layers.Dense(3)])


def functional_in_functional() -> keras.Model:
    image = keras.Input(SHAPE)
    x = layers.GlobalAveragePooling2D()(inner()(image, training=False))
    return keras.Model(image, layers.Dense(3)(layers.Dropout(0.2)(x)))


def called_twice() -> keras.Model:
    image, shared = keras.Input(SHAPE), keras.Sequential([layers.Conv2D(3, 3, padding="same", input_shape=SHAPE)])
    return keras.Model(image, shared(layers.Add()([image, shared(image)])))


def teachable_machine() -> keras.Model:
    head = [layers.Dense(5, "relu", input_shape=(4,)), layers.Dense(3, use_bias=False)]
    return keras.Sequential([keras.Sequential([inner(), layers.GlobalAveragePooling2D()]), keras.Sequential(head)])


def augmented() -> keras.Model:
    image = keras.Input(SHAPE)
    x = layers.RandomZoom(0.1)(layers.RandomFlip()(layers.Rescaling(1 / 255)(image)))
    x = layers.Resizing(*SHAPE[:2])(layers.RandomWidth(0.1)(layers.RandomHeight(0.1)(x)))
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(layers.Conv2D(4, 3)(x))))


def normalised() -> keras.Model:
    image = keras.Input(SHAPE)
    x = layers.Normalization()(layers.Rescaling(1 / 255)(image))
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


def tutorial(module: str) -> Callable[[], keras.Model]:
    """As TensorFlow's guide to transfer learning builds it: augmentation, `preprocess_input`, a network, a head."""

    def build() -> keras.Model:
        image = keras.Input(SHAPE)
        x = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.2)], name="augmentation")(image)
        x = getattr(keras.applications, module).preprocess_input(x)
        x = layers.GlobalAveragePooling2D()(inner()(x, training=False))
        return keras.Model(image, layers.Dense(3)(layers.Dropout(0.2)(x)))

    return build


def arithmetic() -> keras.Model:
    """With numbers, inside a model too, as in MobileNetV3."""
    image, within = keras.Input(SHAPE), keras.Input(SHAPE)
    inside = keras.Model(within, layers.ReLU(6.0)(within * 4 + 3.0) * (1 / 6) - 0.2)
    return keras.Model(image, layers.Flatten()(layers.Multiply()([image, inside(image / 255.0)])))


def an_operation() -> keras.Model:
    image = keras.Input(SHAPE)
    return keras.Model(image, layers.Flatten()(image**0.5))


def two_paths() -> keras.Model:
    """Where `preprocess_input` is not all that happens to the pixels."""
    image = keras.Input(SHAPE)
    return keras.Model(image, layers.Add()([image, keras.applications.mobilenet_v2.preprocess_input(image)]))


BUILDERS = (convolutions, functional_in_sequential, functional_in_functional, called_twice, teachable_machine)
MODELS = {build.__name__: build for build in (*BUILDERS, augmented, normalised, arithmetic, two_paths, an_operation)}
MODELS |= {name: tutorial(name) for name in ("mobilenet_v2", "densenet", "resnet50")}


def write(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype(np.float32)
    np.save(folder / "images.npy", images)
    for name, build in MODELS.items():
        rng = np.random.default_rng(1)
        model = build()
        model.set_weights(
            [rng.uniform(-0.4, 0.4, value.shape).astype(value.dtype) ** 2 for value in model.get_weights()]
        )
        np.save(folder / f"{name}.npy", model.predict(images, verbose=0))
        model.save(folder / f"{name}.h5")
        if name != "resnet50":  # an ellipsis that Keras 2 itself cannot write
            model.save(folder / f"{name}.keras")
    keras.mixed_precision.set_global_policy("mixed_float16")
    mixed = functional_in_functional()
    keras.mixed_precision.set_global_policy("float32")
    mixed.set_weights(keras.models.load_model(folder / "functional_in_functional.h5").get_weights())
    for suffix in ("h5", "keras"):
        mixed.save(folder / f"mixed.{suffix}")
    mixed.save_weights(folder / "weights.h5")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
