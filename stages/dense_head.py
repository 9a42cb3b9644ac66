"""Stage `dense_head`: train new dense layers on frozen features, one run per draw."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from transfer.console import run, say
from transfer.data.predictions import write_predictions
from transfer.data.target import read_target
from transfer.models.features import Scaling, chosen_layer, read_features
from transfer.params import read_section
from transfer.strategies import dense_head
from transfer.training import precision
from transfer.training.cache import RunCache
from transfer.training.compute import Compute
from transfer.training.runs import train_runs
from transfer.training.threads import set_threads

FEATURES = Path("data/features")


def main() -> None:
    """Read features and draws, train once per draw, write predictions and the exported model."""
    set_threads(1)
    params = read_section("dense_head", dense_head.Params)
    params = params.model_copy(update={"layer": chosen_layer(FEATURES, params.layer)})
    compute = read_section("compute", Compute)
    chosen = read_section("training", precision.Params).chosen
    say(f"dense_head: train new dense layers on features of {params.layer}, the backbone frozen, in {chosen}")
    target = read_target(Path("data/target_train"))
    features = read_features(FEATURES, params.layer)
    scaling = Scaling.of_pool(features.train)
    scaled = features.scaled(scaling)
    scaled = replace(scaled, test=target.to_predict(scaled.test, scaled.train))

    start = partial(dense_head.start, features=scaled, classes=len(target.classes), params=params, precision=chosen)
    export = partial(dense_head.export, source=Path("models/source.keras"), scaling=scaling, layer=params.layer)
    train, cache = partial(compute.train, start=start), RunCache(start, compute.remember)
    runs = train_runs("dense_head", train, export, target, cache=cache, params=params, precision=chosen)
    write_predictions(Path("data/predictions/dense_head.npz"), runs)


if __name__ == "__main__":
    run(main)
