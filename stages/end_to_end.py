"""Stage `end_to_end`: fine-tune every layer of the source model, one run per draw."""

from functools import partial
from pathlib import Path

from transfer.console import run, say
from transfer.data.predictions import write_predictions
from transfer.data.target import read_target
from transfer.files import read_arrays
from transfer.models.networks import load_model
from transfer.params import read_section
from transfer.strategies import end_to_end
from transfer.training import precision
from transfer.training.cache import RunCache
from transfer.training.compute import Compute
from transfer.training.runs import train_runs
from transfer.training.threads import set_threads


def main() -> None:
    """Read target images and draws, fine-tune once per draw, write predictions and the exported model."""
    set_threads(1)
    params = read_section("end_to_end", end_to_end.Params)
    compute = read_section("compute", Compute)
    chosen = read_section("training", precision.Params).chosen
    say(f"end_to_end: fine-tune every layer of the source model on target images, in {chosen}")
    target = read_target(Path("data/target_train"))
    test_images = read_arrays(Path("data/target_test_images.npz"))["images"]

    network = end_to_end.network(load_model(Path("models/source.keras")), len(target.classes))
    start = partial(
        end_to_end.start,
        network=network,
        images=target.images,
        to_predict=target.to_predict(test_images, target.images),
        params=params,
        precision=chosen,
    )
    export = partial(end_to_end.export, network=network)
    train, cache = partial(compute.train, start=start), RunCache(start, compute.remember)
    runs = train_runs("end_to_end", train, export, target, cache=cache, params=params, precision=chosen)
    write_predictions(Path("data/predictions/end_to_end.npz"), runs)


if __name__ == "__main__":
    run(main)
