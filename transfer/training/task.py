"""What a strategy is given: the target task and the source model, read from their files when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from transfer.console import some
from transfer.data.predictions import Predictions
from transfer.data.target import Draw, Target, read_target
from transfer.files import read_arrays, read_facts, read_record
from transfer.models.backend import keras
from transfer.models.features import Features, Scaling, read_features
from transfer.models.networks import Network, backbone, load_model, under_own_head
from transfer.params import Section
from transfer.training.precision import Precision
from transfer.training.runs import Export


@dataclass(frozen=True)
class Prepared:
    """A strategy with its data.

    Attributes:
        start: returns what trains: a function of one draw for strategies in TensorFlow, which is called once in every
            thread; for those in scikit-learn, `start` is itself the function of all draws and a number of `workers`.
            Its arguments, with the code, are what remembered runs are known by.
        export: writes a model file from a run's weights.
        params: the strategy's section with what `auto` stood for; None where that is known before.
        draws: what runs are trained on in the place of `Target.runs()`, in its order; None for those.
    """

    start: partial[Any]
    export: Export
    params: Section | None = None
    draws: list[Draw] | None = None


class UnsuitableError(Exception):
    """A strategy cannot be run on a task; says why, as part of a sentence."""


@dataclass(frozen=True)
class Task:
    """The target task without its test labels, and the source model.

    Attributes:
        precision: what networks are trained in.
        data, models: folders that the stages before have written.
        wanted: shots and seed of every run, (runs, 2) int32, in the place of the target's own; None for those.
        others: folder of what other strategies have left of these runs; None for `data/predictions`.
    """

    precision: Precision
    data: Path = Path("data")
    models: Path = Path("models")
    wanted: np.ndarray | None = None
    others: Path | None = None

    @property
    def source_file(self) -> Path:
        """The source model's file."""
        return self.models / "source.keras"

    @cached_property
    def target(self) -> Target:
        """The target's images and label draws."""
        target = read_target(self.data / "target_train", self.data / "chosen.npz")
        return target if self.wanted is None else replace(target, wanted=self.wanted)

    @property
    def classes(self) -> int:
        """The number of target classes."""
        return len(self.target.classes)

    def source(self) -> keras.Model:
        """The source model, from raw images to its logits."""
        return load_model(self.source_file)

    def backbone(self, layer: str) -> keras.Model:
        """The source model from raw images to one of its layers, flat."""
        return backbone(self.source(), layer)

    def under_own_head(self) -> Network | None:
        """The source model, from raw images to logits of the target's classes; None where it does not know them."""
        known = read_facts(self.models / "source.json")["classes"]
        return under_own_head(self.source(), known, self.target.classes.tolist())

    @property
    def unknown_classes(self) -> str:
        """Why there is nothing `under_own_head`, as part of a sentence."""
        return f"the source model does not know the target's classes ({some(self.target.classes.tolist(), 10)})"

    def predictions(self, strategy: str) -> Predictions:
        """What another strategy has left of these runs; of none where it could not be run."""
        given = read_record((self.others or self.data / "predictions") / f"{strategy}.npz", Predictions)
        row_of = {run: row for row, run in enumerate(zip(given.shots.tolist(), given.seed.tolist(), strict=True))}
        return given.take([row_of[shots, seed] for shots, seed in self.target.wanted.tolist()]) if row_of else given

    def untrained(self) -> keras.Model:
        """The layers of the source model without its weights and its head."""
        return keras.Model.from_config(read_facts(self.models / "network.json"))

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """The images to draw from, and those to give probabilities for, (n, height, width, channels) uint8 each."""
        test = read_arrays(self.data / "target_test_images.npz")["images"]
        return self.target.images, self.target.to_predict(test, self.target.images)

    def features(self, layer: str) -> tuple[Features, Scaling]:
        """Frozen features of a layer, scaled; `test` is of the images to give probabilities for. And their scaling."""
        features = read_features(self.data / "features", layer)
        scaling = Scaling.of_pool(features.train)
        scaled = features.scaled(scaling)
        return replace(scaled, test=self.target.to_predict(scaled.test, scaled.train)), scaling
