"""The most similar recordings below a result, in a real browser."""

from __future__ import annotations

import pytest

from tests import past
from tests.page.conftest import RESULT
from tests.past import EXAMPLE

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def empty(start_server):
    server = start_server("--model", "compact")
    server.wait_ready()
    return server


def test_from_the_second_recording_on_similar_ones_can_be_heard_and_opened(visit, empty, spoken):
    one = visit(at=empty)
    one.recognise(EXAMPLE)
    one.page.wait_for_timeout(1500)
    assert one.page.locator("#similar li").count() == 0
    one = visit(at=empty)
    one.recognise(spoken)
    row = one.page.locator("#similar li")
    row.wait_for()
    assert row.count() == 1 and "en.wav" in row.inner_text()
    cosine = float(row.locator(".figure").get_attribute("title"))
    assert 0.5 < cosine < 1
    # Nothing is fetched before it is played.
    source = row.locator("audio").get_attribute("src")
    row.locator("audio").evaluate("audio => { audio.muted = true; return audio.play(); }")
    one.page.wait_for_function("document.querySelector('#similar audio').currentTime > 0")
    with one.page.expect_popup() as popup:
        row.locator("a").click()
    assert source.split("/")[-2] in popup.value.url
    popup.value.close()
    # A new recognition takes them away, and brings its own.
    one.page.click("#start")
    one.page.wait_for_function("document.querySelectorAll('#similar li').length === 2")


def test_they_stand_below_an_opened_result_too(visit, empty):
    folder = sorted(path.name for path in empty.outputs.glob("outputs_*"))[0]
    one = visit(at=empty, locale="zh-CN", path=f"/?result={folder}")
    one.page.wait_for_selector(RESULT)
    one.page.wait_for_selector("#similar li")
    assert "最相似的录音" in one.text("#similar")
    past.save(empty.outputs, name="old.wav", timestamp="2026-01-01 00:00:00")
    one.page.goto(f"{empty.url}/history")
    one.page.wait_for_selector("#history-list tbody tr")
    one.page.click(f"#history-list tr[data-value='{folder}'] .link")
    one.page.wait_for_selector("#similar li")
    assert "最相似的录音" in one.text("#similar")
    # One without an embedding has none.
    one.page.click("#history-list tr:has-text('old.wav') .link")
    one.page.wait_for_function("!document.querySelector('#similar li')")


def test_without_an_index_there_are_none(visit, start_server):
    server = start_server("--model", "compact", "--no-index")
    server.wait_ready()
    for _ in range(2):
        one = visit(at=server)
        one.recognise(EXAMPLE)
    one.page.wait_for_timeout(1000)
    assert one.page.locator("#similar li").count() == 0
