"""Feature extraction: a linear softmax classifier on frozen features.

Scored as by Kornblith et al. 2019 (section 3 and appendix A.4): logistic regression by L-BFGS, its l2 penalty chosen
by cross-validation inside the label budget, then fitted again on all labelled images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated

import joblib
from pydantic import Field, Strict
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from transfer.data.target import Draw
from transfer.models.features import Features, save_classifier
from transfer.training import linear
from transfer.training.linear import Job, Linear, Penalty
from transfer.training.runs import Run
from transfer.training.task import Prepared, Task

ENGINE = "scikit-learn"
SUMMARY = "fit a linear classifier on frozen features"
NEEDS = ["labels", "source model"]


class Params(linear.Fitting):
    """The `feature_extraction` section."""

    layer: str
    l2: Annotated[tuple[Penalty, ...], Field(min_length=1, max_length=100), Strict(False)]
    l2_default: Penalty


def prepare(task: Task, params: Params) -> Prepared:
    """Logistic regression on the features of one layer."""
    features, scaling = task.features(params.layer)
    export = partial(save_classifier, body=partial(task.backbone, params.layer), scaling=scaling)
    return Prepared(partial(fit, features=features, params=params), export)


def fit(draws: Sequence[Draw], *, features: Features, params: Params, workers: int = 1) -> Iterator[Run]:
    """Fit a linear probe on each of some label draws; as `linear.fit`."""

    def fitting(draw: Draw) -> Job:
        return joblib.delayed(classifier(draw, params).fit)(features.train[draw.rows], draw.labels)

    def finish(draw: Draw, search: LogisticRegression | GridSearchCV) -> Linear:
        return Linear.of(getattr(search, "best_estimator_", search), draw.classes, len(draw.rows))

    return linear.fit(draws, features, fitting, finish, workers)


def classifier(draw: Draw, params: Params) -> LogisticRegression | GridSearchCV:
    """Logistic regression, to be fitted with the l2 penalty of least cross-validated log loss inside a draw.

    Args:
        draw: gives the number of images and the folds. With fewer than 3 labels of a class the penalty is `l2_default`.
        params: the penalties.
    """
    penalties = sorted(params.l2, reverse=True) if draw.fewest >= 3 else [params.l2_default]
    regressions = [params.regression(l2, len(draw.rows)) for l2 in penalties]
    if len(regressions) == 1:
        return regressions[0]
    c = [regression.C for regression in regressions]
    return GridSearchCV(regressions[0], {"C": c}, scoring="neg_log_loss", cv=params.splits(draw))
