"""Linear classifiers of scikit-learn: fitted side by side, and shipped as one dense layer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import joblib
import numpy as np
from pydantic import Field
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from transfer.data.target import Draw
from transfer.models.features import Features
from transfer.params import Section
from transfer.training.runs import Run
from transfer.training.timing import timed

QUIET = (  # joblib's warning after Ctrl-C, and that of `NearestCentroid` of pixels that are always the same
    "ignore:resource_tracker:UserWarning,ignore:self.within_class_std_dev_:UserWarning"
)
SHARPNESS = 10  # of the probabilities of class means: of lowest log loss at 1 shot on source digits
ABSENT = -1e9  # the bias of a class without labels, whose probability is 0 then
Penalty = Annotated[float, Field(ge=1e-9, le=1e9)]
Job = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]  # what `joblib.delayed` returns


class Fitting(Section):
    """What the sections of strategies that fit linear classifiers have in common."""

    folds: Annotated[int, Field(ge=2, le=20)]
    enough_held_out: Annotated[int, Field(ge=1)]
    max_iterations: Annotated[int, Field(ge=1, le=1_000_000)]
    tolerance: Annotated[float, Field(gt=0, le=1)]

    def regression(self, l2: float, examples: int) -> LogisticRegression:
        """Logistic regression with an l2 penalty on the mean loss of some number of examples."""
        c = 1 / (l2 * examples)  # scikit-learn's penalty is on the sum of the losses
        return LogisticRegression(C=c, tol=self.tolerance, max_iter=self.max_iterations)

    def splits(self, draw: Draw) -> list[tuple[np.ndarray, np.ndarray]]:
        """Folds inside a draw's labels, at most as many as every class has: where to fit, and what is held out.

        No further fold is made once enough images were held out.
        """
        folds = StratifiedKFold(min(self.folds, draw.fewest), shuffle=True, random_state=draw.seed)
        enough = -(-self.enough_held_out * folds.n_splits // len(draw.rows))  # folds
        return list(folds.split(draw.labels, draw.labels))[:enough]


@dataclass(frozen=True)
class Linear:
    """A linear softmax classifier that was fitted.

    Attributes:
        kernel: (width, classes) float32.
        bias: (classes,) float32.
        iterations: of the fit, each over all examples.
        examples: that it was fitted on.
        unlabelled_images: that had a part in it.
    """

    kernel: np.ndarray
    bias: np.ndarray
    iterations: int
    examples: int
    unlabelled_images: int = 0

    @classmethod
    def of(cls, fitted: LogisticRegression, classes: int, examples: int, unlabelled_images: int = 0) -> Linear:
        """From a LogisticRegression of some of the classes; of two it fits the difference of their logits alone."""
        coefficients, intercept = fitted.coef_, fitted.intercept_
        if len(coefficients) == 1:
            coefficients, intercept = (
                np.concatenate([np.zeros_like(part), part]) for part in (coefficients, intercept)
            )
        kernel, bias = over_all(coefficients, intercept, fitted.classes_, classes)
        return cls(kernel, bias, int(fitted.n_iter_[0]), examples, unlabelled_images)

    def run(self, features: Features, seconds: float) -> Run:
        """The run that it is the outcome of, after so many seconds."""
        logits, predict_seconds = timed(lambda: features.test @ self.kernel + self.bias)
        return Run(
            probabilities=softmax(logits, axis=1),
            weights=[self.kernel, self.bias],
            trainable_parameters=self.kernel.size + self.bias.size,
            gradient_steps=self.iterations,
            examples_seen=self.iterations * self.examples,
            train_seconds=seconds,
            predict_seconds=predict_seconds,
            unlabelled_images=self.unlabelled_images,
        )


def over_all(
    coefficients: np.ndarray, intercept: np.ndarray, present: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of all classes, (width, classes) and (classes,) float32, from those that have labels.

    Args:
        coefficients: (present classes, width).
        intercept: (present classes,).
        present: which these are, ascending.
        classes: how many there are.
    """
    kernel, bias = np.zeros((coefficients.shape[1], classes), np.float32), np.full(classes, ABSENT, np.float32)
    kernel[:, present], bias[present] = coefficients.T, intercept
    return kernel, bias


def fit(
    draws: Sequence[Draw],
    features: Features,
    fitting: Callable[[Draw], Job],
    finish: Callable[[Draw, Any], Linear],
    workers: int = 1,
) -> Iterator[Run]:
    """Fit a linear classifier on each of some label draws, side by side in processes.

    What runs in the processes must not import TensorFlow, for which every process would need seconds.

    Args:
        draws: rows of the labelled images and their labels.
        features: frozen and scaled, (images, width) float32.
        fitting: what is to be called in a process, `joblib.delayed`.
        finish: makes the classifier of what it returned.
        workers: processes; 0 takes one per processor core.

    Yields:
        The run of each draw, in their order; its weights are kernel and bias, for scaled features. Steps and examples
        count the final fit's iterations, not the search for a penalty, which its seconds have in them.
    """
    os.environ.setdefault("PYTHONWARNINGS", QUIET)
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # in the processes, which end with this one
        several = [draw for draw in draws if draw.labels.min() < draw.labels.max()]
        jobs = ((timed, (call, *args), kwargs) for call, args, kwargs in map(fitting, several))
        fitted = iter(joblib.Parallel(workers or -1, return_as="generator")(jobs))
        signal.signal(signal.SIGINT, handler)
        for draw in draws:
            if draw.labels.min() < draw.labels.max():
                returned, seconds = next(fitted)
                yield finish(draw, returned).run(features, seconds)
            else:  # of one class there is nothing to fit
                found, seconds = timed(nearest_mean, draw, features.train)
                yield found.run(features, seconds)


def nearest_mean(draw: Draw, features: np.ndarray) -> Linear:
    """The softmax of minus half of the mean squared distance to every class mean, times `SHARPNESS`.

    Terms that all classes share are left out, which leaves a linear classifier (Snell et al. 2017, section 2.4).
    """
    labelled = features[draw.rows]
    present = np.unique(draw.labels)
    means = np.stack([labelled[draw.labels == name].mean(axis=0) for name in present])
    factor = SHARPNESS / means.shape[1]
    kernel, bias = over_all(factor * means, -factor / 2 * (means**2).sum(axis=1), present, draw.classes)
    return Linear(kernel, bias, 1, len(draw.rows))
