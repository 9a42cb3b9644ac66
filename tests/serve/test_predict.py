"""`transfer predict`: files as they are, prepared as in training, and what a model says of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import refused
from PIL import Image
from small_models import PREPROCESSING, SIDES, recording, side_image, write_bare, write_familiar, write_sides

from transfer.cli import build
from transfer.data.folders import read_file
from transfer.data.images import NARROW
from transfer.models.backend import keras
from transfer.models.metadata import Metadata, write_metadata
from transfer.models.networks import load_model
from transfer.serve.files import warn_of_others
from transfer.serve.models import open_folder, open_model, ranked


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sides(tmp_path_factory.mktemp("models") / "best.keras", shots=1000)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with another inside, and with files that are no images."""
    folder = tmp_path / "images"
    (folder / "b" / "c").mkdir(parents=True)
    Image.fromarray(side_image("right")).save(folder / "b" / "c" / "right.PNG")
    Image.fromarray(side_image("left", 31, 23)).save(folder / "z.bmp")
    Image.fromarray(side_image("left")).convert("RGB").save(folder / "a.jpg")
    for name in (".hidden.png", "__MACOSX/a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(side_image("left")).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def run(*arguments: object) -> int:
    parsed = build(["predict"]).parse_args(["predict", *map(str, arguments)])
    code: int = parsed.run(parsed)
    return code


def test_the_table_names_files_classes_and_probabilities(
    model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", model, images / "a.jpg", images / "b") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "end_to_end, 1,000 labels per class"
    assert lines[1].split() == ["file", "class", "probability"]
    rows = [line.split() for line in lines[3:]]
    assert [row[-2] for row in rows] == ["left", "right", "right", "left"]
    assert rows[0][0] == str(images / "a.jpg")
    assert rows[2][0] == str(images / "b" / "c" / "right.PNG")
    assert sum(float(row[-1].rstrip("%")) for row in rows) == pytest.approx(200)


def answers(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert run("--json", *arguments) == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_of_a_folder_all_images_are_taken_in_order_and_nothing_else(
    model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = answers(capsys, "--model", model, "--top", 1, images)
    assert content["model"] == {"strategy": "end_to_end", "shots": 1000, "classes": list(SIDES)}
    said = [(Path(each["file"]).name, [one["class"] for one in each["predictions"]]) for each in content["files"]]
    assert said == [("a.jpg", ["left"]), ("right.PNG", ["right"]), ("z.bmp", ["left"])]


def test_files_are_prepared_as_the_model_says(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    form = replace(PREPROCESSING, height=9, width=21, channels=3, fit="pad", polarity="inverted", margin=2)
    path = write_sides(tmp_path / "other.keras", preprocessing=form)
    given = answers(capsys, "--model", path, images / "b")["files"][0]["predictions"]
    expected = load_model(path).predict(read_file(images / "b" / "c" / "right.PNG", form)[None], verbose=0)[0]
    assert {each["class"]: each["probability"] for each in given} == pytest.approx(
        dict(zip(SIDES, expected.tolist(), strict=True)), abs=1e-6
    )
    assert given[0]["class"] == "left"  # where it is dark


def test_what_is_doubtful_of_an_image_is_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(side_image("right").astype(np.uint16)).save(tmp_path / "faint.png")
    assert run("--model", model, "--top", 1, tmp_path) == 0
    out, err = capsys.readouterr()
    assert "right" in out
    assert err == f"warning: {tmp_path / 'faint.png'} is {NARROW.format(255)}\n"


def test_of_a_folder_what_is_not_read_is_told_and_a_file_named_is_refused(
    model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "b" / "photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    assert run("--model", model, images) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {images}: skipped 1 file ending in .heic, which is not read: save as PNG or JPEG",
        f"warning: {images}: skipped 1 file, no images or recordings: notes.txt",
    ]
    assert run("--model", model, images / "b" / "photo.HEIC") == 2
    assert "photo.HEIC is no image or recording that can be read" in (err := capsys.readouterr().err)
    assert "save it as PNG, JPEG or WAV" in err


def test_what_is_unlike_the_training_images_is_told_and_inverting_and_centring_mend_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_familiar(tmp_path / "familiar.keras")
    paper = np.full((40, 70), 220, np.uint8)
    paper[4:34, 40:46] = 30  # a bar, as in the training images, but dark, small and not where it was
    photo = tmp_path / "photo.png"
    Image.fromarray(paper).save(photo)
    assert run("--model", path, photo) == 0
    out, err = capsys.readouterr()
    assert "warning" not in out
    told = err.splitlines()
    said = ["stretching to 14 × 14 distorts: centre it", "on a light background"]  # of which unfamiliar is the effect
    assert [part in line for part, line in zip(said, told, strict=True)] == [True] * 2
    asked = answers(capsys, "--model", path, photo)["files"][0]
    assert told == [f"warning: {photo} is {each}" for each in asked["warnings"]]
    mended = answers(capsys, "--model", path, photo, "--invert", "--centre")["files"][0]
    assert [each for each in mended["warnings"] if not each.startswith("farther")] == []  # none stood in the middle


def test_a_file_that_is_no_model_is_named_and_not_to_be_deleted(images: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    refused(
        lambda: run("--model", tmp_path / "notes.md", images), "notes.md is not a .keras file: give a strategy's name"
    )


def test_a_model_without_such_statistics_warns_of_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((14, 14), 255, np.uint8)).save(tmp_path / "white.png")
    assert answers(capsys, "--model", model, tmp_path / "white.png")["files"][0]["warnings"] == []


def test_recordings_are_asked_about_too(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "beep.wav").write_bytes(recording())
    assert [Path(each["file"]).name for each in answers(capsys, "--model", model, tmp_path)["files"]] == ["beep.wav"]


def test_a_bad_file_is_named_in_one_line_and_the_others_are_answered(
    model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "m.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (images / "n.png").write_bytes(b"")
    assert run("--model", model, "--json", images, images / "missing.png") == 2
    out, err = capsys.readouterr()
    assert [Path(each["file"]).name for each in json.loads(out)["files"]] == ["a.jpg", "right.PNG", "z.bmp"]
    _, *lines = err.splitlines()  # the first is of notes.txt
    assert len(lines) == 3
    assert all(line.startswith("error: ") for line in lines)
    assert ["m.png" in lines[0], "n.png" in lines[1], "missing.png" in lines[2]] == [True] * 3


@pytest.mark.parametrize("name", ["new\nline.png", "\x1b[31mred.png"])
def test_a_hostile_name_of_a_file_or_class_does_nothing_to_the_terminal(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sides(tmp_path / "evil.keras", classes=(f"{name}", "[bold]**b** `c`"))
    Image.fromarray(side_image("left")).save(tmp_path / "ok.png")
    (tmp_path / "ok.png").rename(tmp_path / name)
    assert run("--model", path, tmp_path / name) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 5
    assert all(line.isprintable() for line in out.splitlines())
    assert "[bold]**b** `c`" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--top", "0", "x.png"], "--top is 0, but must be at least 1"),
        (["--model", "nowhere.keras", "x.png"], "nowhere.keras is missing"),
        (["x.png"], "models/best.keras is missing: run this in the folder of a finished study, or give --model PATH"),
        (["empty"], "empty holds no image or recording"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    refused(lambda: run(*arguments), said)


@pytest.fixture
def study(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is worked in, with two models as DVC recorded them, and one that it did not."""
    (tmp_path / "models").mkdir()
    outs = []
    for name in ("best", "scratch", "mine"):
        shutil.copy(model, file := tmp_path / "models" / f"{name}.keras")
        outs.append(f"    - {{path: models/{name}.keras, md5: {hashlib.md5(file.read_bytes()).hexdigest()}}}\n")
    (tmp_path / "dvc.lock").write_text("stages:\n  train:\n    outs:\n" + "".join(outs[:2]))
    Image.fromarray(side_image("left")).save(tmp_path / "x.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_that_dvc_lock_does_not_record_is_told(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("best", "mine"):
        assert run("--model", name, "x.png") == 0
    assert capsys.readouterr().err == ""
    for name in ("best", "mine"):  # as `git switch` leaves the first
        write_sides(study / "models" / f"{name}.keras", shots=1)
    wanted = "warning: models/best.keras is not what dvc.lock records, as after `git switch`: run `dvc checkout"
    for arguments in (["x.png"], ["--model", "mine", "x.png"]):
        assert run(*arguments) == 0
    assert capsys.readouterr().err == f"{wanted} models/best.keras`, or `dvc repro`\n"
    shutil.copy("models/best.keras", "models/scratch.keras")
    warn_of_others(sorted(Path("models").glob("*.keras")))
    assert "models/best.keras, models/scratch.keras are not what dvc.lock records" in capsys.readouterr().err
    Path("dvc.lock").unlink()
    assert run("x.png") == 0
    assert capsys.readouterr().err == ""


def test_a_model_is_named_by_its_strategy_or_its_path(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sides(study / "models/scratch.keras", "scratch")
    for name in ("scratch", "models/scratch.keras"):
        assert answers(capsys, "--model", name, "x.png")["model"]["strategy"] == "scratch"
    refused(lambda: run("--model", "scrtch", "x.png"), "models/scrtch.keras is missing: models has best, mine, scratch")
    write_bare(study / "models/source_model.keras")
    refused(lambda: run("--model", "source_model", "x.png"), "if its strategy was skipped, the file is a copy of the ")


def test_csv_has_a_row_for_each_file_and_class_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sides(tmp_path / "any.keras", classes=('the "left", or so', "right"))
    names = [str(tmp_path / name) for name in ("a, b.png", 'say "hi".png')]
    for name, side in zip(names, SIDES, strict=True):
        Image.fromarray(side_image(side).astype(np.uint16)).save(name)
    assert run("--model", path, "--csv", "--top", 1, *names) == 0
    out, err = capsys.readouterr()
    assert err.count("warning: ") == 2
    header, *rows = csv.reader(io.StringIO(out))
    assert header == ["file", "class", "probability"]
    assert [row[:2] for row in rows] == [[names[0], 'the "left", or so'], [names[1], "right"]]
    assert all(0.5 < float(row[2]) <= 1 for row in rows)
    refused(lambda: run("--csv", "--json", "x.png"), "not allowed with argument --csv")


@pytest.mark.parametrize("text", ["{}", PREPROCESSING.to_text().replace('"mels": 14', '"mels": 0')])
def test_a_model_of_an_unknown_form_is_refused(text: str, tmp_path: Path) -> None:
    path = write_sides(tmp_path / "model.keras")
    write_metadata(path, Metadata("end_to_end", 3, SIDES, text))
    refused(lambda: open_model(path), "model.keras was saved with preprocessing that is not known here")


def test_a_model_that_would_run_code_is_refused_by_name_before_keras_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    image = keras.Input(PREPROCESSING.shape, dtype="uint8")
    layer = keras.layers.Lambda(
        lambda x, path=str(marker): (__import__("pathlib").Path(path).touch(), x[:, 0, :2, 0])[1], name="a_lambda"
    )
    keras.Model(image, layer(image)).save(tmp_path / "evil.keras")
    write_metadata(tmp_path / "evil.keras", Metadata("end_to_end", 3, SIDES, PREPROCESSING.to_text()))
    marker.unlink()
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: pytest.fail("Keras has seen it"))
    said = "evil.keras: layer a_lambda is a Lambda, which may run code"
    refused(lambda: open_model(tmp_path / "evil.keras"), said)
    refused(lambda: open_folder(tmp_path), said)
    assert not marker.exists()


def test_a_folder_gives_one_model_per_strategy_and_tells_the_best(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_sides(tmp_path / f"{name}.keras", name)
    write_sides(tmp_path / "best.keras", "b")
    write_bare(tmp_path / "source.keras")
    models, best = open_folder(tmp_path)
    assert [model.metadata.strategy for model in models] == ["a", "b"]
    assert best == "b"
    write_sides(tmp_path / "c.keras", "b")
    refused(lambda: open_folder(tmp_path), "holds two models of b: move c.keras elsewhere")
    refused(lambda: open_folder(tmp_path / "elsewhere"), "holds no model of this study")


def test_a_damaged_model_in_a_folder_is_one_line_and_not_skipped(tmp_path: Path) -> None:
    write_sides(tmp_path / "scratch.keras", "scratch")
    path = write_sides(tmp_path / "end_to_end.keras")
    path.write_bytes(path.read_bytes()[:-100])
    refused(lambda: open_folder(tmp_path), "end_to_end.keras cannot be read")


def test_ranks_go_down_and_equal_ones_keep_the_order_of_the_model() -> None:
    found = ranked(np.array([0.2, 0.3, 0.2, 0.3], np.float32), "abcd", top=3)
    assert found == [{"class": name, "probability": value} for name, value in [("b", 0.3), ("d", 0.3), ("a", 0.2)]]
