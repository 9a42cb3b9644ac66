"""The built-in data sets: what each is, its SHA-256, and its images as the stage `download` left them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer.files import read_arrays

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
OWN = ("folder", "npz")  # names in the place of a data set's, of images of one's own
NONE = "none"  # and of a source that nobody knows


@dataclass(frozen=True)
class BuiltIn:
    """A built-in data set.

    Attributes:
        title: what people call it.
        shape: height, width and channels of its images.
        classes: names, in the order of the labels.
        sha256: the `fingerprint` of each of the `ARRAYS`; None where nothing is downloaded.
    """

    title: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    sha256: tuple[str, str, str, str] | None


SETS: dict[str, BuiltIn] = {
    "mnist": BuiltIn(
        title="MNIST",
        shape=(28, 28, 1),
        classes=tuple("0123456789"),
        sha256=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion_mnist": BuiltIn(
        title="Fashion-MNIST",
        shape=(28, 28, 1),
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        sha256=(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    "cifar10": BuiltIn(
        title="CIFAR-10",
        shape=(32, 32, 3),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        sha256=(
            "51c15db370c309e9aa60cf71f835f2ba0f430ea3653f7512d833c9a8e90e0d65",
            "1a4c5fb4e1cab2caa8eee134c093de84d620899e907756e71736fb7b0d4ab554",
            "fc19aa23c64482c6def2138377986c67b6b3a50f8e8c4c6a759b296dc751fa64",
            "987e01129ceec0098f1e9d9404cff9fa82ad3d15383a61e8ec60ff20ffe6db40",
        ),
    ),
    "digits": BuiltIn(title="Digits", shape=(8, 8, 1), classes=tuple("0123456789"), sha256=None),
}


def fingerprint(array: np.ndarray) -> str:
    """The SHA-256 of a uint8 array written as a raw IDX file, the form that MNIST was published in.

    The header is two zeros, 8 for unsigned bytes, the rank, and each size as 32 bits, big-endian: the shape counts too.
    """
    digest = hashlib.sha256(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_set(name: str, folder: Path) -> dict[str, np.ndarray]:
    """Read a built-in data set.

    Args:
        name: of the data set, from `SETS`.
        folder: that the stage `download` wrote, `data/raw`; `digits` is in scikit-learn and needs none.

    Returns:
        The `ARRAYS` by their names, uint8: images (n, height, width, channels), labels (n,). `digits` has none to test.

    Raises:
        UserError: if its file is missing or damaged.
    """
    if name == "digits":
        from sklearn.datasets import load_digits  # two seconds, for this data set alone

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 0 to 16; a half, of 8, to even
        return {"train_images": images[..., np.newaxis], "train_labels": digits.target.astype(np.uint8)}
    arrays = read_arrays(folder / f"{name}.npz", *ARRAYS)
    for half in ("train", "test"):
        arrays[f"{half}_images"] = arrays[f"{half}_images"].reshape(-1, *SETS[name].shape)
    return arrays
