"""The robustness test as it is shown: sentences, plot, lanes, table and download."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace

from emotion2vec_ui import texts
from emotion2vec_ui.audio.damage import SNRS_DB, conditions
from emotion2vec_ui.drawing.render import draw
from emotion2vec_ui.drawing.robustness_view import (
    n_conditions,
    robustness_progress,
    robustness_result,
)
from emotion2vec_ui.models.holder import Status
from emotion2vec_ui.records.robustness import to_json
from tests import past

CODES = [one.code for one in conditions()]
READY = Status(
    state="ready", seconds=0.0, wanted="large", answering="large", answering_built_in=False
)


def drawn(*flips: str, lang: str = "en", model: str = "compact") -> str:
    return draw(robustness_result(past.robustness(flips, model=model)), lang)


def words(html: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", html).split())


def test_an_answer_that_holds_is_said_to_hold():
    html = drawn()
    said = words(html)
    assert "steady noise (air conditioner): the answer holds down to 0 dB." in said
    assert "Compression, telephone and resampling: the answer holds." in said
    assert "the answer changes at" not in said and "flip-mark" not in html


def test_where_it_changes_is_said_and_marked_with_who_leads_then():
    html = drawn("fan_5", "fan_0")
    assert "steady noise (air conditioner): the answer changes at 5 dB." in words(html)
    assert html.count('<tr data-code="fan_5" class="flip">') == 1
    marks = re.findall(r'<i class="mark fan flip"[^>]*>(.*?)</i>', html)
    assert len(marks) == 2 and all("#face-sad" in mark for mark in marks)


def test_codecs_that_change_it_are_listed_in_the_readers_language(subtests):
    for lang in texts.languages():
        with subtests.test(lang=lang):
            sayings = re.search(
                "<ul class=.sayings.>(.*?)</ul>", drawn("mp3_64", "telephone", lang=lang), re.S
            )
            for code in ("mp3_64", "telephone"):
                assert texts.text(f"robustness.{code}", lang) in sayings[1]
            assert texts.text("robustness.mp3_128", lang) not in sayings[1]


def test_each_condition_has_a_line_and_each_snr_a_mark_on_either_noise():
    html = drawn("babble_10")
    assert re.findall('<tr data-code="([^"]+)"', html) == CODES
    assert len(CODES) - 1 == n_conditions()
    assert len(re.findall('<i class="mark (?:fan|babble)', html)) == 2 * len(SNRS_DB)
    lanes = re.findall(r'<div class="lane">(.*?)</div>', html, re.S)
    widths = [sum(map(int, re.findall(r"span (\d+)", lane))) for lane in lanes]
    assert widths == [len(SNRS_DB)] * 2


def test_two_faces_at_one_place_are_moved_apart():
    assert drawn("fan_0", "babble_0").count(" aside") == 2
    assert " aside" not in drawn("fan_0")


def test_a_condition_that_could_not_be_made_says_why():
    test = past.robustness()
    at = CODES.index("opus_24")
    missing = replace(
        test.outcomes[at], scores={}, emotion="", confidence=0.0, error="no encoder <libopus>"
    )
    outcomes = (*test.outcomes[:at], missing, *test.outcomes[at + 1 :])
    html = draw(robustness_result(replace(test, outcomes=outcomes)), "en")
    row = re.search(r'<tr data-code="opus_24">(.*?)</tr>', html, re.S)
    assert row and "lacks the encoder" in row[1] and "no encoder &lt;libopus&gt;" in row[1]


def test_the_download_is_all_figures_and_in_the_page_itself():
    test = past.robustness(("fan_0",))
    html = draw(robustness_result(test), "en")
    found = re.search(
        r'download="en_robustness.json" href="data:application/json;base64,([^"]+)"', html
    )
    assert found and base64.b64decode(found[1]) == to_json(test)
    assert json.loads(base64.b64decode(found[1]))["flipped_codes"] == []


def test_the_caution_comes_with_the_built_in_model_only():
    caution = texts.text("caveat.compact_model", "en")
    assert drawn().count(caution) == 1
    assert caution not in drawn(model="compact-x")


def test_progress_counts_the_conditions(subtests):
    for step, share, said in [
        ("decode", 0.0, "Preparing"),
        ("inference", 0.5, f"{(n_conditions() + 1) // 2} of 21"),
    ]:
        with subtests.test(step=step):
            html = draw(robustness_progress("talk.wav", step, share, 1.0, READY), "en")
            assert said in words(html)
            assert ("aria-valuenow" in html) == (step == "inference")
            assert 'data-press="cancel"' in html


def test_while_the_model_loads_its_state_is_shown():
    loading = replace(READY, state="loading", seconds=4.0, answering=None)
    html = draw(robustness_progress("talk.wav", "model", 0.0, 1.0, loading), "en")
    assert "Loading large (4 s)" in words(html)
