"""How every test image fared: what the report draws pictures from, beside the table of runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Counts, of every run.
COSTS = ("trainable_parameters", "gradient_steps", "examples_seen", "unlabelled_images", "model_bytes")


@dataclass(frozen=True)
class Outcomes:
    """The runs of every strategy, image by image; made by `evaluate`, and for `report` alone, as the labels are in it.

    Attributes:
        strategy: of each run, (runs,) str.
        shots: labelled images per class of each run, (runs,) int32.
        seed: of each run's draw, (runs,) int32.
        predicted: the most probable class, (runs, test images) int16.
        confidence: its probability, (runs, test images) float32.
        scaled: the same after temperature scaling, NaN without a temperature, (runs, test images) float32.
        collapsed: whether it gives nearly every image the same class, (runs,) bool.
        labels: true classes of the test images, (test images,) int32.
        classes: what the user calls the classes, (classes,).
        made_with: parameters and versions of every strategy, by its name, as JSON, () str.
    """

    strategy: np.ndarray
    shots: np.ndarray
    seed: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    scaled: np.ndarray
    collapsed: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    made_with: np.ndarray


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
