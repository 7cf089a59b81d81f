"""axe-core finds no critical or serious fault of ours, on any page, in any look or language."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.page.conftest import WAIT_MS
from tests.past import EXAMPLE

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LOOKS = [("light", "zh-CN", 1280), ("dark", "en-US", 390)]


def faults(page: sync_api.Page) -> list[str]:
    """Critical and serious faults of what is shown now: rule, selector, why."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']} {node['target']}: {node['failureSummary']}"
        for one in found
        if one["impact"] in ("critical", "serious")
        for node in one["nodes"]
    ]


@pytest.fixture(params=LOOKS, ids=lambda look: "-".join(map(str, look)))
def open_page(request, browser, server) -> Iterator[Callable[[str], sync_api.Page]]:
    scheme, locale, width = request.param
    context = browser.new_context(
        color_scheme=scheme,
        locale=locale,
        viewport={"width": width, "height": 900},
        reduced_motion="reduce",
    )

    def go(path: str, wait_for: str) -> sync_api.Page:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(server.url + path)
        page.wait_for_selector(wait_for)
        return page

    yield go
    context.close()


@pytest.fixture(scope="module")
def recognised(server, spoken: Path) -> list[str]:
    """The folders of two results, the first over time."""
    folders = []
    for granularity in ("frame", "utterance"):
        answer = requests.post(
            f"{server.url}/api/predict",
            files={"audio": spoken.read_bytes()},
            data={"granularity": granularity, "extract_embedding": "true"},
            timeout=60,
        )
        folders.append(Path(answer.json()["output_dir"]).name)
    return folders


def unfold(page: sync_api.Page) -> None:
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


def test_the_page_from_idle_to_a_robustness_test(open_page):
    page = open_page("/", "#start")
    page.wait_for_function("document.querySelector('#badge').innerText.includes('compact')")
    assert faults(page) == []
    page.click("#start")
    page.wait_for_selector("#result .empty[role=status]")
    assert faults(page) == []
    page.set_input_files("#audio input[type=file]", EXAMPLE)
    page.check("#embedding input")
    page.click("#start")
    page.wait_for_selector("[data-ready]")
    page.click("#robustness")
    page.wait_for_selector(".robustness", timeout=2 * WAIT_MS)
    page.wait_for_function("document.querySelector('#audio #duration')?.innerText !== '0:00'")
    unfold(page)
    assert faults(page) == []


def test_a_result_over_time(open_page, spoken: Path):
    page = open_page("/", "#start")
    page.set_input_files("#audio input[type=file]", spoken)
    page.check("#granularity input[value=frame]")
    page.click("#start")
    page.wait_for_selector(".ribbon")
    unfold(page)
    assert faults(page) == []


def test_the_history_and_what_it_opens(open_page, recognised):
    page = open_page("/history", "#history-list tbody tr")
    assert faults(page) == []
    for row in (1, 2):
        page.check(f"#history-list tbody tr:nth-child({row}) input")
    page.click("[data-history=compare]")
    page.frame_locator("iframe.comparison").locator("h1").wait_for()
    assert faults(page) == []
    page.click("#history-list tbody tr button")
    page.wait_for_selector("#history-opened [data-ready]")
    unfold(page)
    assert faults(page) == []


def test_a_report(open_page, recognised):
    assert faults(open_page(f"/result/{recognised[0]}", "h1")) == []
