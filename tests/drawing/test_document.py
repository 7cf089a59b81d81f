"""The printable pages: complete, self-contained, safe, and one sheet of paper."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from emotion2vec_ui import texts
from emotion2vec_ui.drawing.document import MAX_ROWS, comparison_page, report_page
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.timeline import Segment
from emotion2vec_ui.records.comparison import compare
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.report import ReportWarning, parse
from tests import past

FOLDER = "outputs_20260104_223000"
VOID = {"meta", "br", "img", "input", "link"}
FIRST_WEBUI = {
    "emotion": "happy",
    "confidence": 0.853,
    "granularity": "utterance",
    "timestamp": "2026-01-04 22:30:00",
    "scores": past.scores_for("happy", 0.853),
}


class Outline(HTMLParser):
    """What a page holds: tags in balance, attributes, visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def rendered(lang: str = "en", audio_url: str | None = None, **facts) -> Outline:
    made = past.report(**facts)
    return Outline(report_page(made, lang=lang, folder_name=FOLDER, audio_url=audio_url))


def test_everything_of_a_result_is_on_it(subtests):
    for lang in texts.languages():
        with subtests.test(lang=lang):
            outline = rendered(lang, emotion="sad", confidence=0.62, embedding_shape=(512,))
            source = past.report().source
            expected = [
                "call.wav",
                FOLDER,
                "2026-01-04 22:30:00",
                "62.0%",
                source.sha256,
                source.codec,
                "compact (built in)",
                "Inference time: 0.20s",
                "512 float32",
            ]
            for key in ("emotion.sad", "band.low", "report.mind.lies", "report.licence.compact"):
                expected.append(texts.text(key, lang))
            for emotion in EMOTIONS:
                expected.append(texts.text(f"emotion.{emotion}", lang))
            for check in past.report().quality.checks:
                expected.append(texts.text(f"check.{check.code}", lang))
            for words in expected:
                assert words in outline.text, words


def test_it_is_in_one_language():
    zh, en = (
        rendered(lang, quality="poor", frames=past.frames()).text for lang in texts.languages()
    )
    assert not re.search("[\u4e00-\u9fff]", en)
    for key in ("report.title", "report.facts", "ui.quality", "report.mind.errs"):
        assert texts.text(key, "en") not in zh


def test_frames_bring_a_timeline_and_segments():
    outline = rendered(frames=past.frames(4.0))
    assert "Emotion over time" in outline.text and "Weighted window" in outline.text
    assert "0.0 s – 2.0 s Happy 84.0%" in outline.text
    assert "2.0 s – 4.0 s Sad 84.0%" in outline.text
    assert "Emotion over time" not in rendered().text


def test_an_hour_keeps_to_a_few_sheets():
    made = past.report(frames=np.tile(past.frames(4.0), (900, 1)))
    segments = tuple(Segment("sad", float(i), i + 1.0, 0.5) for i in range(3600))
    made = replace(made, segments=segments)
    html = report_page(made, lang="en", folder_name=FOLDER)
    assert f"{3600 - MAX_ROWS} more rows" in html
    assert len(html) < 300_000


def test_it_fetches_and_runs_nothing():
    made = past.report(frames=past.frames(), embedding_shape=(512,))
    for html in (
        report_page(made, lang="en", folder_name=FOLDER),
        report_page(made, lang="en", folder_name=FOLDER, audio_url="/file=x.wav"),
    ):
        outline = Outline(html)
        tags = {tag for tag, _ in outline.tags}
        assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form"}
        assert (
            "url(" not in html.replace("url(#speech)", "")
            and "@import" not in html
            and "http" not in html
        )
        for tag, attributes in outline.tags:
            assert not any(name.startswith("on") for name in attributes)
            if "src" in attributes:
                assert (tag, attributes["src"]) == ("audio", "/file=x.wav")


def test_the_player_is_there_where_the_sound_is():
    assert "audio" not in {tag for tag, _ in rendered().tags}
    assert "audio" in {tag for tag, _ in rendered(audio_url="/file=a.wav").tags}


EVIL = '"><script>alert(1)</script><b>'


def test_every_text_is_escaped():
    made = past.report(frames=past.frames())
    evil_source = replace(made.source, name=EVIL, codec=EVIL, container=EVIL, sha256=EVIL)
    evil_model = replace(made.model, id=EVIL, origin=EVIL, device=EVIL, weights_sha256=EVIL)
    made = replace(
        made,
        source=evil_source,
        model=evil_model,
        log=(EVIL, EVIL),
        warnings=(ReportWarning("of_a_later_version", EVIL),),
        segments=(Segment(EVIL, 0.0, 1.0, 0.5),),
    )
    html = report_page(made, lang="en", folder_name=EVIL, audio_url=EVIL)
    assert "<script" not in html and "<b>" not in html.replace("<b></b>", "")
    assert Outline(html).text.count("<script>alert(1)</script>") >= 8


def test_a_result_of_the_first_webui_has_a_report(subtests):
    for lang in texts.languages():
        with subtests.test(lang=lang):
            made = parse(json.dumps(FIRST_WEBUI).encode())
            outline = Outline(report_page(made, lang=lang, folder_name=FOLDER))
            assert "85.3%" in outline.text
            assert texts.text("advice.use", lang) in outline.text
            assert texts.text("report.facts", lang) not in outline.text


def test_first_webui_frames_have_a_report():
    frames = past.frames(1.0) / past.frames(1.0).sum(axis=1, keepdims=True)
    content = FIRST_WEBUI | {"granularity": "frame", "scores": frames.tolist()}
    made = parse(json.dumps(content).encode())
    assert "Happy" in Outline(report_page(made, lang="en", folder_name=FOLDER)).text


def test_a_comparison_on_paper(tmp_path):
    history = History(tmp_path)
    vector = np.ones(3, np.float32)
    a = past.save(tmp_path, vector, name=EVIL)
    b = past.save(tmp_path, vector, emotion="sad", confidence=0.6, model="other", quality="poor")
    html = comparison_page(compare(history, [a, b]), lang="en")
    history.close()
    outline = Outline(html)
    assert "<script" not in html and EVIL in "".join(outline.words)
    assert texts.text("history.caveat.models_differ", "en") in outline.text
    assert texts.text("report.comparison.no_cosine", "en") in outline.text
    # Sad: 0.6 against 0.0125.
    assert "+58.8" in outline.text and "−85.0" in outline.text
    # The first is of the built-in model, the second is not.
    assert re.findall('<td( class="limited")?><span class="pill', html) == [' class="limited"', ""]


# --- on paper -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api")
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()


def pages(browser, html: str, path: Path) -> int:
    path.write_text(html, "utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    page.close()
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


@pytest.mark.browser
def test_an_utterance_fits_one_sheet_and_frames_fit_two(browser, tmp_path, subtests):
    for lang in texts.languages():
        with subtests.test(lang=lang):
            codes = ("compact_model", "near_tie", "clipping", "snr_low", "leading_silence_short")
            for frames, sheets in ((None, 1), (past.frames(), 2)):
                made = past.report(quality="poor", frames=frames, embedding_shape=(512,))
                made = replace(made, warnings=tuple(ReportWarning(code) for code in codes))
                html = report_page(made, lang=lang, folder_name=FOLDER, audio_url="/a.wav")
                assert pages(browser, html, tmp_path / "page.html") <= sheets


@pytest.mark.browser
def test_a_dark_screen_has_a_dark_page_and_paper_a_white_one(browser, tmp_path):
    made = past.report(frames=past.frames(), embedding_shape=(512,))
    path = tmp_path / "page.html"
    path.write_text(report_page(made, lang="en", folder_name=FOLDER, audio_url="/a.wav"), "utf-8")
    shades = {}
    for scheme, medium in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        page = browser.new_page(color_scheme=scheme)
        page.goto(path.as_uri())
        page.emulate_media(media=medium)
        shades[scheme, medium] = page.evaluate(
            """["html", "main", "h1"].map((one) => {
              const style = getComputedStyle(document.querySelector(one));
              return one === "h1" ? style.color : style.backgroundColor;
            })"""
        )
        page.close()
    white = "rgb(255, 255, 255)"
    assert shades["light", "screen"][1:] == [white, "rgb(23, 27, 38)"]
    assert shades["dark", "screen"] == ["rgb(14, 17, 23)", "rgb(23, 27, 35)", "rgb(233, 236, 243)"]
    assert shades["dark", "print"] == ["rgba(0, 0, 0, 0)", white, "rgb(23, 27, 38)"]


@pytest.mark.browser
def test_only_a_large_model_makes_a_report_green(browser, tmp_path):
    shades = {}
    for model in ("compact", "large"):
        made = past.report(model=model)
        path = tmp_path / "page.html"
        path.write_text(report_page(made, lang="en", folder_name=FOLDER), "utf-8")
        page = browser.new_page()
        page.goto(path.as_uri())
        shades[model] = page.eval_on_selector(
            ".leader .pill", "one => getComputedStyle(one).backgroundColor"
        )
        page.close()
    assert shades == {"compact": "rgb(241, 243, 247)", "large": "rgb(220, 243, 229)"}


@pytest.mark.browser
def test_a_phone_scrolls_only_down(browser, tmp_path):
    made = past.report(frames=past.frames(), embedding_shape=(512,))
    (tmp_path / "page.html").write_text(
        report_page(made, lang="en", folder_name=FOLDER, audio_url="/a.wav"), "utf-8"
    )
    page = browser.new_page(viewport={"width": 360, "height": 740})
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.close()
