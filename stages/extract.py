"""Stage `extract`: run every target image through the frozen source model, once, and keep what the layers give.

Features of the layers that strategies ask for are kept for all images; every layer is probed on a sample.
"""

from pathlib import Path

from transfer.console import counted, run, say
from transfer.data.target import read_target
from transfer.evaluation import probes
from transfer.files import read_arrays, read_facts, write_record
from transfer.models.features import AUTO, extract, read_features
from transfer.models.networks import has_logits, load_model
from transfer.params import read_params, read_section
from transfer.training.threads import set_threads

THREADS = 2  # fixed, so that the features do not depend on how many cores there are

NEARLY_ALL = 0.9
ONE_CLASS = (
    "The source model gives {:.0%} of the target's images the same one of its own classes, which is typical when "
    "pixels differ from those in training. Likely causes: source.range, data.target.polarity, data.target.margin."
)
UNLIKE = (
    "Of the target images that no draw labels, {:.0%} are unlike every labelled one, where 5% is usual: they may show "
    "other classes, or come from elsewhere, and strategies that use unlabelled images can lose by it."
)


def main() -> None:
    """Write the features of every layer that a strategy asks for, and what linear probes on all layers predict."""
    set_threads(THREADS)
    known = read_facts(Path("models/source.json"))
    asked = {str(section["layer"]) for section in read_params().values() if "layer" in section}
    wanted = sorted({known["layer"] if layer == AUTO else layer for layer in asked})
    source = load_model(Path("models/source.keras"))
    target = read_target(Path("data/target_train"))
    test_images = read_arrays(Path("data/target_test_images.npz"))["images"]
    both = f"{counted(len(target.images), 'target image')} and {counted(len(test_images), 'test image')}"
    say(f"extract: {', '.join(wanted)} of {both}")
    extract(Path("data/features"), source, wanted, known["layer"], target.images, test_images)

    say(f"extract: linear probes on {', '.join(known['layers'])}")
    notes = []
    unmeasured = known["accuracy"] is None and has_logits(source)
    if unmeasured and (share := probes.commonest_class(source, target)) >= NEARLY_ALL:
        notes.append(ONE_CLASS.format(share))
        say(f"warning: {notes[0]}")
    layer = known["layer"] if known["layer"] in wanted else wanted[0]
    share, usual = probes.unlike_labelled(read_features(Path("data/features"), layer).train, target.draws)
    if share > usual:
        notes.append(UNLIKE.format(share))
        say(f"warning: {notes[-1]}")
    params = read_section("probes", probes.Params)
    found = probes.probe_layers(source, known["layers"], target, test_images, params, notes)
    write_record(Path("data/probes.npz"), found)


if __name__ == "__main__":
    run(main)
