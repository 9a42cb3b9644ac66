"""Stage `split`: hold out test images, and draw the target's few labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from transfer.console import counted, run, say, some
from transfer.data import split
from transfer.data.target import write_target
from transfer.files import read_array, read_facts, write_arrays, write_json
from transfer.params import read_section

DATA = Path("data")


def main() -> None:
    """Read both pools; write the source task, the target task with the test labels apart, and what both consist of."""
    params = read_section("split", split.Params)
    pools = {side: split.read_pool(DATA / "images" / side) for side in ("source", "target")}
    source, target = pools.values()
    parts = {"target": split.divide(target, params, "data.target")}
    parts["source"] = split.divide(source, params, "data.source", parts["target"].known)
    facts = read_facts(DATA / "images" / "about.json")
    for side, part in parts.items():
        facts[side] |= {"train": len(part.train), "test": len(part.test), "how": part.how, "dropped": part.dropped}
        facts[side]["test_groups"] = len({*pools[side].groups[part.test].tolist()} - {-1})
        if part.dropped:
            say(f"split: {side}: {counted(part.dropped, 'duplicate')} dropped")
    unlabelled = read_array(DATA / "images" / "unlabelled.npy", mapped=True)
    added = split.further(unlabelled, parts["target"].known)
    facts["target"] |= {"unlabelled": len(added), "unlabelled_dropped": len(unlabelled) - len(added)}
    if len(unlabelled):
        dropped = counted(len(unlabelled) - len(added), "duplicate")
        say(f"split: unlabelled: {counted(len(added), 'image')} added to the target's, {dropped} dropped")

    folds = parts["target"].folds
    if alone := split.seen_in_one_fold(target, parts["target"]):
        note = (
            f"All labelled images of class {some(alone)} are one, or of one group: in cross-validation they are tested "
            "by models without a label of their class, and count as errors. Label more of them."
        )
        say(f"warning: {note}")
        facts["notes"].append(note)
    facts["target"]["folds"] = int(folds.max()) + 1 if len(folds) else 0
    write_arrays(DATA / "source.npz", **split.split_source(source, parts["source"], params))
    task = split.split_target(target, parts["target"], params)
    write_target(DATA / "target_train", replace(task, images=np.concatenate([task.images, unlabelled[added]])))
    facts["draw"] = split.first_draw(task)
    write_json(DATA / "about.json", facts)
    train, test = parts["target"].train, parts["target"].test
    write_arrays(DATA / "target_train_labels.npz", labels=target.labels[train])
    write_arrays(DATA / "target_test_images.npz", images=target.images[test])
    looks = np.array([len(folds)] if len(folds) else params.draws, np.int32)
    write_arrays(DATA / "protocol.npz", looks=looks, folds=folds)
    write_arrays(DATA / "target_test_labels.npz", labels=target.labels[test], classes=target.classes)
    crossed = f"{counted(len(folds), 'repetition')} of {facts['target']['folds']} folds"
    how = crossed if len(folds) else counted(params.draws[-1], "draw")
    classes = (some(pool.classes.tolist(), 10) or "none" for pool in (source, target))
    largest = params.shots[-1] if params.draw == "chosen" else task.largest
    say(f"split: {' → '.join(classes)}; {how} of up to {counted(largest, 'label')} per class")


if __name__ == "__main__":
    run(main)
