"""The one training loop: pretraining, new heads, fine-tuning and training from scratch all run through it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transfer.models.backend import keras, tf
from transfer.models.networks import images_at_once
from transfer.training.precision import Precision, computing_in
from transfer.training.schedule import BETAS, Plan


class Trainer:
    """Trains one Keras model again and again.

    The whole loop of a training is one `tf.function` that takes its batches from arrays in memory. The number of
    images, the batch size and the number of steps are inputs of the graph, so that it is traced once and serves every
    training. Between trainings the weights and the optimizer's moments are reset, not made anew.

    Predictions are in float32 whatever the training was in, as is the model that is saved.

    Args:
        model: functional, from one array to logits, (batch, classes) float32.
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
        self._weights = [weight.value for weight in model.trainable_weights]
        self._moments = [[tf.Variable(tf.zeros_like(weight)) for weight in self._weights] for _ in range(2)]
        self._step = tf.Variable(0)
        self._dropouts = [layer.seed_generator for layer in model.layers if hasattr(layer, "seed_generator")]
        images = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
        labels, batches = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)
        rates, seed = tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)
        with computing_in(model, precision):
            self._train = tf.function(self._train_loop).get_concrete_function(images, labels, batches, rates, seed)
        self._predict = tf.function(self._predict_loop).get_concrete_function(images)
        # TensorFlow optimizes a graph when it first runs: here, with no step, so that it is in no run's seconds.
        image = tf.zeros([1, *images.shape[1:]], images.dtype)
        self._train(image, tf.zeros([1], tf.int32), tf.zeros([0, 1], tf.int32), tf.zeros([0]), tf.constant(0))
        self._predict(image)

    @property
    def trainable_parameters(self) -> int:
        """How many numbers a training changes."""
        return sum(int(np.prod(weight.shape)) for weight in self._weights)

    def reset(self, weights: Sequence[np.ndarray], seed: int) -> None:
        """Begin a training.

        Args:
            weights: to start from, in the order of `model.get_weights()`.
            seed: of dropout.
        """
        self.model.set_weights(weights)
        for moment in (*self._moments[0], *self._moments[1]):
            moment.assign(tf.zeros_like(moment))
        self._step.assign(0)
        for number, generator in enumerate(self._dropouts):
            generator.state.assign([seed + number, 0])

    def train(self, images: np.ndarray, labels: np.ndarray, plan: Plan, seed: int) -> float:
        """Take gradient steps on the mean cross-entropy with Adam; go on where the last call since `reset` ended.

        Args:
            images: what the model takes, (n, …).
            labels: classes, (n,) int32.
            plan: rows and rate of every step.
            seed: of the shifts.

        Returns:
            The mean loss over the steps.
        """
        arguments = (images, labels, plan.batches, plan.rates, np.int32(seed))
        return float(self._train(*map(tf.convert_to_tensor, arguments)))

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits of every image, (n, classes) float32."""
        return self._predict(tf.convert_to_tensor(images)).numpy()

    def _train_loop(
        self, images: tf.Tensor, labels: tf.Tensor, batches: tf.Tensor, rates: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        total, steps = 0.0, tf.shape(batches)[0]
        for number in tf.range(steps):
            inputs = tf.gather(images, batches[number])
            if self.shift:
                inputs = shift_images(inputs, self.shift, tf.stack([seed, self._step]))
            with tf.GradientTape() as tape:
                logits = self.model(inputs, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(labels, batches[number]), logits)
                loss = tf.reduce_mean(losses)
            self._adam(tape.gradient(loss, self._weights, unconnected_gradients="zero"), rates[number])
            total += loss
        return total / tf.cast(steps, tf.float32)

    def _adam(self, gradients: list[tf.Tensor], rate: tf.Tensor) -> None:
        """One update. TensorFlow's fused kernel passes over a weight and its moments once.

        A step takes 12 to 25 % less than with `keras.optimizers.Adam`, which computes the same in ten operations.
        """
        beta_1, beta_2 = self.betas
        count = tf.cast(self._step.assign_add(1), tf.float32)
        for weight, first, second, gradient in zip(self._weights, *self._moments, gradients, strict=True):
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

    def _predict_loop(self, images: tf.Tensor) -> tf.Tensor:
        batch = images_at_once(self.model)
        count = -(-tf.shape(images)[0] // batch)
        parts = tf.TensorArray(tf.float32, count, element_shape=[None, self.model.output.shape[-1]], infer_shape=False)
        for number in tf.range(count):
            part = images[number * batch : (number + 1) * batch]
            parts = parts.write(number, self.model(part, training=False))
        return parts.concat()


def shift_images(images: tf.Tensor, most: int, seed: tf.Tensor) -> tf.Tensor:
    """Move each image at random by up to `most` pixels along each axis; zeros come in at the edge.

    Args:
        images: (batch, height, width, channels).
        most: pixels.
        seed: (2,) int32; the same seed gives the same moves.

    Returns:
        As `images`.
    """
    batch, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    tall, wide = height + 2 * most, width + 2 * most
    down, right = tf.unstack(tf.random.stateless_uniform([2, batch], seed, 0, 2 * most + 1, tf.int32))
    padded = tf.pad(images, [[0, 0], [most, most], [most, most], [0, 0]])
    # One gather of whole pixels from all images laid end to end: a gather per axis takes three times as long.
    first = (tf.range(batch) * tall + down) * wide + right
    pixels = tf.range(height)[:, tf.newaxis] * wide + tf.range(width)
    return tf.gather(tf.reshape(padded, [-1, channels]), first[:, tf.newaxis, tf.newaxis] + pixels)
