"""What every tap of the source CNN knows of the target task: a picture of its features, and a linear probe."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from transfer.basics.params import Section
from transfer.features import Features, Scaling
from transfer.logistic import fit_logistic
from transfer.target import Target

Count = Annotated[int, Field(ge=1)]

# Of t-SNE. From principal components on, a weaker early exaggeration (theirs: 4) lets fewer steps do: trustworthiness
# (Venna & Kaski 2001) is 0.962, 0.959 and 0.971 on three taps, 0.961, 0.961 and 0.972 with scikit-learn's defaults.
MAPPED = 500  # images on a map at most: more would be blots, and large files
MAP: dict[str, float] = {"early_exaggeration": 4.0, "angle": 0.8, "max_iter": 350}


class Params(Section):
    """The `taps` section."""

    shots: Count
    images: Annotated[int, Field(ge=10, le=20_000)]
    l2: Annotated[float, Field(ge=1e-9, le=1e9)]
    max_iterations: Annotated[int, Field(ge=1, le=1_000_000)]


def probed_shots(target: Target, params: Params) -> int:
    """Labelled images per class of a probe: those asked for, or all that the draws have."""
    return min(params.shots, target.draws.shape[2])


def labelled_rows(target: Target, params: Params) -> np.ndarray:
    """Which target images the probes are trained on, in any draw: rows, ascending, int32."""
    return np.unique(target.draws[:, :, : probed_shots(target, params)])


def sampled_rows(test_images: int, params: Params) -> np.ndarray:
    """Which test images are probed: rows of a random choice, ascending, int64."""
    return np.sort(np.random.default_rng(0).permutation(test_images)[: params.images])


def mapped(images: int) -> slice:
    """Which of the sampled test images are on the maps: they were chosen at random, and so is any part of them."""
    return slice(None, None, -(-images // MAPPED))


def project(features: np.ndarray) -> np.ndarray:
    """A map in which images with similar features are near each other: t-SNE (van der Maaten & Hinton 2008).

    Args:
        features: (images, width) float32.

    Returns:
        Places, (images, 2) float32, which have no unit; all the same where the features are.
    """
    if np.ptp(features, axis=0).max() < 1e-12:  # of a network that is dead, on which t-SNE ends the process
        return np.zeros((len(features), 2), np.float32)
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    features = np.pad(features, [(0, 0), (0, max(0, 2 - features.shape[1]))])  # a map has two dimensions in any case
    main = PCA(min(50, *features.shape), random_state=0).fit_transform(features)
    perplexity = min(30, (len(features) - 1) / 3)
    return TSNE(2, init="pca", perplexity=perplexity, random_state=0, **MAP).fit_transform(main)


def probe(features: Features, target: Target, params: Params) -> np.ndarray:
    """What a linear classifier makes of the test images, one per draw.

    Args:
        features: of the images of `labelled_rows`, and of the test images; not scaled.
        target: gives the draws.
        params: the number of shots and the penalty.

    Returns:
        Predicted classes, (seeds, test images) int16.
    """
    rows = labelled_rows(target, params)
    scaled = features.scaled(Scaling.of_pool(features.train, features.test))
    predicted = []
    for seed in range(len(target.draws)):
        draw = target.draw(probed_shots(target, params), seed)
        x = scaled.train[np.searchsorted(rows, draw.rows)]
        kernel, bias, _ = fit_logistic(x, draw.labels, params.l2, params.max_iterations)
        predicted.append((scaled.test @ kernel + bias).argmax(axis=1).astype(np.int16))
    return np.stack(predicted)
