from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import refused
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from transfer.data.opening import refuse_endless
from transfer.data.pixels import brightness, convert, looks_inverted, read_image, shifted
from transfer.data.preprocessing import Preprocessing, Sound

ROOT = Path(__file__).resolve().parents[1]
SOUND = Sound(rate=8000, seconds=1.0, window=0.032, hop=0.016, mels=40, decibels=60.0)
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 8), np.uint8)
COLOUR = RNG.integers(0, 256, (6, 8, 3), np.uint8)


def form(height: int = 6, width: int = 8, channels: int = 1, **others: Any) -> Preprocessing:
    return Preprocessing(height, width, channels, **{"fit": "stretch", "polarity": "same", "sound": SOUND} | others)


def saved(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def grey(content: bytes, **others: Any) -> np.ndarray:
    return read_image(content, form(**others))[..., 0]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_an_image_that_fits_keeps_every_pixel_whatever_its_format(kind: str) -> None:
    image = Image.fromarray(COLOUR).quantize(200) if kind == "GIF" else Image.fromarray(COLOUR)
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(read_image(saved(image, kind, **options), form(channels=3)), image.convert("RGB"))


def test_the_content_of_a_file_decides_and_not_its_name(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.txt", "a", "a.wav"):
        (tmp_path / name).write_bytes(saved(GREY))
        np.testing.assert_array_equal(read_image(tmp_path / name, form())[..., 0], GREY)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.T),
        (6, lambda x: x[::-1].T),
        (7, lambda x: x[::-1, ::-1].T),
        (8, lambda x: x.T[::-1]),
    ],
)
def test_the_rotation_that_a_camera_noted_is_applied(orientation: int, upright: Callable) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    wanted = upright(GREY)
    np.testing.assert_array_equal(grey(saved(GREY, exif=exif), height=len(wanted), width=len(wanted[0])), wanted)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_frames_and_pages_the_first_is_taken(kind: str) -> None:
    frames = [Image.fromarray(np.full((6, 8), value, np.uint8)) for value in (50, 200)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (grey(content) == 50).all()


def test_sixteen_bits_are_divided_by_257_and_rounded() -> None:
    deep = np.array([[0, 128, 129, 385, 386, 65406, 65407, 65535]], np.uint16)
    wanted = [[0, 0, 1, 1, 2, 254, 255, 255]]
    for kind in ("PNG", "TIFF"):
        assert grey(saved(deep, kind), height=1).tolist() == wanted
    big_endian = io.BytesIO()
    Image.frombytes("I;16B", (8, 1), deep.astype(">u2").tobytes()).save(big_endian, "TIFF")
    assert grey(big_endian.getvalue(), height=1).tolist() == wanted
    assert convert(deep[None], form(1, 8))[0, ..., 0].tolist() == wanted
    assert convert(deep[None].astype(">u2"), form(1, 8))[0, ..., 0].tolist() == wanted


@pytest.mark.parametrize(
    ("image", "kind", "what"),
    [
        (GREY.astype(np.int32), "TIFF", "32-bit integers"),
        (GREY.astype(np.float32), "TIFF", "32-bit floats"),
        (Image.new("LAB", (8, 6)), "TIFF", "Lab"),
    ],
)
def test_numbers_of_unknown_range_are_refused_by_name(image: Any, kind: str, what: str) -> None:
    refused(lambda: read_image(saved(image, kind), form(), "scan.tif"), "scan.tif", what)


def test_what_is_transparent_is_laid_on_white() -> None:
    alpha = RNG.integers(0, 256, (6, 8, 1), np.uint8)
    wanted = 255 - (255.0 - COLOUR) * (alpha / 255)
    layered = saved(np.concatenate([COLOUR, alpha], axis=2))
    np.testing.assert_allclose(read_image(layered, form(channels=3)), wanted, atol=1)
    opaque_grey = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(alpha[..., 0])))
    np.testing.assert_allclose(grey(saved(opaque_grey)), 255 - (255.0 - GREY) * (alpha[..., 0] / 255), atol=1)


def test_one_colour_that_stands_for_transparent_becomes_white() -> None:
    drawn = np.where(GREY < 128, 3, 90).astype(np.uint8)
    wanted = np.where(drawn == 3, 255, 90)
    np.testing.assert_array_equal(grey(saved(drawn, transparency=3)), wanted)
    np.testing.assert_array_equal(grey(saved(drawn.astype(np.uint16) * 257, transparency=3 * 257)), wanted)
    palette = Image.fromarray(drawn)
    np.testing.assert_array_equal(grey(saved(palette, "GIF", transparency=3)), wanted)


def test_colour_becomes_grey_by_its_luma_and_grey_becomes_rgb_by_repetition() -> None:
    np.testing.assert_allclose(grey(saved(COLOUR)), COLOUR @ [0.299, 0.587, 0.114], atol=0.51)
    np.testing.assert_array_equal(read_image(saved(GREY), form(channels=3)), np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr"])
def test_palettes_and_other_colour_spaces_become_rgb(mode: str) -> None:
    flat = Image.new("RGB", (8, 6), (204, 51, 102)).convert(mode)
    content = saved(flat, "PNG" if mode == "P" else "TIFF")
    np.testing.assert_allclose(read_image(content, form(channels=3)), np.full((6, 8, 3), (204, 51, 102)), atol=2)


def test_stretching_covers_the_whole_image_and_skips_no_pixel() -> None:
    for row, column in ((0, 0), (10, 17), (59, 79)):
        dot = np.zeros((60, 80), np.uint8)
        dot[row, column] = 255
        small = grey(saved(dot), height=6, width=8)
        assert small.any()
        assert small[row * 6 // 60, column * 8 // 80] == small.max()


def test_padding_keeps_the_shape_on_the_median_colour_of_the_border() -> None:
    image = np.full((10, 20, 3), (10, 200, 60), np.uint8)
    image[1:-1, 1:-1] = 0
    image[0, :5] = 255  # fewer than half of the border
    padded = read_image(saved(image), form(20, 20, 3, fit="pad"))
    assert (padded[:5] == (10, 200, 60)).all()
    assert (padded[15:] == (10, 200, 60)).all()
    np.testing.assert_array_equal(padded[5:15], image)
    tall = read_image(saved(image.transpose(1, 0, 2)), form(20, 20, 3, fit="pad"))
    np.testing.assert_array_equal(tall, padded.transpose(1, 0, 2))
    halved = read_image(saved(image), form(10, 10, 3, fit="pad"))
    assert (halved[:2] == (10, 200, 60)).all()
    assert (halved[4:6, 2:8] < 60).all()


def test_cropping_keeps_the_shape_and_cuts_both_sides_alike() -> None:
    image = np.repeat(np.repeat(np.array([[9, 50, 100, 150, 9]], np.uint8), 30, axis=0), 10, axis=1)
    cropped = grey(saved(image), height=30, width=30, fit="crop")
    np.testing.assert_array_equal(cropped, image[:, 10:40])
    tall = grey(saved(image.T), height=30, width=30, fit="crop")
    np.testing.assert_array_equal(tall, image.T[10:40])


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_every_shape_can_be_brought_to_every_other(fit: str, size: tuple[int, int]) -> None:
    plain = np.full(size, 77, np.uint8)
    assert (grey(saved(plain), height=5, width=9, fit=fit) == 77).all()


def test_polarity_is_turned_round_last() -> None:
    np.testing.assert_array_equal(grey(saved(GREY), polarity="inverted"), 255 - GREY)
    clear = saved(np.zeros((6, 8, 4), np.uint8))  # white below, so black when inverted
    assert not grey(clear, polarity="inverted").any()
    padded = grey(saved(np.full((2, 8), 30, np.uint8)), fit="pad", polarity="inverted")
    assert (padded == 225).all()


def declared(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_001, 10_000), (20_000, 10_000), (2_000_000, 2_000_000)])
def test_an_image_that_would_fill_the_memory_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    refused(lambda: read_image(declared(*size), form(), "bomb.png"), "bomb.png", "megapixels")


@pytest.mark.skipif(os.name == "nt", reason="has neither pipes nor devices")
def test_a_folder_with_a_pipe_or_a_device_in_it_is_told_before_anybody_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/1.png").touch()
    (tmp_path / "a/2.png").symlink_to("b/1.png")
    (tmp_path / "a/gone.png").symlink_to("nowhere")
    refuse_endless(tmp_path, "x")
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        make(path := tmp_path / "a/b/odd.png")
        refused(lambda: refuse_endless(tmp_path, "x"), "x: ", "a/b/odd.png is neither file nor folder: take it out")
        path.unlink()
    refused(lambda: refuse_endless(tmp_path / "gone", "x"), "gone cannot be read")
    (tmp_path / "a/.dvcignore").write_text("*.png")
    refused(lambda: refuse_endless(tmp_path, "x"), "x: ", "a/.dvcignore hides files from DVC")


CONTENTS = {
    kind: saved(RNG.integers(0, 256, (40, 40, 3), np.uint8), kind)
    for kind in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", CONTENTS)
def test_a_file_that_is_cut_off_is_one_line(kind: str) -> None:
    content = CONTENTS[kind]
    for length in (8, len(content) // 3, len(content) * 2 // 3):
        refused(lambda length=length: read_image(content[:length], form(), "cut.img"), "cut.img is ")


def test_what_is_no_image_is_one_line_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>503</html>")
    (tmp_path / "postscript.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    )  # a decoder not reached
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in {
        "empty.png": "is empty",
        "text.png": "is no image of a kind that can be read: PNG, JPEG",
        "postscript.png": "is no image of a kind",
        "gone.png": "is missing",
        "pipe.png": "is no file",
        "zero\0byte.png": "zero\\x00byte.png cannot be read",
    }.items():
        refused(lambda name=name: read_image(tmp_path / name, form()), words)
    refused(lambda: read_image(b"", form()), "the file is empty")
    refused(lambda: read_image(b"text", form(), "a\nb\u202e.png"), "a\\nb\\u202e.png is no image")


def batches(kinds: dict[np.dtype, st.SearchStrategy]) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)) | st.tuples(
        st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])
    )
    return st.one_of([arrays.arrays(kind, shapes, elements=elements) for kind, elements in kinds.items()])


ANY = batches(
    {
        np.dtype(np.uint8): st.integers(0, 255),
        np.dtype(np.uint16): st.integers(0, 65535),
        np.dtype(np.bool_): st.booleans(),
        np.dtype(np.float32): st.floats(0, 1, width=32),
        np.dtype(np.float64): st.floats(0, 1),
    }
)
PREPROCESSINGS = st.builds(
    form,
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([1, 3]),
    fit=st.sampled_from(["stretch", "pad", "crop"]),
    polarity=st.sampled_from(["same", "inverted"]),
)


@given(images=ANY, wanted=PREPROCESSINGS)
def test_arrays_and_files_follow_the_same_rules(images: np.ndarray, wanted: Preprocessing) -> None:
    image = images[0]
    if image.dtype.kind == "f":
        image = np.rint(image.astype(np.float64) * 255).astype(np.uint8)
    if image.ndim == 3 and image.dtype != np.uint8:
        image = image[..., 0]  # Pillow writes no colour of 16 bits or of one
    elif image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    np.testing.assert_array_equal(read_image(saved(image), wanted), convert(image[None], wanted)[0])


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 3)), "the shape 2 × 3"),
        (np.zeros((2, 3, 3, 2), np.uint8), "the shape 2 × 3 × 3 × 2"),
        (np.zeros((2, 0, 3), np.uint8), "the shape 2 × 0 × 3"),
        (np.zeros((2, 3, 3), np.int64), "int64"),
        (np.zeros((2, 3, 3), np.complex128), "complex128"),
        (np.full((2, 3, 3), 1.01), "from 0 to 1"),
        (np.full((2, 3, 3), -0.01), "from 0 to 1"),
        (np.array([[[0.5, np.nan]]]), "from 0 to 1"),
        (np.array([[[0.5, np.inf]]]), "from 0 to 1"),
    ],
)
def test_arrays_that_are_no_images_are_refused_by_what_they_are(images: np.ndarray, words: str) -> None:
    refused(lambda: convert(images, form()), words)


def test_rotation_is_by_45_degrees_counter_clockwise() -> None:
    images = np.zeros((2, 21, 21, 1), np.uint8)
    images[:, 9:12, 17:20] = 255  # to the right of the centre
    turned = shifted(images, "rotated", 0)
    rows, columns = np.nonzero(turned[0, ..., 0] > 128)
    assert rows.mean() == pytest.approx(10 - 8 * np.sqrt(0.5), abs=0.3)  # above it
    assert columns.mean() == pytest.approx(10 + 8 * np.sqrt(0.5), abs=0.3)
    assert turned[1].sum() == pytest.approx(images[1].sum(), rel=0.1)
    white = shifted(np.full((1, 21, 21, 3), 255, np.uint8), "rotated", 0)
    assert not white[0, [0, 0, -1, -1], [0, -1, 0, -1]].any()  # black comes in from outside
    assert (white[0, 10] == 255).all()


def test_noise_has_its_standard_deviation_and_comes_from_the_seed() -> None:
    images = np.full((1500, 8, 8, 1), 128, np.uint8)
    noisy = shifted(images, "noisy", 3)
    within = np.abs(noisy.astype(float) - 128)
    assert np.mean(within < 64) == pytest.approx(0.683, abs=0.01)
    assert np.mean(within < 43.2) == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(noisy, shifted(images, "noisy", 3))
    np.testing.assert_array_equal(noisy[:7], shifted(images[:7], "noisy", 3))
    assert (noisy != shifted(images, "noisy", 4)).mean() > 0.9


def test_brightness_is_that_of_the_outermost_pixels_alone() -> None:
    images = np.full((2, 5, 6, 1), 255, np.uint8)
    images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1] = 10, 20, 30, 40
    ring = [30] * 5 + [40] * 5 + [10] * 4 + [20] * 4
    assert brightness(images, np.arange(2)) == pytest.approx(np.mean(ring))
    assert brightness(np.full((1, 1, 1, 1), 7, np.uint8), np.arange(1)) == 7


def test_brightness_looks_at_images_from_the_first_to_the_last_and_at_no_others() -> None:
    images = np.zeros((5001, 2, 2, 1), np.uint8)
    images[2500:] = 200
    images[5000] = 255
    assert brightness(images, np.arange(5000)) == pytest.approx(100)


def test_a_dark_border_beside_a_light_one_looks_inverted() -> None:
    dark, middle, light = ((np.full((3, 4, 4, 1), value, np.uint8), np.arange(3)) for value in (20, 128, 230))
    assert looks_inverted(dark, light)
    assert looks_inverted(light, dark)
    for one, other in ((dark, middle), (middle, light), (dark, dark), (light, light)):
        assert not looks_inverted(one, other)
