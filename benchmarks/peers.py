"""What others do: the study's cells by the recipes of their documentation, written anew, at equal work.

Equal work: the same draws, the same batches in the same order, the same network from the same weights, Adam with the
same warm-up and cosine, the same images to predict. What is left to each is how it does that. Every recipe trains cell
after cell in one process, on as many threads as its library takes by itself, and reads its batches from memory.

    python -m benchmarks.peers frozen data/peer.npz    # in a folder where `split` and `pretrain` have run
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from transfer.basics.arrays import read_arrays, write_arrays
from transfer.basics.console import run
from transfer.basics.params import read_section
from transfer.networks.layers import Layers, read_network
from transfer.networks.schedule import FewShotSchedule, Plan
from transfer.predictions import softmax
from transfer.strategies import dense_head, end_to_end
from transfer.target import Draw, Target, read_target

if TYPE_CHECKING:
    import keras
    import torch

SOURCE = Path("models/source.keras")

Recipe = Callable[[Draw], np.ndarray]  # trains a cell; its logits for every image to predict


class Task(NamedTuple):
    """What is trained on.

    Attributes:
        target: the target task, as the study's stages read it.
        test: its test images, (n, height, width, channels) uint8.
    """

    target: Target
    test: np.ndarray

    @classmethod
    def read(cls) -> Task:
        """The study's task."""
        test = read_arrays(Path("data/target_test_images.npz"))["images"]
        return cls(read_target(Path("data/target_train")), test)

    @property
    def to_predict(self) -> np.ndarray:
        """Every image that the study predicts: the test images, and those for calibration."""
        return self.target.to_predict(self.test, self.target.images)

    @property
    def classes(self) -> int:
        """How many classes the target has."""
        return len(self.target.classes)

    def batches(self, draw: Draw, params: FewShotSchedule) -> tuple[np.ndarray, np.ndarray, Plan]:
        """Images and labels of a cell in the order in which the study trains on them, and its plan."""
        plan = params.plan(len(draw.rows), draw.shots, draw.seed)
        order = plan.batches.ravel()
        return self.target.images[draw.rows[order]], draw.labels[order], plan


def frozen(task: Task) -> Recipe:
    """Keras' guide to transfer learning: a new head on the frozen backbone in one model, `fit` for every cell.

    The head scales its inputs as the study's does, by statistics that are computed once for all cells. No image is
    shifted, as in the study's `dense_head`.
    """
    from transfer.features import Scaling, taken_tap
    from transfer.networks import models
    from transfer.networks.backend import keras

    params = read_section("dense_head", dense_head.Params)
    body = models.backbone(models.load_model(SOURCE), taken_tap(Path("data/features"), params.tap))
    body.trainable = False
    scaling = Scaling.of_pool(body.predict(task.target.images[:], batch_size=256, verbose=0))

    def train(draw: Draw) -> np.ndarray:
        inputs = keras.Input(body.inputs[0].shape[1:], dtype="uint8")
        x = body(inputs, training=False)
        head = [keras.layers.Dense(params.units, activation="relu"), keras.layers.Dropout(params.dropout)]
        for layer in [*scaling.layers(), *head, keras.layers.Dense(task.classes)]:
            x = layer(x)
        return _keras_fit(keras.Model(inputs, x), task, draw, params)

    return train


def fit(task: Task) -> Recipe:
    """Keras' guide to transfer learning, all layers trained: a new head on the source CNN, `fit` for every cell.

    `RandomTranslation` shifts images by up to the same number of pixels as the study does.
    """
    from transfer.networks import models
    from transfer.networks.backend import keras

    params = read_section("end_to_end", end_to_end.Params)

    def train(draw: Draw) -> np.ndarray:
        source = models.load_model(SOURCE)
        body = keras.Model(source.inputs[0], source.layers[-1].input)
        inputs = x = keras.Input(body.inputs[0].shape[1:], dtype="uint8")
        if params.shift:
            most = (params.shift / inputs.shape[1], params.shift / inputs.shape[2])
            x = keras.layers.RandomTranslation(*most, fill_mode="constant", interpolation="nearest")(x)
        x = keras.layers.Dense(task.classes, kernel_initializer="zeros")(body(x))
        return _keras_fit(keras.Model(inputs, x), task, draw, params)

    return train


def _keras_fit(model: keras.Model, task: Task, draw: Draw, params: FewShotSchedule) -> np.ndarray:
    """Compile, fit, predict; one pass over the batches as they are, which spares `fit` all work between epochs."""
    from transfer.networks.backend import keras

    images, labels, plan = task.batches(draw, params)
    rising = round(params.warmup * len(plan.rates))
    rate = keras.optimizers.schedules.CosineDecay(
        0.0 if rising else params.peak_rate,
        decay_steps=max(len(plan.rates) - rising, 1),
        warmup_target=params.peak_rate if rising else None,
        warmup_steps=rising,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate, *params.betas), loss)
    model.fit(images, labels, batch_size=plan.batches.shape[1], shuffle=False, verbose=0)
    return model.predict(task.to_predict, batch_size=256, verbose=0)


def pytorch(task: Task) -> Recipe:
    """PyTorch's own loop: `zero_grad`, loss, `backward`, `step`; images shifted as in the study.

    Channels come last, as its guide advises for convolutions: that takes a quarter less time here.
    """
    import torch

    params = read_section("end_to_end", end_to_end.Params)
    layers, source = read_network(Path("models/source.npz"))
    assert isinstance(layers, Layers)
    pool = torch.from_numpy(task.target.images[:]).permute(0, 3, 1, 2)
    to_predict = torch.from_numpy(task.to_predict).permute(0, 3, 1, 2)

    def train(draw: Draw) -> np.ndarray:
        torch.manual_seed(draw.seed)
        network = _torch_network(layers, source, task.classes).to(memory_format=torch.channels_last)
        plan = params.plan(len(draw.rows), draw.shots, draw.seed)
        rows = torch.from_numpy(draw.rows[plan.batches].astype(np.int64))
        labels = torch.from_numpy(draw.labels[plan.batches].astype(np.int64))
        optimizer = torch.optim.Adam(network.parameters(), lr=1.0, betas=params.betas, eps=1e-7)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, [*plan.rates.tolist(), 0.0].__getitem__)
        loss = torch.nn.CrossEntropyLoss()
        network.train()
        for step in range(len(rows)):
            optimizer.zero_grad()
            loss(network(_torch_shift(pool[rows[step]], params.shift) / 255), labels[step]).backward()
            optimizer.step()
            rate.step()
        network.eval()
        with torch.inference_mode():
            return torch.cat([network(part / 255) for part in to_predict.split(256)]).numpy()

    return train


def _torch_network(described: Layers, source: list[np.ndarray], classes: int) -> torch.nn.Module:
    """The source CNN under a head that starts at zero.

    Args:
        described: its layers.
        source: its weights as Keras has them: kernels (height, width, in, out) or (in, out), channels last.
        classes: of the head.
    """
    from torch import Tensor, from_numpy, nn, no_grad

    class Flatten(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1).flatten(1)  # as Keras does, so that the next layer's kernel fits

    *pairs, (old_head, _) = zip(source[::2], source[1::2], strict=True)
    trained: list[nn.Conv2d | nn.Linear] = []
    layers: list[nn.Module] = []
    for block, (kernel, _) in zip(described.blocks, pairs, strict=False):
        trained.append(nn.Conv2d(kernel.shape[2], block.filters, block.kernel))
        layers += [trained[-1], nn.MaxPool2d(block.pool), nn.ReLU()]
    layers.append(Flatten())
    for kernel, _ in pairs[len(described.blocks) :]:
        trained.append(nn.Linear(*kernel.shape))
        layers += [trained[-1], nn.ReLU()]
    head = nn.Linear(len(old_head), classes)
    with no_grad():
        head.weight.zero_()
        head.bias.zero_()
        for layer, (kernel, bias) in zip(trained, pairs, strict=True):
            layer.weight.copy_(from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1))))
            layer.bias.copy_(from_numpy(bias))
    return nn.Sequential(*layers, head)


def _torch_shift(images: torch.Tensor, most: int) -> torch.Tensor:
    """Move each image by up to `most` pixels along each axis at random, (batch, channels, height, width)."""
    from torch import arange, nn, randint

    batch, channels, height, width = images.shape
    padded = nn.functional.pad(images, [most] * 4)
    down, right = randint(0, 2 * most + 1, (2, batch, 1))
    rows, columns = down + arange(height), right + arange(width)
    which = arange(batch)[:, None, None, None], arange(channels)[:, None, None]
    return padded[*which, rows[:, None, :, None], columns[:, None, None, :]]


RECIPES: dict[str, Callable[[Task], Recipe]] = {"frozen": frozen, "fit": fit, "pytorch": pytorch}


def main() -> None:
    """Train every cell by the recipe that the command line names; write the probabilities to the file that it names."""
    recipe, path = sys.argv[1:]
    task = Task.read()
    train = RECIPES[recipe](task)
    probabilities = [softmax(train(draw))[: len(task.test)] for draw in task.target.cells()]
    write_arrays(Path(path), probabilities=np.stack(probabilities))


if __name__ == "__main__":
    run(main)
