"""Stage `feature_extraction`: fit a linear probe on frozen features, one cell per draw."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from transfer.basics.console import run, say
from transfer.basics.params import read_section
from transfer.cells import run_cells
from transfer.features import Scaling, read_features, taken_tap
from transfer.predictions import write_predictions
from transfer.running.compute import Compute
from transfer.strategies import feature_extraction
from transfer.target import read_target

FEATURES = Path("data/features")


def main() -> None:
    """Read features and draws, fit every cell, write predictions and the shipped model."""
    params = read_section("feature_extraction", feature_extraction.Params)
    params = params.model_copy(update={"tap": taken_tap(FEATURES, params.tap)})
    say(f"feature_extraction: fit a linear classifier on features of {params.tap}, the backbone frozen")
    compute = read_section("compute", Compute)
    target = read_target(Path("data/target_train"))
    features = read_features(FEATURES, params.tap)
    scaling = Scaling.of_pool(features.train)
    scaled = features.scaled(scaling)
    scaled = replace(scaled, test=target.to_predict(scaled.test, scaled.train))

    fit = partial(feature_extraction.fit, features=scaled, params=params)
    ship = partial(feature_extraction.ship, source=Path("models/source.keras"), scaling=scaling, tap=params.tap)
    model = Path("models/feature_extraction.keras")
    cells = run_cells(fit, ship, target, params=params, model=model, compute=compute, code=Path(__file__))
    write_predictions(Path("data/predictions/feature_extraction.npz"), cells)


if __name__ == "__main__":
    run(main)
