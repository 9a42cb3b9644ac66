"""Stage `choose`: where draws are to be chosen, say which images are labelled, from their features alone."""

from pathlib import Path

import numpy as np

from transfer.console import counted, run, say
from transfer.data import split
from transfer.data.target import Draws, chosen_draws, read_target
from transfer.files import read_arrays, write_record
from transfer.params import read_section

DATA = Path("data")


def main() -> None:
    """Write the chosen draws and their controls; none where draws are random."""
    params = read_section("split", split.Params)
    draws = Draws.none()
    if params.draw == "chosen":
        from transfer.data.choosing import choose
        from transfer.models.features import AUTO, Scaling, read_features

        labels = read_arrays(DATA / "target_train_labels.npz", "labels")["labels"]
        features = read_features(DATA / "features", AUTO).train
        scaled = Scaling.of_pool(features).apply(features)

        def order(candidates: np.ndarray, count: int) -> np.ndarray:
            return candidates[choose(scaled[candidates], count)[0]]

        classes = len(read_target(DATA / "target_train").classes)
        draws = chosen_draws(labels, classes, params.shots, params.seeds, order)
        images = counted(draws.draws.shape[1], "image")
        say(f"choose: {counted(params.seeds, 'draw')} of up to {images}, and as many random ones to compare with")
    else:
        say("choose: nothing to choose: the draws are random")
    write_record(DATA / "chosen.npz", draws)


if __name__ == "__main__":
    run(main)
