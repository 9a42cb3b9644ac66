"""Stage `scratch`: train the source model's layers on the target alone, from random weights, one run per draw."""

from functools import partial
from pathlib import Path

from transfer.console import run, say
from transfer.data.predictions import write_predictions
from transfer.data.target import read_target
from transfer.files import read_arrays
from transfer.models.networks import read_layers
from transfer.params import read_section
from transfer.strategies import scratch
from transfer.training import precision
from transfer.training.cache import RunCache
from transfer.training.compute import Compute
from transfer.training.runs import train_runs
from transfer.training.threads import set_threads


def main() -> None:
    """Read target images and draws, train once per draw, write predictions and the exported model."""
    set_threads(1)
    params = read_section("scratch", scratch.Params)
    compute = read_section("compute", Compute)
    chosen = read_section("training", precision.Params).chosen
    say(f"scratch: train every layer on target images, from random weights, in {chosen}")
    target = read_target(Path("data/target_train"))
    test_images = read_arrays(Path("data/target_test_images.npz"))["images"]

    network = scratch.network(read_layers(Path("models/network.json")), len(target.classes))
    start = partial(
        scratch.start,
        network=network,
        images=target.images,
        to_predict=target.to_predict(test_images, target.images),
        params=params,
        precision=chosen,
    )
    export = partial(scratch.export, network=network)
    train, cache = partial(compute.train, start=start), RunCache(start, compute.remember)
    runs = train_runs("scratch", train, export, target, cache=cache, params=params, precision=chosen)
    write_predictions(Path("data/predictions/scratch.npz"), runs)


if __name__ == "__main__":
    run(main)
