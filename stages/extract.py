"""Stage `extract`: run every target image through the frozen source model, once, and keep what the taps give.

The taps that strategies ask for are kept for all images, the others for a sample that shows what they know.
"""

from functools import partial
from pathlib import Path
from typing import Any

from transfer import taps
from transfer.basics.arrays import read_arrays
from transfer.basics.console import UserError, counted, run, say
from transfer.basics.params import PARAMS, read_params, read_section
from transfer.features import extract, named_taps
from transfer.networks import engines
from transfer.networks.layers import read_network
from transfer.networks.threads import set_threads
from transfer.target import read_target

SOURCE = Path("models/source.npz")
THREADS = 2  # fixed, so that the features do not depend on how many cores there are


def tap_of(name: str, section: dict[str, Any]) -> str:
    """The tap that a strategy's section asks for."""
    if not isinstance(tap := section["tap"], str):
        raise UserError(f"{PARAMS}: {name}.tap is {tap!r}, but must be auto or the name of a layer such as block2")
    return tap


def main() -> None:
    """Write the features of every tap that a strategy asks for."""
    set_threads(THREADS)
    sections = {name: content for name, content in read_params().items() if isinstance(content, dict)}
    asked = sorted({tap_of(name, content) for name, content in sections.items() if "tap" in content})
    wanted = named_taps(read_network(SOURCE)[0], asked)
    sample = read_section("taps", taps.Params)
    training = read_section("training", engines.Params)
    take = partial(extract, source=SOURCE, training=training, threads=THREADS)
    target = read_target(Path("data/target_train"))
    test_images = read_arrays(Path("data/target_test_images.npz"))["images"]
    both = f"{counted(len(target.images), 'target image')} and {counted(len(test_images), 'test image')}"
    say(f"extract: {', '.join(wanted)} of {both}; every tap of a sample")
    take(Path("data/features"), wanted, target.images, test_images)

    images = target.images[taps.labelled_rows(target, sample)]
    test_images = test_images[taps.sampled_rows(len(test_images), sample)]
    take(Path("data/tap_features"), None, images, test_images)


if __name__ == "__main__":
    run(main)
