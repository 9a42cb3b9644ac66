"""Files as people have them, brought to what a model takes: turned round and centred first where that is wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from transfer.console import UserError
from transfer.data.folders import read_file
from transfer.data.ground import border, stroke_width
from transfer.serve.models import Model

DISTORTED = 1.5  # times higher or wider than the model's images: stretched to these, it is no longer what it was
LONG = 256  # pixels of the longer side: where content is sought
RING = 0.06  # of the shorter side, from the edge on: where the background shows
FAINTEST = 16  # of 255: what differs less from the background is no content
THIN = 25  # percent of the training images: strokes thinner than in these are made wider
SPECK = 0.05  # of the largest piece of content: what has less is dirt


def read(
    source: Path | bytes, model: Model, *, invert: bool = False, centre: bool = False
) -> tuple[np.ndarray, list[str]]:
    """Read an image or a recording as a model takes it.

    Args:
        source: path of the file, or its bytes.
        model: that is to be asked.
        invert: whether light and dark of an image are turned round.
        centre: whether its content is centred.

    Returns:
        (height, width, channels) uint8; and what is doubtful, in words that follow the name of the file and "is".

    Raises:
        UserError: as `read_file` does, and where the model's images are not such that content can be centred.
    """
    if centre and not model.centres:
        raise UserError(
            f"centring needs grey training images on a plain background; {model.metadata.strategy} has none recorded"
        )
    doubts: list[str] = []
    form = model.preprocessing

    def adjust(image: Image.Image) -> Image.Image:
        image = ImageOps.invert(image) if invert else image
        image = centred(image, model) if centre else image
        ratio = image.height / image.width / (form.height / form.width)
        if form.fit == "stretch" and max(ratio, 1 / ratio) > DISTORTED:
            sizes = f"{image.width} × {image.height} pixels, which stretching to {form.width} × {form.height} distorts"
            doubts.append(f"{sizes}: {'centre it' if model.centres else 'crop it to about this shape'}")
        return image

    return read_file(source, form, doubt=doubts.append, adjust=adjust), doubts


def centred(image: Image.Image, model: Model) -> Image.Image:
    """Cut out the content of an image, and put it on the plain background of the training images.

    Its bounding box gets the size that is usual there. As in MNIST (LeCun et al. 1998), its centre of mass comes to
    the middle, or as near to it as leaves all content in the frame. Strokes that would be thinner than is usual become
    wider. An image without content stays as it is.

    Args:
        image: grey, with content that is lighter than its background where that of the training images is, or darker.
        model: gives form, background and size.
    """
    known, form = model.familiarity, model.preprocessing
    assert known is not None
    image.thumbnail((LONG, LONG), Image.Resampling.BILINEAR)
    lighter = known.dark != (form.polarity == "inverted")  # content, in a file
    pixels = np.asarray(image if lighter else ImageOps.invert(image), np.float64)
    background = min(known.background[50], 255 - known.background[50])  # if content is lighter
    content = find_content(pixels, background)
    if not content.any():
        return image
    size = np.array([form.height, form.width])
    first, last = box_of(content)
    scale = ((last - first) / (known.filled * size)).max()  # pixels here by pixels of the model
    reach = (known.stroke[THIN] * scale - stroke_width(content)) / 2
    if reach > 0:
        content = np.pad(content, int(reach) + 1)
        content = np.maximum(content, (reach + 0.5 - ndimage.distance_transform_edt(content < 0.5)).clip(0, 1))
        first, last = box_of(content)
        scale = ((last - first) / (known.filled * size)).max()
    frame = scale * (size - 2 * form.margin)
    middle = np.array(ndimage.center_of_mass(content)) + 0.5
    top, left = np.rint(np.clip(middle - frame / 2, last - frame, first)).astype(int)
    height, width = np.rint(frame).astype(int)
    whole = Image.fromarray(content.astype(np.float32))
    content = np.asarray(whole.crop((left, top, left + width, top + height)))
    found = Image.fromarray(np.rint(background + content * (255 - background)).astype(np.uint8))
    return found if lighter else ImageOps.invert(found)


def box_of(content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first row and column that hold content, and those after the last, (2,) int64 each."""
    places = np.argwhere(content)
    return places.min(axis=0), places.max(axis=0) + 1


def find_content(pixels: np.ndarray, background: float) -> np.ndarray:
    """How much of every pixel is content, and not background, whose light may be uneven and which may have a grain.

    Args:
        pixels: grey, (height, width) float64, content lighter than the background.
        background: how bright a plain background is; an image that has it keeps its shades.

    Returns:
        (height, width) float64, 0 to 1.
    """
    height, width = pixels.shape
    edge = max(1, round(RING * min(height, width)))
    ring = border(height, width, edge)
    if np.percentile(np.abs(pixels[ring] - background), 75) < FAINTEST:
        return np.where(pixels - background < FAINTEST, 0, (pixels - background) / (255 - background))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    surface = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    fitted, *_ = np.linalg.lstsq(surface[ring], pixels[ring], rcond=None)
    over = ndimage.gaussian_filter(pixels - surface @ fitted, 0.003 * max(height, width)).clip(0)
    threshold = max(FAINTEST / 2, otsu(over))
    pieces, count = ndimage.label(over > threshold)
    if not count:
        return np.zeros_like(over)
    mass = ndimage.sum_labels(over, pieces, np.arange(count + 1)) * (np.arange(count + 1) > 0)
    kept = (mass >= SPECK * mass.max())[pieces]
    full = np.median(over[kept])
    if full < FAINTEST:
        return np.zeros_like(over)
    near = ndimage.binary_dilation(kept, iterations=max(2, round(0.01 * max(height, width))))
    return np.where(near, (over - threshold / 2) / (full - threshold / 2), 0).clip(0, 1)


def otsu(values: np.ndarray) -> float:
    """The threshold that leaves the least variance within what is below and what is above it (Otsu 1979)."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * middles)
    between = (sums[-1] * below / below[-1] - sums) ** 2 / np.maximum(below * (below[-1] - below), 1)
    return float(middles[between.argmax()])
