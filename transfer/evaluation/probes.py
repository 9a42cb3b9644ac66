"""What every layer of the source model knows of the target task: a linear probe on a sample of its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from transfer.data.target import Target
from transfer.evaluation.outcomes import Probes
from transfer.models.backend import keras
from transfer.models.features import Scaling
from transfer.models.networks import backbone, predictor
from transfer.params import Section

Count = Annotated[int, Field(ge=1)]

SAMPLE = 2000  # images that are compared with as many labelled ones
NEAR = 0.95  # part of the labelled images that are so near to their nearest other one


class Params(Section):
    """The `probes` section."""

    shots: Count
    images: Annotated[int, Field(ge=10, le=20_000)]
    l2: Annotated[float, Field(ge=1e-9, le=1e9)]
    max_iterations: Annotated[int, Field(ge=1, le=1_000_000)]


def probe_layers(
    source: keras.Model,
    layers: list[str],
    target: Target,
    test_images: np.ndarray,
    params: Params,
    notes: Sequence[str] = (),
) -> Probes:
    """Fit a linear classifier on every layer and label draw.

    Args:
        source: the source model.
        layers: names of its layers.
        target: gives the draws.
        test_images: (n, height, width, channels) uint8; a random sample of them is probed.
        params: the number of shots and the penalty.
        notes: to be kept with the probes.
    """
    shots = min(params.shots, target.largest)
    labelled = np.unique(target.draws[:, : shots * len(target.classes)])
    sample = np.sort(np.random.default_rng(0).permutation(len(test_images))[: params.images])
    predict = predictor(backbone(source, *layers))
    train, test = predict(np.asarray(target.images[labelled])), predict(test_images[sample])
    scalings = list(map(Scaling.of_pool, train))
    train, test = ([scaling.apply(x) for scaling, x in zip(scalings, part, strict=True)] for part in (train, test))

    predicted = np.empty((len(layers), len(target.draws), len(sample)), np.int16)
    for layer, seed in np.ndindex(predicted.shape[:2]):
        draw = target.draw(shots, seed)
        several = draw.labels.min() < draw.labels.max()
        logistic = LogisticRegression(C=1 / (params.l2 * len(draw.rows)), max_iter=params.max_iterations)
        classifier = logistic if several else DummyClassifier()  # which predicts the only class
        classifier.fit(train[layer][np.searchsorted(labelled, draw.rows)], draw.labels)
        predicted[layer, seed] = classifier.predict(test[layer])
    return Probes(
        names=np.array(layers),
        shots=np.array(shots, np.int32),
        rows=sample,
        predicted=predicted,
        notes=np.array(notes, np.str_),
    )


def commonest_class(source: keras.Model, target: Target, most: int = 1000) -> float:
    """The share of the target's images that the source model gives its most frequent class.

    Args:
        source: the source model, which gives logits.
        target: gives the images to draw from.
        most: images that are looked at, evenly spread.
    """
    rows = np.linspace(0, len(target.images) - 1, min(len(target.images), most)).astype(int)
    (logits,) = predictor(source)(np.asarray(target.images[rows]))
    return float(np.bincount(logits.argmax(axis=1)).max() / len(rows))


def unlike_labelled(features: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    """Of the images in no draw, the share that is farther from every labelled one than labelled ones are as a rule.

    That is farther than `NEAR` of the labelled images are from their nearest other one: 1 - `NEAR` of the images, where
    they are of the same classes. In pools of MNIST's and scikit-learn's digits with half of the classes ten times
    rarer it was at most 0.09 with 2,000 labelled images, 0.11 with 500, 0.21 with 50; and at least 0.14 with 500 where
    a fifth were digits of other classes.

    Args:
        features: of the target images, (images, width) float32.
        draws: rows of the labelled ones, of any shape.

    Returns:
        The share, 0 where every image is in a draw; and the largest that is usual.
    """
    labelled = np.unique(draws)
    others = np.setdiff1d(np.arange(len(features)), labelled)
    known, unknown = (
        features[rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(int)]] for rows in (labelled, others)
    )
    usual = 0.09 + 0.9 / len(known) ** 0.5
    if not len(unknown):
        return 0.0, usual
    scaling = Scaling.of_pool(np.concatenate([known, unknown]))
    neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(scaling.apply(known))
    near = np.quantile(neighbours.kneighbors()[0], NEAR, method="higher")
    return float((neighbours.kneighbors(scaling.apply(unknown))[0] > near).mean()), usual
