"""The form in a real browser: microphone, uploads, and what is pressed when."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emotion2vec_ui import texts
from tests.page.conftest import RESULT, saved
from tests.past import EXAMPLE

pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.slow]

UPLOADING = "[data-says=uploading]"
RECORD_SOURCE = "#audio .source-selection button:last-of-type"


def test_microphone_and_pressed_while_it_records(visit, server) -> None:
    here = visit()
    here.page.click("#audio [aria-label*='ecord'], #audio [aria-label*='icrophone']")
    here.page.click("#audio .record-button")
    here.page.wait_for_timeout(2500)
    here.page.click("#start")  # while it records
    here.page.wait_for_selector(RESULT)
    report = saved(server)
    assert 1.0 < report["source"]["duration_s"] < 8.0
    assert "speech_missing" not in [one["code"] for one in report["warnings"]]
    # Named by its time: every take would be audio.wav else.
    assert re.fullmatch(r"recording \d\d-\d\d-\d\d\.wav", report["source"]["name"])


@pytest.mark.parametrize("width", [1280, 390])
def test_microphone_shows_only_the_buttons_that_fit(visit, width: int) -> None:
    here = visit(width=width)

    def shown() -> list[str]:
        buttons = here.page.locator("#audio .controls .wrapper button:visible").all()
        for one in buttons:
            assert one.evaluate("button => button.scrollWidth <= button.clientWidth")
        return [one.get_attribute("class").split("-button")[0].split()[-1] for one in buttons]

    here.page.click("#audio [aria-label*='ecord'], #audio [aria-label*='icrophone']")
    here.page.wait_for_selector("#audio .record-button")
    assert shown() == ["record"]
    here.page.click("#audio .record-button")
    here.page.wait_for_selector("#audio .stop-button:visible")
    assert shown() == ["stop", "pause"]
    here.page.wait_for_timeout(500)
    here.page.click("#audio .pause-button")
    here.page.wait_for_selector("#audio .resume-button:visible")
    assert shown() == ["stop", "resume"]
    here.page.click("#audio .stop-button-paused")
    here.page.wait_for_selector("#audio #duration")
    assert here.page.locator("#audio .play-pause-button:visible").count() == 1


@pytest.mark.parametrize("width", [1280, 390])
def test_pressed_before_the_upload_is_done(visit, server, spoken: Path, width: int) -> None:
    here = visit(width=width)
    before = len(list(server.outputs.glob("outputs_*")))
    slow = here.page.context.new_cdp_session(here.page)
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1}
    seconds = 2.0
    limits["uploadThroughput"] = spoken.stat().st_size / seconds
    slow.send("Network.enable")
    slow.send("Network.emulateNetworkConditions", limits)
    here.choose(spoken)
    here.page.click("#start")
    here.page.wait_for_selector(UPLOADING)
    # Pressed again it is still one recognition; the words are in sight, at the button.
    here.page.click("#start")
    words, button = (
        here.page.locator(one).bounding_box() for one in (f"{UPLOADING}:visible", "#start")
    )
    assert 0 < button["y"] - words["y"] - words["height"] < 40
    assert words["y"] > 0 and button["y"] + button["height"] <= 844
    assert here.page.locator("#result .running, .failure").count() == 0
    here.page.wait_for_selector(RESULT)
    assert not here.page.locator(UPLOADING).is_visible()
    here.page.wait_for_timeout(1500)
    assert len(list(server.outputs.glob("outputs_*"))) == before + 1


def test_a_double_click_recognises_once(visit, server) -> None:
    here = visit()
    before = len(list(server.outputs.glob("outputs_*")))
    here.choose(EXAMPLE)
    here.page.wait_for_selector("#audio #duration")
    here.page.dblclick("#start")
    here.page.wait_for_selector(RESULT)
    here.page.wait_for_timeout(1500)
    assert len(list(server.outputs.glob("outputs_*"))) == before + 1
    # The next press counts again.
    here.page.click("#start")
    here.page.wait_for_selector(RESULT, state="detached")
    here.page.wait_for_selector(RESULT)
    assert len(list(server.outputs.glob("outputs_*"))) == before + 2


def test_an_upload_that_breaks_off_is_said_and_can_be_sent_again(visit, server) -> None:
    here = visit()
    here.page.route("**/upload?*", lambda route: route.abort())
    here.choose(EXAMPLE)
    failed = here.page.locator("[data-says=upload-failed]")
    failed.wait_for()
    assert here.text("[data-says=upload-failed]").startswith("The upload broke off")
    assert here.errors
    here.errors.clear()
    # No dead player stands there.
    here.page.wait_for_selector("#audio #duration", state="detached")
    here.page.unroute("**/upload?*")
    here.page.click("[data-upload-again]")
    here.page.wait_for_selector("#audio #duration")
    failed.wait_for(state="hidden")
    here.page.click("#start")
    here.page.wait_for_selector(RESULT)
    assert saved(server)["source"]["name"] == EXAMPLE.name


def refusing(name: str) -> str:
    """A script after which asking for the microphone fails with the error of this name."""
    return (
        "navigator.mediaDevices.getUserMedia = "
        f"async () => {{ throw new DOMException('none', '{name}') }}"
    )


@pytest.mark.parametrize(
    ("why", "script"),
    [
        ("refused", refusing("NotAllowedError")),
        ("missing", refusing("NotFoundError")),
        ("busy", refusing("NotReadableError")),
        (
            "insecure",
            "Object.defineProperty(Navigator.prototype, 'mediaDevices', {get: () => undefined})",
        ),
    ],
)
def test_without_a_microphone_the_page_says_what_to_do(visit, why: str, script: str) -> None:
    here = visit(locale="zh-CN", script=script)
    here.page.click(RECORD_SOURCE)
    if why != "insecure":
        here.page.click("#audio .record-button")
    here.page.wait_for_selector(f"[data-says=microphone-{why}]")
    assert here.text("#audio-notes") == texts.text(f"ui.microphone.{why}", "zh")
    here.errors.clear()
    here.page.click("#audio .source-selection button:first-of-type")
    here.page.wait_for_selector(f"[data-says=microphone-{why}]", state="hidden")


@pytest.mark.parametrize("height", [844, 664])
def test_recognise_is_within_reach_on_a_phone(visit, height: int) -> None:
    here = visit(locale="zh-CN", width=390)
    here.page.set_viewport_size({"width": 390, "height": height})
    here.page.wait_for_selector("#start", state="visible")
    box = here.page.locator("#start").bounding_box()
    assert box["y"] + box["height"] <= height


def test_arrow_keys_move_the_choice_and_the_focus_is_seen(visit) -> None:
    here = visit()
    choice = "document.querySelector('#granularity input:checked').value"
    here.page.focus("#granularity input")
    here.page.keyboard.press("ArrowDown")
    assert here.page.evaluate(choice) == "frame"
    assert here.page.evaluate("document.activeElement.value") == "frame"
    outline = "getComputedStyle(document.activeElement.closest('label')).outlineStyle"
    assert here.page.evaluate(outline) == "solid"
    here.page.keyboard.press("ArrowUp")
    assert here.page.evaluate(choice) == "utterance"
    here.page.keyboard.press("ArrowDown")
    here.recognise(EXAMPLE)
    assert here.page.locator(".ribbon").count() == 1


SHIFT = """() => new Promise((resolve) => {
  let sum = 0;
  new PerformanceObserver((list) => {
    for (const { value } of list.getEntries()) sum += value;
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => resolve(sum), 2000);
})"""


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_jumps_while_the_page_is_drawn(visit, width: int) -> None:
    assert visit(width=width).page.evaluate(SHIFT) < 0.1


@pytest.mark.parametrize("width", [1280, 390])
def test_what_is_pressed_is_24_px_large(visit, width: int) -> None:
    here = visit(width=width)
    here.recognise(EXAMPLE)
    small = here.page.evaluate(
        """() => [...document.querySelectorAll("button, a, summary, select")]
          .filter((one) => one.offsetParent)
          .map((one) => [one.outerHTML, one.getBoundingClientRect()])
          .filter(([, { width, height }]) => width < 24 || height < 24)
          .map(([html]) => html)"""
    )
    assert small == []
