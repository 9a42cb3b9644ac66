"""Predictions for every test image, beside the table of runs: what the comparison counts and the report draws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

LABELS, UNLABELLED, SOURCE_MODEL = "labels", "unlabelled images", "source model"  # what a strategy can need
# Counts, of every run.
COSTS = ("trainable_parameters", "gradient_steps", "examples_seen", "unlabelled_images", "model_bytes")


@dataclass(frozen=True)
class Outcomes:
    """The runs of every strategy, image by image; made by `evaluate`, and for `report` alone, as the labels are in it.

    Attributes:
        strategy: of each run, (runs,) str.
        shots: labelled images per class of each run, (runs,) int32.
        seed: of each run's draw, (runs,) int32.
        collapsed: whether it gives nearly every image the same class, (runs,) bool.
        predicted: the most probable class, (runs, test images) int16.
        confidence: its probability, (runs, test images) float32.
        scaled: the same after temperature scaling, NaN without a temperature, (runs, test images) float32.
        labels: true classes of the test images, (test images,) int32.
        classes: what the user calls the classes, (classes,).
        made_with: parameters and versions of every strategy, by its name, as JSON, () str.
        looks: numbers of draws after which strategies can be dropped, ascending, (looks,) int32; one where none can.
    """

    strategy: np.ndarray
    shots: np.ndarray
    seed: np.ndarray
    collapsed: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    scaled: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    made_with: np.ndarray
    looks: np.ndarray


@dataclass(frozen=True)
class Correct:
    """Which test images every run gets right; kept in Git beside the table of runs, as what intervals are made from.

    Attributes:
        strategy: of each run, (runs,) str.
        shots: labelled images per class of each run, (runs,) int32.
        seed: of each run's draw, (runs,) int32.
        collapsed: whether it gives nearly every image the same class, (runs,) bool.
        images: the number of test images, () int64.
        bits: 1 where a run is right, eight images to a byte (`numpy.packbits`), (runs, images / 8 rounded up) uint8.
        needs: what every strategy needs, by its name, as JSON, () str.
        looks: as of `Outcomes`.
        draw: digest of the first label draw, () str.
        seen: numbers of draws with which there were results before, of a study with the same first draw, (k,) int32.
    """

    strategy: np.ndarray
    shots: np.ndarray
    seed: np.ndarray
    collapsed: np.ndarray
    images: np.ndarray
    bits: np.ndarray
    needs: np.ndarray
    looks: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))  # an older revision has none of these
    draw: np.ndarray = field(default_factory=lambda: np.array(""))
    seen: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))

    @classmethod
    def of(cls, outcomes: Outcomes) -> Self:
        """The part of what evaluation found that is kept in Git."""
        needs = {name: made["needs"] for name, made in json.loads(str(outcomes.made_with)).items()}
        return cls(
            strategy=outcomes.strategy,
            shots=outcomes.shots,
            seed=outcomes.seed,
            collapsed=outcomes.collapsed,
            images=np.array(len(outcomes.labels)),
            bits=np.packbits(outcomes.predicted == outcomes.labels, axis=1),
            needs=np.array(json.dumps(needs)),
            looks=outcomes.looks,
        )

    def after(self, kept: Mapping[str, np.ndarray]) -> Self:
        """The same, with what was seen before it: results of the same draws, but of other numbers of them.

        Args:
            kept: what was kept of the study before this, an array for each attribute; none if there was none.
        """
        if str(kept.get("draw")) != str(self.draw):
            return self
        looks, before = self.looks.tolist(), kept["looks"].tolist()
        seen = {*kept["seen"].tolist()} | ({before[-1]} if before != looks else set())
        if len(looks) == 1:
            seen -= {*looks}
        return replace(self, seen=np.array(sorted(seen), np.int32))

    def runs_of(self, strategy: str, shots: int) -> np.ndarray:
        """The rows of the runs of a strategy and budget, by ascending seed, (draws,) int64."""
        rows = np.flatnonzero((self.strategy == strategy) & (self.shots == shots))
        return rows[np.argsort(self.seed[rows])]

    def right(self, rows: np.ndarray) -> np.ndarray:
        """1 where the runs of some rows are right and 0 where wrong, (rows, images) int8."""
        return np.unpackbits(self.bits[rows], axis=1, count=int(self.images)).astype(np.int8)


@dataclass(frozen=True)
class Probes:
    """What the layers of the source model know of the test images; no label is in it.

    Attributes:
        names: of the layers, from the image on, (layers,) str.
        shots: labelled images per class of the probes, () int32.
        rows: which test images were probed, (images,) int64.
        predicted: what the probes take them for, (layers, seeds, images) int16.
        notes: what is doubtful about the source model on the target's images, (sentences,) str.
    """

    names: np.ndarray
    shots: np.ndarray
    rows: np.ndarray
    predicted: np.ndarray
    notes: np.ndarray

    def merged(self, folds: np.ndarray) -> Self:
        """Those of every repetition of a cross-validation, as one seed: of each image by the probe that lacked it.

        Args:
            folds: in which fold each image is tested, (repetitions, images) int32, where the probe of seed
                `repetition × folds + fold` lacks that fold; of no repetition, the probes stay as they are.
        """
        if not len(folds):
            return self
        layers, _, images = self.predicted.shape
        by_fold = self.predicted.reshape(layers, len(folds), -1, images)  # layers, repetitions, folds, images
        tested = folds[np.newaxis, :, np.newaxis, self.rows]
        return replace(self, predicted=np.take_along_axis(by_fold, tested, axis=2).squeeze(axis=2))
