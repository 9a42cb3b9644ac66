"""What the stage of every strategy does: read the target task, train once per draw, write predictions and the model."""

import shutil
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from transfer.console import say
from transfer.data.predictions import Predictions
from transfer.files import read_record, write_record, write_whole
from transfer.models.features import chosen_layer
from transfer.models.versions import made_with
from transfer.params import read_section
from transfer.training import precision
from transfer.training.cache import RunCache
from transfer.training.compute import Compute
from transfer.training.runs import train_runs
from transfer.training.task import Task, UnsuitableError
from transfer.training.threads import set_threads

PREDICTIONS = Path("data/predictions")


def run_strategy(strategy: ModuleType, wanted: np.ndarray | None = None, folder: Path = PREDICTIONS) -> None:
    """Train every run of a strategy; write `data/predictions/<name>.npz` and `models/<name>.keras`.

    Args:
        strategy: a module of `transfer/strategies`, with `ENGINE`, `SUMMARY`, `NEEDS`, `Params` and `prepare`; its own
            name is that of the stage and of its section in `params.yaml`.
        wanted: shots and seed of further runs that are trained in the place of the study's own, (runs, 2) int32; of
            these no model is written.
        folder: that predictions are written to, and those of strategies that it learns from are read from.
    """
    set_threads(1)
    name = strategy.__name__.rpartition(".")[2]
    params, compute = read_section(name, strategy.Params), read_section("compute", Compute)
    details = []
    if hasattr(params, "layer"):
        params = params.model_copy(update={"layer": chosen_layer(Path("data/features"), params.layer)})
        details.append(params.layer)
    networks = strategy.ENGINE == "tensorflow"
    chosen = read_section("training", precision.Params).precision if networks else "float32"
    details += [chosen] if networks else []
    task = Task(chosen, wanted=wanted, others=folder)
    try:
        prepared = strategy.prepare(task, params)
    except UnsuitableError as why:
        say(f"{name}: not run: {why}")
        write_record(folder / f"{name}.npz", Predictions.none())
        write_whole(Path(f"models/{name}.keras"), partial(shutil.copyfile, task.source_file))
        return
    if prepared.params:
        details += [f"{key} {value}" for key, value in prepared.params if getattr(params, key) == "auto"]
        params = prepared.params
    say(f"{name}: {strategy.SUMMARY} ({', '.join(details)})" if details else f"{name}: {strategy.SUMMARY}")

    train = (
        partial(compute.train, start=prepared.start) if networks else partial(prepared.start, workers=compute.workers)
    )
    made = made_with(params.model_dump(mode="json"), chosen if networks else None)
    made |= {"model": "", "summary": strategy.SUMMARY, "needs": strategy.NEEDS}  # the model is yet to be written
    runs = train_runs(
        name,
        train,
        prepared.export,
        task.target,
        cache=RunCache(prepared.start, compute.remember),
        made=made,
        draws=prepared.draws,
        before=None if wanted is None else read_record(PREDICTIONS / f"{name}.npz", Predictions),
    )
    write_record(folder / f"{name}.npz", runs)
