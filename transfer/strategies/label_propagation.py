"""Label propagation: labels spread over a graph of all target images, then a linear classifier on frozen features.

Images are joined to their nearest neighbours. Poisson learning (Calder et al. 2020, section 2) lets the labels flow
along the edges until every image has one. The classifier that is shipped learns from these pseudo-labels. Neither test
images nor sizes of classes have a part in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy import sparse
from scipy.sparse.linalg import cg
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from transfer.data.target import Draw
from transfer.models.features import Features
from transfer.training import linear
from transfer.training.linear import Linear, Penalty
from transfer.training.runs import Run
from transfer.training.task import Prepared, Task

ENGINE = "scikit-learn"
SUMMARY = "spread labels over a graph of all target images, and fit a linear classifier on frozen features to them"
NEEDS = ["labels", "unlabelled images", "source model"]

CHECKED_FROM = 5  # shots; fewer labels cannot tell whether the graph helps
LEAK = 1e-5  # of what flows, lost at every image: so parts of the graph that no edge joins have a solution, too
ACCURACY = 1e-3  # of the solution, relative


class Params(linear.Fitting):
    """The `label_propagation` section."""

    layer: str
    neighbours: Annotated[int, Field(ge=1, le=1000)]
    components: Annotated[int, Field(ge=1, le=10_000)]
    images: Annotated[int, Field(ge=100)]
    gate: Literal["cross_validation", "none"]
    l2: Penalty


def prepare(task: Task, params: Params) -> Prepared:
    """Label propagation on the features of one layer."""
    features, scaling = task.features(params.layer)
    target = task.target
    start = partial(
        fit,
        features=features,
        nodes=np.union1d(target.pool(params.images), target.draws),
        sample=target.pool(),
        params=params,
    )
    export = partial(
        linear.export, source=task.source_file, scaling=scaling, layer=params.layer, name="label_propagation"
    )
    return Prepared(start, export)


def fit(
    draws: Sequence[Draw],
    *,
    features: Features,
    nodes: np.ndarray,
    sample: np.ndarray,
    params: Params,
    workers: int = 1,
) -> Iterator[Run]:
    """Spread the labels of each of some draws, and fit a classifier to what they spread to; as `linear.fit`.

    Args:
        draws: rows of the labelled images and their labels.
        features: frozen and scaled, (images, width) float32.
        nodes: rows of the images in the graph, all that are drawn among them, ascending.
        sample: rows of the images that, beside the labelled ones, the classifier is fitted on.
        params: the graph and the classifier.
        workers: processes.
    """
    graph = laplacian(features.train[nodes], params)
    one = partial(fit_one, graph=graph, nodes=nodes, sample=sample, params=params)
    return linear.fit(draws, features, one, workers)


def laplacian(features: np.ndarray, params: Params) -> sparse.csr_matrix:
    """The graph Laplacian of images, by their nearest neighbours in the first principal components.

    The weight of an edge is exp(-4 d² / r²), d being the distance and r that of the last neighbour; it is then averaged
    over both directions (Calder et al. 2020, section 4).

    Args:
        features: (images, width) float32.
        params: how many neighbours and components.

    Returns:
        (images, images) float64; its diagonal is larger by a part `LEAK`.
    """
    count = min(params.components, *features.shape)
    reduced = PCA(count, random_state=0).fit_transform(features)
    neighbours = min(params.neighbours, len(features) - 1)
    distances, rows = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(reduced).kneighbors()
    radius = np.maximum(distances[:, -1:], np.finfo(np.float32).tiny)
    weights = np.exp(-4 * (distances / radius) ** 2)
    starts = np.arange(0, weights.size + 1, neighbours)
    directed = sparse.csr_matrix((weights.ravel(), rows.ravel(), starts), shape=(len(features), len(features)))
    both = (directed + directed.T) / 2
    degrees = np.asarray(both.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags((1 + LEAK) * degrees) - both)


def spread(graph: sparse.csr_matrix, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The classes of all images of a graph, given those of some.

    Args:
        graph: as `laplacian` gives it.
        rows: of the labelled images.
        labels: their classes, every class among them.

    Returns:
        (images,) int64; -1 for an image that no label reaches.
    """
    one_hot = np.eye(labels.max() + 1)[labels]
    sources = np.zeros((graph.shape[0], one_hot.shape[1]))
    sources[rows] = one_hot - one_hot.mean(axis=0)
    by_degree = sparse.diags(1 / graph.diagonal())  # the preconditioner
    flow = np.stack([cg(graph, each, rtol=ACCURACY, M=by_degree)[0] for each in sources.T], axis=1)
    return np.where(flow.any(axis=1), flow.argmax(axis=1), -1)


def fit_one(
    draw: Draw,
    features: np.ndarray,
    graph: sparse.csr_matrix,
    nodes: np.ndarray,
    sample: np.ndarray,
    params: Params,
) -> Linear:
    """Spread the labels of one draw, and fit a classifier; or fit it on the labels alone, if the gate says so."""
    labelled = np.searchsorted(nodes, draw.rows)
    classes = np.full(len(features), -1)
    if params.gate == "none" or draw.shots < CHECKED_FROM or helps(draw, features, graph, labelled, params):
        classes[nodes] = spread(graph, labelled, draw.labels)
        used = len(nodes) - len(draw.rows)
    else:
        used = 0
    classes[draw.rows] = draw.labels
    rows = np.union1d(sample, draw.rows)
    rows = rows[classes[rows] >= 0]
    fitted = params.regression(params.l2, len(rows)).fit(features[rows], classes[rows])
    return Linear.of(fitted, len(rows), used)


def helps(draw: Draw, features: np.ndarray, graph: sparse.csr_matrix, labelled: np.ndarray, params: Params) -> bool:
    """Whether the graph tells labels that are held out as well as a classifier on the other labels, or better."""
    by_graph = by_labels = 0
    for known, held in params.splits(draw):
        told = spread(graph, labelled[known], draw.labels[known])[labelled[held]]
        by_graph += int((told == draw.labels[held]).sum())
        classifier = params.regression(params.l2, len(known)).fit(features[draw.rows[known]], draw.labels[known])
        by_labels += int((classifier.predict(features[draw.rows[held]]) == draw.labels[held]).sum())
    return by_graph >= by_labels
