"""Stage `convert`: bring the images of source and target, built-in or your own, to what the source model takes."""

from pathlib import Path

from transfer.basics.console import run, say
from transfer.basics.files import write_facts
from transfer.basics.params import read_section
from transfer.inputs import data, pixels
from transfer.inputs.conversion import convert_side
from transfer.inputs.pool import read_pool
from transfer.networks import given

RAW, FOLDER = Path("data/raw"), Path("data/images")
INVERTED = (
    "The target's images have a light border where the source's have a dark one, or the other way round: if light and "
    "dark should mean the same, set data.target.polarity to inverted."
)


def main() -> None:
    """Write both sides as pools, and facts of them."""
    params = read_section("data", data.Params)
    shape = params.shape(given.image_shape(read_section("source", given.Params)))
    height, width, channels = shape
    form = f"{height}×{width} {'grey' if channels == 1 else 'RGB'}"
    say(f"convert: source {params.source.name} and target {params.target.name}, to {form}")
    facts = {}
    for key, side in (("source", params.source), ("target", params.target)):
        facts[key] = convert_side(FOLDER / key, side, f"data.{key}", params, params.form(side, shape), RAW)
        say(f"convert: {key}: {facts[key]['title']}, {len(facts[key]['classes'])} classes")
    source, target = (read_pool(FOLDER / key).images for key in facts)
    notes = [INVERTED] if len(source) and pixels.looks_inverted(target[...], source[...]) else []
    for note in notes:
        say(f"warning: {note}")
    write_facts(FOLDER / "about.json", facts | {"notes": notes})


if __name__ == "__main__":
    run(main)
