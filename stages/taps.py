"""Stage `taps`: picture what every tap of the source CNN makes of the target, and probe each linearly."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from transfer import taps
from transfer.basics.arrays import read_arrays, write_record
from transfer.basics.console import counted, run, say
from transfer.basics.params import read_section
from transfer.features import read_taps
from transfer.networks.threads import set_threads
from transfer.outcomes import TapViews
from transfer.target import read_target


def main() -> None:
    """Read the features of a sample; write the places of its test images, and what the probes take them for."""
    set_threads(1)  # for each map: the bits do not depend on how many cores there are, and no thread waits for another
    params = read_section("taps", taps.Params)
    target = read_target(Path("data/target_train"))
    features = read_taps(Path("data/tap_features"))
    shots, images = taps.probed_shots(target, params), len(next(iter(features.values())).test)
    how = f"{counted(shots, 'label')} per class, {counted(len(target.draws), 'draw')}, {counted(images, 'test image')}"
    say(f"taps: probe {', '.join(features)} with {how}")
    rows = taps.sampled_rows(len(read_arrays(Path("data/target_test_images.npz"))["images"]), params)
    shown = taps.mapped(len(rows))
    from sklearn import decomposition, manifold  # noqa: F401  # here: two threads that import them at once can fail

    with ThreadPoolExecutor() as pool:  # side by side: scikit-learn computes without Python's lock
        places = pool.map(taps.project, [taken.test[shown] for taken in features.values()])
        predicted = pool.map(partial(taps.probe, target=target, params=params), features.values())
    views = TapViews(
        names=np.array(list(features)),
        shots=np.array(shots, np.int32),
        rows=rows,
        mapped=rows[shown],
        places=np.stack(list(places)),
        predicted=np.stack(list(predicted)),
    )
    write_record(Path("data/taps.npz"), views)


if __name__ == "__main__":
    run(main)
