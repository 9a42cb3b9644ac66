"""Photos as people take them, and what becomes of them: inverted, centred, and told of where that is wanting."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import refused
from PIL import Image
from scipy import ndimage
from small_models import PREPROCESSING, SOUND, bars, png, recording, write_familiar, write_sides

from transfer.data.preprocessing import Preprocessing
from transfer.serve.models import Model, open_model
from transfer.serve.reading import read

FORM = Preprocessing(28, 28, 1, "stretch", "same", SOUND)


def figure() -> np.ndarray:
    """A seven as MNIST would have it: 20 pixels high, its centre of mass in the middle; (28, 28) uint8."""
    image = np.zeros((28, 28), np.uint8)
    image[3:6, 9:23] = 255
    for row in range(6, 23):
        left = 20 - (row - 6) // 2
        image[row, left : left + 3] = 255
    middle = np.array(ndimage.center_of_mass(image)) + 0.5
    return np.roll(image, np.rint(14 - middle).astype(int), axis=(0, 1))


def photo(*, dark: bool = True, left: int = 150) -> bytes:
    """A seven with ink on paper that is unevenly lit, off the middle, with a speck of dirt, as JPEG."""
    rng = np.random.default_rng(0)
    height, width = 200, 300
    ink = np.zeros((height, width + 112))
    ink[20:132, left : left + 112] = np.asarray(Image.fromarray(figure()).resize((112, 112))) / 255
    ink[160:163, 30:33] = 1
    ink = ink[:, :width]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    pixels = (205 + 30 * x - 25 * y) * (1 - 0.7 * ink) + rng.normal(0, 6, ink.shape)
    stream = io.BytesIO()
    Image.fromarray(np.clip(pixels if dark else 255 - pixels, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=75)
    return stream.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """One that knows white on black, 20 of 28 pixels high."""
    small = open_model(write_familiar(tmp_path_factory.mktemp("models") / "x.keras"))
    return replace(small, preprocessing=FORM)


@pytest.mark.parametrize("left", [150, 200])  # within the frame, and up to its edge
def test_a_photo_of_dark_ink_on_paper_becomes_what_the_model_was_trained_on(model: Model, left: int) -> None:
    image, doubts = read(photo(left=left), model, invert=True, centre=True)
    assert doubts == []
    assert np.median(image[:3]) == np.median(image[:, :3]) == 0  # paper, light and grain are gone
    assert np.corrcoef(image.ravel(), figure().ravel())[0, 1] > 0.93
    assert np.percentile(image, 95) > 230


def test_ground_light_or_dark_and_either_polarity_come_out_alike(model: Model) -> None:
    inverting = replace(model, preprocessing=replace(FORM, polarity="inverted"))
    expected = read(photo(), model, invert=True, centre=True)[0].astype(int)
    for given, how in [(photo(dark=False), (model, False)), (photo(), (inverting, False))]:
        image = read(given, how[0], invert=how[1], centre=True)[0]
        assert np.abs(image - expected).mean() < 2


def test_what_is_on_plain_ground_already_keeps_its_shades_and_its_form(model: Model) -> None:
    image = figure()
    image[image > 0] = 120
    wide = np.zeros((60, 140), np.uint8)
    wide[30:58, 5:33] = image
    seen = read(png(wide), model, centre=True)[0][..., 0]
    assert np.abs(seen.astype(int) - image).mean() < 4
    assert seen.max() <= 121


def test_margin_and_form_of_the_models_images_are_kept(model: Model) -> None:
    form = replace(FORM, height=28, width=42, margin=3)
    seen = read(png(figure()), replace(model, preprocessing=form), centre=True)[0][..., 0]
    rows, columns = np.nonzero(seen > 100)
    assert np.ptp(rows) + 1 == pytest.approx(20, abs=1)
    assert np.ptp(columns) + 1 == pytest.approx(14, abs=1)


def test_a_thin_pen_becomes_as_wide_as_in_the_training_images(model: Model) -> None:
    assert model.familiarity is not None
    page = np.zeros((400, 400), np.uint8)
    page[50:350, 198:201] = page[50:53, 198:350] = 255
    seen = read(png(page), model, centre=True)[0][..., 0]
    wanted = model.familiarity.stroke[25]
    assert (seen[10:16] / 255).sum(axis=1) == pytest.approx([wanted] * 6, abs=0.4)
    assert np.ptp(np.flatnonzero(seen.max(axis=1) > 100)) + 1 == pytest.approx(20, abs=1)


def test_paper_without_ink_stays_as_it_is(model: Model) -> None:
    paper = np.random.default_rng(0).normal(60, 6, (100, 100)).clip(0, 255).astype(np.uint8)
    assert np.ptp(read(png(paper), model, centre=True)[0]) < 20


@pytest.mark.parametrize(
    ("size", "fit", "told"),
    [((30, 50), "stretch", True), ((50, 30), "stretch", True), ((40, 50), "stretch", False), ((30, 90), "pad", False)],
)
def test_a_form_that_stretching_distorts_is_told(model: Model, size: tuple[int, int], fit: str, told: bool) -> None:
    given = replace(model, preprocessing=replace(FORM, fit=fit))
    doubts = read(png(np.zeros(size, np.uint8)), given)[1]
    words = f"{size[1]} × {size[0]} pixels, which stretching to 28 × 28 distorts: centre it"
    assert doubts == ([words] if told else [])


def test_a_recording_is_neither_inverted_nor_centred(model: Model) -> None:
    assert np.array_equal(read(recording(), model)[0], read(recording(), model, invert=True, centre=True)[0])


def test_content_is_not_centred_for_models_of_colour_or_without_plain_background(tmp_path: Path) -> None:
    colour = write_familiar(tmp_path / "a.keras", preprocessing=replace(PREPROCESSING, channels=3))
    for path in (colour, write_sides(tmp_path / "b.keras")):
        centre = partial(read, png(bars(1)[0, ..., 0]), open_model(path), centre=True)
        refused(centre, "centring needs grey training images")
