"""Stage `dense_head`: train new dense layers on frozen features, one cell per draw."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from transfer.basics.console import run, say
from transfer.basics.params import read_section
from transfer.cells import run_cells
from transfer.features import Scaling, read_features, taken_tap
from transfer.networks import engines
from transfer.predictions import write_predictions
from transfer.running.compute import Compute
from transfer.strategies import dense_head
from transfer.target import read_target

FEATURES = Path("data/features")


def main() -> None:
    """Read features and draws, train every cell, write predictions and the shipped model."""
    params = read_section("dense_head", dense_head.Params)
    params = params.model_copy(update={"tap": taken_tap(FEATURES, params.tap)})
    say(f"dense_head: train new dense layers on features of {params.tap}, the backbone frozen")
    compute = read_section("compute", Compute)
    target = read_target(Path("data/target_train"))
    features = read_features(FEATURES, params.tap)
    scaling = Scaling.of_pool(features.train)
    scaled = features.scaled(scaling)
    scaled = replace(scaled, test=target.to_predict(scaled.test, scaled.train))

    layers = dense_head.layers(scaled.train.shape[1], len(target.classes), params)
    engine = read_section("training", engines.Params).engine_for(layers)
    fit = partial(dense_head.fit, features=scaled, classes=len(target.classes), engine=engine, params=params)
    ship = partial(dense_head.ship, source=Path("models/source.keras"), scaling=scaling, tap=params.tap)
    model = Path("models/dense_head.keras")
    cells = run_cells(
        fit, ship, target, params=params, model=model, compute=compute, code=Path(__file__), engine=engine
    )
    write_predictions(Path("data/predictions/dense_head.npz"), cells)


if __name__ == "__main__":
    run(main)
