"""Stage `feature_extraction`: fit a linear probe on frozen features, one run per draw."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from transfer.console import run, say
from transfer.data.predictions import write_predictions
from transfer.data.target import read_target
from transfer.models.features import Scaling, chosen_layer, read_features
from transfer.params import read_section
from transfer.strategies import feature_extraction
from transfer.training.cache import RunCache
from transfer.training.compute import Compute
from transfer.training.runs import train_runs
from transfer.training.threads import set_threads

FEATURES = Path("data/features")


def main() -> None:
    """Read features and draws, fit once per draw, write predictions and the exported model."""
    set_threads(1)
    params = read_section("feature_extraction", feature_extraction.Params)
    params = params.model_copy(update={"layer": chosen_layer(FEATURES, params.layer)})
    compute = read_section("compute", Compute)
    say(f"feature_extraction: fit a linear classifier on features of {params.layer}, the backbone frozen")
    target = read_target(Path("data/target_train"))
    features = read_features(FEATURES, params.layer)
    scaling = Scaling.of_pool(features.train)
    scaled = features.scaled(scaling)
    scaled = replace(scaled, test=target.to_predict(scaled.test, scaled.train))

    fit = partial(feature_extraction.fit, features=scaled, params=params)
    export = partial(feature_extraction.export, source=Path("models/source.keras"), scaling=scaling, layer=params.layer)
    train, cache = partial(fit, workers=compute.workers), RunCache(fit, compute.remember)
    runs = train_runs("feature_extraction", train, export, target, cache=cache, params=params)
    write_predictions(Path("data/predictions/feature_extraction.npz"), runs)


if __name__ == "__main__":
    run(main)
