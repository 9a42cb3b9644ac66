"""Bring images, from files or arrays, to the form that a network takes.

The rules, in this order, the same for files and arrays:

1. A file is what its content says, whatever its name: PNG, JPEG, BMP, WebP, GIF or TIFF, of at most 100 megapixels. Of
   an animation the first frame is taken, of several pages the first, and the rotation that a camera noted (EXIF) is
   applied. Colour profiles are passed over.
2. To 8 bits: 16-bit grey is divided by 257 and rounded (of 16-bit colour files, Pillow keeps the upper 8 bits), 1 bit
   becomes 0 or 255, numbers from 0 to 1 are multiplied by 255 and rounded. Files of 32-bit numbers, whose range nobody
   knows, are refused.
3. Palettes, CMYK and other colour spaces become RGB as Pillow converts them; what is transparent is laid on white.
4. Colour becomes grey by the luma of ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B), grey becomes RGB by repetition.
5. Height and width: `stretch` changes each for itself; `pad` keeps the shape and centres the image on the median colour
   of its outermost pixels; `crop` keeps the shape and cuts off, on both sides alike, what is too much. All resample
   bilinearly, each pixel from all that it covers, so that nothing is skipped.
6. Polarity `inverted` makes 255 - x of every value.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from transfer.console import UserError, one_line
from transfer.data.opening import called, open_file
from transfer.data.preprocessing import Preprocessing

Shift = Literal["none", "rotated", "inverted", "noisy"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")  # no other decoder of Pillow is ever reached
LARGEST = 100_000_000  # pixels of an image in a file
LONGEST = 1 << 30  # bytes of a file: more than so many pixels take, of which a decoder may hold all
ROTATION = 45  # degrees, counter-clockwise
NOISE = 64  # standard deviation, of 0..255
DARK, LIGHT = 85, 170  # thirds of 0..255: a border is dark below the one and light above the other
SAMPLE = 1000  # images that tell the brightness of a border
CHUNK = 1024  # images that get their noise together
BILINEAR = Image.Resampling.BILINEAR

warnings.filterwarnings("ignore", module=r"PIL\.")  # of what is odd in a file, but changes no pixel


def read_image(source: Path | bytes, preprocessing: Preprocessing, name: str = "") -> np.ndarray:
    """Read an image file and bring it to the preprocessing.

    Args:
        source: path of the file, or its bytes.
        preprocessing: that is wanted.
        name: what the file is called in errors; its path if this is empty.

    Returns:
        (height, width, channels) uint8.

    Raises:
        UserError: if the file is missing, no image, damaged, too large, or of numbers whose range is not known.
    """
    name = called(source, name)
    with open_file(source, name, LONGEST) as stream:
        try:
            image = Image.open(stream, formats=FORMATS)
            if image.width * image.height > LARGEST:
                raise Image.DecompressionBombError
            ImageOps.exif_transpose(image, in_place=True)
            return _brought(_eight_bit(image, name), preprocessing)
        except UnidentifiedImageError:
            raise UserError(f"{name} is no image of a kind that can be read: {', '.join(FORMATS)}") from None
        except Image.DecompressionBombError:
            raise UserError(f"{name} has more than {LARGEST // 1_000_000} megapixels: make it smaller") from None
        except UserError:
            raise
        except Exception as error:  # a decoder ends in errors of many kinds on what is damaged
            raise UserError(f"{name} is damaged ({one_line(error)}): replace it, or take it out") from None


def check(images: np.ndarray, name: str = "images") -> None:
    """See whether `convert` can take an array.

    Args:
        images: any array.
        name: what it is called in the error.

    Raises:
        UserError: if shape, type or values are not those of images; says which they are.
    """
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)) or 0 in images.shape[1:]:
        shape = " × ".join(map(str, images.shape)) or "a single number"
        raise UserError(
            f"{name} has the shape {shape}, but must be images × height × width, for colour × 3, with transparency × 4"
        )
    if images.dtype.str[1:] in ("u1", "u2", "b1"):  # of either byte order
        return
    if images.dtype.kind != "f":
        raise UserError(f"{name} is of type {images.dtype}, but must be uint8, uint16, bool, or floats from 0 to 1")
    if images.size and not (images.min() >= 0 and images.max() <= 1):  # so that NaN fails too
        raise UserError(f"{name} holds floats that are not from 0 to 1: scale them, or make them uint8 (0 to 255)")


def convert(images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Bring arrays of images to the form; where nothing is to change, nothing is copied.

    Args:
        images: (n, height, width) or (n, height, width, 1, 3 or 4), grey, RGB or RGB with transparency: uint8, uint16,
            bool, or floats from 0 to 1.
        preprocessing: that is wanted.

    Returns:
        (n, height, width, channels) uint8.

    Raises:
        UserError: as `check` does.
    """
    check(images)
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype == np.uint8 and images.shape[1:] == preprocessing.shape:
        return 255 - images if preprocessing.polarity == "inverted" else images
    converted = np.empty((len(images), *preprocessing.shape), np.uint8)
    for number, image in enumerate(images):
        converted[number] = _brought(_pillow(_of_array(image)), preprocessing)
    return converted


def shifted(images: np.ndarray, shift: Shift, seed: int) -> np.ndarray:
    """Put images under a distribution shift whose size is stated.

    Args:
        images: (n, height, width, 1 or 3) uint8.
        shift: `rotated` by 45° counter-clockwise about the centre, bilinearly, with what comes in from outside black;
            `inverted`, 255 - x; `noisy`, with Gaussian noise of standard deviation 64, cut off at 0 and 255; or `none`.
        seed: of the noise.

    Returns:
        The same shape and type; for `none` the same array.
    """
    if shift == "none":
        return images
    if shift == "inverted":
        return 255 - images
    result = np.empty_like(images)
    if shift == "rotated":
        for number, image in enumerate(images):
            result[number] = np.asarray(_pillow(image).rotate(ROTATION, BILINEAR)).reshape(image.shape)
        return result
    rng = np.random.default_rng(seed)
    for start in range(0, len(images), CHUNK):
        rows = slice(start, start + CHUNK)
        noise = rng.standard_normal(images[rows].shape, np.float32)
        result[rows] = np.clip(np.rint(images[rows] + NOISE * noise), 0, 255)
    return result


def brightness(images: np.ndarray, rows: np.ndarray) -> float:
    """How light the border is: the mean of the outermost pixels, from 0 to 255.

    Args:
        images: (n, height, width, channels) uint8.
        rows: of them, (m,); at most 1000, evenly spread, are looked at.
    """
    height, width = images.shape[1:3]
    border = np.ones((height, width), bool)
    border[1:-1, 1:-1] = False
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(int)]
    return float(images[sample][:, border].mean())


def looks_inverted(*sides: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether one of two sides has dark borders and the other light ones; arguments of `brightness` for each."""
    dark, light = sorted(brightness(*side) for side in sides)
    return dark < DARK and light > LIGHT


def _pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _of_array(image: np.ndarray) -> np.ndarray:
    """The values of one image as uint8."""
    match image.dtype.str[1:]:
        case "u1":
            return image
        case "u2":
            return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
        case "b1":
            return np.where(image, 255, 0).astype(np.uint8)
        case _:
            return np.rint(image.astype(np.float64) * 255).astype(np.uint8)


def _eight_bit(image: Image.Image, name: str) -> Image.Image:
    """An image of a file whose values have 8 bits."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        values = np.asarray(image).astype(np.uint16)
        opaque = np.where(values == image.info.get("transparency"), 65535, values)  # one grey may stand for transparent
        return Image.fromarray(_of_array(opaque.astype(np.uint16)))
    if image.mode in ("I", "F", "LAB"):
        what = {"I": "32-bit integers", "F": "32-bit floats", "LAB": "the colour space Lab"}[image.mode]
        raise UserError(f"{name} is an image of {what}: save it with 8 or 16 bits, grey or RGB")
    return image


def _brought(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Bring an image of 8-bit values to the preprocessing: rules 3 to 6."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if image.mode != (wanted := "L" if preprocessing.channels == 1 else "RGB"):
        image = image.convert(wanted)
    pixels = np.asarray(_fitted(image, preprocessing)).reshape(preprocessing.shape)
    return 255 - pixels if preprocessing.polarity == "inverted" else pixels


def _fitted(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    size = preprocessing.width, preprocessing.height
    if image.size == size:
        return image
    if preprocessing.fit == "stretch":
        return image.resize(size, BILINEAR)
    if preprocessing.fit == "crop":
        return ImageOps.fit(image, size, BILINEAR)
    scale = min(preprocessing.width / image.width, preprocessing.height / image.height)
    inner = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), BILINEAR)
    canvas = Image.new(image.mode, size, _border(image))
    canvas.paste(inner, ((preprocessing.width - inner.width) // 2, (preprocessing.height - inner.height) // 2))
    return canvas


def _border(image: Image.Image) -> tuple[int, ...]:
    """The median of the outermost pixels, of each channel for itself; of two middle values the lower."""
    pixels = np.atleast_3d(np.asarray(image))
    ring = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    return tuple(np.sort(ring, axis=0)[(len(ring) - 1) // 2].tolist())
