"""`transfer choose`: a table and a page of the images to label first, from files as people have them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from browsing import check_by_axe
from conftest import ROOT, refused
from PIL import Image
from playwright.sync_api import Browser
from sklearn.datasets import load_digits

from transfer.cli import build
from transfer.files import write_json
from transfer.models import cnn
from transfer.models.networks import save_model

IMAGES = 60


@pytest.fixture(scope="module")
def network() -> cnn.keras.Model:
    blocks = [{"filters": 4, "kernel": 5, "pool": 4}, {"filters": 6, "kernel": 3, "pool": 2}]
    return cnn.build(cnn.Params(blocks=blocks, dense=[8]), image_shape=(28, 28, 1), classes=5)


@pytest.fixture
def here(network: cnn.keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos in a study whose source model is made."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    save_model(tmp_path / "models/source.keras", network)
    write_json(tmp_path / "models/source.json", {"layer": "block2"})
    (tmp_path / "photos/old").mkdir(parents=True)
    for number, digit in enumerate(load_digits().images[:IMAGES]):
        name = f"{'old/' if number % 2 else ''}{number}.png"
        Image.fromarray(np.rint(digit * 15).astype(np.uint8)).save(tmp_path / "photos" / name)
    return tmp_path


def choose(*arguments: object) -> None:
    parsed = build(["choose"]).parse_args(["choose", *map(str, arguments)])
    assert parsed.run(parsed) == 0


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_says_what_comes_first_and_why_the_same_each_time(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    choose(12, "--from", "photos")
    assert "choose: 60 of 60 files" in capfd.readouterr().out
    table, page = (here / "to_label.csv").read_bytes(), (here / "to_label.html").read_bytes()
    rows = rows_of(here / "to_label.csv")
    assert [row["rank"] for row in rows] == [*map(str, range(1, 13))]
    assert all((here / "photos" / row["path"]).is_file() for row in rows)
    assert rows[0]["why"] == "the most typical of all 60"
    choose(12, "--from", "photos")
    said = capfd.readouterr().out
    assert said.splitlines() == [
        "to_label.csv: 12 of 60 images, 0 of which have a label",
        "to_label.html shows them; label them with: transfer label photos",
    ]
    assert (here / "to_label.csv").read_bytes() == table
    assert (here / "to_label.html").read_bytes() == page
    choose(20, "--from", "photos", "--output", "more.csv")
    assert [row["path"] for row in rows_of(here / "more.csv")][:12] == [row["path"] for row in rows]


def test_features_are_computed_anew_for_other_contents(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    choose(1, "--from", "photos")
    Image.new("L", (8, 8), 200).save(here / "photos/0.png")
    capfd.readouterr()
    choose(1, "--from", "photos")
    assert "choose: 60 of 60 files" in capfd.readouterr().out


def test_what_has_a_label_is_not_chosen_again(here: Path) -> None:
    choose(4, "--from", "photos")
    first = [row["path"] for row in rows_of(here / "to_label.csv")]
    (here / "photos/labels.csv").write_text("path,label\n" + "".join(f"{path},x\n" for path in first))
    choose(56, "--from", "photos")
    rows = rows_of(here / "to_label.csv")
    assert not {*first} & {row["path"] for row in rows}
    assert rows[0]["why"].endswith("more like it than like any before it or with a label")
    refused(lambda: choose(57, "--from", "photos"), "COUNT is 57", "56 images without a label")


def test_a_model_of_ones_own_is_taken_over_and_checked(here: Path, network: cnn.keras.Model) -> None:
    save_model(here / "mine.keras", network)
    choose(3, "--from", "photos", "--model", "mine.keras", "--output", "own.csv")
    assert len(rows_of(here / "own.csv")) == 3
    refused(
        lambda: choose(3, "--from", "photos", "--model", "other.keras"), "--model is other.keras", "which is not a file"
    )
    (here / "mine.keras").write_bytes(b"no model")
    refused(lambda: choose(3, "--from", "photos", "--model", "mine.keras"), "mine.keras")


def test_mistakes_are_one_line(here: Path) -> None:
    refused(lambda: choose(3, "--from", "nowhere"), "nowhere is not a folder")
    refused(lambda: choose(0, "--from", "photos"), "COUNT is 0")
    refused(lambda: choose(3, "--from", "photos", "--network", "MobileNetV2"), "name that as well")
    refused(lambda: choose(3, "--from", "photos", "--model", "imagenet"), "as in --network MobileNetV2")
    (here / "empty").mkdir()
    refused(lambda: choose(3, "--from", "empty"), "empty holds no image")
    (here / "photos/0.png").write_bytes(b"not an image")
    refused(lambda: choose(3, "--from", "photos"), "photos/0.png", "no image")
    shutil.rmtree(here / "models")
    refused(lambda: choose(3, "--from", "photos"), "models/source.keras is missing")


def test_the_page_shows_every_picture(here: Path, browser: Browser) -> None:
    choose(12, "--from", "photos")
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800})
        page.goto((here / "to_label.html").as_uri())
        assert page.evaluate("[...document.images].filter((each) => each.naturalWidth === 96).length") == 12
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        check_by_axe(page)
        page.close()
