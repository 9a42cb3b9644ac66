"""What is measured: every item with how its work is made equal, and the ratios that it is measured for."""

from __future__ import annotations

from benchmarks.results import Item, Ratio, Take
from benchmarks.rounds import Size, closeness, fine_tuning, frozen, grown_name, growth, study


def _grows(axis: str, factor: int, *stages: str) -> list[Ratio]:
    """The ratios of time of what has grown to what it has grown from: linear is not more than the factor."""
    return [
        Ratio(
            f"time of {grown_name(stage, axis, factor)} / × 1",
            Take(grown_name(stage, axis, factor)),
            Take(grown_name(stage, axis, 1)),
            at_most=factor,
        )
        for stage in stages
    ]


ITEMS = {
    "study": Item(
        "The whole study, and one run of the Keras example",
        [
            "Whole processes, imports included, the data already downloaded. The study is `dvc repro` in a copy of the "
            "working tree in which nothing is remembered: the source model, every cell of every strategy, evaluation "
            "and report. The Keras example (`benchmarks/keras_example.py`) trains one model for 5 epochs on the source "
            "and 5 on the target, on all of their labels.",
            "The source accuracy is on the same task and must agree. The target accuracy is, for the study, that of "
            "the best strategy at the most labels per class; the example has all labels, about six times as many.",
        ],
        study,
        [
            Ratio("whole study / Keras example", Take("whole study"), Take("Keras example"), at_most=0.8),
            Ratio(
                "study after an edit of `dense_head.units` / whole study",
                Take("study after an edit of `dense_head.units`"),
                Take("whole study"),
                at_most=0.15,
            ),
            Ratio(
                "`make repro`, nothing to do / `dvc repro` of one stage, nothing to do",
                Take("`make repro`, nothing to do"),
                Take("`dvc repro` of one stage, nothing to do"),
                at_most=1.3,
            ),
        ],
        equal="source_accuracy",
        tolerance=0.003,
    ),
    "frozen": Item(
        "A new head on a frozen backbone",
        [
            "Every cell of `dense_head`, as whole processes, imports included. The peer is Keras' guide to transfer "
            "learning: the frozen backbone in the model, `fit` for every cell. Both have the same draws, batches in "
            "the same order, head, scaling of its inputs, Adam with warm-up and cosine, no shifts, and predict the "
            "same images. The stage trains on features that `extract` has made, in one worker of one thread per "
            "core; the peer trains cell after cell on as many threads as TensorFlow takes by itself, one per core.",
        ],
        frozen,
        [
            Ratio(
                "Keras `fit`, backbone in the model / stage `dense_head`",
                Take("Keras `fit`, backbone in the model"),
                Take("stage `dense_head`"),
                at_least=20,
            )
        ],
        equal="accuracy",
        tolerance=0.01,
    ),
    "fine_tuning": Item(
        "Fine-tuning every layer",
        [
            f"The cells of `end_to_end` of the first {Size.draws} draws, at every number of labels, as whole "
            "processes, imports included. The peers train cell after cell, Keras with `fit`, PyTorch with a loop as in "
            "its tutorials and channels last, on as many threads as they take by themselves, one per core. All have "
            "the same draws, batches in the same order, network, weights to start from, Adam with warm-up and cosine, "
            "and predict the same images. Images are shifted at random by up to the same number of pixels, in Keras by "
            "`RandomTranslation`, to the nearest whole pixel.",
        ],
        fine_tuning,
        [
            Ratio("Keras `fit` / stage `end_to_end`", Take("Keras `fit`"), Take("stage `end_to_end`"), at_least=4),
            Ratio("PyTorch / stage `end_to_end`", Take("PyTorch"), Take("stage `end_to_end`")),
        ],
        equal="accuracy",
        tolerance=0.01,
    ),
    "closeness": Item(
        "How close to what the processor can do",
        [
            "Operations are counted, not measured: two for every multiply-add of the convolutions, at every place "
            "where the kernel fits, and of the dense layers: forward, for the gradient of every kernel, and for the "
            "gradient of every input but the image. Pooling, ReLU, the loss, shifts, the optimizer and, in "
            "pretraining, the validation after every epoch are not counted, but take their time. The native engine "
            "leaves out gradients that pooling and ReLU make zero; they are counted all the same. The time is the "
            "difference of two runs of the stage, of which one trains longer: imports and predictions fall out.",
            "Beside it float32 matrices of 2048 × 2048, multiplied by NumPy's BLAS between the two runs on the same "
            "threads: one process of `pretrain.threads`, or one process of one thread per core.",
        ],
        closeness,
        [
            Ratio(f"{what} / matrix product", Take(what, "gflops"), Take(what, "gemm"), at_least=0.6)
            for what in ("pretraining", "fine-tuning")
        ],
    ),
    "growth": Item(
        "Growth",
        [
            "Stages as whole processes with more draws, more labels per class, or the target's images tiled. Memory is "
            "the most resident memory seen of the stage's process and of one worker, files mapped into it included.",
            "The step counts follow the study's rule, so a cell's time grows more slowly than its labels.",
        ],
        growth,
        [
            *_grows("seeds", 4, "end_to_end"),
            Ratio(
                "memory of a worker of `end_to_end`, seeds × 4 / × 1",
                Take(grown_name("end_to_end", "seeds", 4), "worker_megabytes"),
                Take(grown_name("end_to_end", "seeds", 1), "worker_megabytes"),
                at_most=1.1,
            ),
            *_grows("shots", 100, "end_to_end"),
            *_grows("images", 16, "extract", "dense_head", "end_to_end"),
        ],
    ),
}
