"""What others do: runs of the study by the recipes of their documentation, written anew, at equal work.

Each trains run after run in one process, on as many threads as its library takes by itself, on the batches that the
study trains on, in memory; from the same weights, by the same optimizer and rates, and predicts the same images.

    python -m benchmarks.peers fit_end_to_end 5    # the runs of the first 5 draws, after `make repro`
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from transfer.console import run
from transfer.data.target import Draw, read_target
from transfer.files import read_arrays
from transfer.models import networks as models
from transfer.models.backend import keras
from transfer.models.features import Scaling, chosen_layer
from transfer.params import read_section
from transfer.strategies import dense_head, end_to_end
from transfer.training.schedule import FewShotSchedule, Plan


class Task(NamedTuple):
    """The source model; images of the target, how many classes it has, and all images that the study predicts."""

    source: keras.Model
    images: np.ndarray
    classes: int
    to_predict: np.ndarray

    def batches(self, draw: Draw, params: FewShotSchedule) -> tuple[np.ndarray, np.ndarray, Plan]:
        """Images and labels of a run, (steps, batch, …), in the order in which the study trains on them; its plan."""
        plan = params.plan(len(draw.rows), draw.shots, draw.seed)
        return self.images[draw.rows[plan.batches]], draw.labels[plan.batches], plan


def fit_dense_head(task: Task) -> Callable[[Draw], np.ndarray]:
    """Keras's guide to transfer learning: a new head on the frozen backbone, `fit` for every run; scaled as ours."""
    params = read_section("dense_head", dense_head.Params)
    body = models.backbone(task.source, chosen_layer(Path("data/features"), params.layer))
    body.trainable = False
    scaling = Scaling.of_pool(body.predict(task.images, batch_size=256, verbose=0))

    def train(draw: Draw) -> np.ndarray:
        inputs = keras.Input(body.inputs[0].shape[1:], dtype="uint8")
        x = body(inputs, training=False)
        head = [keras.layers.Dense(params.units, activation="relu"), keras.layers.Dropout(params.dropout)]
        for layer in [*scaling.layers(), *head, keras.layers.Dense(task.classes)]:
            x = layer(x)
        return _fit(keras.Model(inputs, x), task, draw, params)

    return train


def fit_end_to_end(task: Task) -> Callable[[Draw], np.ndarray]:
    """The same guide, all layers trained; `RandomTranslation` shifts images by up to as many pixels as the study."""
    params = read_section("end_to_end", end_to_end.Params).suited_to(end_to_end.network(task.source, task.classes))
    body = models.without_head(task.source)
    weights = body.get_weights()

    def train(draw: Draw) -> np.ndarray:
        body.set_weights(weights)
        inputs = x = keras.Input(body.inputs[0].shape[1:], dtype="uint8")
        if params.shift:
            # What is rounded to the nearest pixel gives each whole number of pixels equally often.
            most = [(params.shift + 0.5) / side for side in inputs.shape[1:3]]
            x = keras.layers.RandomTranslation(*most, fill_mode="constant", interpolation="nearest")(x)
        x = keras.layers.Dense(task.classes, kernel_initializer="zeros")(body(x))
        return _fit(keras.Model(inputs, x), task, draw, params)

    return train


def _fit(model: keras.Model, task: Task, draw: Draw, params: FewShotSchedule) -> np.ndarray:
    """Compile, fit, predict; one pass over the batches as they are, which spares `fit` all work between epochs."""
    images, labels, plan = task.batches(draw, params)
    rising = round(params.warmup * len(plan.rates))
    start, target = (0.0, params.peak_rate) if rising else (params.peak_rate, None)
    falling = max(len(plan.rates) - rising, 1)
    rate = keras.optimizers.schedules.CosineDecay(start, falling, warmup_target=target, warmup_steps=rising)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate, *params.betas), loss)
    model.fit(images.reshape(-1, *images.shape[2:]), labels.ravel(), images.shape[1], shuffle=False, verbose=0)
    return model.predict(task.to_predict, batch_size=256, verbose=0)


def pytorch_end_to_end(task: Task) -> Callable[[Draw], np.ndarray]:
    """PyTorch's own loop, and channels last, as its guide advises for convolutions; images shifted as in the study."""
    import torch

    params = read_section("end_to_end", end_to_end.Params).suited_to(end_to_end.network(task.source, task.classes))
    to_predict = torch.from_numpy(task.to_predict).permute(0, 3, 1, 2)

    def train(draw: Draw) -> np.ndarray:
        torch.manual_seed(draw.seed)
        network = torch_network(task.source, task.classes).to(memory_format=torch.channels_last)
        images, labels, plan = task.batches(draw, params)
        batches = torch.from_numpy(images).permute(0, 1, 4, 2, 3)
        optimizer = torch.optim.Adam(network.parameters(), lr=1.0, betas=params.betas, eps=1e-7)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, [*plan.rates.tolist(), 0.0].__getitem__)
        loss = torch.nn.CrossEntropyLoss()
        for batch, classes in zip(batches, torch.from_numpy(labels.astype(np.int64)), strict=True):
            optimizer.zero_grad()
            loss(network(torch_shift(batch, params.shift) / 255), classes).backward()
            optimizer.step()
            rate.step()
        with torch.inference_mode():
            return torch.cat([network(part / 255) for part in to_predict.split(256)]).numpy()

    return train


def torch_network(source: keras.Model, classes: int) -> Any:
    """The source CNN in PyTorch, from pixels of 0 … 1, under a head that starts at zero."""
    from torch import Tensor, from_numpy, nn

    class Flatten(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1).flatten(1)  # as Keras does, so that the next layer's kernel fits

    body, network = models.without_head(source), nn.Sequential()
    for layer in body.layers:
        kind, weights = type(layer).__name__, layer.get_weights()
        if weights:  # a kernel, (height, width, in, out) or (in, out), and a bias
            kernel = np.moveaxis(weights[0], (-1, -2), (0, 1)).copy()
            wide = kernel.shape[1::-1]
            network.append(nn.Conv2d(*wide, layer.kernel_size) if kind == "Conv2D" else nn.Linear(*wide))
            network[-1].load_state_dict({"weight": from_numpy(kernel), "bias": from_numpy(weights[1])})
        if kind == "MaxPooling2D":
            network.append(nn.MaxPool2d(layer.pool_size))
        elif kind in ("ReLU", "Dense"):
            network.append(nn.ReLU())
        elif kind == "Flatten":
            network.append(Flatten())
    network.append(nn.Linear(body.output.shape[1], classes))
    network[-1].load_state_dict({name: 0 * value for name, value in network[-1].state_dict().items()})
    return network


def torch_shift(images: Any, most: int) -> Any:
    """Move each image by up to `most` pixels along each axis at random, (batch, channels, height, width)."""
    from torch import arange, nn, randint

    padded = nn.functional.pad(images, [most] * 4)
    windows = padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
    down, right = randint(0, 2 * most + 1, (2, len(images)))
    return windows[arange(len(images)), :, down, right]


def main() -> None:
    """Train the runs of the first draws by a recipe; print seconds and mean accuracy, but for the fewest labels."""
    recipe: Callable[[Task], Callable[[Draw], np.ndarray]] = globals()[sys.argv[1]]
    images, labels = (read_arrays(Path(f"data/target_test_{part}.npz"))[part] for part in ("images", "labels"))
    target = read_target(Path("data/target_train"))
    source = models.load_model(Path("models/source.keras"))
    train = recipe(Task(source, target.images, len(target.classes), target.to_predict(images, target.images)))
    draws = [draw for draw in target.runs() if draw.seed < int(sys.argv[2])]
    start = time.perf_counter()
    right = [train(draw)[: len(labels)].argmax(axis=1) == labels for draw in draws]
    seconds = time.perf_counter() - start
    some = [each for draw, each in zip(draws, right, strict=True) if draw.shots > target.wanted[:, 0].min()]
    print(json.dumps({"seconds": seconds, "accuracy": np.mean(some)}))


if __name__ == "__main__":
    run(main)
