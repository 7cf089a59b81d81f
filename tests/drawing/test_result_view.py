"""The result on the page: what stands on it, and where its links lead."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from emotion2vec_ui import texts
from emotion2vec_ui.audio.checks import Check
from emotion2vec_ui.drawing import result_view as views
from emotion2vec_ui.drawing.recording_view import CheckView
from emotion2vec_ui.drawing.render import draw
from emotion2vec_ui.drawing.result_view import LeaderView, result_view
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.timeline import Segment
from emotion2vec_ui.records.report import (
    Report,
    ReportWarning,
    SubclassScores,
    Utterance,
    parse,
)
from tests import past
from tests.drawing.test_document import EVIL, FIRST_WEBUI, Outline

FOLDER = "outputs_20260104_223000"
FILES = (("result.json", 3456), ("processed_audio.wav", 160_044))


def drawn(lang: str | None = None, **facts) -> Outline:
    return Outline(draw(result_view(past.report(**facts), FOLDER, FILES), lang))


def links(outline: Outline) -> list[str]:
    return [attributes["href"] for tag, attributes in outline.tags if tag == "a"]


def with_sentences():
    made = past.report(frames=past.frames())
    scores = past.scores_for("angry", 0.7)
    spoken = tuple(
        Utterance("angry", float(i), i + 0.8, 0.7, band, scores)
        for i, band in enumerate(("medium", "low"))
    )
    return replace(made, utterances=spoken)


def test_the_legend_names_just_what_is_drawn():
    frames = past.frames(4.0)[:100]
    # Other passes by with 6 %; what stays at 2 % is neither drawn nor named.
    frames[30:80, EMOTIONS.index("other")] = 0.06
    html = draw(result_view(past.report(frames=frames), FOLDER, FILES), "en")
    areas = re.findall('<path class="e-([a-z]+)"', html)
    legend = re.search('<ul class="legend">(.*?)</ul>', html, re.S)[1]
    assert set(areas) == set(re.findall("key e-([a-z]+)", legend)) == {"happy", "other"}


def test_only_an_utterance_is_advised_to_look_over_time():
    warned = (ReportWarning("duration_long"),)
    whole, frame = (
        draw(views.LeaderView(replace(past.report(frames=one), warnings=warned)), "en")
        for one in (None, past.frames())
    )
    assert texts.text("quality.duration_long", "en") in whole
    assert texts.text("quality.duration_long", "en") not in frame
    assert texts.text("quality.duration_long.frame", "en") in frame


def test_everything_of_an_utterance_is_there(subtests):
    for lang in texts.languages():
        with subtests.test(lang=lang):
            outline = drawn(lang, emotion="sad", confidence=0.62, embedding_shape=(512,))
            made = past.report()
            keys = ["emotion.sad.long", "band.low", "ui.scores", "ui.quality", "ui.files", "ui.log"]
            keys += [f"emotion.{one}" for one in EMOTIONS]
            keys += [f"check.{one.code}" for one in made.quality.checks]
            for words in [texts.text(key, lang) for key in keys] + [
                "62.0%",
                "call.wav",
                made.source.codec,
                "compact (built in)",
                "(512) float32",
                "Inference time: 0.20s",
            ]:
                assert words in outline.text, words
            assert texts.text("ui.time", lang) not in outline.text


def test_both_languages_stand_side_by_side():
    text = drawn(frames=past.frames(), embedding_shape=(512,)).text
    for key in (
        "ui.scores",
        "ui.time.hint",
        "emotion.happy.long",
        "advice.confirm_with_large_model",
    ):
        for lang in texts.languages():
            assert texts.text(key, lang) in text


def test_frames_bring_a_timeline_with_one_player():
    outline = drawn("en", frames=past.frames())
    sounds = [attributes for tag, attributes in outline.tags if tag == "audio"]
    assert [one["src"] for one in sounds] == [f"file=outputs/{FOLDER}/processed_audio.wav"]
    assert "Peak: Happy 84.0%, 0.0 s to 2.0 s" in outline.text
    rows = [attributes for tag, attributes in outline.tags if "data-from" in attributes]
    spans = [(one["data-from"], one["data-to"], one["data-emotion"]) for one in rows]
    assert spans == [("0.00", "2.00", "happy"), ("2.00", "4.00", "sad")]


def test_exports_are_links():
    base = [f"file=outputs/{FOLDER}/{name}" for name, _ in FILES] + [f"result/{FOLDER}.zip"]
    assert links(drawn()) == [*base, f"result/{FOLDER}.csv"]
    over_time = [f"result/{FOLDER}.{kind}" for kind in ("csv", "srt", "vtt", "TextGrid", "txt")]
    assert links(drawn(frames=past.frames())) == base + over_time
    outline = Outline(draw(result_view(with_sentences(), FOLDER, FILES)))
    sentences = [f"result/{FOLDER}.{kind}?part=sentences" for kind in ("csv", "srt", "vtt")]
    assert links(outline) == base + over_time + sentences
    for tag, attributes in outline.tags:
        if tag == "a":
            assert "download" in attributes
            in_words = re.search(r"^result/.*(?<!zip)$", attributes["href"])
            assert ("data-lang-link" in attributes) == bool(in_words)


def test_sentences_have_a_table_with_bands():
    outline = Outline(draw(result_view(with_sentences(), FOLDER, FILES), "en"))
    assert "Sentence by sentence 2" in outline.text
    assert "0.0 s 0.8 s Angry 70.0% Medium" in outline.text


def test_an_hour_of_segments_is_cut_short():
    made = past.report(frames=past.frames())
    segments = tuple(Segment("sad", float(i), i + 1.0, 0.5) for i in range(3600))
    html = draw(result_view(replace(made, segments=segments), FOLDER, FILES), "en")
    assert "3400 more rows" in html and html.count("data-from") == 200


def test_many_warnings_are_folded_and_those_about_the_claim_come_first():
    codes = ("clipping", "snr_low", "offset_cut", "compact_model", "near_tie")
    made = replace(past.report(), warnings=tuple(ReportWarning(code) for code in codes))
    html = draw(views.LeaderView(made), "en")
    at = [html.index(draw_text(code)) for code in ("compact_model", "near_tie", "clipping")]
    assert at == sorted(at)
    assert "<summary>2 more</summary>" in html
    assert html.index("<details") < html.index(draw_text("snr_low"))


def draw_text(code: str) -> str:
    area = "caveat" if texts.has(f"caveat.{code}") else "quality"
    return texts.text(f"{area}.{code}", "en")


def test_a_check_says_which_way_its_threshold_points(subtests):
    for bound, value, limit in [
        ("at_least", 3.0, "≥ 20.0 dB"),
        ("at_most", 3.0, "≤ 20.0 dB"),
        ("none", 3.0, None),
        ("at_least", None, None),
    ]:
        with subtests.test(bound=bound, value=value):
            check = Check("snr", value, "db", 20.0, bound, "ok")
            assert CheckView(check, "PCM_16").limit == limit


def test_a_result_of_the_first_webui_shows_its_files():
    made = parse(json.dumps(FIRST_WEBUI).encode())
    outline = Outline(draw(result_view(made, FOLDER, FILES), "en"))
    assert texts.text("history.old", "en") in outline.text
    assert f"file=outputs/{FOLDER}/result.json" in links(outline)
    assert "audio" not in {tag for tag, _ in outline.tags}


def test_every_text_is_escaped():
    made = with_sentences()
    made = replace(
        made,
        source=replace(made.source, name=EVIL, codec=EVIL, container=EVIL),
        model=replace(made.model, id=EVIL, origin=EVIL, device=EVIL, weights_sha256=EVIL),
        warnings=(ReportWarning("of_a_later_version", EVIL),),
        segments=(Segment(EVIL, 0.0, 1.0, 0.5),),
    )
    html = draw(result_view(made, FOLDER, [(EVIL, 1)]))
    outline = Outline(html)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert outline.text.count("<script>alert(1)</script>") >= 7


def test_only_a_result_of_the_built_in_model_is_limited():
    assert '<div class="result limited"' in draw(result_view(past.report(), FOLDER, FILES))
    large = past.report(model="emotion2vec_plus_large")
    assert '<div class="result"' in draw(result_view(large, FOLDER, FILES))


def test_the_leader_says_how_familiar_the_recording_is():
    def leader(**facts):
        return str(draw(LeaderView(past.report(**facts)), "en"))

    assert "Familiarity" not in leader()
    known = leader(familiarity=0.76)
    assert "Familiarity 76%: within the range of speech that the model knows" in known
    assert "unlike the speech" not in known
    unknown = leader(familiarity=0.03)
    assert "Familiarity 3%: unlike the speech that the model knows" in unknown
    assert "take the answer as a guess" in unknown and "emotion2vec_plus_large" in unknown


def test_the_needle_stands_where_the_band_is():
    """Another model's score of 0.9 at temperature 2."""
    report = past.report(confidence=0.9, model="iic/emotion2vec_plus_large", familiarity=0.5)
    view = LeaderView(report)
    assert view.trusted == pytest.approx(report.reliability.calibrated_confidence)
    assert view.trusted < 0.7
    page = str(draw(view, "en"))
    assert f"score 90.0% · calibrated {view.trusted:.1%}" in " ".join(page.split())
    assert f"left:{view.trusted:.1%}" in page
    assert "calibrated" not in str(draw(LeaderView(past.report(familiarity=0.5)), "en"))


def divided(label: str = "furious") -> Report:
    """A report of which happy is divided, and angry by a small sample."""
    one = SubclassScores(2, "happy", {"pleased": 0.3, label: 0.6}, 0.0, small=False)
    small = SubclassScores(1, "angry", {"cold": 0.0, "hot": 0.0}, 0.0125, small=True)
    return replace(past.report(), subclasses={"joy": one, "temper": small})


def test_sub_classes_stand_below_their_base():
    html = draw(result_view(divided(), FOLDER, FILES), "en")
    rows = re.split(r'<li class="first">|<li>\s*<span class="name"><svg', html)
    happy = next(one for one in rows if ">Happy" in one and "joy" in one)
    assert re.findall(r"(\w+)</span>\s*<span class=\"track\">", happy)[1:3] == [
        "furious",
        "pleased",
    ]
    assert "60.0%" in happy and "version 2" in happy and "temper" not in happy
    assert texts.text("subclass.small", "en") not in happy
    angry = next(one for one in rows if "temper" in one)
    assert texts.text("subclass.small", "en") in angry and "none of these" in angry
    assert "1.2%" in angry or "1.3%" in angry


def test_names_of_sub_classes_are_escaped():
    html = draw(result_view(divided(EVIL), FOLDER, FILES), "en")
    assert "<script" not in html and EVIL in Outline(html).text
