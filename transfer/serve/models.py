"""Models that were taken away: opened with what they say of themselves, and asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transfer.console import UserError
from transfer.data.preprocessing import Preprocessing
from transfer.models.familiarity import DOUBTS, Familiarity, read_familiarity, with_features
from transfer.models.metadata import Metadata, has_metadata, read_metadata
from transfer.models.networks import load_model, predictor
from transfer.models.safety import read_model_file

BEST = "best.keras"  # a copy of the recommended strategy's model


@dataclass(frozen=True)
class Model:
    """A model that is ready to answer.

    Attributes:
        metadata: what it says of itself.
        preprocessing: of the images that it takes.
        familiarity: what its training images look like; None if it does not say.
        network: the Keras model.
        ask: gives the probabilities, (n, classes) float32, of images in uint8, (n, height, width, channels), and, where
            there is `familiarity`, their features; may be called from several threads at once.
    """

    metadata: Metadata
    preprocessing: Preprocessing
    familiarity: Familiarity | None
    network: Any
    ask: Callable[[np.ndarray], list[np.ndarray]]

    @property
    def centres(self) -> bool:
        """Whether content can be told from ground in its images, and so be centred."""
        return self.preprocessing.channels == 1 and self.familiarity is not None and self.familiarity.plain

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Of images in uint8, (n, height, width, channels), as (n, classes) float32."""
        return self.ask(images)[0]

    def answer(self, images: np.ndarray, flag: str = "--") -> tuple[np.ndarray, np.ndarray, list[dict[str, str]]]:
        """The same, and what is unlike the training images.

        Args:
            images: to be told.
            flag: what stands before the words invert and centre where they are advised.

        Returns:
            Probabilities; which part of the training images is as far from every class, (n,), 1 if that is not known;
            and of each image, by the keys of `familiarity.DOUBTS`, words that follow its name and "is".
        """
        probabilities, *features = self.ask(images)
        if self.familiarity is None:
            return probabilities, np.ones(len(images)), [{} for _ in images]
        found = self.familiarity.doubts(images, *features)
        words = [{name: DOUBTS[name].format(flag) for name in each} for each in found]
        return probabilities, self.familiarity.as_far(*features), words


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
    familiarity = read_familiarity(path)
    network = load_model(path)
    ask = with_features(network) if familiarity else predictor(network)
    return Model(metadata, preprocessing, familiarity, network, ask)


def open_folder(folder: Path) -> tuple[list[Model], str]:
    """Load the models of a folder, by the names of their files, and tell which is the best.

    Files that do not say what they are, such as that of the source model, are passed over.

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
