"""`transfer serve`: a real server on a free port, asked by programs and by a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import check_by_axe
from conftest import ROOT, refused
from PIL import Image
from playwright.sync_api import Browser, Page
from serving import Open, Server, served
from small_models import PREPROCESSING, SIDES, bars, png, recording, side_image, write_bare, write_familiar, write_sides
from starlette.applications import Starlette

from transfer.serve.app import build
from transfer.serve.command import HEADERS, bind
from transfer.serve.models import open_folder

EVIL = '<img src=x onerror="window.hacked=1">'


LEFT, RIGHT = png(side_image("left")), png(side_image("right"), "JPEG")


def predict(server: Server, body: Any, kind: str = "image/png", **headers: str) -> tuple[int, str]:
    status, _, content = server.ask("POST", "/predict", body, Content_Type=kind, **headers)
    return status, content.decode()


def application(folder: Path) -> Starlette:
    models, best = open_folder(folder)
    return build(models, best, ["127.0.0.1"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_sides(folder / "end_to_end.keras", "end_to_end", certainty=5, shots=1000)
    write_sides(folder / "scratch.keras", "scratch", certainty=1, shots=1)
    write_sides(folder / "best.keras", "end_to_end")
    write_bare(folder / "source.keras")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with served(application(folder)) as running:
        yield running


# Programs.


@pytest.mark.parametrize(
    ("body", "kind", "first"), [(LEFT, "image/png", "left"), (RIGHT, "application/octet-stream", "right")], ids=SIDES
)
def test_every_strategy_answers_with_all_its_classes_the_most_probable_first(
    server: Server, body: bytes, kind: str, first: str
) -> None:
    status, content = predict(server, body, kind)
    answer = json.loads(content)
    assert status == 200
    assert list(answer["answers"]) == ["end_to_end", "scratch"]
    assert (answer["warnings"], answer["unfamiliar"]) == ([], False)
    for classes in answer["answers"].values():
        assert classes[0]["class"] == first
        assert {each["class"] for each in classes} == set(SIDES)
        assert sum(each["probability"] for each in classes) == pytest.approx(1, abs=1e-5)


def test_recordings_are_answered_too(server: Server) -> None:
    assert predict(server, recording(), "audio/wav")[0] == 200


def test_health_names_the_models(server: Server) -> None:
    status, _, body = server.ask("GET", "/health")
    assert (status, json.loads(body)) == (200, {"status": "ok", "models": ["end_to_end", "scratch"]})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/page/page.js", 200),
        ("GET", "/page/../app.py", 404),
        ("GET", "/page/..%2fapp.py", 404),
        ("GET", "//etc/passwd", 404),
        ("GET", "/predict", 405),
        ("POST", "/predict", 415),
    ],
)
def test_every_answer_has_its_status_and_the_headers_that_protect(
    server: Server, method: str, path: str, status: int
) -> None:
    found, headers, body = server.ask(method, path)
    assert found == status
    assert {name: headers.get(name.lower()) for name in HEADERS} == HEADERS
    assert "server" not in headers
    assert status == 200 or set(json.loads(body)) == {"error"}


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"", "is empty"), (b"no image", "be read"), (LEFT[:-30], "is damaged"), (recording()[:40], "")],
    ids=["empty", "text", "damaged image", "damaged recording"],
)
def test_what_cannot_be_read_is_400_and_one_line(server: Server, body: bytes, said: str) -> None:
    status, content = predict(server, body, "application/octet-stream")
    error = json.loads(content)["error"]
    assert status == 400
    assert said in error
    assert error.isprintable()


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data; boundary=x"])
def test_kinds_that_a_foreign_form_could_send_are_refused(server: Server, kind: str) -> None:
    assert predict(server, LEFT, kind)[0] == 415


@pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "chunked"}])
@pytest.mark.parametrize(("size", "status"), [(10 << 20, 400), ((10 << 20) + 1, 413)])
def test_no_more_than_ten_megabytes_are_taken(server: Server, size: int, status: int, headers: dict[str, str]) -> None:
    body = (bytes(min(1 << 16, size - start)) for start in range(0, size, 1 << 16))
    assert predict(server, body if headers else bytes(size), **headers)[0] == status


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1:{port}", 200), ("evil.example", 400), ("127.0.0.1.evil.example", 400), ("[", 400)]
)
def test_only_a_request_that_names_this_server_is_answered(server: Server, host: str, status: int) -> None:
    assert predict(server, LEFT, Host=host.format(port=server.port))[0] == status
    assert server.ask("GET", "/", Host=host.format(port=server.port))[0] == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:{port}", 200),
        ("null", 403),
        ("http://[", 403),
        ("http://evil.example", 403),
        ("http://127.0.0.1:1", 403),
    ],
)
def test_only_this_server_s_own_page_is_answered(server: Server, origin: str, status: int) -> None:
    assert predict(server, LEFT, Origin=origin.format(port=server.port))[0] == status


def test_a_port_in_use_and_a_host_that_is_not_here_are_one_line() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        refused(
            lambda: bind("127.0.0.1", port), f"cannot listen on port {port} of 127.0.0.1 (", "in use", "choose another"
        )
    refused(lambda: bind("203.0.113.1", 0), "cannot listen on port 0 of 203.0.113.1 (", "choose another --host")


def test_another_host_is_served_under_any_name_with_a_warning(folder: Path) -> None:
    command = [sys.executable, "-m", "transfer.cli", "serve", "--port", "0", "--models", str(folder)]
    command += ["--host", "0.0.0.0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"serving end_to_end, scratch at http://0\.0\.0\.0:(\d+)/; Ctrl-C stops it\n", line)
        assert found, line
        assert predict(Server(int(found[1])), LEFT, Host="my-machine.local")[0] == 200
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "warning: with --host 0.0.0.0, anyone who can reach this machine can use the page\n"


# A browser.


def draw(page: Page, *points: tuple[float, float]) -> None:
    """With the mouse, from point to point, in parts of the canvas's sides."""
    canvas = page.locator("#drawing")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    for number, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8)
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def says(page: Page, text: str) -> None:
    page.locator("#summary", has_text=text).wait_for(timeout=10_000)


EDGE = ((0.1, 0.2), (0.1, 0.8))  # a stroke on the left


def test_a_drawing_is_answered_by_every_strategy(opened: Open, server: Server) -> None:
    page = opened(server)
    assert page.locator("#answers h3").all_inner_texts() == ["end_to_end ✓ recommended", "scratch"]
    assert "1,000 labels" in page.locator("#answers li").first.inner_text()
    draw(page, *EDGE)
    says(page, "All 2 models say left")
    assert page.locator("#answers ol li:first-child .class").all_inner_texts() == ["left", "left"]
    numbers = page.locator("#answers ol li > span:nth-child(2)").all_inner_texts()
    assert all(re.fullmatch(r"\d+\.\d %", number) for number in numbers)
    assert page.locator("#sent img").is_visible()
    draw(page, (0.9, 0.1), (0.9, 0.9), (0.8, 0.1), (0.8, 0.9))
    says(page, "All 2 models say right")
    page.get_by_role("button", name="Undo").click()
    says(page, "All 2 models say left")
    page.get_by_role("button", name="Clear").click()
    says(page, "No image yet.")
    assert page.locator("#answers ol li").count() == 0


def seen(page: Page) -> np.ndarray:
    """The image as the models see it; (height, width) uint8."""
    page.locator("#answers ol li").first.wait_for()
    address = page.locator("#sent img").get_attribute("src") or ""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,")))))


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Of models that know upright bars, white on black, on the left and on the right."""
    folder = tmp_path_factory.mktemp("knowing")
    preprocessing = replace(PREPROCESSING, height=28, width=28)
    for name in ("end_to_end", "scratch"):
        write_familiar(folder / f"{name}.keras", name, preprocessing)
    with served(application(folder)) as running:
        yield running


@pytest.mark.parametrize("size", [0.1, 0.3, 0.8])
def test_a_drawing_looks_the_same_to_the_models_whatever_its_size_and_place(
    opened: Open, knowing: Server, size: float
) -> None:
    """Else a small one becomes thick strokes, and a large one thin ones: a seven was taken for an eight."""
    page = opened(knowing)
    draw(page, (0.1, 0.1), (0.1, 0.1 + size), (0.1 + size / 2, 0.1 + size))
    image = seen(page).astype(float)
    assert image.shape == (28, 28)
    rows = np.flatnonzero(image.max(axis=1) > 100)
    assert np.ptp(rows) + 1 == pytest.approx(24, abs=2)  # as the bars
    assert np.mean((image > 127).sum(axis=1)[6:14]) == pytest.approx(0.13 * 24, abs=1)
    mass = [np.average(np.arange(28) + 0.5, weights=image.sum(axis=axis)) for axis in (0, 1)]
    assert mass == pytest.approx([14, 14], abs=1.3)


def test_the_page_names_the_classes_and_doubts_what_is_unlike_them(opened: Open, knowing: Server) -> None:
    page = opened(knowing)
    assert "The models know left, right." in page.locator("#how").inner_text()
    page.locator("#centre").uncheck()
    draw(page, (0.1, 0.5), (0.9, 0.5))
    says(page, "This looks unlike everything that the models were trained on. The nearest is ")
    assert "The image is farther from every class than 95% of" in page.locator("#warnings").inner_text()
    drop(page, png(bars(1, 28)[0, ..., 0]), "left.png", "image/png")
    says(page, "All 2 models say left")
    assert not page.locator("#warnings").is_visible()
    page.get_by_role("button", name="Clear").click()
    says(page, "No image yet.")


def test_the_two_switches_hold_for_files_too_and_the_image_is_shown_as_the_models_see_it(
    opened: Open, knowing: Server
) -> None:
    page = opened(knowing)
    paper = np.full((60, 100), 230, np.uint8)
    paper[10:50, 70:77] = 20
    page.locator("#centre").uncheck()
    drop(page, png(paper), "photo.png", "image/png")
    warnings = page.locator("#warnings")
    warnings.get_by_text("on a light background, unlike the training images: invert it").wait_for()
    assert "100 × 60 pixels, which stretching to 28 × 28 distorts: centre it" in warnings.inner_text()
    assert seen(page)[0, 0] == 230
    page.get_by_label("Invert").check()
    page.locator("#warnings:not(:has-text('light background'))").wait_for(state="attached")
    assert seen(page)[0, 0] == 25
    page.get_by_label("Centre").check()
    page.locator("#warnings:not(:has-text('stretching'))").wait_for(state="attached")
    image = seen(page)
    assert image[0, 0] == 0
    assert np.ptp(np.nonzero(image.max(axis=1) > 100)[0]) + 1 == 24
    assert "photo.png, as the models see it" in page.locator("#sent").inner_text()


def test_programs_ask_for_the_same_by_the_address(knowing: Server) -> None:
    paper = png(255 - bars(1, 28)[0, ..., 0])
    plain, turned = (
        json.loads(knowing.ask("POST", f"/predict{query}", paper, Content_Type="image/png")[2])
        for query in ("", "?invert=1")
    )
    assert plain["unfamiliar"]
    assert not turned["unfamiliar"]
    assert turned["answers"]["scratch"][0]["class"] == "left"
    assert [len(each["warnings"]) for each in (plain, turned)] == [2, 0]


@pytest.mark.parametrize("polarity", ["same", "inverted"])
def test_models_see_dark_where_the_canvas_is_dark(opened: Open, tmp_path: Path, polarity: Any) -> None:
    preprocessing = replace(PREPROCESSING, polarity=polarity, height=10, width=20)
    write_sides(tmp_path / "end_to_end.keras", preprocessing=preprocessing)
    with served(application(tmp_path)) as other:
        page = opened(other)
        assert page.locator("#centre").count() == 0  # a model without statistics does not say where its content is
        draw(page, *EDGE)
        image = seen(page)
        assert image.shape == (10, 20)
        assert image[-1, -1] == 0
        says(page, "The model says left")


def drop(page: Page, content: bytes, name: str, kind: str) -> None:
    page.evaluate(
        """([bytes, name, kind]) => {
            const carried = new DataTransfer();
            const content = Uint8Array.from(atob(bytes), (sign) => sign.charCodeAt(0));
            carried.items.add(new File([content], name, { type: kind }));
            const options = { dataTransfer: carried, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new DragEvent("drop", options));
        }""",
        [base64.b64encode(content).decode(), name, kind],
    )


def test_a_file_is_dropped_or_chosen(opened: Open, server: Server, tmp_path: Path) -> None:
    page = opened(server)
    (tmp_path / "left.png").write_bytes(LEFT)
    for _ in range(2):  # the same file again
        drop(page, RIGHT, "photo.jpg", "")  # of a kind that the browser does not know
        says(page, "All 2 models say right")
        assert page.locator("#sent figcaption").inner_text() == "photo.jpg, as the models see it"
        page.get_by_label("Or choose a file").set_input_files(tmp_path / "left.png")
        says(page, "All 2 models say left")


def test_a_large_file_is_told_in_one_line_and_forgotten_with_the_next(opened: Open, server: Server) -> None:
    page = opened(server)
    page.evaluate("""() => {
        const pasted = new DataTransfer();
        pasted.items.add(new File([new Uint8Array(10 * 2 ** 20 + 1)], "large.png", { type: "image/png" }));
        dispatchEvent(new ClipboardEvent("paste", { clipboardData: pasted }));
    }""")
    page.get_by_role("alert").get_by_text("large.png is larger than 10 MB").wait_for()
    draw(page, *EDGE)
    page.locator("#answers ol li").first.wait_for()
    assert not page.get_by_role("alert").is_visible()


def test_what_the_server_says_of_a_bad_file_is_shown(browser: Browser, server: Server) -> None:
    page = browser.new_page()  # whose console tells of the status 400
    page.goto(server.address)
    drop(page, LEFT[:-30], "photo.png", "image/png")
    says(page, "No answer.")
    assert "is damaged" in page.get_by_role("alert").inner_text()
    page.close()


def test_names_of_classes_and_strategies_are_shown_and_do_nothing(opened: Open, tmp_path: Path) -> None:
    write_sides(tmp_path / "evil.keras", f'"]{EVIL}', classes=(EVIL, "w" * 300, *map(str, range(5))))
    with served(application(tmp_path)) as other:
        page = opened(other, width=360)
        draw(page, *EDGE)
        says(page, "The model says")
        assert EVIL in page.locator("#answers").inner_text()
        assert page.locator("#answers ol li").count() == 3
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 360


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_axe_finds_no_serious_fault_and_nothing_overflows(
    opened: Open, knowing: Server, width: int, scheme: str
) -> None:
    page = opened(knowing, width=width, color_scheme=scheme)
    page.locator("#invert").check()
    draw(page, *EDGE)
    page.locator("#answers ol li").first.wait_for()
    check_by_axe(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_the_keyboard_reaches_all(opened: Open, knowing: Server) -> None:
    page = opened(knowing)
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert reached == ["skip", "theme", "clear", "undo", "file", "invert", "centre"]


def test_a_finger_draws_without_moving_the_page(opened: Open, server: Server) -> None:
    page = opened(server, width=360, has_touch=True)
    box = page.locator("#drawing").bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + box["width"] / 8, box["y"] + box["height"] / 2)
    page.locator("#answers ol li").first.wait_for()
    assert page.evaluate("getComputedStyle(document.querySelector('#drawing')).touchAction") == "none"
