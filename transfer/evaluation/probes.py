"""What every layer of the source model knows of the target task: a linear probe on a sample of its features."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from sklearn.linear_model import LogisticRegression

from transfer.data.target import Target
from transfer.evaluation.outcomes import Probes
from transfer.models.backend import keras
from transfer.models.features import Scaling
from transfer.models.networks import backbone, predictor
from transfer.params import Section

Count = Annotated[int, Field(ge=1)]


class Params(Section):
    """The `probes` section."""

    shots: Count
    images: Annotated[int, Field(ge=10, le=20_000)]
    l2: Annotated[float, Field(ge=1e-9, le=1e9)]
    max_iterations: Annotated[int, Field(ge=1, le=1_000_000)]


def probe_layers(
    source: keras.Model, layers: list[str], target: Target, test_images: np.ndarray, params: Params
) -> Probes:
    """Fit a linear classifier on every layer and label draw.

    Args:
        source: the source model.
        layers: names of its layers.
        target: gives the draws.
        test_images: (n, height, width, channels) uint8; a random sample of them is probed.
        params: the number of shots and the penalty.
    """
    shots = min(params.shots, target.draws.shape[2])
    labelled = np.unique(target.draws[:, :, :shots])
    sample = np.sort(np.random.default_rng(0).permutation(len(test_images))[: params.images])
    predict = predictor(backbone(source, *layers))
    train, test = predict(np.asarray(target.images[labelled])), predict(test_images[sample])
    scalings = list(map(Scaling.of_pool, train))
    train, test = ([scaling.apply(x) for scaling, x in zip(scalings, part, strict=True)] for part in (train, test))

    predicted = np.empty((len(layers), len(target.draws), len(sample)), np.int16)
    for layer, seed in np.ndindex(predicted.shape[:2]):
        draw = target.draw(shots, seed)
        classifier = LogisticRegression(C=1 / (params.l2 * len(draw.rows)), max_iter=params.max_iterations)
        classifier.fit(train[layer][np.searchsorted(labelled, draw.rows)], draw.labels)
        predicted[layer, seed] = classifier.predict(test[layer])
    return Probes(names=np.array(layers), shots=np.array(shots, np.int32), rows=sample, predicted=predicted)
