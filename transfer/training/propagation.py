"""Labels that spread over a graph of images; apart from TensorFlow, as it runs in processes of its own.

Poisson learning (Calder et al. 2020, section 2): labels are sources and sinks of a flow along the edges of a graph of
nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

LEAK = 1e-5  # of what flows, lost at every image: so parts of the graph that no edge joins have a solution, too
ACCURACY = 1e-3  # of the solution, relative


def laplacian(features: np.ndarray, neighbours: int, components: int) -> sparse.csr_matrix:
    """The graph Laplacian of images, by their nearest neighbours in the first principal components.

    The weight of an edge is exp(-4 d² / r²), d being the distance and r that of the last neighbour; it is then averaged
    over both directions (Calder et al. 2020, section 4).

    Args:
        features: (images, width) float32.
        neighbours: of each image that it is joined to.
        components: principal components that distances are taken in.

    Returns:
        (images, images) float64; its diagonal is larger by a part `LEAK`.
    """
    count = min(components, *features.shape)
    reduced = PCA(count, random_state=0).fit_transform(features)
    neighbours = min(neighbours, len(features) - 1)
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


def classify(
    features: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    *,
    graph: sparse.csr_matrix,
    nodes: np.ndarray,
    sample: np.ndarray,
    regression: LogisticRegression,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[LogisticRegression, int, int]:
    """Spread labels, and fit a classifier to them and to what they spread to.

    Args:
        features: of all images, (images, width) float32.
        rows: of the labelled images.
        labels: their classes.
        graph: as `laplacian` gives it.
        nodes: rows of the images in the graph, ascending.
        sample: rows of the images that, beside the labelled ones, the classifier is fitted on, some of the nodes.
        regression: to be fitted; its C is for a single example.
        splits: of the labels into known and held out: where a classifier fitted on the known labels alone gets more
            held-out labels right than the graph, by more than a standard error of a sign test, the graph is not used.

    Returns:
        The classifier, the number of images that it was fitted on, and of unlabelled ones that had a part in it.
    """
    labelled = np.searchsorted(nodes, rows)

    def fitted(chosen: np.ndarray, classes: np.ndarray) -> LogisticRegression:
        return clone(regression).set_params(C=regression.C / len(chosen)).fit(features[chosen], classes)

    gains = [0]  # of each held-out label: 1 if the graph alone gets it right, -1 if the classifier alone does
    for known, held in splits:
        by_graph = spread(graph, labelled[known], labels[known])[labelled[held]] == labels[held]
        by_labels = fitted(rows[known], labels[known]).predict(features[rows[held]]) == labels[held]
        gains += (by_graph.astype(int) - by_labels).tolist()
    if sum(gains) < -(np.count_nonzero(gains) ** 0.5):
        return fitted(rows, labels), len(rows), 0
    classes = np.full(len(features), -1)
    classes[nodes] = spread(graph, labelled, labels)
    classes[rows] = labels
    chosen = np.union1d(sample, rows)
    chosen = chosen[classes[chosen] >= 0]
    return fitted(chosen, classes[chosen]), len(chosen), len(nodes) - len(rows)
