"""Stage `extract`: run every target image through the frozen source model, once, and keep what the layers give.

Features of the layers that strategies ask for are kept for all images; every layer is probed on a sample.
"""

from pathlib import Path
from typing import Any

from transfer.console import UserError, counted, run, say
from transfer.data.target import read_target
from transfer.evaluation import probes
from transfer.files import read_arrays, read_facts, write_record
from transfer.models.features import extract, named_layers
from transfer.models.networks import load_model
from transfer.params import PARAMS, read_params, read_section
from transfer.training.threads import set_threads

MODELS = Path("models")
THREADS = 2  # fixed, so that the features do not depend on how many cores there are


def layer_of(name: str, section: dict[str, Any]) -> str:
    """The layer that a strategy's section asks for."""
    if not isinstance(layer := section["layer"], str):
        raise UserError(f"{PARAMS}: {name}.layer is {layer!r}, but must be auto or the name of a layer such as block2")
    return layer


def main() -> None:
    """Write the features of every layer that a strategy asks for, and what linear probes on all layers predict."""
    set_threads(THREADS)
    sections = {name: content for name, content in read_params().items() if isinstance(content, dict)}
    asked = sorted({layer_of(name, content) for name, content in sections.items() if "layer" in content})
    sample = read_section("probes", probes.Params)
    known = read_facts(MODELS / "source.json", "layers", "layer")
    wanted = named_layers(known["layers"], known["layer"], asked)
    source = load_model(MODELS / "source.keras")
    target = read_target(Path("data/target_train"))
    test_images = read_arrays(Path("data/target_test_images.npz"))["images"]
    both = f"{counted(len(target.images), 'target image')} and {counted(len(test_images), 'test image')}"
    say(f"extract: {', '.join(wanted)} of {both}")
    extract(Path("data/features"), source, wanted, known["layer"], target.images, test_images)

    say(f"extract: linear probes on {', '.join(known['layers'])}")
    write_record(Path("data/probes.npz"), probes.probe_layers(source, known["layers"], target, test_images, sample))


if __name__ == "__main__":
    run(main)
