"""Stage `extract`: run every target image through the frozen source model, once, and keep what the taps give.

The taps that strategies ask for are kept for all images; every tap is probed on a sample, which shows what it knows.
"""

from pathlib import Path
from typing import Any

from transfer.console import UserError, counted, run, say
from transfer.data.target import read_target
from transfer.evaluation import probes
from transfer.files import read_arrays, read_facts, write_record
from transfer.models.features import extract, named_taps
from transfer.models.networks import load_model
from transfer.params import PARAMS, read_params, read_section
from transfer.training.threads import set_threads

MODELS = Path("models")
THREADS = 2  # fixed, so that the features do not depend on how many cores there are


def tap_of(name: str, section: dict[str, Any]) -> str:
    """The tap that a strategy's section asks for."""
    if not isinstance(tap := section["tap"], str):
        raise UserError(f"{PARAMS}: {name}.tap is {tap!r}, but must be auto or the name of a layer such as block2")
    return tap


def main() -> None:
    """Write the features of every tap that a strategy asks for, and what linear probes on all taps predict."""
    set_threads(THREADS)
    sections = {name: content for name, content in read_params().items() if isinstance(content, dict)}
    asked = sorted({tap_of(name, content) for name, content in sections.items() if "tap" in content})
    sample = read_section("taps", probes.Params)
    known = read_facts(MODELS / "source.json", "taps", "tap")
    wanted = named_taps(known["taps"], known["tap"], asked)
    source = load_model(MODELS / "source.keras")
    target = read_target(Path("data/target_train"))
    test_images = read_arrays(Path("data/target_test_images.npz"))["images"]
    both = f"{counted(len(target.images), 'target image')} and {counted(len(test_images), 'test image')}"
    say(f"extract: {', '.join(wanted)} of {both}")
    extract(Path("data/features"), source, wanted, known["tap"], target.images, test_images)

    say(f"extract: linear probes on {', '.join(known['taps'])}")
    write_record(Path("data/taps.npz"), probes.probe_taps(source, known["taps"], target, test_images, sample))


if __name__ == "__main__":
    run(main)
