"""How every test image fared: what the report draws pictures from, beside the cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COSTS = ("trainable_parameters", "gradient_steps", "examples_seen", "model_bytes")  # counts, of every cell
SPECIMENS = ("article", "article_same_task")  # measured as a warning; no strategies to choose from


@dataclass(frozen=True)
class Outcomes:
    """The cells of every strategy, image by image; made by `evaluate`, and for `report` alone, as the labels are in it.

    Attributes:
        strategy: of each cell, (cells,) str.
        shots: labelled images per class of each cell, (cells,) int32.
        seed: of each cell's draw, (cells,) int32.
        predicted: the most probable class, (cells, test images) int16.
        confidence: its probability, (cells, test images) float32.
        tempered: the same after tempering, NaN without a temperature, (cells, test images) float32.
        labels: true classes of the test images, (test images,) int32.
        classes: what the user calls the classes, (classes,).
        made_with: parameters and versions of every strategy, by its name, as JSON, () str.
    """

    strategy: np.ndarray
    shots: np.ndarray
    seed: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    tempered: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    made_with: np.ndarray


@dataclass(frozen=True)
class TapViews:
    """What the taps of the source CNN know of a sample of the test images; no label is in it.

    Attributes:
        names: of the taps, from the image on, (taps,) str.
        shots: labelled images per class of the probes, () int32.
        rows: which test images, (images,) int64.
        mapped: those of them that are on the maps, (mapped images,) int64.
        places: where on the map of each tap's features, (taps, mapped images, 2) float32.
        predicted: what the probes take them for, (taps, seeds, images) int16.
    """

    names: np.ndarray
    shots: np.ndarray
    rows: np.ndarray
    mapped: np.ndarray
    places: np.ndarray
    predicted: np.ndarray
