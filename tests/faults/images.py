"""Images, recordings and folders that are bad, enormous or badly named, through the commands that read them."""

from __future__ import annotations

import contextlib
import csv
import html
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Study, make_study, refused
from markdown_it import MarkdownIt
from PIL import Image
from playwright.sync_api import Browser
from small_models import FORM, recording, write_sides
from tally import Faults
from test_page import browser  # noqa: F401  # a fixture
from test_pixels import declared

from commands.predict import find_files
from transfer.inputs import own
from transfer.inputs.own import list_files, read_file, read_files
from transfer.serving import app
from transfer.serving.models import open_folder

pytestmark = [
    pytest.mark.fault("Images"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's links, pipes, devices and counts of memory"),
]
GREY = 77  # of every image that can be read
HUGE = 60_000  # pixels of a side that is only declared
SECONDS = 100  # on a busy machine
PEAK = """
import re, resource, runpy, sys
module, file, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    kilobytes = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
    open(file, "w").write(str(max(kilobytes, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)))
"""


def plain(size: tuple[int, int] = (9, 7), value: int = GREY) -> Image.Image:
    return Image.new("L", size, value)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def enormous(kind: str) -> bytes:
    """A file of a few bytes that says it holds an image of 60,000 × 60,000 pixels."""
    if kind == "PNG":
        return declared(HUGE, HUGE)
    content = bytearray(saved(plain().convert("RGB"), kind, **({"lossless": True} if kind == "WEBP" else {})))
    if kind == "JPEG":
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = struct.pack(">HH", HUGE, HUGE)
    elif kind == "BMP":
        content[18:26] = struct.pack("<ii", HUGE, HUGE)
    elif kind == "GIF":
        content[6:10] = struct.pack("<HH", HUGE, HUGE)
    elif kind == "TIFF":
        (start,) = struct.unpack_from("<I", content, 4)
        for place in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", content, start)[0], 12):
            if struct.unpack_from("<H", content, place)[0] in (256, 257):  # width, height
                content[place + 2 : place + 12] = struct.pack("<HII", 4, 1, HUGE)
    else:
        side = struct.pack("<I", HUGE - 1)[:3]
        content[12:12] = b"VP8X" + struct.pack("<II", 10, 0) + side + side
        content[4:8] = struct.pack("<I", len(content) - 8)
    return bytes(content)


def sparse(head: bytes, size: int) -> Callable[[Path], object]:
    """Writes a file that is as long as it says, of which the disk holds only the beginning."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(head)
            file.truncate(size)

    return write


def wav(*, channels: int = 1, rate: int = 8000, size: int | None = None, samples: bytes = bytes(800)) -> bytes:
    layout = struct.pack("<HHIIHH", 1, channels, rate, rate * channels, channels, 8)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data"
    chunks += struct.pack("<I", len(samples) if size is None else size) + samples
    return b"RIFF" + struct.pack("<I", min(len(chunks), 0xFFFF_FFFF)) + chunks


def listen(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)


CONTENTS = {kind: saved(plain((40, 40)).convert("RGB"), kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")}
Write = Callable[[Path], object]
GOOD: dict[str, tuple[str, Write]] = {  # by fault: the name of the file, and what writes it
    "1 × 1 pixel": ("a.png", plain((1, 1)).save),
    "1 × 10,000 pixels": ("a.png", plain((1, 10_000)).save),
    "10,000 × 1 pixels": ("a.png", plain((10_000, 1)).save),
    "CMYK": ("a.jpg", lambda path: plain().convert("RGB").convert("CMYK").save(path, quality=95)),
    "16 bits": ("a.png", lambda path: Image.fromarray(np.full((9, 7), GREY * 257, np.uint16)).save(path)),
    "animated": ("a.gif", lambda path: plain().save(path, save_all=True, append_images=[plain(value=200)] * 50)),
    "a PNG file called .jpg": ("a.jpg", lambda path: path.write_bytes(saved(plain(), "PNG"))),
    "100 megapixels with transparency, in 0.4 MB": (
        "a.png",
        lambda path: Image.new("LA", (10_000, 10_000), (GREY, 255)).save(path, compress_level=1),
    ),
}
BAD: dict[str, tuple[str, Write, str]] = {  # and words of the line that refuses it
    "no bytes": ("a.png", Path.touch, "is empty"),
    "a text called .png": ("a.png", lambda path: path.write_text("<html>503</html>"), "is no image"),
    **{
        f"a {kind} file that is cut off": (
            f"a.{kind.lower()}",
            lambda path, content=content: path.write_bytes(content[: len(content) // 2]),
            "is damaged",
        )
        for kind, content in CONTENTS.items()
    },
    **{
        f"60,000 × 60,000 pixels declared in a {kind} file": (
            f"a.{kind.lower()}",
            lambda path, kind=kind: path.write_bytes(enormous(kind)),
            "more than 100 megapixels",
        )
        for kind in CONTENTS
    },
    "an image file of 10 GB": (
        "a.webp",
        sparse(b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff", 10 << 30),
        "is larger than 1,024 MB",
    ),
    "a link to itself": ("a.png", lambda path: path.symlink_to(path.name), "a.png cannot be read"),
    "a link to nothing": ("a.png", lambda path: path.symlink_to("nowhere"), "a.png is missing"),
    "a link to an endless device": ("a.png", lambda path: path.symlink_to("/dev/zero"), "is no file"),
    "a link to a folder": ("a.png", lambda path: path.symlink_to(".."), "is a link to a folder"),
    "a pipe": ("a.png", os.mkfifo, "is no file"),
    "a socket": ("a.png", listen, "is no file"),
    "a recording of no bytes": ("a.wav", Path.touch, "is empty"),
    "a recording that is cut off": ("a.wav", lambda path: path.write_bytes(recording()[:-99]), "is cut off"),
    "a recording of 4 GB declared": ("a.wav", lambda path: path.write_bytes(wav(size=0x7FFF_EFFF)), "is cut off"),
    "a recording of 10 GB": ("a.wav", sparse(wav(), 10 << 30), "is larger than 256 MB"),
    "a recording of 0 Hz": ("a.wav", lambda path: path.write_bytes(wav(rate=0)), "0 samples a second"),
    "a recording of no channels": ("a.wav", lambda path: path.write_bytes(wav(channels=0)), "0 channels"),
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


def measured(study: Study, module: str, *arguments: str, code: int) -> tuple[str, float]:
    """Run a module; what it says to stderr, and the most memory that a process of it ever had, MB."""
    file = study.root / "peak"
    started = time.monotonic()
    done = study.run(sys.executable, "-c", PEAK, module, str(file), *arguments, code=code)
    assert time.monotonic() - started < SECONDS
    return done.stderr, int(file.read_text()) / 1000


def one_line(text: str, *words: str) -> None:
    assert text.startswith("error: ")
    assert len(text.splitlines()) == 1
    for word in words:
        assert word in text


@pytest.mark.parametrize("what", GOOD)
def test_an_odd_image_is_read_as_documented(study: Study, faults: Faults, what: str) -> None:
    with faults(what):
        name, write = GOOD[what]
        write(study.root / "own/a" / f"0{name}")
        try:
            _, memory = measured(study, "stages.convert", code=0)
        finally:
            (study.root / "own/a" / f"0{name}").unlink()
        row = [file.name for file in sorted((study.root / "own/a").iterdir())].index("0.png")
        first = np.load(study.root / "data/images/target/images.npy")[row]
        np.testing.assert_allclose(first, GREY, atol=1)
        assert memory < 2000  # MB: 100 megapixels with three channels, their transparency and the ground below


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_one_line_with_its_name_and_changes_nothing(study: Study, faults: Faults, what: str) -> None:
    with faults(what) as count:
        name, write, words = BAD[what]
        before = {file: file.read_bytes() for file in (study.root / "data/images").rglob("*") if file.is_file()}
        write(study.root / "own/a" / name)
        try:
            line, memory = measured(study, "stages.convert", code=2)
        finally:
            (study.root / "own/a" / name).unlink()
        one_line(line, f"own/a/{name}", words)
        assert memory < 700
        after = {file: file.read_bytes() for file in (study.root / "data/images").rglob("*") if file.is_file()}
        count.lost += sum(len(before[file]) for file in before if after.get(file) != before[file])
        assert after == before


def test_predict_names_every_bad_file_and_answers_for_the_others(tmp_path: Path, faults: Faults) -> None:
    model = write_sides(tmp_path / "model.keras")
    folder = tmp_path / "files"
    folder.mkdir()
    files = {
        what: (folder / f"{number}{Path(name).suffix}", words)
        for number, (what, (name, _, words)) in enumerate(BAD.items())
    }
    for what, (file, _) in files.items():
        BAD[what][1](file)
    plain().save(folder / "good.png")
    given = [str(file) for file, _ in files.values() if not file.is_dir()]
    command = [
        sys.executable,
        "-m",
        "commands",
        "predict",
        "--json",
        "--model",
        str(model),
        *given,
        str(folder / "good.png"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 2
    assert [each["file"] for each in json.loads(done.stdout)["files"]] == [str(folder / "good.png")]
    lines = done.stderr.splitlines()
    assert len(lines) == len(given)
    for what, (file, words) in files.items():
        if str(file) in given:
            with faults(what):
                assert any(
                    line.startswith("error: ") and str(file) in line and words.removeprefix("a.png ") in line
                    for line in lines
                )


@pytest.mark.parametrize(
    ("what", "write", "words"),
    [
        ("a pipe in the folder, before DVC waits for it", os.mkfifo, "is neither file nor folder"),
        (
            "a device in the folder, before DVC waits for it",
            lambda path: path.symlink_to("/dev/zero"),
            "is neither file nor",
        ),
        ("a socket in the folder", listen, "is neither file nor folder"),
        ("a link to itself in the folder", lambda path: path.symlink_to(path.name), "cannot be read"),
    ],
)
def test_the_check_finds_what_dvc_would_wait_for(
    study: Study, faults: Faults, what: str, write: Write, words: str
) -> None:
    path = study.root / "own/b/odd.png"
    with faults(what):
        write(path)
        try:
            done = study.run(sys.executable, "-m", "commands.repro", code=2)
        finally:
            path.unlink()
        one_line(done.stderr, "data.target.path: own/b/odd.png", words)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Be a user who may read next to nothing, for a while."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that everybody may enter."""
    folder = tmp_path_factory.mktemp("shared")
    for parent in (folder, *folder.parents[:-2]):
        parent.chmod(0o755)
    for name in "ab":
        (folder / name).mkdir()
        plain().save(folder / name / "1.png")
    return folder


def test_a_file_that_may_not_be_read_is_one_line(shared: Path, faults: Faults) -> None:
    (shared / "a/1.png").chmod(0)
    with faults("a file that may not be read"), nobody():
        refused(lambda: read_file(shared / "a/1.png", FORM), "a/1.png cannot be read: Permission denied")
    (shared / "a").chmod(0)
    with faults("a folder that may not be read"), nobody():
        refused(lambda: list_files(shared, "data.target.path"), "a cannot be read: Permission denied")
    with faults("a file in a folder that may not be entered"), nobody():
        assert find_files([shared / "a/1.png"]) == [shared / "a/1.png"]
        refused(lambda: read_file(shared / "a/1.png", FORM), "a/1.png cannot be read: Permission denied")
    (shared / "a").chmod(0o755)


@pytest.mark.parametrize("much", [0, 10**9])
def test_a_file_that_goes_while_the_others_are_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults, much: int
) -> None:
    monkeypatch.setattr(own, "MUCH", much)  # with worker processes, and without
    files = [tmp_path / f"{number:03}.png" for number in range(300)]
    for file in files:
        plain().save(file)
    progress = own.progress

    def going(items: Iterator[Path], *given: object) -> Iterator[Path]:
        for number, item in enumerate(progress(items, *given)):
            if number == 0:
                files[-1].unlink()
            yield item

    if much:
        monkeypatch.setattr(own, "progress", going)
    else:
        files[-1].unlink()  # listed, and gone before a worker comes to it
    with faults(f"a file that vanishes while {'one process reads' if much else 'several processes read'} the others"):
        refused(lambda: read_files(files, FORM, tmp_path / "out.npy", "x"), "299.png is missing")
        assert not (tmp_path / "out.npy").exists()


def test_a_file_that_is_cut_after_its_size_was_seen_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    original = Path.open

    def cutting(left: int) -> Callable[..., object]:
        def cut(path: Path, *given: object) -> object:
            os.truncate(path, left)
            return original(path, *given)

        return cut

    for name, content in (("a.png", CONTENTS["PNG"]), ("a.wav", recording())):
        for left in (0, 20, len(content) // 2):
            (tmp_path / name).write_bytes(content)
            with (
                faults("a file that is cut between a look at its size and its reading"),
                monkeypatch.context() as patch,
            ):
                patch.setattr(Path, "open", cutting(left))
                refused(lambda name=name: read_file(tmp_path / name, FORM), name)


# Whole studies, from the files to the report


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
READ = {name: name for name in NAMES.values()} | {"e\u0301": "\u00e9"}  # as they are, in one form
SHOWN = {"\u202etxt.exe": "\\u202etxt.exe"}  # on a page


def write_noise(path: Path, seed: tuple[int, ...]) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)).save(path)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose classes have all those names, after its first run."""
    made = make_study(tmp_path_factory.mktemp("named") / "study")
    (made.root / "own").mkdir()
    rows = []
    for label, name in enumerate(NAMES.values()):
        for number in range(4):
            write_noise(made.root / f"own/{label}-{number}.png", (label, number))
            rows.append((f"{label}-{number}.png", name))
    with (made.root / "own/labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    made.set(data__target__name="folder", data__target__path="own", data__target__classes="all")
    made.set(split__shots=[1, 3], split__test=0.25)
    made.repro()
    return made


def test_hostile_names_of_classes_are_what_they_are_and_no_more(
    named: Study,
    browser: Browser,  # noqa: F811
    faults: Faults,
) -> None:
    classes = sorted(READ.values())
    markdown = MarkdownIt().enable("table")  # which lets HTML through
    rendered = [markdown.render(named.read(file).decode()) for file in ("results/report.md", "models/best.md")]
    assert not any(re.search("<script|<img[^>]*onerror", text) for text in rendered)
    report, card = (html.unescape(re.sub("<[^>]*>", "", text)) for text in rendered)
    tables = list((named.root / "results").rglob("*.csv"))
    image = str(named.root / "own/0-0.png")
    answers = json.loads(named.run(sys.executable, "-m", "commands", "predict", "--json", "--top", "99", image).stdout)
    printed = named.run(sys.executable, "-m", "commands", "predict", "--top", "99", image).stdout.splitlines()
    named.run(*(sys.executable, "-m", "commands", "export", "--format", "tflite", "--output", "best.tflite"))
    exported = json.loads(named.read("best.tflite.json"))
    models, best = open_folder(named.root / "models")
    served = {each["class"] for each in app.answer(models, Path(image).read_bytes())[models[0].about.strategy]}
    page = browser.new_context(offline=True).new_page()
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.goto((named.root / "results/report.html").resolve().as_uri())
    page.wait_for_function("document.documentElement.dataset.drawn >= 4")
    heads = page.locator("#errors thead th").all_inner_texts()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0
    assert "window.hacked" not in app.page(models, best)
    assert json.loads(named.read("data/about.json"))["target"]["classes"] == classes
    for what, name in NAMES.items():
        with faults(f"a class named by {what}"):
            read = READ[name]
            shown = SHOWN.get(read, read)
            assert f"class {shown}" in heads
            for text in (report, card):
                assert shown in text
            assert read in {each["class"] for each in answers["files"][0]["predictions"]}
            assert read in exported["classes"]
            assert read in served
            assert all(line.isprintable() for line in printed)
            assert not any(len(read) > 3 and read in file.read_text() for file in tables)


@pytest.mark.parametrize(
    "name", ["new\nline", "tab\there", "null\0byte", "esc\x1b[31m", "line\u2028end", "\udcff", "y" * 256]
)
def test_a_name_that_cannot_stand_in_a_line_is_refused(study: Study, faults: Faults, name: str) -> None:
    with faults("a class whose name has control characters, or more than 255 signs"):
        file = study.root / "own/labels.csv"
        text = f'path,label\na/0.png,"{name}"\nb/0.png,b\n'
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        try:
            line, _ = measured(study, "stages.convert", code=2)
        finally:
            file.unlink()
        one_line(line, "own/labels.csv, line 2")
        assert line.rstrip("\n").isprintable()


def test_a_study_of_a_thousand_classes_ends_with_a_page_that_can_be_read(tmp_path: Path, faults: Faults) -> None:
    with faults("1,000 classes"):
        study = make_study(tmp_path / "study")
        for label in range(1000):
            (study.root / f"own/{label:04}").mkdir(parents=True)
            for number in range(4):
                write_noise(study.root / f"own/{label:04}/{number}.png", (label, number))
        study.set(data__target__name="folder", data__target__path="own", data__target__classes="all")
        study.set(split__shots=[1, 3], split__test=0.25)
        started = time.monotonic()
        assert "report" in study.repro()
        assert time.monotonic() - started < 5 * SECONDS
        assert (study.root / "results/report.html").stat().st_size < 5_000_000
        report = study.read("results/report.md").decode()
        assert "Of 1,000 classes, the 40 with the lowest recall." in report
        assert max(map(len, report.splitlines())) < 2000


@pytest.mark.parametrize(
    ("what", "counts", "words"),
    [
        ("one class only", {"a": 4}, "has only one class, a"),
        ("a class without an image", {"a": 4, "b": 0}, "own/b holds no image"),
        ("one image in a class", {"a": 4, "b": 1}, "the 1 image of class b leaves none to train on"),
        ("no class", {}, "has no folders in it"),
    ],
)
def test_too_few_classes_or_images_are_one_line(
    tmp_path: Path, faults: Faults, what: str, counts: dict[str, int], words: str
) -> None:
    with faults(what):
        study = make_study(tmp_path / "study")
        (study.root / "own").mkdir()
        for name, count in counts.items():
            (study.root / "own" / name).mkdir()
            for number in range(count):
                write_noise(study.root / f"own/{name}/{number}.png", (ord(name), number))
        study.set(data__target__name="folder", data__target__path="own", data__target__classes="all")
        printed = study.run("dvc", "repro", "split", code=255).stderr
        [line] = [line for line in printed.splitlines() if line.startswith("error: ")]
        one_line(line, "data.target", words)


def test_one_training_image_of_each_class_is_enough(tmp_path: Path, faults: Faults) -> None:
    with faults("one training image in each class, and test images apart"):
        study = make_study(tmp_path / "study")
        for folder, count in (("own", 1), ("held", 3)):
            for name in "ab":
                (study.root / folder / name).mkdir(parents=True)
                for number in range(count):
                    write_noise(study.root / f"{folder}/{name}/{number}.png", (ord(name), count, number))
        study.set(data__target__name="folder", data__target__path="own", data__target__test_path="held")
        study.set(data__target__classes="all", split__shots=[1])
        assert "report" in study.repro()
        assert "with 1 label per class" in study.read("results/report.md").decode().lower()
