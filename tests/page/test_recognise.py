"""The page in a real browser against a real server."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import requests
import soundfile as sf

from emotion2vec_ui import texts
from emotion2vec_ui.audio.damage import SNRS_DB, conditions
from tests.page.conftest import RESULT, WAIT_MS, saved
from tests.past import EXAMPLE

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_utterance_shows_what_the_report_says(visit, server) -> None:
    here = visit(locale="zh-CN")
    assert "compact" in here.text(".badge")
    assert "结果会显示在这里" in here.text("#result")
    here.recognise(EXAMPLE, embedding=True)
    report = saved(server)
    confidence = texts.text("ui.confidence", "zh", percent=f"{report['confidence']:.1%}")
    assert confidence in here.text(".leader")
    assert f"({report['emotion'].title()})" in here.text(".leader h2")
    figures = here.page.locator(".scores .figure").all_inner_texts()
    ranked = sorted(report["scores"].values(), reverse=True)
    assert figures == [f"{score:.1%}" for score in ranked]
    assert len(figures) == 9
    assert here.text(".log").startswith("Audio info: duration=")
    shape = report["embedding"]["shape"]
    assert f"({shape[0]}) float32" in here.text(".result")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_band_of_the_built_in_model_is_green(visit, scheme: str) -> None:
    here = visit(color_scheme=scheme)
    here.recognise(EXAMPLE)
    colours = here.page.evaluate(
        """() => ["high", "medium"].flatMap((band) => {
          const pill = document.querySelector(".leader .pill");
          pill.className = `pill band-${band}`;
          const zone = document.querySelector(`.scale .band-${band}`);
          return [getComputedStyle(pill).color, getComputedStyle(pill).backgroundColor,
            getComputedStyle(zone).borderTopColor];
        }).map((colour) => {
          const context = document.createElement("canvas").getContext("2d");
          context.fillStyle = colour;
          context.fillRect(0, 0, 1, 1);
          return [...context.getImageData(0, 0, 1, 1).data];
        })"""
    )
    # Grey: of the three channels blue is the highest, and none stands out.
    assert all(blue >= green and blue - red < 40 for red, green, blue, _ in colours), colours


def test_frames_show_time_and_follow_playback(visit, server, spoken: Path) -> None:
    here = visit()
    here.recognise(spoken, frames=True)
    report = saved(server)
    assert here.page.locator(".areas path").count() == 9
    rows = here.page.locator(".time ~ section table").first.locator("tbody tr")
    assert rows.count() == len(report["segments"])
    stack = here.page.locator("[data-seek]")
    box = stack.bounding_box()
    assert box is not None
    stack.click(position={"x": box["width"] / 2, "y": 10})
    half = report["source"]["duration_s"] / 2
    now = "document.querySelector('.player audio').currentTime"
    here.page.wait_for_function(f"Math.abs({now} - {half}) < 0.2")
    assert rows.locator("xpath=self::*[contains(@class, 'now')]").count() == 1
    here.page.click("[data-play]")
    here.page.wait_for_function(f"{now} > {half + 0.3}")
    at = here.page.evaluate("document.querySelector('.playhead').style.getPropertyValue('--at')")
    assert float(at) > 0.5
    stack.press("Home")
    here.page.wait_for_function(f"{now} < 1")


def test_downloads(visit, server, spoken: Path) -> None:
    here = visit()
    here.recognise(spoken, frames=True, embedding=True)

    def fetch(selector: str) -> Path:
        with here.page.expect_download() as event:
            here.page.click(selector)
        return event.value.path()

    report = saved(server)
    assert json.loads(fetch("a[download='result.json']").read_text(encoding="utf-8")) == report
    assert sf.info(str(fetch("a[download='processed_audio.wav']"))).samplerate == 16_000
    embedding = np.load(fetch("a[download='embedding.npy']"), allow_pickle=False)
    assert list(embedding.shape) == report["embedding"]["shape"]
    assert fetch("a[href$='.csv']").read_text().startswith("start_s,end_s,emotion")
    assert "00:00:00,000 -->" in fetch("a[href$='.srt']").read_text()
    assert fetch("a[href$='.vtt']").read_text().startswith("WEBVTT")
    assert "ooTextFile" in fetch("a[href$='.TextGrid']").read_text()
    assert "\t" in fetch("a[href$='.txt']").read_text()
    sentences = fetch("a[href$='.csv?part=sentences']").read_text().splitlines()
    assert len(sentences) == 1 + len(report["utterances"])
    with zipfile.ZipFile(fetch("a[href$='.zip']")) as archive:
        names = {Path(name).name for name in archive.namelist()}
    assert names == {"result.json", "processed_audio.wav", "embedding.npy"}


def test_exports_are_in_the_language_that_the_page_is_in_now(visit, server) -> None:
    here = visit(locale="zh-CN")
    here.recognise(EXAMPLE, frames=True)
    emotion = saved(server)["segments"][0]["emotion"]
    for lang in ("zh", "en", "zh"):
        here.page.click(f"[data-set-lang={lang}]")
        with here.page.expect_download() as event:
            here.page.click("a.chip:text-is('SRT')")
        assert texts.text(f"emotion.{emotion}", lang) in event.value.path().read_text("utf-8")


def test_without_gradios_queue(visit, start_server) -> None:
    server = start_server("--model", "compact", "--no-gradio-queue")
    server.wait_ready()
    here = visit(at=server)
    here.page.click("#start")
    here.page.wait_for_selector("#result [role=status]")
    here.recognise(EXAMPLE)
    assert f"{saved(server)['confidence']:.1%}" in here.text(".leader")
    here.page.click("#robustness")
    here.page.wait_for_selector("#robustness-result .running")
    here.page.wait_for_selector(".robustness", timeout=2 * WAIT_MS)


def test_language_switch_changes_everything_at_once(visit) -> None:
    here = visit(locale="zh-CN")
    assert here.text("#start") == "开始识别"
    here.recognise(EXAMPLE)
    assert "详细得分分布" in here.text("#result")
    here.page.click("[data-set-lang=en]")
    here.page.wait_for_function("document.querySelector('#start').innerText === 'Recognise'")
    shown = here.page.inner_text("body")
    shown = shown.replace("中文", "")  # the switch itself
    assert not any("\u4e00" <= character <= "\u9fff" for character in shown)
    here.page.reload()
    here.page.wait_for_function("document.querySelector('#start')?.innerText === 'Recognise'")


def test_nothing_chosen_and_a_file_that_is_no_audio(visit, tmp_path: Path) -> None:
    here = visit()
    here.recognise(EXAMPLE)
    here.page.click("#audio [aria-label='Clear']")
    here.page.click("#start")
    here.page.wait_for_function("document.querySelector('#result').innerText.includes('Add a rec')")
    assert here.text("#result") == texts.text("ui.no_recording", "en")
    here.page.click("#robustness")
    here.page.wait_for_selector("#robustness-result [role=status]")
    assert here.text("#right").count("Add a recording") == 1
    assert here.page.locator(RESULT).count() == 0  # the old result is gone
    path = tmp_path / "talk.wav"
    path.write_text("these are words, not sound\n" * 50)
    here.choose(path)
    here.page.wait_for_selector("#audio [aria-label='Clear']")
    here.page.click("#start")
    here.page.wait_for_function(
        "document.querySelector('.failure')?.innerText.includes('talk.wav')"
    )
    assert here.text(".failure > .found") == "talk.wav cannot be read as audio."
    assert not here.page.locator(".failure details p").is_visible()
    here.page.click(".failure summary")
    assert "libsndfile: " in here.text(".failure details")
    assert "WAV" in here.text(".failure .remedy")
    here.errors[:] = [one for one in here.errors if "Waveform load error" not in one]


def test_cancel(visit, server, tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    noise = np.random.default_rng(0).normal(0, 0.05, 600 * 8000)
    sf.write(path, noise.astype(np.float32), 8000)
    before = len(list(server.outputs.glob("outputs_*")))
    here = visit()
    here.choose(path)
    here.page.click("#start")
    here.page.click("#cancel")
    here.page.wait_for_function("document.querySelector('#result').innerText.includes('Cancelled')")
    assert here.page.is_visible("#start") and not here.page.is_visible("#cancel")
    assert len(list(server.outputs.glob("outputs_*"))) == before


def test_robustness_below_the_result(visit) -> None:
    here = visit(locale="zh-CN")
    here.recognise(EXAMPLE)
    here.page.click("#robustness")
    here.page.wait_for_selector("#robustness-result .running")
    assert here.page.is_visible("#cancel")
    here.page.wait_for_selector("#robustness", state="hidden")
    here.page.wait_for_selector(".robustness", timeout=2 * WAIT_MS)
    assert here.page.locator(RESULT).count() == 1
    assert here.page.locator(".robustness-plot path.line").count() == 2
    assert here.page.locator(".robustness-plot .mark").count() == 2 * len(SNRS_DB)
    assert "稳态噪声 30 dB" in here.text(".robustness tr[data-code=fan_30]")
    with here.page.expect_download() as event:
        here.page.click(".robustness a[download='en_robustness.json']")
    outcomes = json.loads(event.value.path().read_text(encoding="utf-8"))["outcomes"]
    here.page.click("[data-set-lang=en]")
    assert "Telephone 8 kHz" in here.text(".robustness tr[data-code=telephone]")
    rows = here.page.locator(".robustness tr[data-code]")
    assert rows.count() == len(outcomes) == len(conditions())
    for row, outcome in zip(rows.all_inner_texts(), outcomes, strict=True):
        assert outcome["emotion"].title() in row and f"{outcome['confidence']:.1%}" in row
        assert ("≠ changed" in " ".join(row.split())) == outcome["flipped"]
    here.page.click("#start")
    here.page.wait_for_selector(".robustness", state="detached")
    here.page.wait_for_selector(RESULT)


def test_robustness_cancelled_and_without_a_recording(visit) -> None:
    here = visit()
    here.page.click("#robustness")
    here.page.wait_for_selector("#robustness-result [role=status]")
    assert here.text("#right") == texts.text("ui.no_recording", "en")
    here.choose(EXAMPLE)
    here.page.wait_for_selector("#audio [aria-label='Clear']")
    here.page.click("#robustness")
    here.page.click("#robustness-result [data-press=cancel]")
    here.page.wait_for_function(
        "document.querySelector('#robustness-result').innerText.includes('Cancelled')"
    )
    here.page.wait_for_selector("#robustness")


def test_example(visit, server) -> None:
    here = visit()
    here.page.click("#example")
    here.page.wait_for_selector("#audio [aria-label='Clear']")
    here.page.click("#start")
    here.page.wait_for_selector(RESULT)
    assert saved(server)["source"]["name"] == "en.wav"


def test_phone(visit, spoken: Path) -> None:
    here = visit(locale="zh-CN", width=390, color_scheme="dark", has_touch=True)
    here.recognise(spoken, frames=True, embedding=True)
    assert here.page.evaluate("document.documentElement.scrollWidth") <= 390
    here.page.locator("details summary").first.click()
    assert here.page.evaluate("document.body.classList.contains('dark')")


def test_api_name_is_stable(server) -> None:
    client_module = pytest.importorskip("gradio_client")
    client = client_module.Client(server.url, verbose=False)
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/predict"]
    report = client.predict(
        client_module.handle_file(str(EXAMPLE)), "utterance", True, api_name="/predict"
    )
    assert set(report["scores"]) >= {"happy", "unknown"}
    assert report["embedding"]["dtype"] == "float32"


def test_what_the_page_recognises_is_counted_as_the_pages(visit, server, spoken):
    def counted() -> float:
        text = requests.get(f"{server.url}/metrics", timeout=10).text
        name = 'emotion2vec_requests_total{front="page",kind="predict",status="200"} '
        return sum(float(line[len(name) :]) for line in text.splitlines() if line.startswith(name))

    before = counted()
    visit().recognise(spoken)
    assert counted() == before + 1
