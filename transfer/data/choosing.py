"""Which images to label first, told by their features alone: greedy MaxHerding (Bae et al. 2024, section 3).

Every label should cover as many images as possible: the next image is the one that adds most to the similarity of all
images to the nearest labelled one. So there is one order, and fewer labels are its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

# Of the kernel, by the mean squared distance of two images. Rehearsed: 1 and 4 are equal, 0.25 is 18 points lower at 1
# label per class; distances in 50 principal components are 12 points lower.
WIDTH = 2.0
COVERED = 5000  # images to cover: of more, a random sample
BLOCK = 1000  # images whose similarity is computed together
SEED = 0


def choose(
    features: np.ndarray, count: int, labelled: Sequence[int] | np.ndarray = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Which images to label, in order.

    Args:
        features: as heads see them, (images, width) float32.
        count: of images to choose.
        labelled: rows of images that have a label already, which are not chosen.

    Returns:
        Rows, of which the first are the choice of so many; and how many images are more like each than like any before
        it, (count,) int64 each.
    """
    with threadpool_limits(1):  # the same bits whatever the number of cores
        similarity, share = _similarity(features)
        coverage = similarity[np.asarray(labelled, np.int64)].max(axis=0, initial=0)  # by the nearest labelled image
        gains = np.concatenate([(part - coverage).clip(0).sum(axis=1) for part in _blocks(similarity)])
    gains[np.asarray(labelled, np.int64)] = -1
    rows: list[int] = []
    counts: list[float] = []
    while len(rows) < count:
        # A gain only ever falls, so an image whose gain is still the largest when it is computed anew is the best.
        while True:
            best = int(gains.argmax())
            before, gains[best] = gains[best], (similarity[best] - coverage).clip(0).sum()
            if gains[best] >= before or best == gains.argmax():
                break
        rows.append(best)
        counts.append(np.count_nonzero(similarity[best] > coverage) * share)
        coverage = np.maximum(coverage, similarity[best])
        gains[best] = -1
    return np.array(rows, np.int64), np.rint(counts).astype(np.int64)


def _similarity(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Of every image to each of those to cover, 0 to 1; and how many images each of these stands for."""
    covered = features[np.sort(np.random.default_rng(SEED).permutation(len(features))[:COVERED])]
    width = WIDTH * 2 * covered.var(axis=0).sum()
    norms = (covered**2).sum(axis=1)
    similarity = np.empty((len(features), len(covered)), np.float32)
    for start, part in enumerate(_blocks(features)):
        distances = (part**2).sum(axis=1, keepdims=True) + norms - 2 * part @ covered.T  # squared
        similarity[start * BLOCK : (start + 1) * BLOCK] = np.exp(-distances / width)
    return similarity, len(features) / len(covered)


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
