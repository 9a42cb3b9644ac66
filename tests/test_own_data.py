"""People's own images in the whole pipeline, with real DVC: what a change of a file runs, and what is told of them."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile

import numpy as np
import pytest
from conftest import Study, make_study
from PIL import Image, ImageDraw

from transfer.files import write_arrays
from transfer.models.metadata import MEMBER, read_metadata

AFTER = [
    *("convert", "split", "extract", "choose", "feature_extraction", "dense_head", "end_to_end", "scratch"),
    *("further", "evaluate", "report"),
]

pytestmark = pytest.mark.slow


def draw_shape(name: str, seed: int, size: tuple[int, int] = (48, 36)) -> Image.Image:
    """A disc or a box of some colour at some place, on white."""
    rng = np.random.default_rng([len(name), seed])
    image = Image.new("RGB", size, "white")
    left, top = rng.integers(2, 12, 2)
    box = left, top, left + 18, top + 18
    colour = tuple(int(part) for part in rng.integers(0, 128, 3))
    getattr(ImageDraw.Draw(image), {"disc": "ellipse", "box": "rectangle"}[name])(box, fill=colour)
    return image


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose target is a folder of colour images of another size, after its first run."""
    study = make_study(tmp_path_factory.mktemp("own") / "study")
    raw = study.root / "data/raw/mnist.npz"
    arrays = dict(np.load(raw))
    for half in ("train", "test"):
        framed = np.zeros_like(arrays[f"{half}_images"])  # a dark border, as the real ones have
        framed[:, 1:-1, 1:-1] = arrays[f"{half}_images"][:, 1:-1, 1:-1]
        arrays[f"{half}_images"] = framed
    write_arrays(raw, **arrays)
    for name in ("disc", "box"):
        (study.root / "own" / name).mkdir(parents=True)
        for seed in range(14):
            draw_shape(name, seed).save(study.root / "own" / name / f"{seed:02}.png")
    for seed in range(8):
        shutil.copy(study.root / f"own/disc/{seed:02}.png", study.root / f"own/disc/again{seed}.png")
    (study.root / "more").mkdir()
    for seed in range(20, 25):
        draw_shape("box", seed).save(study.root / f"more/{seed}.png")
    shutil.copy(study.root / "own/box/00.png", study.root / "more/known.png")
    study.set(
        data__target__name="folder",
        data__target__path="own",
        data__target__unlabelled="more",
        data__target__classes="all",
        split__test=0.4,
    )
    study.printed = study.ran()[1]
    study.run("git", "add", "-A")
    study.run("git", "commit", "-qm", "Own images")
    return study


def test_it_goes_through_and_says_what_the_data_are(study: Study) -> None:
    facts = json.loads(study.read("data/about.json"))
    assert facts["target"]["classes"] == ["box", "disc"]
    assert facts["target"]["title"] == "36 files of own"
    page = study.read("results/report.md").decode()
    assert "| Target | 36 files of own | box, disc | 43% of the images, by seed 0 |" in page
    assert "Recall in % by class" in page
    assert "class box" in page
    assert facts["target"]["dropped"] == 8
    assert (
        f"the target's {facts['target']['train']} to train on, and 5 from 6 files of more (duplicates dropped: 1)."
        in page
    )


def test_a_light_border_on_a_source_of_dark_ones_is_warned_of(study: Study) -> None:
    assert "warning: The target's images have a light border" in study.printed
    assert "**Warning.** The target's images have a light border" in study.read("results/report.md").decode()
    study.set(data__target__polarity="inverted")
    study.run(sys.executable, "-m", "stages.convert")
    assert "light border" not in study.read("data/images/about.json").decode()
    study.run("git", "checkout", "-q", "params.yaml")
    study.run("dvc", "checkout", "-q", "--force")


def test_an_image_that_is_there_twice_is_never_on_both_sides(study: Study) -> None:
    target, test = (
        np.load(study.root / "data/target_train/images.npy"),
        np.load(study.root / "data/target_test_images.npz"),
    )
    trained, tested = ({image.tobytes() for image in images} for images in (target, test["images"]))
    assert not trained & tested
    dropped = json.loads(study.read("data/about.json"))["target"]["dropped"]
    assert len(target) + len(test["images"]) + dropped == 36 + 5  # and those without labels


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_a_file_that_is_changed_added_or_removed_runs_what_follows_and_nothing_else(study: Study, change: str) -> None:
    path = study.root / "own/disc" / ("new.png" if change == "add" else "05.png")
    before = path.read_bytes() if path.exists() else None
    if change == "remove":
        path.unlink()
    else:
        draw_shape("disc", 99).save(path)
    changed = json.loads(study.run("dvc", "status", "--json").stdout)
    assert changed == {"convert": [{"changed deps": {"own": "modified"}}]}
    if change == "edit":
        assert sorted(study.repro()) == sorted(AFTER)  # and no pretraining
    path.unlink(missing_ok=True)
    if before is not None:
        path.write_bytes(before)
    study.run("git", "checkout", "-q", ".")
    study.run("git", "clean", "-fdq", "results")  # charts that only the edited study has
    study.run("dvc", "checkout", "-q", "--force")
    assert study.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


def test_duplicates_are_refused_where_that_is_asked_for(study: Study) -> None:
    dropped = json.loads(study.read("data/about.json"))["target"]["dropped"]
    study.set(split__duplicates="refuse")
    done = study.run(sys.executable, "-m", "stages.split", code=2)
    assert f"error: data.target: {dropped} training images with the same pixels" in done.stderr
    study.run("git", "checkout", "-q", "params.yaml")


def test_the_model_to_take_away_is_the_recommended_one_with_its_classes_inside(study: Study) -> None:
    metadata = read_metadata(study.root / "models/best.keras")
    assert metadata.classes == ("box", "disc")
    assert metadata.shots == 4
    best = study.root / f"models/{metadata.strategy}.keras"
    assert (study.root / "models/best.keras").read_bytes() == best.read_bytes()
    assert MEMBER in zipfile.ZipFile(best).namelist()
    card = study.read("models/best.md").decode()
    assert card.startswith(f"# The model `best.keras`: {metadata.strategy}\n")
    study.run("git", "tag", "-a", "best@v1.0.0", "-m", "A version of the model")
    study.run("dvc", "artifacts", "get", ".", "best", "--out", "taken.keras")
    assert (study.root / "taken.keras").read_bytes() == best.read_bytes()
    (study.root / "taken.keras").unlink()


def test_a_model_that_is_not_the_measured_one_is_not_given_away(study: Study) -> None:
    strategy = read_metadata(study.root / "models/best.keras").strategy
    path = study.root / f"models/{strategy}.keras"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b"x")
    done = study.run(sys.executable, "-m", "stages.report", code=2)
    assert f"models/{strategy}.keras is not the model that was measured" in done.stderr
    path.write_bytes(content)
