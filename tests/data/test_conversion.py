"""The stage `convert` on every kind of data: which images come out, in which order, with what said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic_digits
from PIL import Image
from test_section import params

from transfer.data import section as data
from transfer.data.conversion import convert_side
from transfer.data.split import EITHER, TEST, TRAIN, Pool, read_pool
from transfer.files import write_arrays


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The folder of built-in data, with a small MNIST."""
    train, test = synthetic_digits(6, seed=0), synthetic_digits(2, seed=1)
    arrays = {"train_images": train[0], "train_labels": train[1], "test_images": test[0], "test_labels": test[1]}
    write_arrays(tmp_path / "raw" / "mnist.npz", **arrays)
    return tmp_path / "raw"


def convert(tmp_path: Path, section: data.Params, raw: Path | None = None, key: str = "target") -> tuple[Pool, dict]:
    shape = section.shape(None if section.source.name != "none" else (28, 28, 1))
    path = tmp_path / f"pool-{key}"
    facts = convert_side(path, key, section, shape, raw or tmp_path)
    return read_pool(path), facts


def write_images(folder: Path, counts: dict[str, int], size: tuple[int, int] = (28, 28), mode: str = "L") -> Path:
    """A folder of one class each, with noise of its own in every image."""
    rng = np.random.default_rng(len(counts))
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / name / f"{number}.png")
    return folder


def test_classes_of_mnist_keep_their_pixels_and_their_order(tmp_path: Path, raw: Path) -> None:
    pool, facts = convert(tmp_path, params(target__classes=[7, 5]), raw)
    given = np.load(raw / "mnist.npz")
    for half, part in (("train", TRAIN), ("test", TEST)):
        chosen = np.isin(given[f"{half}_labels"], [5, 7])
        assert (pool.images[pool.part == part][..., 0] == given[f"{half}_images"][chosen]).all()
        wanted = [{7: 0, 5: 1}[int(label)] for label in given[f"{half}_labels"][chosen]]
        assert pool.labels[pool.part == part].tolist() == wanted
    assert pool.classes.tolist() == ["7", "5"]
    assert (pool.groups == -1).all()
    assert list(facts["raw"]) == ["train images", "train labels", "test images", "test labels"]
    assert facts["title"] == "MNIST"


def test_images_of_classes_that_both_sides_have_are_divided_and_shifted_on_one(tmp_path: Path, raw: Path) -> None:
    section = params(source__classes=[0, 1, 2], target__classes=[2, 1, 9], target__shift="inverted")
    source, _ = convert(tmp_path, section, raw, "source")
    target, facts = convert(tmp_path, section, raw, "target")
    assert facts["title"] == "MNIST, inverted"
    assert np.bincount(source.labels[source.part == TRAIN]).tolist() == [6, 3, 3]
    assert np.bincount(target.labels[target.part == TRAIN]).tolist() == [3, 3, 6]
    seen = {image.tobytes() for image in source.images[...]}
    assert not {(255 - image).tobytes() for image in target.images[...]} & seen
    again = {image.tobytes() for image in np.concatenate([source.images[...], 255 - target.images[...]])}
    given = np.load(raw / "mnist.npz")
    for half in ("train", "test"):
        wanted = given[f"{half}_images"][np.isin(given[f"{half}_labels"], [0, 1, 2, 9])]
        assert {image.tobytes() for image in wanted} <= again


def test_the_offline_digits_come_in_the_source_s_size_without_a_division(tmp_path: Path) -> None:
    pool, facts = convert(tmp_path, params(target__name="digits", target__classes="all"))
    assert pool.images.shape == (1797, 28, 28, 1)
    assert (pool.part == EITHER).all()
    assert facts["classes"] == [str(digit) for digit in range(10)]


@pytest.mark.parametrize("given_test", [False, True])
def test_a_folder_of_colour_images_of_another_size(tmp_path: Path, given_test: bool) -> None:
    folder = write_images(tmp_path / "own", {"cat": 3, "a dog": 4, "owl": 2}, size=(40, 30), mode="RGB")
    changes = {"target__name": "folder", "target__path": str(folder), "target__classes": ["cat", "a dog"]}
    if given_test:
        changes["target__test_path"] = str(write_images(tmp_path / "test", {"cat": 1, "a dog": 1, "fox": 1}))
    pool, facts = convert(tmp_path, params(**changes))
    count = 9 if given_test else 7
    assert pool.images.shape == (count, 28, 28, 1)
    assert pool.classes.tolist() == ["cat", "a dog"]
    assert np.bincount(pool.labels).tolist() == ([4, 5] if given_test else [3, 4])
    assert pool.part.tolist() == ([TRAIN] * 7 + [TEST] * 2 if given_test else [EITHER] * 7)
    assert facts["raw"]["images"]["shape"] == (count, 28, 28, 1)


def test_groups_of_a_table_are_numbered_and_those_without_are_by_themselves(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "own", {"all": 4})
    rows = ["path,label,group", "all/0.png,b,x", "all/1.png,a,", "all/2.png,b,y", "all/3.png,a,x"]
    (folder / "labels.csv").write_text("\n".join(rows))
    section = params(target__name="folder", target__path=str(folder), target__classes="all")
    pool, _ = convert(tmp_path, section)
    assert pool.classes.tolist() == ["a", "b"]
    by_pixels = {pool.images[[row]].tobytes(): row for row in range(4)}
    first, second, third, fourth = (
        by_pixels[np.asarray(Image.open(folder / f"all/{number}.png")).reshape(1, 28, 28, 1).tobytes()]
        for number in range(4)
    )
    assert pool.labels[[first, second, third, fourth]].tolist() == [1, 0, 1, 0]
    assert pool.groups[second] == -1
    assert pool.groups[first] == pool.groups[fourth] != pool.groups[third]


def test_arrays_of_the_user_s_own(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    np.savez(tmp_path / "own.npz", images=images, labels=[3, 1, 3, 1, 2, 2], groups=["u", "v", "u", "w", "", "w"])
    section = params(target__name="npz", target__path=str(tmp_path / "own.npz"), target__classes=[1, 3])
    pool, facts = convert(tmp_path, section)
    assert (pool.images[...][..., 0] == images[:4]).all()
    assert pool.labels.tolist() == [1, 0, 1, 0]
    assert pool.groups[0] == pool.groups[2] != pool.groups[1]
    assert facts["title"].startswith("arrays of ")


def test_no_source_is_an_empty_pool(tmp_path: Path) -> None:
    pool, facts = convert(tmp_path, params(source__name="none", source__classes="all"), key="source")
    assert pool.images.shape == (0, 28, 28, 1)
    assert facts["classes"] == []
