"""Stage `convert`: bring the images of source and target, built-in or your own, to what the source model takes."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from transfer.console import counted, run, say
from transfer.data import images
from transfer.data import section as data
from transfer.data.conversion import convert_side
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


def main() -> None:
    """Write both sides as pools, and facts of them."""
    params = read_section("data", data.Params)
    shape = params.shape(model_file.image_shape(read_section("source", model_file.Params)))
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
    recordings = Preprocessing.from_text(str(pools["target"].preprocessing)).sound is not None
    comparable = all(len(rows) for _, rows in trained) and not recordings and params.target.shift != "inverted"
    if comparable and images.looks_inverted(*trained):
        warn(INVERTED.format("same" if params.target.polarity == "inverted" else "inverted"))
    write_json(FOLDER / "about.json", facts | {"notes": notes})


if __name__ == "__main__":
    run(main)
