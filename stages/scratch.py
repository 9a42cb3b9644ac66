"""Stage `scratch`: train the source model's layers on the target alone, from random weights, one cell per draw."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from transfer.basics.arrays import read_arrays
from transfer.basics.console import run, say
from transfer.basics.params import read_section
from transfer.cells import run_cells
from transfer.networks import engines
from transfer.networks.layers import read_architecture
from transfer.predictions import write_predictions
from transfer.running.compute import Compute
from transfer.strategies import scratch
from transfer.target import read_target


def main() -> None:
    """Read target images and draws, train every cell, write predictions and the shipped model."""
    params = read_section("scratch", scratch.Params)
    say("scratch: train every layer on target images, from random weights")
    compute = read_section("compute", Compute)
    target = read_target(Path("data/target_train"))
    test_images = read_arrays(Path("data/target_test_images.npz"))["images"]
    to_predict = target.to_predict(test_images, target.images)

    layers = replace(read_architecture(Path("models/network.json")), classes=len(target.classes))
    engine = read_section("training", engines.Params).engine_for(layers)
    network = partial(scratch.network, layers, params, engine)
    fit = partial(scratch.fit, network=network, images=target.images, to_predict=to_predict, params=params)
    ship = partial(scratch.ship, layers=layers, name="scratch")
    model = Path("models/scratch.keras")
    cells = run_cells(
        fit, ship, target, params=params, model=model, compute=compute, code=Path(__file__), engine=engine
    )
    write_predictions(Path("data/predictions/scratch.npz"), cells)


if __name__ == "__main__":
    run(main)
