"""Stage `extract`: run every target image through the frozen source CNN, once, and keep what the taps give."""

from pathlib import Path
from typing import Any

from transfer.console import UserError, counted, run, say
from transfer.features import extract, write_features
from transfer.files import read_arrays
from transfer.params import PARAMS, read_params
from transfer.target import read_target
from transfer.threads import set_threads

THREADS = 2  # fixed, so that the features do not depend on how many cores there are


def tap_of(name: str, section: dict[str, Any]) -> str:
    """The tap that a strategy's section asks for."""
    if not isinstance(tap := section["tap"], str):
        raise UserError(f"{PARAMS}: {name}.tap is {tap!r}, but must be the name of a layer such as block2")
    return tap


def main() -> None:
    """Write the features of every tap that a strategy asks for."""
    set_threads(THREADS)
    sections = {name: content for name, content in read_params().items() if isinstance(content, dict)}
    taps = sorted({tap_of(name, content) for name, content in sections.items() if "tap" in content})
    images = read_target(Path("data/target_train.npz")).images
    test_images = read_arrays(Path("data/target_test_images.npz"))["images"]
    both = f"{counted(len(images), 'target image')} and {counted(len(test_images), 'test image')}"
    say(f"extract: {', '.join(taps)} of {both}")
    write_features(Path("data/features.npz"), extract(Path("models/source.keras"), taps, images, test_images))


if __name__ == "__main__":
    run(main)
