"""Stage `end_to_end`: fine-tune every layer of the source model, one cell per draw."""

from functools import partial
from pathlib import Path

from transfer import distribute
from transfer.basics.arrays import read_arrays
from transfer.basics.console import run, say
from transfer.basics.params import read_section
from transfer.cells import run_cells
from transfer.networks import engines
from transfer.networks.threads import set_threads
from transfer.predictions import write_predictions
from transfer.running.compute import Compute
from transfer.strategies import end_to_end
from transfer.target import read_target


def main() -> None:
    """Read target images and draws, fine-tune every cell, write predictions and the shipped model."""
    params = read_section("end_to_end", end_to_end.Params)
    say("end_to_end: fine-tune every layer of the source model on target images")
    compute = read_section("compute", Compute)
    training = read_section("training", engines.Params)
    set_threads(1)  # in worker processes and, where all workers of `compute.distribute` train each cell, in this one

    with distribute.team(compute.distribute, training) as team:  # which waits for all: files may be made until then
        target = read_target(Path("data/target_train"))
        test_images = read_arrays(Path("data/target_test_images.npz"))["images"]
        to_predict = target.to_predict(test_images, target.images)

        source = Path("models/source.npz")
        layers = end_to_end.layers(source, len(target.classes))
        engine = training.engine_for(layers)
        network = partial(end_to_end.network, source, len(target.classes), params, engine)
        fit = partial(end_to_end.fit, network=network, images=target.images, to_predict=to_predict, params=params)
        ship = partial(end_to_end.ship, layers=layers, source=source, name="end_to_end")
        model, code = Path("models/end_to_end.keras"), Path(__file__)
        if team.strategy:
            team.agree(compute.memory(code).key(fit))
            with team.scope():
                network()  # made once in a process
        if not team.chief:
            team.follow(fit, target.cells())
            return
        how = team.lead if team.strategy else None
        cells = run_cells(
            fit, ship, target, params=params, model=model, compute=compute, code=code, run=how, engine=engine
        )
    write_predictions(Path("data/predictions/end_to_end.npz"), cells)


if __name__ == "__main__":
    run(main)
