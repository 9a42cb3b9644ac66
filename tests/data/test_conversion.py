"""The stage `convert` on every kind of data: which images come out, in which order, with what said of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, refused, synthetic_digits
from PIL import Image
from ruamel.yaml import YAML
from test_section import params
from test_split import params as split_params

from stages import convert as stage
from transfer.data import images as pixels
from transfer.data import section as data
from transfer.data.conversion import check_counts, convert_side, convert_unlabelled
from transfer.data.images import LIGHT_INK, NARROW
from transfer.data.preprocessing import Preprocessing
from transfer.data.split import EITHER, TEST, TRAIN, Pool, read_pool
from transfer.files import read_array, write_arrays
from transfer.params import read_params


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The folder of built-in data, with a small MNIST."""
    train, test = synthetic_digits(6, seed=0), synthetic_digits(2, seed=1)
    arrays = {"train_images": train[0], "train_labels": train[1], "test_images": test[0], "test_labels": test[1]}
    write_arrays(tmp_path / "raw" / "mnist.npz", **arrays)
    return tmp_path / "raw"


def convert(
    tmp_path: Path, section: data.Params, raw: Path | None = None, key: str = "target", warn: list[str] | None = None
) -> tuple[Pool, dict]:
    shape = section.shape(None if section.source.name != "none" else (28, 28, 1))
    path = tmp_path / f"pool-{key}"
    facts = convert_side(path, key, section, shape, raw or tmp_path, print if warn is None else warn.append)
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
    np.savez(tmp_path / "own.npz", images=images, labels=[3, 1, 3])
    refused(lambda: convert(tmp_path, section), "data.target.path: ", "own.npz has 6 images, but 3 labels")


def test_the_same_pixels_under_two_labels_are_told_by_their_names(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    images[[4, 5]] = images[[0, 1]]
    images[2] = images[1]
    np.savez(tmp_path / "own.npz", images=images, labels=["b", "a", "a", "b", "a", "b"])
    told: list[str] = []
    convert(
        tmp_path, params(target__name="npz", target__path=str(tmp_path / "own.npz"), target__classes="all"), warn=told
    )
    assert len(told) == 1
    assert "data.target: 2 images under two labels, with the same pixels: " in told[0]
    pairs = "row 0 of own.npz (b) and row 4 of own.npz (a); row 1 of own.npz (a) and row 5 of own.npz (b): correct"
    assert pairs in told[0]
    assert told[0].endswith("`split` keeps the first and drops the others")
    folder = write_images(tmp_path / "own", {"cat": 2, "dog": 3})
    shutil.copy(folder / "dog/2.png", folder / "cat/x.png")
    section = params(target__name="folder", target__path=str(folder), target__classes="all")
    convert(tmp_path, section, warn=told)
    assert "1 image under two labels, with the same pixels: own/cat/x.png (cat) and own/dog/2.png (dog)" in told[1]


@pytest.mark.parametrize("unlabelled", [False, True])
def test_of_arrays_the_range_is_that_of_all_images_and_what_is_doubtful_is_counted(
    tmp_path: Path, unlabelled: bool
) -> None:
    images = np.random.default_rng(0).integers(0, 4096, (3, 28, 28)).astype(np.uint16)
    images[1] //= 16  # darker, and stays so
    ink = np.full((3, 28, 28, 4), 255, np.uint8)
    ink[..., 3] = images % 256
    ink[2, ..., 0] = 0  # red is missing: it can be seen on white
    for given, doubt, wanted in (
        (images, f"3 images {NARROW.format(4095)}", np.rint(images * (255 / 4095))),
        (ink, f"2 images {LIGHT_INK}", None),
    ):
        np.savez(tmp_path / "own.npz", images=given, labels=[1, 2, 2])
        own = {"path": str(tmp_path / "own.npz"), "unlabelled": str(tmp_path / "own.npz")}
        section = params(target__name="npz", target__classes="all", **{f"target__{key}": own[key] for key in own})
        told: list[str] = []
        if unlabelled:
            convert_unlabelled(
                tmp_path / "more.npy", section.target, Preprocessing(28, 28, 1, "pad", "same"), told.append
            )
            pool = read_array(tmp_path / "more.npy")
        else:
            pool = convert(tmp_path, section, warn=told)[0].images[...]
        assert f"data.target.{'unlabelled' if unlabelled else 'path'}: {doubt}" in told
        assert wanted is None or (pool[..., 0] == wanted).all()


FORM = Preprocessing(28, 28, 1, "pad", "inverted", margin=3)


def test_images_without_labels_are_all_of_a_folder_in_the_target_s_form(tmp_path: Path) -> None:
    own = write_images(tmp_path / "own", {"cat": 8, "dog": 8})
    more = write_images(tmp_path / "more", {"2023": 2, "2024/May": 1}, size=(40, 30))
    (more / "notes.txt").touch()
    (more / "labels.csv").touch()
    given = {"name": "folder", "path": str(own), "classes": "all", "unlabelled": str(more)}
    section = params(**{f"target__{name}": value for name, value in given.items()})
    told: list[str] = []
    facts = convert_unlabelled(tmp_path / "more.npy", section.target, FORM, told.append)
    files = [more / name for name in ("2023/0.png", "2023/1.png", "2024/May/0.png")]
    wanted = [pixels.convert(np.asarray(Image.open(file))[np.newaxis], FORM)[0] for file in files]
    assert (read_array(tmp_path / "more.npy") == wanted).all()
    assert (facts["title"], facts["raw"]["images"]["shape"]) == ("3 files of more", (3, 28, 28, 1))
    assert [line.split(": ", 1)[1].replace(f"{more}/", "") for line in told] == [
        "labels.csv is not read, as images there are used without labels",
        f"{more}: skipped 1 file, no images or recordings: notes.txt",
    ]
    told.clear()  # the folder of the labelled images, of which the table names a few
    same = section.target.model_copy(update={"path": str(more)})
    convert_unlabelled(tmp_path / "more.npy", same, FORM, told.append)
    assert not any("labels.csv" in line for line in told)
    shutil.rmtree(more / "2023")
    shutil.rmtree(more / "2024")
    said = f"data.target.unlabelled: {more} holds no image or recording"
    refused(lambda: check_counts(section, split_params(shots=[1])), said)


def test_of_arrays_without_labels_the_images_alone_are_read(tmp_path: Path) -> None:
    given = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    np.savez(tmp_path / "more.npz", images=given, labels=["a"])
    section = params(target__name="npz", target__path="own.npz", target__unlabelled=str(tmp_path / "more.npz"))
    told: list[str] = []
    facts = convert_unlabelled(tmp_path / "more.npy", section.target, FORM, told.append)
    assert (read_array(tmp_path / "more.npy") == pixels.convert(given, FORM)).all()
    assert facts["title"] == "arrays of more.npz"
    assert [line for line in told if "the labels in" in line] == told != []
    assert convert_unlabelled(tmp_path / "none.npy", params().target, FORM) == {}
    assert read_array(tmp_path / "none.npy", mapped=True).shape == (0, 28, 28, 1)


def test_what_a_listing_tells_of_the_split_is_refused_before_an_image_is_read(tmp_path: Path) -> None:
    for name, count in (("cat", 5), ("dog", 8)):
        (tmp_path / "own" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "own" / name / f"{number}.png").write_bytes(b"no image")
    own = {"name": "folder", "path": str(tmp_path / "own"), "classes": "all"}
    target = params(**{f"target__{key}": value for key, value in own.items()})
    check_counts(params(), split_params())  # built-in data
    check_counts(target, split_params(shots=[1, 4]))
    said = "split.shots asks for 5 labelled images per class, but the smallest target class has 4"
    refused(lambda: check_counts(target, split_params(shots=[1, 5])), said)
    source = params(**{f"source__{key}": value for key, value in own.items()})
    said = "data.source, split.source_validation: to hold out 0.1 of the 1 image of class cat leaves none"
    refused(lambda: check_counts(source, split_params(test=0.8)), said)
    rows = [f"{name}/{number}.png,{name},{number % 3}" for name in ("cat", "dog") for number in range(5)]
    (tmp_path / "own/labels.csv").write_text("\n".join(["path,label,group", *rows]))
    said = "data.target, split.test: 3 groups cannot be divided to hold out 0.2: hold out more, or give"
    refused(lambda: check_counts(target, split_params(shots=[1])), said)


def test_digits_that_fill_their_frame_are_told_with_the_margin_that_makes_them_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Digits of 20 pixels in 28, as MNIST has them, beside those that scikit-learn has without a margin."""
    images, labels = synthetic_digits(4, seed=0)
    images = np.pad(images[:, :20, :20], ((0, 0), (4, 4), (4, 4)))
    arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    write_arrays(tmp_path / "data/raw/mnist.npz", **arrays)
    monkeypatch.chdir(tmp_path)

    def notes(**changes: object) -> list[str]:
        section = params(**changes).model_dump(mode="json")
        YAML(typ="safe").dump(
            {"data": section, "source": read_params(ROOT / "params.yaml")["source"]}, Path("params.yaml")
        )
        stage.main()
        written = json.loads(Path("data/images/about.json").read_text())["notes"]
        assert [f"warning: {note}" for note in written] == [
            line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")
        ]
        return written

    assert notes() == []
    digits = {"target__name": "digits", "target__classes": "all"}
    (note,) = notes(**digits)
    assert "fills 71% of the source's images, but 100% of the target's" in note
    assert note.endswith("set data.target.margin to 4.")
    assert notes(**digits, target__margin=4) == []
    (note,) = notes(**digits, target__margin=8)
    assert note.endswith("set data.target.margin to 4.")
    switched = {"source__name": "digits", "source__classes": "all", "pixels": [28, 28]}
    (note,) = notes(**switched)
    assert note.endswith("set data.source.margin to 4.")
    write_arrays(Path("own.npz"), images=images // 16, labels=labels)
    (note,) = notes(target__name="npz", target__path="own.npz", target__classes="all")
    assert note == "Most images of the target are nearly of one colour: look at them."


def test_no_source_is_an_empty_pool(tmp_path: Path) -> None:
    pool, facts = convert(tmp_path, params(source__name="none", source__classes=["b", "a"]), key="source")
    assert pool.images.shape == (0, 28, 28, 1)
    assert facts["classes"] == pool.classes.tolist() == ["b", "a"]
