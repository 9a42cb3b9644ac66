"""The built-in data sets: what each is, and its images and labels as the stage `download` left them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from transfer.console import UserError
from transfer.data.quickdraw import CLASSES as DRAWINGS
from transfer.files import read_arrays


@dataclass(frozen=True)
class BuiltIn:
    """A built-in data set.

    Attributes:
        title: what people call it.
        shape: height, width and channels of its images.
        classes: names, in the order of the labels.
        split: whether it has official test images.
        images: how many there are of each class to train on or, without official test images, in all.
        credit: who made it, and where it was described.
        licence: of the data.
    """

    title: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    split: bool
    images: tuple[int, ...]
    credit: str
    licence: str


OWN = ("folder", "npz")  # names in their place, of images of one's own
NONE = "none"  # and of a source that nobody knows
_DIGITS = tuple("0123456789")

SETS: Mapping[str, BuiltIn] = MappingProxyType(
    {
        "mnist": BuiltIn(
            title="MNIST",
            shape=(28, 28, 1),
            classes=_DIGITS,
            split=True,
            images=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
            credit="Yann LeCun, Corinna Cortes and Christopher J. C. Burges, after NIST Special Databases 1 and 3",
            licence="CC BY-SA 3.0",
        ),
        "fashion_mnist": BuiltIn(
            title="Fashion-MNIST",
            shape=(28, 28, 1),
            classes=(
                *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
                *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
            ),
            split=True,
            images=(6000,) * 10,
            credit="Han Xiao, Kashif Rasul and Roland Vollgraf, Zalando Research, arXiv:1708.07747",
            licence="MIT",
        ),
        "quickdraw": BuiltIn(
            title="Quick, Draw!",
            shape=(28, 28, 1),
            classes=DRAWINGS,
            split=False,
            images=(100,) * len(DRAWINGS),
            credit="Google, The Quick, Draw! Dataset; 100 drawings of each class, selected by Thomas Wagenaar",
            licence="CC BY 4.0",
        ),
        "cifar10": BuiltIn(
            title="CIFAR-10",
            shape=(32, 32, 3),
            classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            split=True,
            images=(5000,) * 10,
            credit="Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            licence="none stated",
        ),
        "digits": BuiltIn(
            title="Digits",
            shape=(8, 8, 1),
            classes=_DIGITS,
            split=False,
            images=(178, 182, 177, 183, 181, 182, 181, 179, 174, 180),
            credit="Ethem Alpaydın and Cenk Kaynak, Optical Recognition of Handwritten Digits, its test images",
            licence="CC BY 4.0",
        ),
    }
)


@dataclass(frozen=True)
class Raw:
    """All images of a data set.

    Attributes:
        train_images: (n, height, width, channels) uint8.
        train_labels: (n,) int32, index into the classes.
        test_images, test_labels: the same of the official test images; None where there are none.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray | None
    test_labels: np.ndarray | None


def read_set(name: str, folder: Path) -> Raw:
    """Read a built-in data set.

    Args:
        name: of the data set, from `SETS`.
        folder: that the stage `download` wrote, `data/raw`; `digits` is in scikit-learn and needs none.

    Raises:
        UserError: if its file is missing, damaged or holds something else.
    """
    about = SETS[name]
    if name == "digits":
        arrays = _read_digits()
    else:
        halves = ("train", "test") if about.split else ("train",)
        path = folder / f"{name}.npz"
        arrays = read_arrays(path, *(f"{half}_{kind}" for half in halves for kind in ("images", "labels")))
        for half in halves:
            if problem := _problem(arrays[f"{half}_images"], arrays[f"{half}_labels"], about):
                raise UserError(f"{path} does not hold {about.title} ({problem}): delete it and run `dvc repro`")
    return Raw(
        train_images=arrays["train_images"].reshape(-1, *about.shape),
        train_labels=arrays["train_labels"].astype(np.int32),
        test_images=arrays["test_images"].reshape(-1, *about.shape) if about.split else None,
        test_labels=arrays["test_labels"].astype(np.int32) if about.split else None,
    )


def _problem(images: np.ndarray, labels: np.ndarray, about: BuiltIn) -> str | None:
    """What is wrong with a file's arrays, if anything."""
    height, width, channels = about.shape
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels)[: 2 if channels == 1 else 3]:
        return f"images {images.shape} {images.dtype}"
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        return f"labels {labels.shape} {labels.dtype}"
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(about.classes):
        return f"labels from {labels.min()} to {labels.max()}"
    return None


def _read_digits() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits  # two seconds, for this data set alone

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16))  # 0 to 16; a half, of 8, to even
    return {"train_images": images.astype(np.uint8), "train_labels": digits.target}
