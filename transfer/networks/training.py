"""The one training loop: pretraining, new heads, fine-tuning and training from scratch all run through it.

The whole loop runs inside one graph and takes its batches from arrays in memory, so that a step costs its
arithmetic and little else. A `Program` is traced once and serves any number of trainings: the number of images,
the batch size and the number of steps are inputs of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from transfer.basics.console import UserError
from transfer.networks import models
from transfer.networks.backend import keras, tf
from transfer.networks.precision import Precision, computing_in
from transfer.networks.schedule import BETAS, Plan


class Program:
    """A model's training and prediction, traced once.

    What a step does follows from the weights and moments, its number and the seeds alone, so that a training can be
    cut anywhere. Predictions are float32 whatever the training was in, as is the model that is saved.

    If a strategy of `tf.distribute` is current, all its replicas train, each on its share of every batch; the model
    must have been made under it. Batch normalisation and dropout know of their share alone.

    Args:
        model: takes one array, gives logits, (batch, classes) float32.
        shift: training images are moved by up to this many pixels each way at random, anew in every step.
        betas: decay of Adam's moments (Kingma & Ba 2015, algorithm 1).
        precision: what gradients are computed in.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        shift: int = 0,
        betas: tuple[float, float] = BETAS,
        precision: Precision = "float32",
    ) -> None:
        self.model = model
        self.shift = shift
        self.betas = betas
        self._strategy = tf.distribute.get_strategy()
        resolver = self._strategy.cluster_resolver  # which only a strategy of several workers has
        self._worker = (resolver.task_id, resolver.cluster_spec().num_tasks("worker")) if resolver else (0, 1)
        self._trained = computing_in(model, precision)
        self._predictors: dict[tuple[str, ...], Callable[[np.ndarray], list[np.ndarray]]] = {}
        self._weights = [weight.value for weight in model.trainable_variables]
        with self._strategy.scope():
            self._moments = [tuple(tf.Variable(tf.zeros(value.shape)) for _ in range(2)) for value in self._weights]
        self._others = [(variable.path, variable.value) for variable in model.non_trainable_variables]
        self._statistics = [value for path, value in self._others if not is_seed(path)]
        self._fresh_statistics = [value.numpy() for value in self._statistics]
        self._seed = 0
        inputs = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
        labels, batches = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)
        rates, seeds, number = (
            tf.TensorSpec(shape, kind) for shape, kind in (([None], tf.float32), ([2], tf.int32), ([], tf.int32))
        )
        self._train = tf.function(self._train_loop, [inputs, labels, batches, rates, seeds, number], autograph=False)
        self._predict = tf.function(lambda images: model(images, training=False), [inputs], autograph=False)

    def start(self, weights: list[np.ndarray], seed: int) -> None:
        """Set the weights, forget the optimizer's moments, and seed dropout.

        Args:
            weights: the trainable ones, or all that `weights` gives.
            seed: of dropout.
        """
        every = weights if len(weights) > len(self._weights) else [*weights, *self._fresh_statistics]
        self.restore([*every, *(np.zeros(value.shape, np.float32) for value in self._weights for _ in range(2))], seed)

    def train(self, images: np.ndarray, labels: np.ndarray, plan: Plan, *, seed: int, first_step: int = 0) -> float:
        """Take gradient steps, as `transfer.networks.engines.Program` explains.

        Raises:
            UserError: if a batch is too small to be shared by all replicas.
        """
        size, replicas = plan.batches.shape[1], self._strategy.num_replicas_in_sync
        if size < replicas:
            raise UserError(f"a batch of {size} cannot be shared by {replicas} devices: set compute.distribute to none")
        seeds = np.array([seed, self._seed], np.int32)
        arguments = (images, labels, plan.batches, plan.rates, seeds, np.int32(first_step))
        return float(self._train(*(tf.convert_to_tensor(argument) for argument in arguments)))

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits of every image, (n, classes) float32."""
        batch = models.images_at_once(self.model)
        logits = [self._predict(tf.constant(images[start : start + batch])) for start in range(0, len(images), batch)]
        return np.concatenate([part.numpy() for part in logits])

    def features(self, images: np.ndarray, taps: list[str]) -> list[np.ndarray]:
        """What some layers make of every image, (n, width) float32 each."""
        if tuple(taps) not in self._predictors:
            self._predictors[tuple(taps)] = models.predictor(models.backbone(self.model, *taps))
        return self._predictors[tuple(taps)](images)

    def weights(self) -> list[np.ndarray]:
        """The weights as they are now: the trainable ones, then running statistics, such as batch normalisation's."""
        return [variable.numpy() for variable in [*self._weights, *self._statistics]]

    def state(self) -> list[np.ndarray]:
        """All that training goes on from beside the seeds and the number of steps, float32: weights and moments."""
        return [variable.numpy() for variable in self._variables()]

    def restore(self, state: Sequence[np.ndarray], seed: int) -> None:
        """Go on from what `state` gave; `seed` as in `start`."""
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)
        self._seed = seed

    def _variables(self) -> list[tf.Variable]:
        return [*self._weights, *self._statistics, *(moment for moments in self._moments for moment in moments)]

    def _train_loop(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        batches: tf.Tensor,
        rates: tf.Tensor,
        seeds: tf.Tensor,
        first_step: tf.Tensor,
    ) -> tf.Tensor:
        steps, batch = tf.unstack(tf.shape(batches))
        shift_seed, dropout_seed = tf.unstack(seeds)

        def step(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            before = first_step + number
            rows = share(batches[number], *self._worker)
            inputs = tf.gather(images, rows)
            if self.shift:
                moves = random_moves(batch, self.shift, tf.stack([shift_seed, before]))
                inputs = shift_images(inputs, self.shift, [share(move, *self._worker) for move in moves])
            when = tf.stack([dropout_seed, before])
            arguments = inputs, tf.gather(labels, rows), rates[number], when, tf.cast(batch, tf.float32)
            losses = self._strategy.run(self._step, arguments)
            return number + 1, total + self._strategy.experimental_local_results(losses)[0]

        _, total = tf.while_loop(lambda number, _: number < steps, step, (0, 0.0), parallel_iterations=1)
        return total / tf.cast(steps, tf.float32)

    def _step(
        self, inputs: tf.Tensor, labels: tf.Tensor, rate: tf.Tensor, when: tf.Tensor, batch: tf.Tensor
    ) -> tf.Tensor:
        """A replica's part in one gradient step.

        Args:
            inputs, labels: of all replicas of this worker.
            rate: of learning.
            when: seed of dropout, and how many steps went before, (2,) int32.
            batch: examples on all workers.

        Returns:
            The mean loss over the batch.
        """
        replica = tf.distribute.get_replica_context()
        number, replicas = replica.replica_id_in_sync_group, replica.num_replicas_in_sync // self._worker[1]
        inputs, labels = (share(rows, number % replicas, replicas) for rows in (inputs, labels))
        seed = tf.random.fold_in(when, number)  # masks of its own
        others = [
            tf.cast(tf.random.fold_in(seed, layer), value.dtype) if is_seed(path) else tf.convert_to_tensor(value)
            for layer, (path, value) in enumerate(self._others)
        ]
        with tf.GradientTape() as tape:
            logits, moved = self._trained.stateless_call(self._weights, others, inputs, training=True)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)) / batch
        gradients = tape.gradient(loss, self._weights, unconnected_gradients="zero")
        changes = zip(self._others, others, moved, strict=True)
        statistics = [(value, new) for (path, value), old, new in changes if new is not old and not is_seed(path)]
        means = [new / replica.num_replicas_in_sync for _, new in statistics]
        gradients, loss, means = replica.all_reduce("sum", ([*map(tf.convert_to_tensor, gradients)], loss, means))
        self._adam(gradients, rate, when[1] + 1)
        for (value, _), mean in zip(statistics, means, strict=True):
            tf.raw_ops.AssignVariableOp(resource=value.handle, value=mean)
        return loss

    def _adam(self, gradients: list[tf.Tensor], rate: tf.Tensor, step: tf.Tensor) -> None:
        """One update by the fused kernel: a single pass over each weight and its moments."""
        beta_1, beta_2 = self.betas
        count = tf.cast(step, tf.float32)
        for weight, (first, second), gradient in zip(self._weights, self._moments, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=tf.pow(beta_1, count),
                beta2_power=tf.pow(beta_2, count),
                lr=rate,
                beta1=beta_1,
                beta2=beta_2,
                epsilon=1e-7,
                grad=gradient,
            )


def random_moves(batch: int | tf.Tensor, most: int, seed: tf.Tensor) -> list[tf.Tensor]:
    """How far images move down and right, each from 0 to 2 × `most`, where `most` is no move; twice (batch,) int32.

    Args:
        batch: the number of images.
        most: pixels.
        seed: (2,) int32; the same seed gives the same moves.
    """
    return tf.unstack(tf.random.stateless_uniform([2, batch], seed, 0, 2 * most + 1, tf.int32))


def shift_images(images: tf.Tensor, most: int, moves: list[tf.Tensor]) -> tf.Tensor:
    """Move each image by up to `most` pixels along each axis; zeros come in at the edge.

    Args:
        images: (batch, height, width, channels).
        most: pixels.
        moves: what `random_moves` gives.

    Returns:
        As `images`.
    """
    batch, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    tall, wide = height + 2 * most, width + 2 * most
    down, right = moves
    padded = tf.pad(images, [[0, 0], [most, most], [most, most], [0, 0]])
    # One gather of whole pixels from all images laid end to end: a gather per axis takes three times as long.
    first = (tf.range(batch) * tall + down) * wide + right
    pixels = tf.range(height)[:, tf.newaxis] * wide + tf.range(width)
    places = first[:, tf.newaxis, tf.newaxis] + pixels
    return tf.gather(tf.reshape(padded, [-1, channels]), places)


def share(rows: tf.Tensor, number: int | tf.Tensor, count: int) -> tf.Tensor:
    """The part of some rows that is for one of `count`, all as equal as can be."""
    if count == 1:
        return rows
    size = tf.shape(rows)[0]
    return rows[size * number // count : size * (number + 1) // count]


def is_seed(path: str) -> bool:
    """Whether a variable of a model is what its random layers draw from, by its path."""
    return path.endswith("seed_generator_state")
