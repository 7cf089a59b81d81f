"""The shown result in a real browser: of which recording it is, its address, who is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion2vec_ui import texts
from tests.page.conftest import RESULT
from tests.past import EXAMPLE

pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.slow]

STALE = "#result[data-stale]"
CLEAR = "#audio [aria-label='Clear']"
NAME = "#shown-name"


def test_a_result_of_another_recording_says_so_and_is_grey(visit, spoken: Path) -> None:
    here = visit()
    here.recognise(EXAMPLE)
    assert here.text(NAME) == "Result of en.wav"
    assert here.page.locator(STALE).count() == 0
    here.page.click(CLEAR)
    here.page.wait_for_selector(STALE)
    assert here.text("#result .stale-note") == texts.text("ui.stale", "en", name="en.wav")
    assert "grayscale" in here.page.evaluate(
        "getComputedStyle(document.querySelector('#result .result')).filter"
    )
    # The same recording again: the result is of it.
    here.choose(EXAMPLE)
    here.page.wait_for_selector(STALE, state="detached")
    here.page.click(CLEAR)
    here.choose(spoken)
    here.page.wait_for_selector("#audio #duration")
    here.page.wait_for_selector(STALE)
    # The robustness test of the new one is not put below it.
    here.page.click("#robustness")
    here.page.wait_for_selector("#robustness-result .running")
    assert here.page.locator(RESULT).count() == 0
    here.page.click("#robustness-result [data-press=cancel]")


def test_reload_and_back_bring_the_result_back(visit, server, spoken: Path) -> None:
    here = visit()
    here.recognise(EXAMPLE)
    here.page.wait_for_url("**/?result=outputs_*")
    first = here.page.url
    assert (server.outputs / first.split("result=")[1] / "result.json").is_file()
    here.page.click(CLEAR)
    here.recognise(spoken)
    here.page.wait_for_url(lambda url: "result=" in url and url != first)
    here.page.go_back()
    here.page.wait_for_function(f"document.querySelector('{NAME}').innerText.includes('en.wav')")
    assert here.page.url == first
    here.page.wait_for_selector(STALE)  # the form holds the second recording
    here.page.reload()
    here.page.wait_for_selector(RESULT)
    assert here.text(NAME) == "Result of en.wav"
    assert here.page.locator(STALE).count() == 0
    here.page.go_back()
    here.page.wait_for_selector("#result .empty")
    here.page.goto(first)
    with here.page.expect_popup() as popup:
        here.page.click(".shown-head a")
    assert popup.value.url == first.replace("?result=", "result/") + "?lang=en"


def test_a_result_that_is_gone_is_told(visit) -> None:
    here = visit(path="/?result=outputs_20200101_000000")
    here.page.wait_for_selector(".failure")
    assert "There is no outputs_20200101_000000." in here.text(".failure")
    assert "result=" not in here.page.url


@pytest.mark.parametrize("width", [1280, 390])
def test_by_keyboard_the_focus_goes_to_the_result(visit, width: int) -> None:
    here = visit(width=width)
    here.choose(EXAMPLE)
    here.page.wait_for_selector("#audio #duration")
    here.page.focus("#start")
    here.page.keyboard.press("Enter")
    here.page.wait_for_selector(RESULT)
    here.page.wait_for_function("document.activeElement.id === 'shown-name'")
    emotion = here.text(".leader h2")
    here.page.wait_for_function(
        f"document.querySelector('[data-announcer]').innerText.startsWith({emotion!r})"
    )
    # And it is in sight.
    here.page.wait_for_function(
        "(() => { const { top } = document.activeElement.getBoundingClientRect();"
        " return top >= 0 && top < innerHeight / 3; })()"
    )
