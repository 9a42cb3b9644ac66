"""A specimen: what the printed code of a tutorial does, trained and scored like a strategy.

It puts a new softmax on the softmax output of the source model, which is a few saturated probabilities and no features,
and freezes nothing, though it says so. It names no learning rate, so Adam has its default.

    python -m benchmarks.article    # after `make repro`
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from transfer.console import run
from transfer.data.target import Draw, read_target
from transfer.evaluation import metrics
from transfer.files import read_arrays
from transfer.models.backend import keras
from transfer.models.networks import Network, fresh_weights, load_model, with_head
from transfer.training import few_shot
from transfer.training.compute import run_in_threads
from transfer.training.runs import Run
from transfer.training.schedule import FewShotSchedule
from transfer.training.threads import set_threads
from transfer.training.trainer import Trainer

PARAMS = FewShotSchedule(steps=100, steps_growth=0.32, batch=32, peak_rate=0.001, warmup=0.1, beta_1=0.9, beta_2=0.999)


def main() -> None:
    """Train on the draws of the target, and print the mean test accuracy in % by labels per class, as JSON."""
    set_threads(1)
    target = read_target(Path("data/target_train"))
    images, labels = (read_arrays(Path(f"data/target_test_{part}.npz"))[part] for part in ("images", "labels"))
    head = keras.layers.Softmax(name="source_softmax"), keras.layers.Dense(len(target.classes), name="target_logits")
    network = Network.of(with_head(load_model(Path("models/source.keras")), *head, name="article"))
    fit = partial(few_shot.fit, inputs=target.images, to_predict=images, params=PARAMS)

    def start() -> Callable[[Draw], Run]:
        trainer = Trainer(network.build(), betas=PARAMS.betas)

        def initial(draw: Draw) -> list[np.ndarray]:
            return network.weights[:-2] + fresh_weights(trainer.model, network.weights, draw.seed)[-2:]

        return partial(fit, trainer=trainer, initial=initial)

    shots = [count for count in (1, 10, 1000) if count <= target.largest]
    draws = [target.draw(count, seed) for count in shots for seed in range(len(target.draws))]
    found = [100 * metrics.accuracy(each.probabilities, labels) for each in run_in_threads(start, draws)]
    print(json.dumps(dict(zip(shots, np.reshape(found, (len(shots), -1)).mean(axis=1).round(2), strict=True))))


if __name__ == "__main__":
    run(main)
