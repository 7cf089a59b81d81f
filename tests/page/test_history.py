"""The history page in a real browser against a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests import past
from tests.page.conftest import WAIT_MS

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROWS = "#history-list tbody tr"


@pytest.fixture(scope="module")
def stocked(start_server, tmp_path_factory):
    """A server whose outputs hold thirty results: two pages of the table."""
    outputs = tmp_path_factory.mktemp("stocked")
    for day in range(1, 27):
        past.save(outputs, name=f"talk {day}.wav", timestamp=f"2026-01-{day:02} 10:00:00")
    vector = np.ones(8, np.float32)
    past.save(outputs, vector, emotion="sad", confidence=0.6, timestamp="2026-02-01 10:00:00")
    past.save(outputs, vector, name="客户<b>.wav", timestamp="2026-02-02 10:00:00")
    past.save(outputs, frames=past.frames(), name="long.wav", timestamp="2026-02-03 10:00:00")
    past.save_old(outputs)
    server = start_server("--model", "compact", "--outputs", str(outputs))
    return replace(server, outputs=outputs)


@pytest.fixture
def visit(browser, stocked) -> Iterator[Callable[..., sync_api.Page]]:
    """Opens the page; at the end no visit may have met an error or left the machine."""
    contexts, errors, foreign = [], [], []

    def open_page(*, locale: str = "en-US", width: int = 1280) -> sync_api.Page:
        context = browser.new_context(
            locale=locale, viewport={"width": width, "height": 900}, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: foreign.append(request.url))
        page.goto(f"{stocked.url}/history")
        page.wait_for_selector(ROWS)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert [one for one in foreign if not one.startswith((stocked.url, "data:", "blob:"))] == []


def count(page, number: int) -> None:
    """Waits until the table has just so many rows."""
    page.wait_for_function(f"document.querySelectorAll({ROWS!r}).length === {number}")


def choose(page, name: str, words: str) -> None:
    page.click(f"#history-{name} input")
    page.get_by_role("option", name=words, exact=True).click()
    page.keyboard.press("Escape")


def test_filters_narrow_the_table_and_the_csv(visit, stocked):
    page = visit()
    count(page, 25)
    assert "30 results" in page.inner_text(".tools")
    page.fill("#history-text textarea, #history-text input", "客户")
    count(page, 1)
    assert "客户<b>.wav" in page.inner_text(ROWS)
    with page.expect_download() as waiting:
        page.click("a[download='history.csv']")
    text = waiting.value.path().read_text("utf-8-sig")
    assert text.count("outputs_2026") == 1 and "客户<b>.wav" in text
    page.fill("#history-text textarea, #history-text input", "")
    count(page, 25)
    choose(page, "emotion", "Sad")
    count(page, 1)
    assert "60.0%" in page.inner_text(ROWS)
    choose(page, "band", "High")
    page.wait_for_selector("text=No result fits these filters.")


def test_the_table_is_paged(visit):
    page = visit()
    count(page, 25)
    page.click("[data-history=page]:not([disabled])")
    count(page, 5)
    assert "26 to 30 of 30" in page.inner_text(".pager")


def test_a_row_opens_with_player_downloads_and_its_own_page(visit):
    page = visit()
    page.click(f"{ROWS}:has-text('long.wav') button")
    page.wait_for_selector("#history-opened [data-ready]")
    opened = page.inner_text("#history-opened")
    assert "Happy" in opened and "Emotion over time" in opened and "result.json" in opened
    page.wait_for_function("document.querySelector('#history-opened audio').readyState > 0")
    with page.expect_download() as waiting:
        page.click("#history-opened a[href$='.csv']")
    assert "start_s,end_s,emotion" in waiting.value.path().read_text("utf-8")
    with page.context.expect_page() as coming:
        page.click("#history-opened .opened a[data-lang-link]")
    report = coming.value
    assert "/result/outputs_20260203_100000" in report.url
    assert "Speech emotion report" in report.inner_text("h1")


def test_ticked_results_are_compared_across_pages(visit):
    page = visit()
    assert page.is_disabled("[data-history=compare]")
    page.check(f"{ROWS}:nth-child(2) input")
    page.click("[data-history=page]:not([disabled])")
    count(page, 5)
    page.check(f"{ROWS}:nth-child(1) input")
    assert page.inner_text("[data-history-count]") == "2"
    page.click("[data-history=compare]")
    frame = page.frame_locator("iframe.comparison")
    assert "Results side by side" in frame.locator("h1").inner_text()
    assert frame.locator("thead th").first.inner_text().endswith("客户<b>.wav")
    page.click("[data-history=close]")
    page.wait_for_selector("iframe.comparison", state="detached")


def test_deleting_asks_first(visit, stocked):
    folder = past.save(stocked.outputs, name="doomed.wav", timestamp="2026-03-01 10:00:00")
    page = visit()
    page.click(f"{ROWS}:has-text('doomed.wav') button")
    page.wait_for_selector("#history-opened [data-ready]")
    assert not page.is_visible("[data-history=delete]")
    page.click(".confirm summary")
    assert (stocked.outputs / folder).is_dir()
    page.click("[data-history=delete]")
    page.wait_for_selector(f"text={folder} was removed.")
    assert not (stocked.outputs / folder).exists()
    page.wait_for_selector(f"{ROWS}:has-text('doomed.wav')", state="detached")


def test_a_result_of_the_first_webui_opens(visit):
    page = visit()
    choose(page, "sort", "Oldest first")
    page.click(f"{ROWS}:has-text('2025-06-01') button")
    page.wait_for_selector("#history-opened >> text=first WebUI")


def test_chinese_and_a_phone(visit):
    page = visit(locale="zh-CN", width=390)
    words = page.inner_text("main")
    assert (
        "历史" in words
        and "可信度" in words
        and "最新在前" in page.input_value("#history-sort input")
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.is_visible(f"{ROWS} .c-time")
    page.click("[data-set-lang=en]")
    page.wait_for_selector("text=File name contains")
    page.wait_for_function("document.querySelector('#history-sort input').value === 'Newest first'")
    words = page.inner_text("main").replace("中文", "").replace("客户", "")  # the switch, a name
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in words)


def test_the_pages_link_to_each_other(visit):
    page = visit()
    page.click("nav.pages >> text=Recognise")
    page.wait_for_selector("#start")
    page.click("nav.pages >> text=History")
    page.wait_for_selector(ROWS)
