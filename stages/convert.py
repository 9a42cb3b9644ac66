"""Stage `convert`: bring the images of source and target, built-in or your own, to what the source model takes."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from transfer.console import counted, run, say
from transfer.data import ground
from transfer.data import section as data
from transfer.data.conversion import convert_side, convert_unlabelled
from transfer.data.preprocessing import Preprocessing
from transfer.data.split import TEST, read_pool
from transfer.files import write_json
from transfer.models import model_file
from transfer.params import read_section

SIDES: tuple[Literal["source"], Literal["target"]] = ("source", "target")
RAW, FOLDER = Path("data/raw"), Path("data/images")
INVERTED = (
    "The target's images have a light border where the source's have a dark one, or the other way round: if light and "
    "dark should mean the same, set data.target.polarity to {}."
)
# Of the frame: two pixels of 28 on either side, which training shifts images by anyway. MNIST fills 0.71 of it;
# scikit-learn's digits, Fashion-MNIST and photographs fill all.
UNLIKE = 0.15
FRAME = (
    "The median object fills {:.0%} of the source's images, but {:.0%} of the target's (the larger of height and "
    "width): if the sizes should match, {}."
)
EMPTY = "Most images of the {} are nearly of one colour: look at them."


def main() -> None:
    """Write both sides as pools, the images without labels, and facts of them."""
    params = read_section("data", data.Params)
    given = read_section("source", model_file.Params)
    shape = params.shape(model_file.image_shape(given), model_file.default_side(given))
    height, width, channels = shape
    form = f"{height}×{width} {'grey' if channels == 1 else 'RGB'}"
    say(f"convert: source {params.source.name} and target {params.target.name}, to {form}")
    facts: dict[str, Any] = {}
    pools = {}
    notes: list[str] = []

    def warn(note: str) -> None:  # here and in the report
        say(f"warning: {note}")
        notes.append(note)

    for key in SIDES:
        facts[key] = convert_side(FOLDER / key, key, params, shape, RAW, warn)
        pools[key] = read_pool(FOLDER / key)
        classes, count = len(facts[key]["classes"]), counted(len(pools[key].labels), "image")
        say(f"convert: {key}: {facts[key]['title']}, {classes} classes, {count}")
    trained = [(pool.images, np.flatnonzero(pool.part != TEST)) for pool in pools.values()]
    preprocessing = Preprocessing.from_text(str(pools["target"].preprocessing))
    if unlabelled := convert_unlabelled(FOLDER / "unlabelled.npy", params.target, preprocessing, warn):
        facts["unlabelled"] = unlabelled
        say(f"convert: unlabelled: {unlabelled['title']}, {counted(unlabelled['raw']['images']['shape'][0], 'image')}")
    comparable = all(len(rows) for _, rows in trained) and preprocessing.sound is None
    if comparable and params.target.shift != "inverted" and ground.looks_inverted(*trained):
        warn(INVERTED.format("same" if params.target.polarity == "inverted" else "inverted"))
    if comparable and params.target.shift == "none":
        parts = [ground.filled(*side) for side in trained]
        if not min(parts):
            warn(EMPTY.format(SIDES[parts.index(0)]))
        elif abs(parts[0] - parts[1]) > UNLIKE:
            warn(FRAME.format(*parts, _advice(params, given.file is None, min(height, width), *parts)))
    write_json(FOLDER / "about.json", facts | {"notes": notes})


def _advice(params: data.Params, trained: bool, side: int, source: float, target: float) -> str:
    """Which margin makes the content fill as much of both sides' images; a given model's images are as they are."""
    choices = [("target", params.target.margin, target, source)]
    choices += [("source", params.source.margin, source, target)] if trained else []
    for key, margin, now, wanted in choices:
        if (asked := round((side - (side - 2 * margin) * wanted / now) / 2)) >= 0:
            return f"set data.{key}.margin to {asked}"
    return "cut off what is free around it in the target's images"


if __name__ == "__main__":
    run(main)
