"""`transfer label`: its state against a simple model, and a real server that programs and a real browser label with."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import serving
from browsing import check_by_axe
from conftest import ROOT, refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from playwright.sync_api import Browser, Page
from serving import Open, Server
from small_models import recording

from transfer.data.folders import list_files
from transfer.data.table import Columns
from transfer.serve.label_app import build
from transfer.serve.labelling import Labelling, read_order

PIXELS = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def silent(_: str) -> None:
    """Where warnings do not matter."""


def fill(folder: Path, count: int) -> list[str]:
    """Write images; gives their names, which are their paths."""
    names = [f"{number:02}.png" for number in range(count)]
    for name in names:
        Image.fromarray(PIXELS).save(folder / name)
    return names


def current(labelling: Labelling) -> int:
    number: int = labelling.state()["current"]["number"]
    return number


def written(folder: Path) -> str:
    return (folder / "labels.csv").read_text(encoding="utf-8")


# The state.

NAMES = ("cat", 'a "dog", grey', "ä; b")


@given(st.lists(st.sampled_from([*NAMES, "skip", "undo"]), max_size=25))
def test_the_table_is_what_was_answered_and_not_taken_back(actions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        waiting = fill(folder, 6)
        (folder / "labels.csv").write_text("path,label\n00.png,cat\n")
        waiting.remove("00.png")
        labelling = Labelling(folder)
        past: list[tuple[list[str], dict[str, str]]] = []  # what waited, and what was answered, before each action
        labels = {"00.png": "cat"}
        for action in actions:
            if action == "undo":
                if past:
                    labelling.undo()
                    waiting, labels = past.pop()
                else:
                    refused(labelling.undo, "nothing to undo")
            elif waiting:
                past.append(([*waiting], {**labels}))
                if action == "skip":
                    labelling.skip(current(labelling))
                    waiting.append(waiting.pop(0))
                else:
                    labelling.answer(current(labelling), action)
                    labels[waiting.pop(0)] = action
            state = labelling.state()
            assert (state["current"] or {}).get("path") == (waiting[0] if waiting else None)
            assert state["counts"] == [[len(labels), 6]]
            assert state["classes"][0] == "cat"
            assert sorted(state["classes"]) == sorted({*labels.values()})
            if len({*labels.values()}) > 1:
                table = list_files(folder, "data.target.path", silent)
                assert dict(zip(table.name, table.label, strict=True)) == {
                    f"{folder.resolve().name}/{path}": label for path, label in labels.items()
                }
        again = Labelling(folder).state()
        assert again["counts"] == [[len(labels), 6]]
        assert again["classes"] == labelling.state()["classes"]  # so that each keeps its key


def test_what_was_in_a_table_stays_and_the_console_says_how_it_will_be_written(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    table = "Label;note;PATH;group\nKäse;hell, gelb;01.png;a\nBrot;;00.png;\n"
    (tmp_path / "labels.csv").write_bytes(table.encode("utf-16"))
    said: list[str] = []
    labelling = Labelling(tmp_path, warn=said.append)
    assert said == [f"{tmp_path}/labels.csv will be written as UTF-8 with commas; all that it says stays"]
    assert labelling.state()["classes"] == ["Käse", "Brot"]
    labelling.answer(2, " Wein ")
    kept = 'Label,note,PATH,group\nKäse,"hell, gelb",01.png,a\nBrot,,00.png,\n'
    assert written(tmp_path) == f"{kept}Wein,,02.png,\n"
    labelling.undo()
    assert written(tmp_path) == kept
    assert "Wein" not in labelling.state()["classes"]
    Labelling(tmp_path, warn=said.append)
    assert len(said) == 1


def test_names_with_space_around_them_are_found_again_and_those_that_no_table_can_hold_are_told(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / " a.png")
    Image.fromarray(PIXELS).save(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.png"))
    said: list[str] = []
    labelling = Labelling(tmp_path, warn=said.append)
    assert said == [f"{tmp_path}: skipped 1 file, not named in UTF-8: caf\\udce9.png"]
    labelling.answer(current(labelling), "cat")
    assert Labelling(tmp_path, warn=silent).state()["counts"] == [[1, 1]]


def test_columns_bear_the_names_of_the_study(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    (tmp_path / "labels.csv").write_text("File,Kind\n00.png,cat\n")
    refused(lambda: Labelling(tmp_path), "labels.csv", "data.target.columns.path")
    labelling = Labelling(tmp_path, columns=Columns(path="file", label="kind", group="group"))
    labelling.answer(1, "dog")
    assert written(tmp_path) == "File,Kind\n00.png,cat\n01.png,dog\n"


def test_a_table_that_someone_else_changed_is_left_as_it_is(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    labelling = Labelling(tmp_path)
    labelling.answer(0, "cat")
    (tmp_path / "labels.csv").write_text("path,label\n02.png,dog\n")
    for change in (lambda: labelling.answer(1, "cat"), labelling.undo):
        refused(change, "labels.csv was changed by another program")
    assert written(tmp_path) == "path,label\n02.png,dog\n"
    assert current(labelling) == 1


def test_chosen_images_come_first_and_paths_that_are_not_there_are_told(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    order = tmp_path / "to_label.csv"
    order.write_text("path,rank,why\n02.png,1,alike: 9\n../x.png,2,\n00.png,3,\n")
    said: list[str] = []
    labelling = Labelling(tmp_path, read_order(order), warn=said.append)
    assert f"skipped 1 path not in {tmp_path}: ../x.png" in said
    assert labelling.state()["current"]["why"] == "alike: 9"
    shown = []
    while labelling.state()["current"]:
        shown.append(current(labelling))
        labelling.answer(shown[-1], "cat")
    assert shown == [2, 0, 1, 3]
    assert labelling.state()["counts"] == [[2, 2], [4, 4]]
    order.write_text("file\n00.png\n")
    refused(lambda: read_order(order), "has no column path")


def test_an_answer_to_an_image_that_does_not_wait_and_one_that_is_no_name_change_nothing(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    labelling = Labelling(tmp_path)
    refused(lambda: labelling.answer(1, "cat"), "another tab has moved on")
    refused(lambda: labelling.answer(0, " "), "write a name")
    refused(lambda: labelling.answer(0, "a\nb"), "write a name")
    assert not (tmp_path / "labels.csv").exists()


# Programs.


def served(folder: Path, order: dict[str, str] | None = None) -> AbstractContextManager[Server]:
    return serving.served(build(Labelling(folder, order, warn=silent), ["127.0.0.1"]))


JSON = {"Content_Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"answer": "cat", "number": 0}, JSON, 200),
        ({"answer": "cat", "number": 0}, JSON | {"Origin": "http://evil.example"}, 403),
        ({"answer": "cat", "number": 0}, {"Content_Type": "text/plain"}, 415),
        ({"answer": 7, "number": 0}, JSON, 400),
        (["undo"], JSON, 400),
    ],
)
def test_only_this_server_s_own_page_can_label(
    tmp_path: Path, body: object, headers: dict[str, str], status: int
) -> None:
    fill(tmp_path, 2)
    with served(tmp_path) as server:
        assert server.ask("POST", "/state", json.dumps(body), **headers)[0] == status
    assert (tmp_path / "labels.csv").exists() == (status == 200)


def test_files_are_shown_as_browsers_can_and_none_outside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    Image.fromarray(PIXELS).save(folder / "a.png")
    Image.fromarray(PIXELS.astype(np.uint16) * 16).save(folder / "b.png")
    Image.fromarray(PIXELS).save(folder / "c.tif")
    (folder / "d.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "e.wav").write_bytes(recording())
    with served(folder) as server:
        answers = [server.ask("GET", f"/file/{number}") for number in range(6)]
        paths = ("/file/-1", "/file/../secret.png", "/file/%2e%2e%2fsecret.png")
        outside = [server.ask("GET", path)[0] for path in paths]
    assert [status for status, _, _ in answers] == [200, 200, 200, 400, 200, 404]
    assert outside == [404, 404, 404]
    assert answers[0][2] == (folder / "a.png").read_bytes()
    for _, headers, content in answers[1:3]:
        assert headers["content-type"] == "image/png"
        image = Image.open(io.BytesIO(content))
        assert image.mode == "RGB"
        assert image.size == (8, 6)
        assert np.asarray(image).max() == pytest.approx(235, abs=1)
    assert json.loads(answers[3][2])["error"].startswith("d.jpg ")
    assert answers[4][1]["content-type"].startswith("audio/")


# A browser.


def shows(page: Page, name: str, progress: str) -> None:
    page.locator("#progress", has_text=re.compile(f"^{progress}$")).wait_for(timeout=10_000)
    page.locator("#path", has_text=re.compile(f"^{name}")).wait_for(timeout=10_000)


def test_twenty_images_are_labelled_by_keys_and_mouse_with_an_end_in_between(opened: Open, tmp_path: Path) -> None:
    fill(tmp_path, 20)
    order = {"19.png": "densest", "18.png": ""}
    with served(tmp_path, order) as server:
        page = opened(server)
        shows(page, "19.png · densest", "0 of 2 labelled, 0 of 20 in all")
        page.get_by_label("Name of a class").click()
        page.keyboard.type("1s u")  # what would be keys elsewhere
        assert page.locator("#meant").inner_text() == "Enter: new class 1s u"
        page.keyboard.press("Enter")
        shows(page, "18.png", "1 of 2 labelled, 1 of 20 in all")
        page.keyboard.press("Backspace")
        shows(page, "19.png", "0 of 2 labelled, 0 of 20 in all")
        assert written(tmp_path) == "path,label\n"
        for name, waiting in (("cat", "18.png"), ("dog", "00.png")):
            page.get_by_label("Name of a class").fill(name)
            page.keyboard.press("Enter")
            page.locator("#path", has_text=waiting).wait_for()
        assert page.locator("#next pre").is_visible()  # all that were chosen are labelled
        assert page.locator("#classes").inner_text().split() == ["1", "cat", "2", "dog"]
        page.keyboard.press("1")
        shows(page, "01.png", "2 of 2 labelled, 3 of 20 in all")
        page.get_by_role("button", name="dog").click()
        shows(page, "02.png", "2 of 2 labelled, 4 of 20 in all")
        page.keyboard.press(" ")  # which the button that was clicked must not take for another click
        shows(page, "03.png", "2 of 2 labelled, 4 of 20 in all; 1 skipped, to come again")
        page.reload()
        shows(page, "03.png", "2 of 2 labelled, 4 of 20 in all; 1 skipped, to come again")
        page.keyboard.press("u")
        shows(page, "02.png", "2 of 2 labelled, 4 of 20 in all")
        page.get_by_role("button", name="Skip").click()
        shows(page, "03.png", "2 of 2 labelled, 4 of 20 in all; 1 skipped, to come again")
        page.get_by_label("Name of a class").fill("DOG")
        page.get_by_role("button", name="Add").click()
        shows(page, "04.png", "2 of 2 labelled, 5 of 20 in all; 1 skipped, to come again")
        page.close()
    with served(tmp_path) as server:
        page = opened(server)
        shows(page, "02.png", "5 of 20 labelled")
        for number, waiting in enumerate([*range(4, 18), -1]):
            page.keyboard.press("2" if number % 2 else "1")
            page.locator("#path", has_text=f"{waiting:02}.png" if waiting >= 0 else "").wait_for(state="attached")
            page.locator("#progress", has_text=f"{number + 6} of 20 labelled").wait_for()
        assert page.locator("#shown").inner_text() == "All are labelled."
        copied = page.locator("#next pre").inner_text()
        assert f'path: "{tmp_path}"' in copied
        assert f'unlabelled: "{tmp_path}"' in copied
        page.keyboard.press("1")  # of no image
        page.get_by_role("button", name="Undo").click()
        shows(page, "17.png", "19 of 20 labelled")
        page.keyboard.press("2")
        page.locator("#progress", has_text="20 of 20 labelled").wait_for()
    table = list_files(tmp_path, "data.target.path")
    labels = {Path(path).stem: label for path, label in zip(table.path, table.label, strict=True)}
    assert len(labels) == 20
    assert [labels[name] for name in ("19", "18", "00", "01", "02", "03", "04", "17")] == [
        *("cat", "dog", "cat", "dog", "cat", "dog", "dog", "dog")
    ]


def test_of_more_than_nine_classes_the_first_letters_will_do(opened: Open, tmp_path: Path) -> None:
    fill(tmp_path, 14)
    with served(tmp_path) as server:
        page = opened(server)
        for number, name in enumerate("abcdefghi", 1):
            page.get_by_label("Name of a class").fill(name * 3)
            page.keyboard.press("Enter")
            page.locator("#progress", has_text=f"{number} of 14").wait_for()
        for typed, button, classes in (("zebra", "Enter", 10), ("zeb", "Enter", 10), ("zeb", "Add", 11)):
            page.get_by_label("Name of a class").fill(typed)
            assert page.locator("#meant").inner_text().startswith(f"Enter: {'new class ' * (typed == 'zebra')}zebra")
            page.keyboard.press("Enter") if button == "Enter" else page.get_by_role("button", name=button).click()
            page.locator("#meant:empty").wait_for(state="attached")
            page.locator(f"#classes li:nth-child({classes})").wait_for()
        page.locator("#progress", has_text="12 of 14").wait_for()
    assert written(tmp_path).splitlines()[-3:] == ["09.png,zebra", "10.png,zebra", "11.png,zeb"]


def test_a_broken_image_a_recording_and_a_changed_table_are_told_on_the_page(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "b.wav").write_bytes(recording())
    with served(tmp_path) as server:
        page = browser.new_page()  # whose console tells of the status 400
        page.goto(server.address)
        page.locator("#shown", has_text="a.png is no image of a kind that can be read").wait_for()
        page.keyboard.press("s")
        page.locator("#shown audio").wait_for()
        page.get_by_label("Name of a class").fill("<b>speech</b>")
        page.keyboard.press("Enter")
        page.locator("#classes", has_text="<b>speech</b>").wait_for()
        (tmp_path / "labels.csv").write_text("")
        page.keyboard.press("1")
        page.get_by_role("alert").get_by_text("was changed by another program").wait_for()
        page.close()
    assert written(tmp_path) == ""


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_axe_finds_no_serious_fault_and_nothing_overflows(
    opened: Open, tmp_path: Path, width: int, scheme: str
) -> None:
    fill(tmp_path, 2)
    (tmp_path / "labels.csv").write_text(f"path,label\n00.png,{'w' * 300}\n")
    with served(tmp_path) as server:
        page = opened(server, width=width, color_scheme=scheme)
        shows(page, "01.png", "1 of 2 labelled")
        check_by_axe(page)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_the_command_says_what_comes_first_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    (tmp_path / "labels.csv").write_text("file,label\n00.png,cat\n")
    (tmp_path / "params.yaml").write_text("data: {target: {columns: {path: File, label: label, group: group}}}")
    (tmp_path / "to_label.csv").write_text("path,rank,why\n02.png,1,\n")
    command = [sys.executable, "-m", "transfer.cli", "label", str(tmp_path), "--port", "0"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        found = re.fullmatch(r"labelling page at http://127\.0\.0\.1:(\d+)/; Ctrl-C stops it\n", second)
        assert found, second
        assert json.loads(Server(int(found[1])).ask("GET", "/state")[2])["current"]["path"] == "02.png"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert first == f"1 of 3 images in {tmp_path} labelled; the 1 in to_label.csv come first, then the others by path\n"
