"""Bring images, from files or arrays, to the form that a network takes.

The rules, in this order, are the same for files and arrays:

1. A file is what its content says: PNG, JPEG, BMP, WebP, GIF or TIFF, of at most 100 megapixels. The first frame or
   page is taken, and turned as the camera noted (EXIF).
2. To 8 bits: of 16-bit grey, white is the least of 255, 4095 and 65535 (8, 12 and 16 bits) that no value is above, in
   the image's file or in the whole array; 1 bit becomes 0 or 255, numbers from 0 to 1 are multiplied by 255. Files of
   32-bit numbers are refused, as nobody knows their range, and those of 16-bit colour with no value above 4095,
   whatever their transparency, as Pillow drops the lower 8 bits.
3. What is transparent is laid on white, or on black where nothing of it would be darker than 223 on white; colour
   becomes grey by the luma of ITU-R BT.601, grey RGB by repetition.
4. Height and width, bilinearly: `stretch` changes each for itself; `pad` keeps the shape and centres the image on the
   median colour of its border; `crop` keeps the shape and cuts off, on both sides alike, what is too much. A `margin`
   of the same colour is left free on every side.
5. Polarity `inverted` makes 255 - x of every value.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from transfer.console import UserError, one_line
from transfer.data.ground import CONTENT
from transfer.data.preprocessing import Preprocessing

Shift = Literal["none", "rotated", "inverted", "noisy"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")  # no other decoder of Pillow is ever reached
LARGEST = 100_000_000  # pixels of an image in a file
ROTATION = 45  # degrees, counter-clockwise
NOISE = 64  # standard deviation, of 0..255
WHITES = (255, 4095, 65535)  # largest values of 8, 12 and 16 bits; more would part the images of one series
DEEP = b"\x10"  # bits of a channel of a PNG, in its byte 24
BITS = 258  # the TIFF tag of the bits of each channel
# What is doubtful of an image; the words follow its name and "is", or a number of images.
NARROW = "of 16 bits, but with no value above {0}, so {0} is taken as white: scale to 65535 if that is wrong"
SEVERAL = "of several frames or pages, of which the first is taken"
LIGHT_INK = "transparent and too light to be seen on white, so laid on black"
BILINEAR = Image.Resampling.BILINEAR

warnings.filterwarnings("ignore", module=r"PIL\.")  # of what is odd in a file, but changes no pixel


def untold(doubt: str) -> None:
    """Where nobody is told of doubts."""


def read_image(
    content: bytes,
    preprocessing: Preprocessing,
    name: str,
    doubt: Callable[[str], object] = untold,
    adjust: Callable[[Image.Image], Image.Image] | None = None,
) -> np.ndarray:
    """Decode an image file and bring it to the form that a network takes.

    Args:
        content: of the file.
        preprocessing: that is wanted.
        name: what the file is called in errors.
        doubt: is told what is doubtful: `NARROW`, `SEVERAL`, `LIGHT_INK`.
        adjust: is given the image in grey or RGB, 8 bits, and gives that which is brought to size.

    Returns:
        (height, width, channels) uint8.

    Raises:
        UserError: if the image is damaged, too large, or of numbers whose range is not known or cannot be used.
        PIL.UnidentifiedImageError: if it is no image of the `FORMATS`.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > LARGEST:
            raise Image.DecompressionBombError
        if image.mode in ("I", "F"):
            raise UserError(f"{name} is an image of 32-bit numbers: save it with 8 or 16 bits, grey or RGB")
        if _is_deep_colour(image, content):  # of which Pillow has dropped the lower 8 bits
            colour = image.convert("RGB") if image.mode == "RGBA" else image
            white = white_of(np.asarray(colour, np.uint16) * 256 + 255)
            if white < WHITES[-1]:
                raise UserError(f"{name} is of 16-bit colour with no value above {white}: save it with 8 bits")
        if getattr(image, "is_animated", False) and image.format != "MPO":  # a JPEG with, say, a preview
            doubt(SEVERAL)
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            deep = np.asarray(image)
            if (white := white_of(deep)) < WHITES[-1]:
                doubt(NARROW.format(white))
            image = Image.fromarray(_eight_bit(deep, white))
        image = _opaque(image, preprocessing.channels, doubt)
        return _fitted(adjust(image) if adjust else image, preprocessing)
    except (UserError, Image.UnidentifiedImageError):
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{name} has more than {LARGEST // 1_000_000} megapixels: make it smaller") from None
    except Exception as error:  # Pillow raises errors of many kinds on damaged files
        raise UserError(f"{name} is damaged ({one_line(error)}): replace it, or take it out") from None


def is_image(path: Path) -> bool:
    """Whether a file begins as an image of the `FORMATS` does."""
    try:
        Image.open(path, formats=FORMATS).close()
    except (OSError, Image.DecompressionBombError):
        return False
    return True


def white_of(values: np.ndarray) -> int:
    """Which of `WHITES` is white: the least that no value is above; 65535 where all are 0, or not of 16 bits."""
    if values.dtype.kind != "u" or values.dtype.itemsize != 2:
        return WHITES[-1]
    largest = values.max()
    return next((white for white in WHITES if 0 < largest <= white), WHITES[-1])


def check(images: np.ndarray, name: str) -> None:
    """Check that `convert` can take an array.

    Raises:
        UserError: if shape, type or values are not those of images; says which they are.
    """
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        shape = " × ".join(map(str, images.shape))
        raise UserError(
            f"{name} has the shape {shape}, but must be images × height × width, for colour × 3, with transparency × 4"
        )
    if images.dtype.kind == "f":
        if images.size and not (images.min() >= 0 and images.max() <= 1):  # so that NaN fails too
            raise UserError(f"{name} holds floats that are not from 0 to 1: scale them, or make them uint8 (0 to 255)")
    elif images.dtype not in (np.uint8, np.uint16, np.bool_):
        raise UserError(f"{name} is of type {images.dtype}, but must be uint8, uint16, bool, or floats from 0 to 1")


def convert(
    images: np.ndarray, preprocessing: Preprocessing, white: int = WHITES[-1], doubt: Callable[[str], object] = untold
) -> np.ndarray:
    """Bring arrays of images to the form that a network takes.

    Args:
        images: (n, height, width) or (n, height, width, 1, 3 or 4), grey, RGB or RGB with transparency: uint8, uint16,
            bool, or floats from 0 to 1; at least one.
        preprocessing: that is wanted.
        white: the value of uint16 that is white; `white_of` tells it, of all images of an array.
        doubt: is told what is doubtful of an image: `LIGHT_INK`.

    Returns:
        (n, height, width, channels) uint8; the same array where nothing is to change.
    """
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype == np.uint8 and images.shape[1:] == preprocessing.shape and not preprocessing.margin:
        return 255 - images if preprocessing.polarity == "inverted" else images
    opaque = (_opaque(_pillow(_eight_bit(image, white)), preprocessing.channels, doubt) for image in images)
    return np.stack([_fitted(image, preprocessing) for image in opaque])


def shifted(images: np.ndarray, shift: Shift, seed: int) -> np.ndarray:
    """Put images under a distribution shift.

    Args:
        images: (n, height, width, 1 or 3) uint8.
        shift: `rotated` by 45° counter-clockwise about the centre, bilinearly, with what comes in from outside black;
            `inverted`, 255 - x; `noisy`, with Gaussian noise of standard deviation 64, cut off at 0 and 255; or `none`.
        seed: of the noise.

    Returns:
        The same shape and type.
    """
    match shift:
        case "rotated":
            turned = [np.asarray(_pillow(image).rotate(ROTATION, BILINEAR)) for image in images]
            return np.stack(turned).reshape(images.shape)
        case "inverted":
            return 255 - images
        case "noisy":
            noise = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
            return np.clip(np.rint(images + NOISE * noise), 0, 255).astype(np.uint8)
    return images


def _pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _is_deep_colour(image: Image.Image, content: bytes) -> bool:
    """Whether an image has several channels of 16 bits."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.mode in ("RGB", "RGBA", "CMYK") and 16 in image.tag_v2.get(BITS, ())
    return image.format == "PNG" and image.mode in ("RGB", "RGBA") and content[24:25] == DEEP


def _eight_bit(image: np.ndarray, white: int) -> np.ndarray:
    """The values of one image as uint8; rule 2."""
    match image.dtype.kind:
        case "f":
            image = np.rint(image.astype(np.float64) * 255)
        case "b":
            image = np.where(image, 255, 0)
        case "u" if image.dtype.itemsize == 2:
            image = np.rint(image * (255 / white))
    return image.astype(np.uint8)


def _opaque(image: Image.Image, channels: int, doubt: Callable[[str], object]) -> Image.Image:
    """An image of 8-bit values in grey or RGB; rule 3."""
    mode = "L" if channels == 1 else "RGB"
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image, black = (
            Image.alpha_composite(Image.new("RGBA", layer.size, ground), layer).convert(mode)
            for ground in ("white", "black")
        )
        if np.asarray(image).min() >= 255 - CONTENT and np.ptp(np.asarray(black)) > CONTENT:
            doubt(LIGHT_INK)
            image = black
    return image.convert(mode)


def _fitted(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Bring an image in grey or RGB to size; rules 4 and 5."""
    margin = preprocessing.margin
    colour = _border_colour(image) if margin or preprocessing.fit == "pad" else 0
    size = preprocessing.width - 2 * margin, preprocessing.height - 2 * margin
    match preprocessing.fit:
        case "stretch":
            image = image.resize(size, BILINEAR)
        case "crop":
            image = ImageOps.fit(image, size, BILINEAR)
        case "pad":
            image = ImageOps.pad(image, size, BILINEAR, color=colour)
    if margin:
        image = ImageOps.expand(image, margin, colour)
    pixels = np.asarray(image).reshape(preprocessing.shape)
    return 255 - pixels if preprocessing.polarity == "inverted" else pixels


def _border_colour(image: Image.Image) -> tuple[int, ...]:
    """The median of the outermost pixels, of each channel for itself."""
    pixels = np.atleast_3d(np.asarray(image))
    ring = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return tuple(np.median(ring, axis=0).astype(int).tolist())
