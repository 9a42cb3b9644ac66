"""Stage `split`: divide MNIST into a source task and a target task, and draw the target's few labels."""

from pathlib import Path

import numpy as np

from transfer import split
from transfer.basics.console import counted, run, say
from transfer.basics.files import read_arrays, write_arrays, write_facts
from transfer.basics.params import read_section
from transfer.mnist import fingerprint
from transfer.target import write_target

DATA = Path("data")


def main() -> None:
    """Read raw MNIST; write its fingerprints, the source task, and the target task with the test labels apart."""
    params = read_section("split", split.Params)
    source, target = (",".join(map(str, names)) for names in (params.source_classes, params.target_classes))
    draws = f"{counted(params.seeds, 'draw')} of up to {counted(max(params.shots), 'label')} per class"
    say(f"split: source digits {source}, target digits {target}, {draws}")

    names = "train_images", "train_labels", "test_images", "test_labels"
    raw = read_arrays(DATA / "raw" / "mnist.npz", *names)
    facts = {name: {"shape": raw[name].shape, "sha256": fingerprint(raw[name])} for name in names}
    write_facts(DATA / "raw.json", facts)
    train, test = ((raw[f"{half}_images"], raw[f"{half}_labels"]) for half in ("train", "test"))

    write_arrays(DATA / "source.npz", **split.split_source(train, test, params))
    write_target(DATA / "target_train", split.split_target(train, params))
    images, labels = split.select_classes(*test, params.target_classes)
    write_arrays(DATA / "target_test_images.npz", images=images)
    write_arrays(DATA / "target_test_labels.npz", labels=labels, classes=np.array(params.target_classes, np.int32))


if __name__ == "__main__":
    run(main)
