"""The report's page in a real browser: it needs no network, obeys mouse and keyboard, and fits a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import pytest
from browsing import check_by_axe
from playwright.sync_api import Browser, Page
from reports import TEN, outcomes_of, study_of

from transfer.report import pages
from transfer.report.blocks import Bullets, Entry, Section, Table, Text
from transfer.report.charts import Chart
from transfer.report.sections import write_report

STUDY = study_of(outcomes_of(TEN, shots=(1, 4, 10), seeds=3))
PANELS = (
    12  # that the program draws: curves, gains, cost at three budgets, images, and two for each of three strategies
)


Open = Callable[..., Page]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(pages.html("Which way to transfer", write_report(STUDY), STUDY.comparison.strategies), "utf-8")
    return file


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Open]:
    """Opens the page of the study, or another; everything that it asks for or complains of is kept."""
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
        assert complaints == []
        assert [url for url in asked if not url.startswith("data:")] == [page.url.split("#")[0]]
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
    assert not page.locator("#strategies").is_visible()


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
    page.locator("#strategies input[value=dense_head]").click()
    assert shown() == [curves * 9 // 10, gains * 8 // 9, costs * 9 // 10]
    assert "off" in (page.locator(".key [data-strategy=dense_head]").first.get_attribute("class") or "")
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


def test_it_prints_whole_and_without_controls(opened: Open) -> None:
    page = opened()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator(".controls").is_visible()
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
    file = tmp_path / "evil.html"
    sections = [Section("which", evil, [Text(evil), Bullets([evil]), chart, table])]
    file.write_text(pages.html("Which way to transfer", sections, [evil, "b"]), "utf-8")
    page = opened(file)
    page.wait_for_function("document.documentElement.dataset.drawn >= 1")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert "<script>window.hacked=1</script>" in page.locator("#which p").first.inner_text()
    assert "{{7*7}}" in page.locator("td, tbody th").first.inner_text()
