"""Models that were taken away: opened with what they say of themselves, and asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import numpy as np

from transfer.console import UserError
from transfer.data.ground import CONTENT, background
from transfer.data.preprocessing import Preprocessing
from transfer.models.familiarity import Familiarity, read_familiarity, with_features
from transfer.models.metadata import Metadata, has_metadata, read_metadata
from transfer.models.networks import load_model
from transfer.models.safety import read_model_file
from transfer.serve.files import BEST

UNFAMILIAR = 0.05  # the largest p-value with which an image is called unfamiliar


@dataclass(frozen=True)
class Model:
    """A model that is ready to answer.

    Attributes:
        metadata: what it says of itself.
        preprocessing: of the images that it takes.
        familiarity: what its training images look like; None if it does not say.
        network: the Keras model.
        ask: gives the probabilities, (n, classes) float32, of images in uint8, (n, height, width, channels), and their
            features; may be called from several threads at once.
    """

    metadata: Metadata
    preprocessing: Preprocessing
    familiarity: Familiarity | None
    network: Any
    ask: Callable[[np.ndarray], list[np.ndarray]]

    @property
    def centres(self) -> bool:
        """Whether content can be told from the background in its images, and so be centred."""
        return self.preprocessing.channels == 1 and self.familiarity is not None and self.familiarity.plain

    def answer(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[list[str]]]:
        """What the model says of images in uint8, (n, height, width, channels), and what is unlike its training images.

        Returns:
            Probabilities, (n, classes) float32; p-values, (n,), for `unfamiliar`, 1 where `familiarity` is None; and
            what is doubtful of each image, in words that follow its name and "is".
        """
        probabilities, features = self.ask(images)
        known = self.familiarity
        if known is None:
            return probabilities, np.ones(len(images)), [[] for _ in images]
        grey = images.mean(axis=3, dtype=np.float32)
        here, usual = background(grey), known.background
        inverted = np.abs(255 - usual[50] - here) < np.abs(usual[50] - here)
        other = (here < usual[0] - CONTENT / 2) | (here > usual[100] + CONTENT / 2)
        shade = "light" if known.dark else "dark"
        found = {
            f"on a {shade} background, unlike the training images: invert it, or leave it as it was": (
                inverted & known.plain
            ),
            "on another background than the training images: centre it": other & ~inverted & self.centres,
            "nearly blank: its contrast is less than half of what 99 % of the training images have": (
                grey.std(axis=(1, 2)) < known.contrast[1] / 2
            ),
        }
        doubts = [[words for words, where in found.items() if where[row]] for row in range(len(images))]
        return probabilities, known.p_values(features), doubts


def unfamiliar(p_values: Sequence[float]) -> list[str]:
    """The doubt that an image is of none of the classes, if there is: words that follow its name and "is".

    Args:
        p_values: of the image, one from every model that was asked; their harmonic mean counts (Wilson 2019).
    """
    if harmonic_mean(p_values) > UNFAMILIAR:
        return []
    return [f"farther from every class than {1 - UNFAMILIAR:.0%} of the training images; it may belong to none"]


def open_model(path: Path) -> Model:
    """Load a model; nothing in the file is executed.

    Raises:
        UserError: if it is missing, damaged, names code, or does not say what it takes and gives.
    """
    metadata = read_metadata(path)
    try:
        preprocessing = Preprocessing.from_text(metadata.preprocessing)
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{path} was saved with preprocessing that is not known here: make it again by `dvc repro`"
        ) from None
    read_model_file(path)  # which lets no code through, whoever made the file
    network = load_model(path)
    return Model(metadata, preprocessing, read_familiarity(path), network, with_features(network))


def open_folder(folder: Path) -> tuple[list[Model], str]:
    """Load the models of a folder, by the names of their files, and tell which is the best.

    Files that do not say what they are, such as that of the source model, are skipped.

    Returns:
        One model per strategy; the strategy whose model is in `best.keras`, empty if there is no such file.

    Raises:
        UserError: if there is none, if one is damaged, or if two are of the same strategy.
    """
    models: dict[str, Model] = {}
    for path in sorted(folder.glob("*.keras")):
        if path.name != BEST and has_metadata(path):
            model = open_model(path)
            if model.metadata.strategy in models:
                raise UserError(f"{folder} holds two models of {model.metadata.strategy}: move {path.name} elsewhere")
            models[model.metadata.strategy] = model
    if not models:
        raise UserError(f"{folder} holds no model of this study: run `dvc repro`, or name a folder with --models")
    best = folder / BEST
    return list(models.values()), read_metadata(best).strategy if best.is_file() else ""


def ranked(probabilities: np.ndarray, classes: Sequence[str], top: int | None = None) -> list[dict[str, Any]]:
    """The most probable classes, most probable first; of equal ones the first in the model's order.

    Args:
        probabilities: of one image, (classes,) float32.
        classes: their names.
        top: how many to give, all if None.

    Returns:
        `class` and `probability`, rounded to 6 decimals, of each; ready for JSON.
    """
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [{"class": classes[index], "probability": round(float(probabilities[index]), 6)} for index in order]
