"""The lab's page in a real browser: the map drawn by WebGL, selections, listening, clusters."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from emotion2vec_ui.records import store
from tests import past
from tests.page.conftest import WAIT_MS
from tests.page.test_accessibility import faults

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.slow]

GROUPS = ("sad", "angry", "happy")
PER_GROUP = 8
MAP = "[data-lab-points]"


def fill(outputs) -> list[str]:
    rng = np.random.default_rng(0)
    return [
        past.save(
            outputs,
            kept=(np.eye(16)[number % 3] + rng.normal(scale=0.05, size=16)).astype(np.float32),
            name=f"talk {number}.wav",
            emotion=GROUPS[number % 3],
            timestamp=f"2026-01-02 10:00:{number:02}",
        )
        for number in range(3 * PER_GROUP)
    ]


@pytest.fixture(scope="module")
def stocked(start_server, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("lab")
    fill(outputs)
    server = start_server("--model", "compact", "--outputs", str(outputs))
    return replace(server, outputs=outputs)


@pytest.fixture
def visit(browser, stocked) -> Iterator[Callable[..., sync_api.Page]]:
    """Opens the page; at the end no visit may have met an error or left the machine."""
    contexts, errors, foreign = [], [], []

    def open_page(*, locale: str = "en-US", width: int = 1280, **options) -> sync_api.Page:
        context = browser.new_context(
            locale=locale,
            viewport={"width": width, "height": 900},
            accept_downloads=True,
            reduced_motion="reduce",
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: foreign.append(request.url))
        page.goto(f"{stocked.url}/lab")
        page.wait_for_selector(".lab[data-ready]", timeout=2 * WAIT_MS)
        page.wait_for_selector(".lab-cluster", timeout=2 * WAIT_MS)
        page.wait_for_selector(".lab-outliers", timeout=2 * WAIT_MS)
        return page

    open_page.errors = errors
    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert [one for one in foreign if not one.startswith((stocked.url, "data:", "blob:"))] == []


def selected(page) -> int:
    return int(page.inner_text("[data-lab-selected]"))


def points(page) -> list[dict]:
    """Where the points are on the page, from the API and the map's own scale."""
    return page.evaluate(
        """async () => {
          const data = await (await fetch("api/map")).json();
          const half = (values) => Math.max(0.05, ...values.map(Math.abs));
          const box = document.querySelector("[data-lab-points]").getBoundingClientRect();
          const unit = Math.min(box.width / half(data.x), box.height / half(data.y)) * 0.94 / 2;
          return data.folder.map((folder, i) => ({
            folder, name: data.name[i], emotion: data.emotion[i],
            x: box.x + box.width / 2 + data.x[i] * unit,
            y: box.y + box.height / 2 - data.y[i] * unit,
          }));
        }"""
    )


def saved_selection(page, label: str = "") -> list[dict[str, str]]:
    page.fill("[data-lab-label]", label)
    with page.expect_download() as waiting:
        page.click("[data-lab-csv]")
    return list(csv.DictReader(io.StringIO(waiting.value.path().read_text("utf-8"))))


def test_the_points_are_drawn_in_the_colours_of_their_emotions(visit):
    page = visit()
    page.locator(MAP).scroll_into_view_if_needed()
    one = points(page)[0]
    page.wait_for_timeout(300)
    box = {"x": one["x"] - 2, "y": one["y"] - 2, "width": 4, "height": 4}
    image = Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB")
    wanted = page.evaluate(
        "name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()",
        f"--e-{one['emotion']}",
    )
    rgb = [int(wanted[i : i + 2], 16) for i in (1, 3, 5)]
    # 85 % opaque over a light ground.
    assert np.abs(np.array(image.getpixel((2, 2))) - rgb).max() < 50


def test_a_point_says_its_name_and_is_played_by_a_click(visit):
    page = visit()
    page.locator(MAP).scroll_into_view_if_needed()
    one = points(page)[4]
    page.mouse.move(one["x"], one["y"])
    page.wait_for_selector("[data-lab-tip]:not([hidden])")
    assert "talk" in page.inner_text("[data-lab-tip]")
    page.mouse.click(one["x"], one["y"])
    page.wait_for_selector("[data-lab-player]:not([hidden])")
    assert page.inner_text("[data-lab-name]") in {o["name"] for o in points(page)}
    page.wait_for_function(
        "document.querySelector('[data-lab-clock]').innerText.includes('0:00 /')"
    )
    assert "/result/outputs_" in page.get_attribute("[data-lab-open]", "href")
    page.click("[data-lab-close]")
    assert not page.is_visible("[data-lab-player]")


def test_a_lasso_selects_what_it_circles_and_the_selection_is_a_manifest(visit):
    page = visit()
    page.click("[data-lab-mode=lasso]")
    page.locator(MAP).scroll_into_view_if_needed()
    group = [one for one in points(page) if one["emotion"] == "angry"]
    x = [one["x"] for one in group]
    y = [one["y"] for one in group]
    corners = [
        (min(x) - 12, min(y) - 12), (max(x) + 12, min(y) - 12),
        (max(x) + 12, max(y) + 12), (min(x) - 12, max(y) + 12),
    ]  # fmt: skip
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=6)
    page.mouse.up()
    page.wait_for_selector("[data-lab-something]:not([hidden])")
    assert selected(page) == PER_GROUP
    assert page.locator("[data-lab-list] li").count() == PER_GROUP
    rows = saved_selection(page, "furious")
    assert list(rows[0]) == ["path", "label", "speaker", "emotion"]
    assert {row["path"] for row in rows} == {f"{one['folder']}/{store.AUDIO_NAME}" for one in group}
    assert {(row["label"], row["speaker"], row["emotion"]) for row in rows} == {
        ("furious", "", "angry")
    }
    page.click("[data-lab-clear]")
    assert selected(page) == 0 and page.is_visible("[data-lab-nothing]")


def test_legend_search_clusters_and_keys_select_without_a_pointer(visit):
    page = visit()
    page.locator(".lab-entry", has_text="Sad").press("Enter")
    assert selected(page) == PER_GROUP
    page.fill("[data-lab-find]", "talk 1")
    assert selected(page) == 11  # 1, 10 to 19
    page.locator("[data-lab-select-cluster]").first.press("Enter")
    assert selected(page) == PER_GROUP
    page.focus(MAP)
    for key in ("+", "ArrowLeft", "-", "0"):
        page.keyboard.press(key)
    page.click("[data-lab-colour=cluster]")
    assert page.locator(".lab-entry").count() == 3
    page.click("[data-lab-colour=time]")
    assert "2026-01-02 10:00" in page.inner_text("[data-lab-legend]")


def test_speakers_come_from_a_csv(visit, tmp_path):
    page = visit()
    page.click("[data-lab-colour=speaker]")
    manifest = tmp_path / "speakers.csv"
    manifest.write_text('\ufeffpath,speaker\n"a/talk 1.wav","Li, Wei"\ntalk 2.wav,=2+2\n', "utf-8")
    page.set_input_files("[data-lab-speakers-file]", manifest)
    page.wait_for_selector(".lab-entry:has-text('Li, Wei')")
    assert page.locator(".lab-entry").count() == 3
    page.fill("[data-lab-find]", "talk 2.wav")
    (row,) = saved_selection(page, "=1+1")
    assert (row["speaker"], row["label"]) == ("'=2+2", "'=1+1")
    other = tmp_path / "other.csv"
    other.write_text("file,who\nx,y\n", "utf-8")
    page.set_input_files("[data-lab-speakers-file]", other)
    page.wait_for_selector("[data-lab-speakers-none]:not([hidden])")


def test_clusters_are_shown_with_curve_words_and_recordings_to_hear(visit):
    page = visit()
    assert page.locator(".lab-cluster").count() == 3
    assert page.inner_text(".lab-curve .chosen b") == "3"
    words = page.inner_text("#lab-clusters")
    assert "Mean silhouette" in words and "mostly sad" in words
    assert "ore often sad: 100%, elsewhere 0%" in words
    page.click(".lab-cluster [data-lab-play] >> nth=0")
    page.wait_for_selector("[data-lab-player]:not([hidden])")
    page.click("#lab-k input")
    page.get_by_role("option", name="2", exact=True).click()
    page.wait_for_function("document.querySelectorAll('.lab-cluster').length === 2")
    page.click("[data-set-lang=zh]")
    assert "平均轮廓系数" in page.inner_text("#lab-clusters")
    assert page.get_attribute(MAP, "aria-label").startswith("地图")


def test_a_result_deleted_meanwhile_is_told_and_gone_after_reading_again(visit, stocked):
    new = past.save(
        stocked.outputs,
        kept=np.eye(16, dtype=np.float32)[0],
        name="doomed.wav",
        timestamp="2026-03-01 10:00:00",
    )
    page = visit()
    store.discard(stocked.outputs / new)
    page.fill("[data-lab-find]", "doomed")
    page.click("[data-lab-list] [data-lab-play]")
    page.wait_for_selector("[data-lab-gone]:not([hidden])")
    assert "deleted" in page.inner_text("[data-lab-gone]")
    page.click("#lab-refresh")
    page.wait_for_function(
        f"document.querySelector('[data-lab-shown]').innerText === '{3 * PER_GROUP}'"
    )
    # The browser itself reports the recording that is not there.
    assert [one for one in visit.errors if "404" not in one] == []
    visit.errors.clear()


def test_the_page_fits_a_phone_and_has_no_serious_fault(visit):
    for width, scheme, locale in [(390, "dark", "zh-CN"), (1280, "light", "en-US")]:
        page = visit(width=width, color_scheme=scheme, locale=locale)
        page.click(".lab-entry >> nth=0")
        page.click("[data-lab-list] [data-lab-play] >> nth=0")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert faults(page) == []


def test_an_empty_lab_says_what_to_do(browser, start_server, tmp_path):
    server = start_server("--model", "compact", "--outputs", str(tmp_path))
    page = browser.new_page()
    page.goto(f"{server.url}/lab")
    page.wait_for_selector("[data-lab-empty]")
    assert "Recognise some recordings" in page.inner_text("[data-lab-empty]")
    assert not page.is_visible("#lab-options") and not page.is_visible(MAP)
    page.close()


def test_without_webgl_the_lists_still_work(visit, browser, stocked):
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    page.add_init_script(
        "HTMLCanvasElement.prototype.getContext = ((own) => function (kind, ...r) "
        "{ return kind === 'webgl2' ? null : own.call(this, kind, ...r); })"
        "(HTMLCanvasElement.prototype.getContext)"
    )
    page.goto(f"{stocked.url}/lab")
    page.wait_for_selector(".lab[data-ready]")
    assert page.is_visible("[data-lab-refused]")
    page.locator(".lab-entry").first.click()
    assert selected(page) == PER_GROUP
    context.close()
