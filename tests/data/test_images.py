"""Images of every kind of file and array, brought to the form that a network takes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import refused
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from transfer.data.ground import filled, looks_inverted
from transfer.data.images import LIGHT_INK, NARROW, SEVERAL, check, convert, read_image, shifted, white_of
from transfer.data.preprocessing import Preprocessing

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 8), np.uint8)
COLOUR = RNG.integers(0, 256, (6, 8, 3), np.uint8)


def form(height: int = 6, width: int = 8, channels: int = 1, **others: Any) -> Preprocessing:
    return Preprocessing(height, width, channels, **{"fit": "stretch", "polarity": "same"} | others)


def saved(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def read(content: bytes, **others: Any) -> np.ndarray:
    return read_image(content, form(**others), "a.png")


def grey(content: bytes, **others: Any) -> np.ndarray:
    return read(content, **others)[..., 0]


def doubts(content: bytes, **others: Any) -> list[str]:
    told: list[str] = []
    read_image(content, form(**others), "a.png", told.append)
    return told


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_an_image_that_fits_keeps_every_pixel_whatever_its_format(kind: str) -> None:
    image = Image.fromarray(COLOUR).quantize(200) if kind == "GIF" else Image.fromarray(COLOUR)
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(read(saved(image, kind, **options), channels=3), image.convert("RGB"))


@pytest.mark.parametrize(
    ("orientation", "upright"), [(1, lambda x: x), (3, lambda x: x[::-1, ::-1]), (6, lambda x: x[::-1].T)]
)
def test_the_rotation_that_a_camera_noted_is_applied(orientation: int, upright: Callable) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    wanted = upright(GREY)
    np.testing.assert_array_equal(grey(saved(GREY, exif=exif), height=len(wanted), width=len(wanted[0])), wanted)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_frames_and_pages_the_first_is_taken_and_told(kind: str) -> None:
    frames = [Image.fromarray(np.full((6, 8), value, np.uint8)) for value in (50, 200)]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(grey(content), 50, atol=2)
    assert doubts(content) == [SEVERAL]
    assert doubts(saved(frames[0], kind, save_all=True)) == []


def test_a_photo_with_a_preview_in_it_is_one_image() -> None:
    photo, preview = Image.fromarray(COLOUR), Image.fromarray(COLOUR[::2, ::2])
    assert doubts(saved(photo, "MPO", save_all=True, append_images=[preview])) == []


def test_sixteen_bits_are_divided_by_257_and_rounded() -> None:
    deep = np.array([[0, 128, 129, 385, 386, 65406, 65407, 65535]], np.uint16)
    wanted = [[0, 0, 1, 1, 2, 254, 255, 255]]
    for kind in ("PNG", "TIFF"):
        assert grey(saved(deep, kind), height=1).tolist() == wanted
    assert convert(deep[None], form(1, 8))[0, ..., 0].tolist() == wanted


@pytest.mark.parametrize(("largest", "white"), [(200, 255), (255, 255), (256, 4095), (1100, 4095), (4095, 4095)])
def test_sixteen_bits_that_are_plainly_fewer_are_taken_as_those_and_told(largest: int, white: int) -> None:
    deep = np.linspace(0, largest, 48).astype(np.uint16).reshape(6, 8)
    wanted = np.rint(deep * (255 / white))
    for content in (saved(deep), saved(deep, "TIFF")):
        np.testing.assert_array_equal(grey(content), wanted)
        assert doubts(content) == [NARROW.format(white)]
    np.testing.assert_array_equal(convert(deep[None], form(), white_of(deep))[0, ..., 0], wanted)


def test_sixteen_bits_of_one_dark_image_are_those_of_its_array_and_black_is_no_doubt() -> None:
    images = np.stack([np.full((6, 8), value, np.uint16) for value in (0, 100, 4095)])
    assert convert(images, form(), white_of(images))[:, 0, 0, 0].tolist() == [0, 6, 255]
    assert doubts(saved(images[0])) == doubts(saved(np.full((6, 8), 4096, np.uint16))) == []


def png_of(values: np.ndarray, colour: int) -> bytes:
    """A PNG file of 16 bits, one row of values; 2 is RGB, 6 with transparency, 4 grey with transparency."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", len(values), 1, 16, colour, 0, 0, 0)
    rows = zlib.compress(b"\0" + values.astype(">u2").tobytes())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff_of(values: np.ndarray) -> bytes:
    """A TIFF file of 16-bit RGB, one row of values."""
    pixels = values.astype("<u2").tobytes()
    entries = [(256, len(values)), (257, 1), (262, 2), (273, 8), (277, 3), (278, 1), (279, len(pixels))]
    bits = (258, 8 + len(pixels))  # where the three numbers of bits stand
    directory = b"".join(
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value)
        for tag, value in sorted([*entries, bits])
    )
    place = 8 + len(pixels) + 6
    return (
        struct.pack("<2sHI", b"II", 42, place)
        + pixels
        + struct.pack("<3H", 16, 16, 16)
        + struct.pack("<H", len(entries) + 1)
        + directory
        + bytes(4)
    )


@pytest.mark.parametrize(("largest", "white"), [(255, 255), (4095, 4095), (16384, None)])
def test_sixteen_bits_of_colour_that_are_plainly_fewer_are_refused(largest: int, white: int | None) -> None:
    values, alpha = np.full((4, 3), largest), np.full((4, 1), 65535)
    layered = png_of(np.hstack([values, alpha]), 6), png_of(np.hstack([values[:, :1], alpha]), 4)
    for content in (png_of(values, 2), tiff_of(values), *layered):
        if white is None:
            assert (read(content, height=1, width=4, channels=3) == 64).all()
        else:
            refused(lambda content=content: read(content), f"a.png is of 16-bit colour with no value above {white}")


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_numbers_of_unknown_range_are_refused(kind: type) -> None:
    refused(lambda: read(saved(GREY.astype(kind), "TIFF")), "a.png is an image of 32-bit numbers")


def test_what_is_transparent_is_laid_on_white() -> None:
    alpha = RNG.integers(0, 256, (6, 8, 1), np.uint8)
    layered = np.concatenate([COLOUR, alpha], axis=2)
    wanted = 255 - (255.0 - COLOUR) * (alpha / 255)
    np.testing.assert_allclose(read(saved(layered), channels=3), wanted, atol=1)
    np.testing.assert_allclose(convert(layered[None], form(channels=3))[0], wanted, atol=1)
    drawn = np.where(GREY < 128, 3, 90).astype(np.uint8)
    for kind in ("PNG", "GIF"):  # one colour that stands for transparent
        np.testing.assert_array_equal(grey(saved(drawn, kind, transparency=3)), np.where(drawn == 3, 255, 90))


@pytest.mark.parametrize("ink", [255, 230])
@pytest.mark.parametrize("channels", [1, 3])
def test_light_ink_on_nothing_is_laid_on_black_and_told(ink: int, channels: int) -> None:
    drawn = np.full((6, 8, 4), ink, np.uint8)
    drawn[..., 3] = GREY
    wanted = np.repeat(np.rint(ink * (GREY[..., None] / 255)), channels, axis=2)
    np.testing.assert_allclose(read(saved(drawn), channels=channels), wanted, atol=1)
    assert doubts(saved(drawn), channels=channels) == [LIGHT_INK]
    told: list[str] = []
    np.testing.assert_allclose(convert(drawn[None], form(channels=channels), doubt=told.append)[0], wanted, atol=1)
    assert told == [LIGHT_INK]


def test_what_can_be_seen_on_white_or_nowhere_stays_on_white() -> None:
    blank = np.full((6, 8, 4), 255, np.uint8)
    nothing = np.zeros((6, 8, 4), np.uint8)
    outlined = blank.copy()
    outlined[..., 3], outlined[2, 2, :3] = GREY | 128, 0
    for image in (blank, nothing, outlined):
        assert doubts(saved(image)) == []
        assert grey(saved(image))[0].min() == 255


def test_colour_becomes_grey_by_its_luma_and_grey_becomes_rgb_by_repetition() -> None:
    np.testing.assert_allclose(grey(saved(COLOUR)), COLOUR @ [0.299, 0.587, 0.114], atol=0.51)
    np.testing.assert_array_equal(read(saved(GREY), channels=3), np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_palettes_and_other_colour_spaces_are_converted(mode: str, channels: int) -> None:
    content = saved(Image.new("RGB", (8, 6), (204, 51, 102)).convert(mode), "PNG" if mode == "P" else "TIFF")
    wanted = (204, 51, 102) if channels == 3 else 103
    np.testing.assert_allclose(read(content, channels=channels), np.full((6, 8, channels), wanted), atol=2)


def test_padding_keeps_the_shape_on_the_median_colour_of_the_border() -> None:
    image = np.full((10, 20, 3), (10, 200, 60), np.uint8)
    image[1:-1, 1:-1] = 0
    image[0, :5] = 255  # fewer than half of the border
    padded = read(saved(image), height=20, width=20, channels=3, fit="pad")
    assert (padded[[*range(5), *range(15, 20)]] == (10, 200, 60)).all()
    np.testing.assert_array_equal(padded[5:15], image)


def test_cropping_keeps_the_shape_and_cuts_both_sides_alike() -> None:
    image = np.repeat(np.repeat(np.array([[9, 50, 100, 150, 9]], np.uint8), 30, axis=0), 10, axis=1)
    np.testing.assert_array_equal(grey(saved(image), height=30, width=30, fit="crop"), image[:, 10:40])
    np.testing.assert_array_equal(grey(saved(image.T), height=30, width=30, fit="crop"), image.T[10:40])


def test_a_margin_is_left_free_in_the_median_colour_of_the_border() -> None:
    image = np.full((6, 4), 9, np.uint8)
    image[2:4] = 200
    wanted = np.pad(image, 3, constant_values=9)
    np.testing.assert_array_equal(grey(saved(image), height=12, width=10, margin=3), wanted)
    same = image[None, ..., None]
    np.testing.assert_array_equal(convert(same, form(12, 10, margin=3))[0, ..., 0], wanted)
    assert (convert(same, form(6, 4, margin=1))[0, :, [0, -1]] == 9).all()  # though it has the size already
    padded = grey(saved(image), height=12, width=12, margin=3, fit="pad")
    np.testing.assert_array_equal(padded, np.pad(image, ((3, 3), (4, 4)), constant_values=9))


def test_how_far_content_fills_the_frame_is_told_from_what_differs_from_the_border() -> None:
    images = np.full((5, 20, 10, 3), 230, np.uint8)
    images[:, 4:14, 2:5, 1] = 90
    images[:, 19, 9] = 230 - 32  # noise
    images[0] = 7
    assert filled(images, np.arange(5)) == 10 / 20
    assert filled(images, np.array([0])) == 0
    images[1:, :, 5] = 0
    assert filled(images, np.arange(5)) == 1


def test_polarity_is_turned_round_last() -> None:
    np.testing.assert_array_equal(grey(saved(GREY), polarity="inverted"), 255 - GREY)
    assert not grey(saved(np.zeros((6, 8, 4), np.uint8)), polarity="inverted").any()  # transparent: white, then black
    assert (grey(saved(np.full((2, 8), 30, np.uint8)), fit="pad", polarity="inverted") == 225).all()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_001, 10_000), (2_000_000, 2_000_000)])
def test_an_image_that_would_fill_the_memory_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    content = bytearray(saved(GREY))
    content[16:24] = struct.pack(">II", *size)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    refused(lambda: read(bytes(content)), "a.png has more than 100 megapixels")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"])
def test_a_file_that_is_cut_off_is_one_line(kind: str) -> None:
    content = saved(RNG.integers(0, 256, (40, 40, 3), np.uint8), kind)
    refused(lambda: read(content[: len(content) * 2 // 3]), "a.png is damaged")


SHAPES = st.tuples(st.integers(1, 3), *[st.integers(1, 9)] * 2)
ANY = st.one_of(
    arrays(np.uint8, st.one_of(SHAPES, st.tuples(*[st.integers(1, 9)] * 3, st.sampled_from([1, 3, 4])))),
    arrays(np.uint16, SHAPES),
    arrays(np.bool_, SHAPES),
    arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32)),
)
FORMS = st.builds(
    form,
    st.integers(3, 9),
    st.integers(3, 9),
    st.sampled_from([1, 3]),
    fit=st.sampled_from(["stretch", "pad", "crop"]),
    polarity=st.sampled_from(["same", "inverted"]),
    margin=st.integers(0, 1),
)


@given(images=ANY, wanted=FORMS)
def test_arrays_and_files_follow_the_same_rules(images: np.ndarray, wanted: Preprocessing) -> None:
    check(images, "images")
    image = np.rint(images[0].astype(np.float64) * 255).astype(np.uint8) if images.dtype.kind == "f" else images[0]
    image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    np.testing.assert_array_equal(
        read_image(saved(image), wanted, "x"), convert(images[:1], wanted, white_of(images[:1]))[0]
    )


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 3)), "the shape 2 × 3"),
        (np.zeros((2, 3, 3, 2), np.uint8), "the shape 2 × 3 × 3 × 2"),
        (np.zeros((2, 3, 3), np.int64), "int64"),
        (np.full((2, 3, 3), 1.01), "from 0 to 1"),
        (np.array([[[0.5, np.nan]]]), "from 0 to 1"),
    ],
)
def test_arrays_that_are_no_images_are_refused_by_what_they_are(images: np.ndarray, words: str) -> None:
    refused(lambda: check(images, "images"), "images ", words)


def test_rotation_is_by_45_degrees_counter_clockwise() -> None:
    images = np.zeros((2, 21, 21, 1), np.uint8)
    images[:, 9:12, 17:20] = 255  # to the right of the centre
    rows, columns = np.nonzero(shifted(images, "rotated", 0)[0, ..., 0] > 128)
    assert rows.mean() == pytest.approx(10 - 8 * np.sqrt(0.5), abs=0.3)  # above it
    assert columns.mean() == pytest.approx(10 + 8 * np.sqrt(0.5), abs=0.3)
    white = shifted(np.full((1, 21, 21, 3), 255, np.uint8), "rotated", 0)
    assert not white[0, [0, 0, -1, -1], [0, -1, 0, -1]].any()  # black comes in from outside


def test_noise_has_its_standard_deviation_and_comes_from_the_seed() -> None:
    images = np.full((1500, 8, 8, 1), 128, np.uint8)
    noisy = shifted(images, "noisy", 3)
    assert np.mean(np.abs(noisy.astype(float) - 128) < 64) == pytest.approx(0.683, abs=0.01)
    np.testing.assert_array_equal(noisy[:7], shifted(images[:7], "noisy", 3))
    assert (noisy != shifted(images, "noisy", 4)).mean() > 0.9


def test_a_dark_border_beside_a_light_one_looks_inverted() -> None:
    def framed(value: int) -> tuple[np.ndarray, np.ndarray]:
        images = np.full((3, 4, 4, 1), value, np.uint8)
        images[:, 1:-1, 1:-1] = 128
        return images, np.arange(3)

    assert looks_inverted(framed(20), framed(230))
    assert looks_inverted(framed(230), framed(20))
    for one, other in ((20, 128), (128, 230), (20, 20), (230, 230)):
        assert not looks_inverted(framed(one), framed(other))
