"""A target task of arrays, written as the stages would, for strategies to be run on without a pipeline."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from transfer.data.target import Draws, Target, write_target
from transfer.files import write_arrays, write_json, write_record
from transfer.models import cnn
from transfer.models.backend import keras
from transfer.models.features import chosen_layer, extract
from transfer.models.networks import save_model, without_head
from transfer.params import read_section
from transfer.strategies import (
    committee,
    dense_head,
    end_to_end,
    feature_extraction,
    label_propagation,
    pixels,
    prototypes,
    scratch,
    self_training,
)
from transfer.training.compute import run_in_threads
from transfer.training.precision import Precision
from transfer.training.runs import gather
from transfer.training.task import Task

MODULES = (  # those that learn from others after these
    *(pixels, prototypes, feature_extraction, dense_head, end_to_end, scratch, label_propagation),
    *(self_training, committee),
)
STRATEGIES: dict[str, Any] = {module.__name__.rpartition(".")[2]: module for module in MODULES}
TEACHERS = {"self_training": ["label_propagation"], "committee": ["label_propagation", "self_training", "end_to_end"]}


def write_task(folder: Path, source: keras.Model, target: Target, test_images: np.ndarray) -> None:
    """Write a target task and a source CNN, whose classes are none of the target's, as the stages do."""
    architecture = read_section("cnn", cnn.Params)
    layers = cnn.feature_layers(architecture)
    (folder / "models").mkdir(parents=True)
    write_target(folder / "data/target_train", target)
    write_record(folder / "data/chosen.npz", Draws.none())
    write_arrays(folder / "data/target_test_images.npz", images=test_images)
    save_model(folder / "models/source.keras", source)
    write_json(folder / "models/network.json", without_head(source).get_config())
    write_json(folder / "models/source.json", {"classes": []})
    auto = layers[len(architecture.blocks) - 1]
    extract(folder / "data/features", source, layers, auto, target.images, test_images)


def predict(folder: Path, strategy: ModuleType, params: Any, precision: Precision, workers: int = 0) -> np.ndarray:
    """Run a strategy on a task, and leave its predictions for others.

    Returns:
        Probabilities, (runs, test images, classes) float32, in the order of `Target.runs()`.
    """
    task = Task(precision, folder / "data", folder / "models")
    if hasattr(params, "layer"):
        params = params.model_copy(update={"layer": chosen_layer(task.data / "features", params.layer)})
    prepared = strategy.prepare(task, params)
    draws = prepared.draws or task.target.runs()
    networks = strategy.ENGINE == "tensorflow"
    runs = run_in_threads(prepared.start, draws, workers) if networks else prepared.start(draws, workers=workers)
    predictions = gather(task.target, list(runs), {}, 0)
    write_record(task.data / "predictions" / f"{strategy.__name__.rpartition('.')[2]}.npz", predictions)
    return predictions.probabilities
