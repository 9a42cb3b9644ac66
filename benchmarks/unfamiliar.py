"""What `transfer predict` and `serve` warn of, and what inverting and centring mend, on the default study's models.

    python -m benchmarks.unfamiliar    # two minutes on two cores, after `dvc repro`

Shares, in %, of MNIST's test digits and of Fashion-MNIST's test images that are called unfamiliar: digits 5-9 are what
the models know, so theirs are false alarms. Then accuracies on test digits made into photos of dark ink on paper.
Nothing is written, and nothing may be chosen by it: the images are those of the target's test.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from transfer.console import run, say
from transfer.data import download
from transfer.params import read_section
from transfer.serve.models import Model, open_folder, unfamiliar
from transfer.serve.reading import read

KNOWN = 5  # the first digit that the models know
PHOTOS = 500
HEIGHT, WIDTH = 300, 400  # pixels of a photo
SEED = 0


def photo(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """A JPEG of a digit in dark ink somewhere on paper, unevenly lit and with grain.

    Args:
        digit: (height, width) uint8, light on dark.
        rng: of place, size, light and grain.
    """
    side = int(rng.integers(round(0.4 * HEIGHT), round(0.9 * HEIGHT)))
    top, left = rng.integers(0, HEIGHT - side + 1), rng.integers(0, WIDTH - side + 1)
    ink = np.zeros((HEIGHT, WIDTH))
    large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    ink[top : top + side, left : left + side] = np.asarray(large) / 255
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    paper = rng.uniform(190, 235) + rng.uniform(-35, 35) * x + rng.uniform(-35, 35) * y
    seen = paper * (1 - ink) + rng.uniform(20, 90) * ink + rng.normal(0, rng.uniform(3, 10), ink.shape)
    image = Image.fromarray(seen.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=70)
    return stream.getvalue()


def main() -> None:
    """Print both tables."""
    params = read_section("download", download.Params)
    digits, _ = download.fetch("mnist", params)
    fashion, _ = download.fetch("fashion_mnist", params)
    images, labels = digits["test_images"], digits["test_labels"]
    sets = {f"{KNOWN}-9": images[labels >= KNOWN]}
    sets |= {str(digit): images[labels == digit] for digit in range(KNOWN)} | {"fashion": fashion["test_images"]}
    models, _ = open_folder(Path("models"))
    say(f"| unfamiliar, % | {' | '.join(sets)} |")
    p_values = [[model.answer(each[..., np.newaxis])[1] for each in sets.values()] for model in models]
    for model, rows in zip(models, p_values, strict=True):
        say(_line(model.metadata.strategy, [[bool(unfamiliar([p])) for p in row] for row in rows]))
    together = [[bool(unfamiliar(p)) for p in zip(*rows, strict=True)] for rows in zip(*p_values, strict=True)]
    say(_line("all together, as `serve`", together))

    rng = np.random.default_rng(SEED)
    chosen = rng.permutation(np.flatnonzero(labels >= KNOWN))[:PHOTOS]
    photos = [photo(images[row], rng) for row in chosen]
    say("| photos right, % | as they are | inverted | centred | both |")
    for model in models:
        ways = [(False, False), (True, False), (False, True), (True, True)]
        say(_line(model.metadata.strategy, [_right(model, photos, labels[chosen], *way) for way in ways]))


def _right(model: Model, photos: list[bytes], labels: np.ndarray, invert: bool, centre: bool) -> list[bool]:
    """Whether a model is right on each photo."""
    images = np.stack([read(each, model, invert=invert, centre=centre)[0] for each in photos])
    names = np.array(model.metadata.classes)[model.answer(images)[0].argmax(axis=1)]
    return list(names == labels.astype(str))


def _line(name: str, shares: list[list[bool]]) -> str:
    return f"| {name} | {' | '.join(f'{100 * np.mean(each):.0f}' for each in shares)} |"


if __name__ == "__main__":
    run(main)
