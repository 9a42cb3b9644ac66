from __future__ import annotations

import csv
import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import wavfile

from transfer.data import folders
from transfer.data.folders import Listing, list_files, read_file, read_files, read_npz
from transfer.data.preprocessing import Preprocessing, Sound, normalised

SOUND = Sound(rate=8000, seconds=1.0, window=0.032, hop=0.016, mels=40, decibels=60.0)
KEY = "data.target.path"


def form(height: int = 4, width: int = 5, channels: int = 1) -> Preprocessing:
    return Preprocessing(height, width, channels, "stretch", "same", SOUND)


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def listed(root: Path, *lines: str, encoding: str = "utf-8") -> Path:
    folder_of(root, "a.png", "b.png", "sub/c.png")
    (root / "labels.csv").write_bytes("\n".join(lines).encode(encoding))
    return root


def told(listing: Listing, root: Path) -> list[tuple[str, str]]:
    return [
        (file.relative_to(root).as_posix(), label) for file, label in zip(listing.files, listing.labels, strict=True)
    ]


def test_folders_are_classes_and_files_in_them_at_any_depth_their_images(tmp_path: Path) -> None:
    folder_of(tmp_path, "dog/b.PNG", "dog/a.jpg", "cat/x/y/z.webp", "cat/1.wav", "Zebra/10.TIFF", "Zebra/9.gif")
    listing = list_files(tmp_path, KEY)
    assert told(listing, tmp_path) == [
        ("Zebra/10.TIFF", "Zebra"),
        ("Zebra/9.gif", "Zebra"),
        ("cat/1.wav", "cat"),
        ("cat/x/y/z.webp", "cat"),
        ("dog/a.jpg", "dog"),
        ("dog/b.PNG", "dog"),
    ]
    assert listing.groups is None


def test_what_systems_leave_in_folders_is_passed_over_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of(
        tmp_path, "a/1.png", "b/1.png", ".DS_Store", "a/.hidden.png", "a/Thumbs.db", "b/desktop.ini", ".git/x.png"
    )
    folder_of(tmp_path, "__MACOSX/1.png", "a/.ipynb_checkpoints/1.png")
    assert told(list_files(tmp_path, KEY), tmp_path) == [("a/1.png", "a"), ("b/1.png", "b")]
    assert capsys.readouterr().out == ""


def test_other_files_are_passed_over_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder_of(tmp_path, "a/1.png", "b/1.png", "README", "loose.png", "a/notes.txt", "b/b.psd", "b/sub/c.txt")
    assert len(list_files(tmp_path, KEY).files) == 2
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert f"{KEY}: passed over 5 files" in line
    assert "README, a/notes.txt, b/b.psd, …" in line


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    refused(lambda: list_files(tmp_path / "gone", KEY), KEY, "gone is missing")
    (tmp_path / "file").touch()
    refused(lambda: list_files(tmp_path / "file", KEY), KEY, "file is no folder")
    refused(lambda: list_files(tmp_path / "my.csv", KEY), KEY, "name its folder", "must be called labels.csv")
    (tmp_path / "empty").mkdir()
    refused(lambda: list_files(tmp_path / "empty", KEY), KEY, "has no folders in it", "labels.csv")
    refused(lambda: list_files(folder_of(tmp_path / "flat", "1.png"), KEY), "has no folders in it")
    refused(lambda: list_files(folder_of(tmp_path / "one", "cat/1.png"), KEY), "only one class, cat")
    refused(
        lambda: list_files(folder_of(tmp_path / "text", "cat/1.png", "dog/1.txt"), KEY),
        "text/dog holds no image",
        "png",
    )
    root = listed(tmp_path / "misnamed", "path,label", "a.png,cat", "b.png,dog")
    (root / folders.LABELS).rename(root / "Labels.csv")
    refused(lambda: list_files(root, KEY), f"{KEY}: ", "Labels.csv must be called labels.csv: rename it")


@pytest.mark.parametrize("name", [" ", "a\tb", "new\nline", "\x7f", "\u2028", os.fsdecode(b"caf\xe9")])
def test_a_class_that_cannot_be_named_in_a_line_is_refused(tmp_path: Path, name: str) -> None:
    folder_of(tmp_path, "cat/1.png", f"{name}/1.png")
    refused(lambda: list_files(tmp_path, KEY), KEY, "the name of the folder", "rename it")


def test_a_class_may_have_any_name_that_is_text(tmp_path: Path) -> None:
    names = ["<script>alert(1)<", "\u202eright to left", "猫", " space ", "a,b", 'q"uote', "è"]
    folder_of(tmp_path, *(f"{name}/1.png" for name in names))
    assert sorted(list_files(tmp_path, KEY).labels) == sorted(names)


def test_a_class_is_the_same_in_every_form_of_unicode(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "folders", "e\u0301/1.png", "\u00e9/2.png", "b/1.png")
    assert {label for _, label in told(list_files(root, KEY), root)} == {"b", "\u00e9"}
    root = listed(tmp_path / "table", "path,label", "a.png,e\u0301", "b.png,b")
    assert list_files(root, KEY).labels == ["b", "\u00e9"]
    images = np.zeros((2, 4, 4), np.uint8)
    assert read_npz(npz(tmp_path / "a.npz", images=images, labels=["e\u0301", "b"]), KEY)[1] == ["\u00e9", "b"]


def test_links_to_files_are_followed_and_links_to_folders_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "store", "1.png")
    root = folder_of(tmp_path / "data", "a/1.png", "b/1.png")
    (root / "a" / "2.png").symlink_to(tmp_path / "store" / "1.png")
    assert len(list_files(root, KEY).files) == 3
    (root / "a" / "again").symlink_to(root)  # a loop
    refused(lambda: list_files(root, KEY), KEY, "a/again is a link to a folder")
    (root / "a" / "again").unlink()
    (root / "c").symlink_to(tmp_path / "store")
    refused(lambda: list_files(root, KEY), "data/c is a link to a folder")
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path / "data")
    (root / "c").unlink()
    assert len(list_files(linked, KEY).files) == 3


def test_a_table_names_files_labels_and_groups(tmp_path: Path) -> None:
    root = listed(tmp_path, "group,path,label", "s1,b.png,dog", ',./sub//c.png,"big, cat"', "", 's2,a.png,"say ""hi"""')
    listing = list_files(root, KEY)
    assert told(listing, root) == [("sub/c.png", "big, cat"), ("b.png", "dog"), ("a.png", 'say "hi"')]
    assert listing.groups == ["", "s1", "s2"]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_may_have_any_line_ends_and_a_mark_before_it(tmp_path: Path, ends: str, encoding: str) -> None:
    root = listed(tmp_path, ends.join(["path,label", "a.png,猫", "b.png,dog", ""]), encoding=encoding)
    listing = list_files(root, KEY)
    assert told(listing, root) == [("b.png", "dog"), ("a.png", "猫")]
    assert listing.groups is None


def test_folders_and_a_table_that_says_the_same_give_the_same_list(tmp_path: Path) -> None:
    names = [f"{label}/{sub}{number}.png" for label in ("b", "a", "B") for sub in ("", "x/") for number in (2, 1)]
    root = folder_of(tmp_path, *names)
    wanted = list_files(root, KEY)
    (root / "labels.csv").write_text("path,label\n" + "\n".join(f"{name},{name[0]}" for name in names))
    assert list_files(root, KEY) == wanted


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "line 1: the columns are none"),
        (["file,label", "a.png,cat"], "line 1: the columns are file, label"),
        (["path;label", "a.png;cat"], "line 1: the columns are path;label"),
        (["path,label,gruop", "a.png,cat,1"], "line 1: the columns are path, label, gruop"),
        (["path,label"], "nothing in it"),
        (["path,label", "a.png,cat", "b.png,cat"], "only one class, cat"),
        (["path,label", "a.png,cat", "b.png"], "line 3: 1 value, but line 1 names 2 columns"),
        (["path,label", "a.png,cat", "b.png,big,dog"], "line 3: 3 values"),
        (["path,label", "a.png,cat", "gone.png,dog"], "line 3: gone.png is missing"),
        (["path,label", "a.png,cat", "sub,dog"], "line 3: sub is no file"),
        (["path,label", "a.png,cat", "", "b.png,  "], "line 4: the label is empty"),
        (["path,label", "a.png,cat", ",dog"], "line 3: the path is empty"),
        (["path,label", "a.png,cat", '"b.png","d\tog"'], "line 3: the label holds control characters"),
        (["path,label", "a.png,cat", "b.png,dog", "./a.png,cat"], "line 4: a.png stands in line 2 already"),
        (["path,label", "/etc/passwd,cat"], "line 2: /etc/passwd leads out of the folder"),
        (["path,label", "../a.png,cat"], "line 2: ../a.png leads out of the folder"),
        (["path,label", "C:\\a.png,cat"], "line 2: C:\\a.png leads out of the folder"),
        (["path,label", "a.png,cat", '"b.png,dog'], "line 3: unexpected end of data: mend the quotes"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line_with_its_number(tmp_path: Path, lines: list[str], words: str) -> None:
    root = listed(tmp_path, *lines)
    refused(lambda: list_files(root, KEY), f"{KEY}: ", words)


def test_a_table_in_another_encoding_is_one_line(tmp_path: Path) -> None:
    root = listed(tmp_path, "path,label", "a.png,cat", "b.png,café", encoding="latin-1")
    refused(lambda: list_files(root, KEY), "labels.csv, line 3: no UTF-8 text")


@given(
    labels=st.lists(
        st.text(st.characters(exclude_categories=folders.REFUSED), min_size=1, max_size=9).filter(str.strip), min_size=2
    ).filter(lambda labels: len({normalised(label.strip()) for label in labels}) > 1)
)
def test_any_labels_come_back_from_a_table(labels: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("table")
    folder_of(root, *(f"{number}.png" for number in range(len(labels))))
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("path", "label"), *((f"{number}.png", label) for number, label in enumerate(labels))])
    (root / "labels.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    listing = list_files(root, KEY)
    assert {file.name: label for file, label in zip(listing.files, listing.labels, strict=True)} == {
        f"{number}.png": normalised(label.strip()) for number, label in enumerate(labels)
    }


def image_file(path: Path, value: int, size: tuple[int, int] = (4, 5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)
    return path


def sound_file(path: Path) -> Path:
    wavfile.write(path, 8000, (np.sin(np.arange(8000)) * 9999).astype(np.int16))
    return path


def test_a_file_is_an_image_or_a_recording_by_its_content(tmp_path: Path) -> None:
    image, recording = image_file(tmp_path / "1.png", 77), sound_file(tmp_path / "1.wav")
    assert (read_file(image, form()) == 77).all()
    assert (read_file(image.read_bytes(), form()) == 77).all()
    heard = read_file(recording, form())
    np.testing.assert_array_equal(read_file(recording.rename(tmp_path / "2.png"), form()), heard)
    webp = io.BytesIO()
    Image.fromarray(np.full((4, 5), 77, np.uint8)).save(webp, "WEBP", lossless=True)  # as WAV, it begins with RIFF
    assert (read_file(webp.getvalue(), form()) == 77).all()
    for content, words in ((b"", "is empty"), (b"text", "is no image"), (b"RIFF....WAVE", "is damaged")):
        refused(lambda content=content: read_file(content, form(), "upload"), f"upload {words}")
    refused(lambda: read_file(tmp_path / "gone", form()), "gone is missing")


def test_files_are_read_into_one_array_in_order(tmp_path: Path) -> None:
    files = [image_file(tmp_path / f"{number}.png", number, (4 + number % 3, 5)) for number in range(150)]
    files.insert(70, sound_file(tmp_path / "1.wav"))
    read_files(files, form(channels=3), tmp_path / "out.npy", KEY)
    wanted = np.stack([read_file(file, form(channels=3)) for file in files])
    again = io.BytesIO()
    np.save(again, wanted)
    assert (tmp_path / "out.npy").read_bytes() == again.getvalue()


def test_the_first_bad_file_ends_it(tmp_path: Path) -> None:
    files = [image_file(tmp_path / "good.png", 1)] * 400
    files[100], files[390] = tmp_path / "gone1.png", tmp_path / "gone2.png"
    refused(lambda: read_files(files, form(), tmp_path / "out.npy", KEY), "gone1.png is missing")


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    file = image_file(tmp_path / "1.png", 1)
    tracemalloc.start()
    read_files([file] * 64, form(128, 128, 3), tmp_path / "out.npy", KEY)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    read_files([file] * 640, form(128, 128, 3), tmp_path / "out.npy", KEY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "out.npy").stat().st_size > 30_000_000
    assert peak - before < 15_000_000  # of the 31 million that all images take


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, 5), np.uint8)


def test_arrays_come_back_with_labels_and_groups_as_text(tmp_path: Path) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", images=IMAGES, labels=[3, 10, 3, -1], groups=["x", "", "y", "x"], more=[0.5])
        images, labels, groups = read_npz(tmp_path / "a.npz", KEY)
        np.testing.assert_array_equal(images, IMAGES)
        assert labels == ["3", "10", "3", "-1"]
        assert groups == ["x", "", "y", "x"]
    ordered = np.asfortranarray(IMAGES.astype(float) / 255)
    images, labels, groups = read_npz(npz(tmp_path / "b.npz", images=ordered, labels=["猫", "b", "b", "b"]), KEY)
    np.testing.assert_array_equal(images, ordered)
    assert labels == ["猫", "b", "b", "b"]
    assert groups is None


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES}, "has no array labels"),
        ({"labels": [1, 2]}, "has no array images"),
        ({"images": IMAGES[0], "labels": [1, 2, 1]}, "images has the shape 3 × 5"),
        ({"images": IMAGES.astype(np.int32), "labels": [1, 2, 1, 2]}, "images is of type int32"),
        ({"images": IMAGES / 100.0, "labels": [1, 2, 1, 2]}, "images holds floats that are not from 0 to 1"),
        (
            {"images": IMAGES, "labels": [1, 2, 1]},
            "labels has the shape 3, but must have one entry for each of 4 images",
        ),
        ({"images": IMAGES, "labels": [[1, 2, 1, 2]]}, "labels has the shape 1 × 4"),
        ({"images": IMAGES, "labels": [1.0, 2.0, 1.0, 2.0]}, "labels is of type float64, but must be integers or text"),
        ({"images": IMAGES, "labels": np.array(["a", 1, "b", 2], object)}, "labels holds Python objects"),
        ({"images": IMAGES, "labels": ["a", "b", " ", "b"]}, "labels: number 2 is empty"),
        ({"images": IMAGES, "labels": ["a", "b", "a", "b\n"]}, "labels: number 3 holds control characters"),
        ({"images": IMAGES, "labels": [1, 1, 1, 1]}, "only one class, 1"),
        ({"images": IMAGES[:0], "labels": np.array([], int)}, "nothing in it"),
        ({"images": IMAGES, "labels": [1, 2, 1, 2], "groups": [1, 2]}, "groups has the shape 2"),
    ],
)
def test_arrays_that_cannot_be_used_are_one_line(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    refused(lambda: read_npz(npz(tmp_path / "my.npz", **arrays), KEY), f"{KEY}: ", "my.npz", words)


def test_code_in_an_npz_file_never_runs(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    path = npz(tmp_path / "evil.npz", images=IMAGES, labels=np.array([Bomb()] * 4, object))
    refused(lambda: read_npz(path, KEY), "holds Python objects")
    assert not (tmp_path / "ran").exists()


def header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (header((1 << 20, 128, 128)), "images has 16.0 GB, but may have 8"),
        (header((4, 8000, 8000)), "not of the size that it states"),
        (header((10**10,), "<U0"), "images is of type <U0, which is not read: make it numbers or text"),
        (b"\x93NUMPY\x02\0" + struct.pack("<I", 0xFFFF_FFFF), "another version"),
    ],
)
def test_an_array_is_looked_at_before_memory_is_asked_for(tmp_path: Path, images: bytes, words: str) -> None:
    path = npz(tmp_path / "large.npz", labels=[1, 2, 1, 2])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", images)
    tracemalloc.start()
    refused(lambda: read_npz(path, KEY), "large.npz", words)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_file_that_is_no_npz_is_one_line(tmp_path: Path) -> None:
    refused(lambda: read_npz(tmp_path / "gone.npz", KEY), KEY, "gone.npz is missing")
    good = npz(tmp_path / "a.npz", images=IMAGES, labels=[1, 2, 1, 2]).read_bytes()
    for content, words in ((b"<html>", "no npz file, or damaged"), (good[:-30], "no npz file"), (b"", "empty")):
        (tmp_path / "a.npz").write_bytes(content)
        refused(lambda: read_npz(tmp_path / "a.npz", KEY), f"a.npz is {words}")
