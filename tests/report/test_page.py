"""The report's page in a real browser: it needs no network, obeys mouse and keyboard, and fits a phone."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
from browsing import check_by_axe
from PIL import Image
from playwright.sync_api import Browser, Page
from reports import TEN, outcomes_of, study_of

from transfer.report import pages
from transfer.report.blocks import Bullets, Entry, Section, Table, Text
from transfer.report.charts import Chart
from transfer.report.sections import charts_of, write_report

STUDY = study_of(outcomes_of(TEN, shots=(1, 4, 10), seeds=3))
PANELS = (
    12  # that the program draws: curves, gains, cost at three budgets, images, and two for each of three strategies
)
SECONDS = {  # training, prediction
    "scratch": {"1": [0.5, 0.2], "4": [0.6, 0.2], "10": [9.874, 0.2]},
    "dense_head": {"1": [0.4, 0.1], "4": [0.5, 0.1], "10": [1234.5, 0.1]},
}
BUDGETS = (1, 5, 10, 50, 100, 1000)


Open = Callable[..., Page]


def written(file: Path, sections: list[Section], strategies: Sequence[str], seconds: Any) -> Path:
    file.write_text(pages.html("Which way to transfer", sections, strategies), "utf-8")
    (file.parent / "seconds.js").write_text(f"window.SECONDS = {json.dumps(seconds)};\n")
    return file


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    return written(file, write_report(STUDY), STUDY.comparison.strategies, SECONDS)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the first table of a whole study: ten strategies with long names, and six budgets."""
    accuracies = [Entry("98.29", 0.9829, "equal") for _ in BUDGETS]
    needs = Entry("labels, unlabelled images and source model", "")
    rows = [[Entry(name, name), *accuracies, needs] for name in TEN]
    table = Table("Accuracy", ["strategy", *(f"{shots:,}" for shots in BUDGETS), "needs"], rows)
    gained = [[Entry(name, name), *[Entry("+42.28 ± 14.60", 42.28, "better")] * 6] for name in TEN]
    gains = Table("Gains", table.head[:-1], gained)
    file = tmp_path_factory.mktemp("ranked") / "report.html"
    sections = [Section("which", "Which to use", [table, gains]), Section("cost", "Cost")]
    return written(file, sections, list(TEN), {"scratch": {"1000": [12.3, 0.2]}})


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Open]:
    """Opens the page of the study, or another; everything that it asks for or complains of is kept.

    It may ask for the seconds beside it alone, and complain of nothing but that they are absent.
    """
    contexts = []

    def open_page(file: Path | None = None, width: int = 1280, script: bool = True, **options: Any) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            offline=True,
            java_script_enabled=script,
            reduced_motion="reduce",
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((file or report).resolve().as_uri())
        if script and file is None:
            page.wait_for_function(f"document.documentElement.dataset.drawn >= {PANELS}")
        seconds = (file or report).with_name("seconds.js")
        assert complaints == ([] if seconds.exists() else ["Failed to load resource: net::ERR_FILE_NOT_FOUND"])
        assert {url for url in asked if not url.startswith("data:")} <= {page.url.split("#")[0], seconds.as_uri()}
        return page

    yield open_page
    for context in contexts:
        context.close()


def marks(page: Page, chart: str) -> int:
    return page.locator(f"figure[data-chart={chart}] svg .mark-symbol.role-mark path").count()


def test_it_loads_without_a_complaint_or_a_request(opened: Open) -> None:
    page = opened()
    assert page.title() == "Which way to transfer"
    assert page.locator("html").get_attribute("data-drawn") == str(PANELS)
    assert page.locator("figure.chart").count() == 6
    assert page.locator("figure.chart .panel svg").count() == PANELS
    assert page.locator(".panels > img").count() == 0


def test_without_its_program_it_shows_everything_but_the_controls(opened: Open) -> None:
    page = opened(script=False)
    sizes = [picture.bounding_box() for picture in page.locator("figure.chart img").all()]
    assert len(sizes) == 6
    assert all(size and size["height"] > 50 for size in sizes)
    assert not page.locator("#theme").is_visible()
    assert page.locator("fieldset input:visible").count() == page.locator("#seconds:visible").count() == 0


def test_a_press_on_a_column_sorts_numbers_and_words_and_another_turns_round(opened: Open) -> None:
    page = opened()
    page.locator("#cost details").evaluate("(each) => { each.open = true; }")
    table = page.locator("#cost table").first
    head = table.locator("thead th").nth(4)

    def images() -> list[int]:
        cells = table.locator("tbody tr td:nth-child(5)")
        return [int(text.replace(",", "")) for text in cells.all_inner_texts()]  # as shown, not as sorted by

    before = images()
    assert len({len(str(number)) for number in before}) > 1  # as words they would stand in another order
    head.locator("button").click()
    assert images() == sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert images() == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"
    table.locator("thead th button").first.click()
    assert head.get_attribute("aria-sort") is None
    names = table.locator("tbody th").all_inner_texts()
    assert names == sorted(names)


def test_strategies_are_switched_off_and_on(opened: Open) -> None:
    page = opened()

    def shown() -> list[int]:
        return [marks(page, chart) for chart in ("accuracy", "gains", "cost")]

    curves, gains, costs = before = shown()
    switches = page.locator("fieldset input[value=dense_head]")
    switches.first.click()
    assert shown() == [curves * 9 // 10, gains * 8 // 9, costs * 9 // 10]
    assert [switch.is_checked() for switch in switches.all()] == [False] * 3
    page.keyboard.press("Space")
    assert shown() == before


def test_the_pointer_on_a_point_shows_its_numbers(opened: Open) -> None:
    page = opened()
    points = page.locator("figure[data-chart=accuracy] svg .mark-symbol.role-mark").last
    points.locator("path[aria-label*='feature_extraction; labels per class: 4']").hover(force=True)
    tip = page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    said = [cell.strip() for cell in tip.locator("td.value").all_inner_texts()]
    [result] = STUDY.comparison.results.query("strategy == 'feature_extraction' and shots == 4").to_dict("records")
    numbers = [f"{100 * result[name]:.2f}" for name in ("accuracy", "low", "high")]
    assert said == ["feature_extraction", "4", *numbers]
    look = "(all) => all.map((it) => getComputedStyle(it)).map((it) => [it.display, it.borderBottomWidth, it.minWidth])"
    # nothing of the page's tables
    assert tip.locator("td.key").evaluate_all(look) == [["table-cell", "0px", "0px"]] * 5
    assert tip.locator("td.value").evaluate_all(look) == [["block", "0px", "0px"]] * 5


def brightness(page: Page) -> int:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3])


def test_the_theme_follows_the_system_and_the_button(opened: Open) -> None:
    page = opened(color_scheme="light")
    button = page.locator("#theme")
    assert brightness(page) > 700
    button.click()
    assert "light" in button.inner_text()
    button.click()
    assert "dark" in button.inner_text()
    assert brightness(page) < 100
    ink = page.evaluate("getComputedStyle(document.querySelector('.role-axis-label text')).fill")
    assert sum(map(int, re.findall(r"\d+", ink)[:3])) > 600  # the charts turn with the page
    page.reload()
    assert brightness(page) < 100  # it is remembered
    button.click()
    assert brightness(page) > 700
    dark = opened(color_scheme="dark")
    assert brightness(dark) < 100
    dark.locator("#theme").click()
    assert brightness(dark) > 700


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_no_serious_fault_and_nothing_overflows(opened: Open, width: int, scheme: str) -> None:
    page = opened(width=width, color_scheme=scheme)
    check_by_axe(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    beyond = """() => [...document.querySelectorAll('.panel svg')].filter((svg) => {
        const [inner, outer] = [svg, svg.closest('.panel')].map((each) => each.getBoundingClientRect());
        return inner.right > outer.right + 1 || inner.right > innerWidth;
    }).length"""
    assert page.evaluate(beyond) == 0


@pytest.mark.parametrize("place", [390, 900, 1280, "files"])
def test_no_two_texts_of_an_axis_touch(opened: Open, place: int | str) -> None:
    page = opened(width=1280 if place == "files" else place)
    if place == "files":
        page.set_content("".join(chart.svg for chart in charts_of(write_report(STUDY))))
    touching = page.evaluate("""() => [...document.querySelectorAll('svg .role-axis')].flatMap((axis) => {
        const shown = [...axis.querySelectorAll('text')].filter((each) => each.getAttribute('opacity') !== '0');
        const boxes = shown.map((each) => each.getBoundingClientRect());
        return boxes.flatMap((b, i) => boxes.slice(0, i).flatMap((a, j) => {
            const beside = Math.max(a.left - b.right, b.left - a.right);
            const below = Math.max(a.top - b.bottom, b.top - a.bottom) + 4; // digits are lower than their boxes
            return Math.max(beside, below) < 2 ? [shown[j].textContent + shown[i].textContent] : [];
        }));
    })""")
    assert touching == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_that_are_neither_better_nor_worse_are_hollow(opened: Open, scheme: str) -> None:
    page = opened(color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    points = page.locator("figure[data-chart=gains] svg .mark-symbol.role-mark path")
    told = points.evaluate_all("(all) => all.map((it) => [it.ariaLabel, getComputedStyle(it).fill])")
    hollow = ["better" not in label and "worse" not in label for label, _ in told]
    assert [fill == ground for _, fill in told] == hollow
    assert len(set(hollow)) == 2


def test_misread_images_say_what_they_are_and_what_they_were_taken_for(opened: Open) -> None:
    captions = opened().locator("figure[data-chart=errors] svg .role-mark.mark-text > text").all_text_contents()
    assert len(captions) > 0
    assert all(re.fullmatch(r"true (\d),\s*read as (?!\1)\d", caption) for caption in captions)


def test_seconds_beside_the_page_are_shown_and_sorted(opened: Open) -> None:
    page = opened()
    first = page.locator("#which table")
    head = first.locator("thead th").last
    assert re.sub(r"\s+", " ", head.inner_text()) == "seconds to train, 10 labels per class"
    head.locator("button").click()
    names, taken = first.locator("tbody th").all_inner_texts(), first.locator("tbody td:last-child").all_inner_texts()
    assert names[:2] == ["dense_head", "scratch"]
    assert taken == ["1,200", "9.9", *["–"] * (len(TEN) - 2)]
    row = page.locator("#seconds tbody tr", has_text="dense_head")
    told = [re.sub(r"\s", "", text) for text in row.locator("td").all_inner_texts()]
    assert told == ["0.4/0.1", "0.5/0.1", "1,200/0.1"]


def test_without_seconds_there_is_no_place_for_them(opened: Open, report: Path, tmp_path: Path) -> None:
    page = opened(Path(shutil.copy(report, tmp_path)))
    assert "seconds" not in page.locator("#which table").inner_text()
    assert not page.locator("#seconds").is_visible()


def test_tables_fit_a_screen_and_three_budgets_fit_a_phone(opened: Open, ranked: Path) -> None:
    page = opened(ranked, width=1280)
    assert page.locator("#which table").first.locator("thead th").count() == 1 + len(BUDGETS) + 2
    assert page.evaluate("[...document.querySelectorAll('.wide')].every((it) => it.scrollWidth <= it.clientWidth)")
    page = opened(ranked, width=390)
    for table in page.locator("#which table").all():
        whole = table.evaluate("""(table) => [...table.tHead.rows[0].cells].filter((cell) =>
            cell.getBoundingClientRect().right <= table.parentElement.getBoundingClientRect().right).length""")
        assert whole >= 1 + 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_shadow_tells_that_a_table_goes_on(opened: Open, ranked: Path, scheme: str) -> None:
    page = opened(ranked, width=390, color_scheme=scheme)
    table = page.locator("div.wide").first

    def corner() -> tuple[int, ...]:
        """Colour of the upper right corner, where no letter is."""
        pixels = np.asarray(Image.open(io.BytesIO(table.screenshot())).convert("RGB"))
        return tuple(map(int, pixels[2, -1]))

    ground = tuple(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))))
    assert abs(sum(corner()) - sum(ground)) > 60
    table.evaluate("(it) => { it.scrollLeft = it.scrollWidth; }")
    assert corner() == ground


def test_it_prints_whole_and_without_its_contents(opened: Open) -> None:
    page = opened()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.pdf().count(b"/Type /Page\n") + page.pdf().count(b"/Type /Page ") >= 2


def test_keyboard_and_screen_reader_find_their_way(opened: Open) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash && document.querySelector(location.hash)?.tagName") == "MAIN"
    links = page.evaluate("[...document.querySelectorAll('nav a')].map((each) => each.getAttribute('href'))")
    sections = page.evaluate("[...document.querySelectorAll('section')].map((each) => each.id)")
    assert links == [f"#{name}" for name in sections]
    assert len(sections) == 11
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((each) => each.tagName)")
    assert levels == ["H1", *["H2"] * len(sections)]
    assert page.locator("figure figcaption").count() == page.locator("figure").count()
    told = page.locator("figure[data-chart=errors] [aria-label*='models are wrong']")
    assert told.count() > 0


def test_hostile_names_are_shown_and_do_nothing(opened: Open, tmp_path: Path) -> None:
    evil = '</script><script>window.hacked=1</script>"><img src=x onerror="window.hacked=1"> {{7*7}}'
    points = alt.Chart(pd.DataFrame({"x": [1], "strategy": [evil]})).mark_point().encode(x="x:Q", color="strategy:N")
    chart = Chart("curves", evil, [alt.layer(points).properties(title=evil, height=99)], keyed=[evil])
    table = Table(evil, [evil], [[Entry(evil, evil)]], note=evil)
    sections = [Section("which", evil, [Text(evil), Bullets([evil]), chart, table])]
    page = opened(written(tmp_path / "evil.html", sections, [evil, "b"], {evil: {evil: [evil]}}))
    page.wait_for_function("document.documentElement.dataset.drawn >= 1")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert "<script>window.hacked=1</script>" in page.locator("#which p").first.inner_text()
    assert "{{7*7}}" in page.locator("td, tbody th").first.inner_text()
