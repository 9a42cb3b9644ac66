"""Images, recordings and folders that are bad, enormous or badly named, through the commands that read them."""

from __future__ import annotations

import contextlib
import csv
import html
import io
import json
import os
import re
import shutil
import socket
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from common import measured, one_line
from conftest import Study, make_study
from markdown_it import MarkdownIt
from PIL import Image
from playwright.sync_api import sync_playwright
from small_models import recording

from transfer.serve import app
from transfer.serve.models import open_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's links, pipes and counts of memory")
GREY = 77  # of every image that can be read
HUGE = 60_000  # pixels of a side that is only declared


def plain(size: tuple[int, int] = (9, 7), value: int = GREY) -> Image.Image:
    return Image.new("L", size, value)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def enormous(kind: str) -> bytes:
    """A file of a few bytes that says it holds an image of 60,000 × 60,000 pixels."""
    content = bytearray(saved(plain().convert("RGB"), kind))
    if kind == "PNG":
        content[16:24] = struct.pack(">II", HUGE, HUGE)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif kind == "JPEG":
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = struct.pack(">HH", HUGE, HUGE)
    elif kind == "BMP":
        content[18:26] = struct.pack("<ii", HUGE, HUGE)
    else:
        content[6:10] = struct.pack("<HH", HUGE, HUGE)
    return bytes(content)


Write = Callable[[Path], object]


def bytes_of(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def sparse(head: bytes, size: int) -> Write:
    """Writes a file that is as long as it says, of which the disk holds only the beginning."""

    def write(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, size)

    return write


def wav(*, channels: int = 1, rate: int = 8000, size: int = 800) -> bytes:
    chunks = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * channels, channels, 8)
    chunks += b"data" + struct.pack("<I", size) + bytes(800)
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def listen(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)


KINDS = {kind: saved(plain((40, 40)).convert("RGB"), kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")}
BAD: dict[str, tuple[str, Write, str]] = {  # the name of the file, what writes it, words of the line that refuses it
    "no bytes": ("a.png", Path.touch, "is empty"),
    "a text called .png": ("a.png", bytes_of(b"<html>503</html>"), "is no image"),
    **{
        f"a {kind} file that is cut off": (f"a.{kind.lower()}", bytes_of(content[: len(content) // 2]), "is damaged")
        for kind, content in KINDS.items()
    },
    **{
        f"60,000 × 60,000 pixels in a {kind} file": (
            f"a.{kind.lower()}",
            bytes_of(enormous(kind)),
            "more than 100 megapixels",
        )
        for kind in ("PNG", "JPEG", "BMP", "GIF")
    },
    "an image file of 10 GB": ("a.webp", sparse(b"RIFF\xff\xff\xff\xffWEBPVP8L", 10 << 30), "is larger than 1,024 MB"),
    "a link to itself": ("a.png", lambda path: path.symlink_to(path.name), "a.png cannot be read"),
    "a link to nothing": ("a.png", lambda path: path.symlink_to("nowhere"), "a.png is missing"),
    "a link to an endless device": ("a.png", lambda path: path.symlink_to("/dev/zero"), "is no file"),
    "a link to a folder": ("a.png", lambda path: path.symlink_to(".."), "is a link to a folder"),
    "a pipe": ("a.png", os.mkfifo, "is no file"),
    "a socket": ("a.png", listen, "is no file"),
    "a recording that is cut off": ("a.wav", bytes_of(recording()[:-99]), "is cut off"),
    "a recording of 2 GB declared": ("a.wav", bytes_of(wav(size=0x7FFF_EFFF)), "is cut off"),
    "a recording of 10 GB": ("a.wav", sparse(wav(), 10 << 30), "is larger than 256 MB"),
    "a recording of 0 Hz": ("a.wav", bytes_of(wav(rate=0)), "0 samples a second"),
    "a recording of no channels": ("a.wav", bytes_of(wav(channels=0)), "0 channels"),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study on a folder of few images, converted once."""
    made = make_study(tmp_path_factory.mktemp("images") / "study")
    for name in "ab":
        (made.root / "own" / name).mkdir(parents=True)
        for number in range(3):
            plain((8 + number, 8)).save(made.root / f"own/{name}/{number}.png")
    made.set(data__target__name="folder", data__target__path="own", data__target__classes="all")
    made.run(sys.executable, "-m", "stages.convert")
    return made


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_one_line_with_its_name_and_changes_nothing(study: Study, what: str) -> None:
    name, write, words = BAD[what]
    path = study.root / "own/a" / name
    before = {file: file.read_bytes() for file in (study.root / "data/images").rglob("*") if file.is_file()}
    write(path)
    try:
        code, line, memory = measured(study.root, "stages.convert")
    finally:
        path.unlink()
    assert code == 2
    one_line(line, f"own/a/{name}", words)
    assert memory < 700
    assert {file: file.read_bytes() for file in (study.root / "data/images").rglob("*") if file.is_file()} == before


# --- A whole study, from the names of its classes to the report ------------------------------------------------------

NAMES = {  # of classes, by what is hostile in them
    "a script": "<script>window.hacked=1</script>",
    "an image that runs a script": '"><img src=x onerror="window.hacked=1">',
    "quotes": 'it\'s "so" «said»',
    "what HTML would decode": "&amp;",
    "what ends a cell of a table": "a|b",
    "a mark that turns text round": "\u202etxt.exe",
    "a dash in front": "-rf",
    "a formula": "=cmd|' /C calc'!A0",
    "a sign of several signs": "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "200 signs": "x" * 200,
    "letters that differ in their case": "Cat",
    "letters that differ in their case, the other": "cat",
    "letters in another form of Unicode": "e\u0301",
    "a path that leads out of the folder": "../../etc/passwd",
    "a path of Windows": "C:\\Windows\\system32",
    "a template": "{{7*7}}",
    "what is no number": "NaN",
    "what JavaScript keeps for itself": "__proto__",
}
READ = {"e\u0301": "\u00e9"}  # in one form
SHOWN = {"\u202etxt.exe": "\\u202etxt.exe"}  # on a page


def test_hostile_names_of_classes_are_names_and_no_more(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study")
    (study.root / "own").mkdir()
    rows = []
    for label, name in enumerate(NAMES.values()):
        for number in range(4):
            pixels = np.random.default_rng((label, number)).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(study.root / f"own/{label}-{number}.png")
            rows.append((f"{label}-{number}.png", name))
    with (study.root / "own/labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    study.set(data__target__name="folder", data__target__path="own", data__target__classes="all")
    study.set(split__shots=[1, 3], split__test=0.25)
    for name in ("dense_head", "end_to_end"):  # two strategies are enough
        study.edit_yaml("dvc.yaml", lambda content, name=name: content["stages"].pop(name))
    study.repro()

    classes = sorted(READ.get(name, name) for name in NAMES.values())
    assert json.loads(study.read("data/about.json"))["target"]["classes"] == classes
    markdown = MarkdownIt().enable("table")  # which lets HTML through
    rendered = [markdown.render(study.read(file).decode()) for file in ("results/report.md", "models/best.md")]
    assert not any(re.search("<script|<img[^>]*onerror", text) for text in rendered)
    image, transfer = str(study.root / "own/0-0.png"), (sys.executable, "-m", "transfer.cli")
    answers = json.loads(study.run(*transfer, "predict", "--json", "--top", "99", image).stdout)["files"][0]
    assert all(line.isprintable() for line in study.run(*transfer, "predict", image).stdout.splitlines())
    study.run(*transfer, "export", "--format", "tflite", "--output", "best.tflite")
    models, best = open_folder(study.root / "models")
    assert "window.hacked" not in app.page(models, best)
    served = app.answer(models, Path(image).read_bytes())[models[0].metadata.strategy]
    for found in (answers["predictions"], served):
        assert sorted(each["class"] for each in found) == classes
    assert sorted(json.loads(study.read("best.tflite.json"))["classes"]) == classes
    tables = [file.read_text() for file in (study.root / "results").rglob("*.csv")]
    assert not any(name in table for table in tables for name in classes if len(name) > 3)
    heads = opened(study.root / "results/report.html")
    for text in (*(html.unescape(re.sub("<[^>]*>", "", text)) for text in rendered), *[heads] * bool(heads)):
        for name in classes:
            assert SHOWN.get(name, name) in text


def opened(page: Path) -> str:
    """The heads of the table of errors as a browser shows them, after a look at what has run; empty without one."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    if (path := next(filter(None, map(shutil.which, names)), None)) is None:
        assert os.environ.get("CI") != "true", "no browser"
        return ""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_context(offline=True).new_page()
        shown.on("dialog", lambda dialog: pytest.fail(dialog.message))
        shown.goto(page.resolve().as_uri())
        shown.wait_for_function("document.documentElement.dataset.drawn >= 4")
        heads = "\n".join(shown.locator("#errors thead th").all_inner_texts())
        assert shown.evaluate("window.hacked") is None
        assert shown.locator("img[src=x]").count() == 0
        browser.close()
    return heads
