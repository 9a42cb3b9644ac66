"""Images and recordings of one's own: folders of classes, tables, npz files, and any bytes in them."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import flipped, refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_models import recording
from test_audio import SOUND

from transfer.console import UserError
from transfer.data.folders import list_files, list_unlabelled, read_file, read_files
from transfer.data.images import NARROW, SEVERAL
from transfer.data.npz import list_rows, read_pixels
from transfer.data.preprocessing import Preprocessing
from transfer.data.table import Columns

KEY = "data.target.path"
FORM = Preprocessing(4, 5, 1, "stretch", "same", SOUND)


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def listed(root: Path, *lines: str, encoding: str = "utf-8", ends: str = "\n") -> Path:
    folder_of(root, "a.png", "b.png", "sub/c.png")
    (root / "labels.csv").write_bytes(ends.join(lines).encode(encoding))
    return root


def told(table: pd.DataFrame, root: Path) -> list[tuple[str, str]]:
    return [(path.relative_to(root).as_posix(), label) for path, label in zip(table.path, table.label, strict=True)]


def test_folders_are_classes_and_files_in_them_at_any_depth_their_images(tmp_path: Path) -> None:
    folder_of(tmp_path, "dog/b.PNG", "dog/a.jpg", "cat/x/y/z.webp", "cat/1.wav", "Zebra/10.TIFF", "Zebra/9.flac")
    table = list_files(tmp_path, KEY)
    assert told(table, tmp_path) == [
        ("Zebra/10.TIFF", "Zebra"),
        ("Zebra/9.flac", "Zebra"),
        ("cat/1.wav", "cat"),
        ("cat/x/y/z.webp", "cat"),
        ("dog/a.jpg", "dog"),
        ("dog/b.PNG", "dog"),
    ]
    assert set(table.group) == {""}


def test_other_files_are_counted_and_told_but_for_what_systems_leave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of(tmp_path, "a/1.png", "b/1.png", ".DS_Store", "a/.hidden.png", "a/Thumbs.db", ".git/x.png")
    folder_of(tmp_path, "__MACOSX/1.png", "a/.ipynb_checkpoints/1.png")
    assert told(list_files(tmp_path, KEY), tmp_path) == [("a/1.png", "a"), ("b/1.png", "b")]
    assert capsys.readouterr().out == ""
    folder_of(tmp_path, "README", "loose.png", "a/notes.txt", "b/b.csv")
    assert len(list_files(tmp_path, KEY)) == 2
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert f"{KEY}: skipped 4 files" in line
    assert "README, a/notes.txt, b/b.csv and 1 more" in line


@pytest.mark.parametrize("read", [list_files, list_unlabelled])
def test_images_and_recordings_of_kinds_that_are_not_read_are_told_kind_by_kind(tmp_path: Path, read: Callable) -> None:
    folder_of(tmp_path, "a/1.png", "b/1.png", "a/2.HEIC", "b/2.heic", "b/3.m4a")
    warnings: list[str] = []
    read(tmp_path, KEY, warnings.append)
    assert warnings == [
        f"{KEY}: skipped 2 files ending in .heic, which is not read: save as PNG or JPEG",
        f"{KEY}: skipped 1 file ending in .m4a, which is not read: save as WAV or FLAC",
    ]
    for name in ("a", "b"):
        (tmp_path / name / "1.png").unlink()
    refused(lambda: read(tmp_path, KEY, warnings.append), "holds no image or recording")
    assert warnings[2:] == warnings[:2]  # which says why


def test_folders_of_training_and_test_images_are_no_classes(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "own", "Train/cat/1.png", "Train/dog/1.png", "val/cat/2.png", "test/dog/3.png")
    said = f"set data.target.path to {root}/Train and data.target.test_path to {root}/test"
    refused(lambda: list_files(root, KEY), f"{KEY}: Train and val and test in {root} hold the same folders", said)
    vehicles = folder_of(tmp_path / "vehicles", "train/red/1.png", "test/1.png", "bus/red/1.png")
    assert set(list_files(vehicles, KEY).label) == {"train", "test", "bus"}


def test_images_of_other_names_or_none_are_known_by_their_content(tmp_path: Path) -> None:
    folder_of(tmp_path, "a/1.jfif", "a/README", "b/2.JPEG")
    (tmp_path / "b/0f3a").write_bytes(image(kind="JPEG"))
    assert [path for path, _ in told(list_files(tmp_path, KEY), tmp_path)] == ["a/1.jfif", "b/0f3a", "b/2.JPEG"]


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    refused(lambda: list_files(folder_of(tmp_path / "flat", "1.png"), KEY), KEY, "has no subfolders", "labels.csv")
    refused(lambda: list_files(folder_of(tmp_path / "one", "cat/1.png"), KEY), "only one class, cat")
    text = folder_of(tmp_path / "text", "cat/1.png", "dog/1.heic")
    refused(lambda: list_files(text, KEY), "text/dog holds no image or recording (png, ")
    linked = folder_of(tmp_path / "linked", "a/1.png", "b/1.png")
    (linked / "b" / "2").symlink_to(tmp_path / "text")
    refused(lambda: list_files(linked, KEY), "b/2 is a link, which is not followed")
    odd = folder_of(tmp_path / "odd", "cat/1.png", "new\nline/1.png")
    refused(lambda: list_files(odd, KEY), KEY, "a label is 'new\\nline'")


def test_a_class_may_have_any_name_that_is_text_in_any_form_of_unicode(tmp_path: Path) -> None:
    names = ["<script>alert(1)<", "\u202eright to left", "猫", "a,b", 'q"uote', "e\u0301"]
    folder_of(tmp_path / "folders", *(f"{name}/1.png" for name in names))
    assert sorted(list_files(tmp_path / "folders", KEY).label) == sorted([*names[:-1], "\u00e9"])
    root = listed(tmp_path / "table", "path,label", "a.png,e\u0301", "b.png,b")
    assert list_files(root, KEY).label.tolist() == ["b", "\u00e9"]
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), np.uint8), labels=["e\u0301", "b"])
    assert list_rows(tmp_path / "a.npz", KEY).label.tolist() == ["\u00e9", "b"]


def test_a_table_names_files_labels_and_groups(tmp_path: Path) -> None:
    root = listed(tmp_path, "group,path,label", "s1,b.png,dog", ',./sub//c.png,"big, cat"', "", 's2,a.png,"say ""hi"""')
    table = list_files(root, KEY)
    assert told(table, root) == [("sub/c.png", "big, cat"), ("b.png", "dog"), ("a.png", 'say "hi"')]
    assert table.group.tolist() == ["", "s1", "s2"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "labels.csv has nothing in it"),
        ([",,", ","], "labels.csv has nothing in it"),
        (
            ["file,label", "a.png,cat"],
            "the columns are file, label, but one must be path: correct it, or name yours as",
        ),
        (["path,label,Label", "a.png,cat,1"], "the columns are path, label, Label, but one must be label"),
        (["path,label,group,Group", "a.png,cat,1,2"], "but one must be group"),
        (["path,label", ",cat"], "an empty path is no file"),
        (["path,label"], "nothing in it"),
        (["path,label", "a.png,cat", "b.png,cat"], "only one class, cat"),
        (["path,label", "a.png,cat", "b.png"], "labels.csv: 1 row without a label, b.png: add it"),
        (["path,label", "a.png,cat", "b.png,big,dog"], "row b.png,big,dog is too long: put what has a ',' in it"),
        (["path,label", "a.png,cat", "gone.png,dog"], "gone.png is missing"),
        (["path,label", "a.png,cat", "sub,dog"], "sub is no file"),
        (["path,label", "a.png,cat", "b.png,dog", "./a.png,cat"], "a.png is listed twice"),
        (["path,label", "/etc/passwd,cat"], "/etc/passwd is outside the folder"),
        (["path,label", "../a.png,cat"], "../a.png is outside the folder"),
        (["path,label", "C:\\a.png,cat"], "C:\\a.png is outside the folder"),
        (["path,label", "..\\a.png,cat"], "..\\a.png is outside the folder"),
        (["path,label", "a.png,cat", '"b.png,dog'], "EOF inside string"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path: Path, lines: list[str], words: str) -> None:
    refused(lambda: list_files(listed(tmp_path, *lines), KEY), f"{KEY}: ", words)


@pytest.mark.parametrize(
    ("lines", "encoding"),
    [
        (["path,label", "a.png, NA", "b.png,007", "sub/c.png,猫", ""], "utf-8"),
        (["path;label", "a.png;NA", "b.png;007", "sub/c.png;猫"], "utf-8-sig"),
        ([",path,label", "0,a.png,NA", "1,b.png,007", "2,sub/c.png,猫"], "utf-8"),  # as pandas numbers the rows
        (["Path ,LABEL,,", "a.png,NA,,", ",,,", "b.png,007,,", "sub/c.png,猫,,", ",,,"], "utf-8"),
        (["path\tlabel", "a.png\tNA", "b.png\t007", "sub/c.png\t猫"], "utf-16"),
        (["", "label;path", "NA;a.png", "007;b.png", "猫;sub/c.png"], "utf-16"),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_table_may_be_of_any_program(tmp_path: Path, lines: list[str], encoding: str, ends: str) -> None:
    root, warnings = listed(tmp_path, *lines, encoding=encoding, ends=ends), []
    table = list_files(root, KEY, warnings.append)
    assert told(table, root) == [("b.png", "007"), ("a.png", "NA"), ("sub/c.png", "猫")]
    assert not warnings


def test_other_columns_are_skipped_by_name_and_one_s_own_can_be_named(tmp_path: Path) -> None:
    root, warnings = listed(tmp_path, "Image,Person,Kind,label", "a.png,x,cat,1", "b.png,y,dog,1"), []
    columns = Columns(path="image", label="kind", group="person")
    table = list_files(root, KEY, warnings.append, columns)
    assert told(table, root) == [("a.png", "cat"), ("b.png", "dog")]
    assert table.group.tolist() == ["x", "y"]
    assert len(warnings) == 1
    assert "skipped 1 column, label: only image, kind, person are read" in warnings[0]
    no_group = Columns(path="image", label="kind", group="people")
    refused(lambda: list_files(root, KEY, columns=no_group), "one must be people", "as data.target.columns.group")


def test_backslashes_are_slashes_where_that_file_exists(tmp_path: Path) -> None:
    root = listed(tmp_path, "path,label", "sub\\c.png,cat", "odd\\name.png,dog")
    (root / "odd\\name.png").touch()
    assert told(list_files(root, KEY), root) == [("sub/c.png", "cat"), ("odd\\name.png", "dog")]


def test_a_table_of_windows_is_read_with_a_warning(tmp_path: Path) -> None:
    root = listed(tmp_path, "path;label", "a.png;cat", "b.png;café – €", encoding="cp1252")
    warnings: list[str] = []
    assert list_files(root, KEY, warnings.append).label.tolist() == ["café – €", "cat"]
    assert len(warnings) == 1
    assert "is not UTF-8, and was read as Windows-1252" in warnings[0]


@given(labels=st.lists(st.text("ab,;\"' 猫é", min_size=1).map(str.strip).filter(bool), min_size=2))
def test_any_labels_come_back_from_a_table(labels: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("table")
    labels = [*labels, "one", "other"]
    folder_of(root, *(f"{number}.png" for number in range(len(labels))))
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("path", "label"), *((f"{number}.png", label) for number, label in enumerate(labels))])
    (root / "labels.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    assert dict(told(list_files(root, KEY), root)) == {f"{number}.png": label for number, label in enumerate(labels)}


def image(value: int = 77, kind: str = "PNG", size: tuple[int, int] = (4, 5), **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full(size, value, np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


def test_a_file_is_an_image_or_a_recording_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "1.wav").write_bytes(image())
    assert (read_file(tmp_path / "1.wav", FORM) == 77).all()
    assert (read_file(image(kind="WEBP", lossless=True), FORM) == 77).all()  # as WAV, it begins with RIFF
    assert read_file(recording(), FORM).shape == FORM.shape
    (tmp_path / "2.png").write_bytes(recording())
    np.testing.assert_array_equal(read_file(tmp_path / "2.png", FORM), read_file(recording(), FORM))


def test_a_file_that_cannot_be_read_is_one_line_with_its_name(tmp_path: Path) -> None:
    silent = Preprocessing(4, 5, 1, "stretch", "same")
    for content, words in ((b"", "is empty"), (b"text", "is no image"), (image()[:-30], "is damaged")):
        refused(lambda content=content: read_file(content, FORM, "up\nload"), f"up\\nload {words}")
    refused(lambda: read_file(recording(), silent), "the file is no image of a kind that can be read (PNG, JPEG")
    refused(lambda: read_file(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", silent), "is no image")
    refused(lambda: read_file(tmp_path / "gone.png", FORM), "gone.png is missing")
    (tmp_path / "a.png").symlink_to("a.png")
    refused(lambda: read_file(tmp_path / "a.png", FORM), "a.png cannot be read")


FILES = [image(kind=kind, size=(20, 20)) for kind in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")]
FILES += [recording()[:999]]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, as images.py has it
@given(content=st.sampled_from(FILES), bits=st.lists(st.integers(0, 8 * 600), max_size=5), length=st.integers(9, 2000))
def test_a_damaged_file_is_an_image_or_one_line(content: bytes, bits: list[int], length: int) -> None:
    for bit in bits:
        content = flipped(content, bit % (8 * len(content)))
    with contextlib.suppress(UserError):
        assert read_file(content[:length], FORM).shape == FORM.shape


def test_files_are_read_in_order_and_the_bad_ones_are_counted(tmp_path: Path) -> None:
    files = []
    for number in range(60):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(image(number, size=(4 + number % 3, 5)))
    assert [int(batch.max()) for batch in read_files(files, FORM, "target")] == list(range(60))
    files[20].unlink()
    refused(lambda: list(read_files(files, FORM, "target")), "20.png is missing")
    for number in (30, 40, 50):
        files[number].write_bytes(b"")
    said = [f"{number}.png is" for number in (20, 30, 40)]
    refused(lambda: list(read_files(files, FORM, "target")), "4 of 60 files cannot be used. The first: ", *said)


def test_images_of_which_something_is_doubtful_are_counted_by_what(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(6)]
    for number, file in enumerate(files[:5]):
        Image.fromarray(np.full((4, 5), (0, 255, 4095, 77, 65535)[number], np.uint16)).save(file)
    frames = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (9, 90)]
    frames[0].save(files[5], save_all=True, append_images=frames[1:])
    warnings: list[str] = []
    values = [int(batch.max()) for batch in read_files(files, FORM, "target", warnings.append)]
    assert values == [0, 255, 255, 77, 255, 9]
    assert sorted(warnings) == [
        f"target: 1 image ({files[2]}) {NARROW.format(4095)}",
        f"target: 1 image ({files[5]}) {SEVERAL}",
        f"target: 2 images ({files[1]}, {files[3]}) {NARROW.format(255)}",
    ]


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, 5), np.uint8)


def read_npz(path: Path) -> tuple[np.ndarray, pd.DataFrame]:
    table = list_rows(path, KEY)
    return read_pixels(path, KEY), table


def test_arrays_come_back_with_labels_and_groups_as_text(tmp_path: Path) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", images=IMAGES, labels=[3, 10, 3, -1], groups=["x", "", "y", "x"], more=[0.5])
        images, table = read_npz(tmp_path / "a.npz")
        np.testing.assert_array_equal(images, IMAGES)
        assert table.label.tolist() == ["3", "10", "3", "-1"]
        assert table.group.tolist() == ["x", "", "y", "x"]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES}, "has no array labels"),
        ({"labels": [1, 2]}, "has no array images"),
        ({"images": IMAGES.astype(np.int32), "labels": [1, 2, 1, 2]}, "images is of type int32"),
        ({"images": IMAGES, "labels": [1.0, 2.0, 1.0, 2.0]}, "labels is float64"),
        ({"images": IMAGES, "labels": ["a", "b", " ", "b"]}, "a label is ' '"),
        ({"images": IMAGES, "labels": [1, 1, 1, 1]}, "only one class, 1"),
        ({"images": IMAGES, "labels": [1, 2, 1, 2], "groups": [1, 2]}, "groups is int64 (2,)"),
    ],
)
def test_arrays_that_cannot_be_used_are_one_line(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "my.npz", **arrays)
    refused(lambda: read_npz(tmp_path / "my.npz"), f"{KEY}: ", "my.npz", words)


def test_a_file_that_is_no_npz_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=IMAGES, labels=[1, 2, 1, 2])
    for content in (b"<html>", path.read_bytes()[:-30], b""):
        path.write_bytes(content)
        refused(lambda: read_npz(path), "a.npz is no npz file of plain arrays")
