"""How many operations a training takes by its arithmetic alone, and how fast this machine is at the simplest of it."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from transfer import cnn
from transfer.networks.threads import set_threads

SIDE = 2048  # of the matrices; large enough that a thread reaches its best


def multiply_adds(architecture: cnn.Params, image_shape: tuple[int, ...], classes: int) -> list[int]:
    """Multiply-adds of one image's way through every layer that has a kernel.

    A convolution's are counted as it is defined: at every place where the kernel fits, before pooling.

    Args:
        architecture: convolution blocks and dense layers.
        image_shape: (height, width, channels).
        classes: the number of logits.

    Returns:
        One number per layer, from the image on.
    """
    height, width, channels = image_shape
    counts = []
    for block in architecture.blocks:
        height, width = height - block.kernel + 1, width - block.kernel + 1
        counts.append(height * width * block.kernel**2 * channels * block.filters)
        height, width, channels = height // block.pool, width // block.pool, block.filters
    inputs = height * width * channels
    for units in (*architecture.dense, classes):
        counts.append(inputs * units)
        inputs = units
    return counts


def training_operations(architecture: cnn.Params, image_shape: tuple[int, ...], classes: int) -> int:
    """Floating-point operations of one image in one gradient step, two for every multiply-add.

    Every layer is gone through forward, again for the gradient of its kernel, and again for that of its input, which
    the first layer does not need. Biases, pooling, ReLU, the loss, shifts and the optimizer are not counted. Arguments
    as in `multiply_adds`.
    """
    counts = multiply_adds(architecture, image_shape, classes)
    return 2 * (3 * sum(counts) - counts[0])


def measure_gemm(seconds: int) -> float:
    """Multiply float32 matrices with NumPy's BLAS for a while; GFLOP/s."""
    import numpy as np

    left, right = np.random.default_rng(0).random((2, SIDE, SIDE), dtype=np.float32)
    product = left @ right  # starts the threads
    start, times = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        np.matmul(left, right, out=product)
        times += 1
    return 2 * SIDE**3 * times / spent / 1e9


def main() -> None:
    """Print the GFLOP/s of some processes side by side, of some threads each, after some seconds."""
    processes, threads, seconds = map(int, sys.argv[1:])
    set_threads(threads)  # which BLAS reads once, when a process loads it
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        print(sum(pool.map(measure_gemm, [seconds] * processes)))


if __name__ == "__main__":
    main()
