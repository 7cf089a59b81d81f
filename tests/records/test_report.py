"""A report survives its file, files of older schemas are read, and everything else is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from emotion2vec_ui import texts
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records import report as module
from emotion2vec_ui.records.report import (
    SCHEMA,
    Files,
    Report,
    SubclassScores,
    Unreadable,
    parse,
    to_dict,
    to_json,
)
from emotion2vec_ui.records.sentences import in_words
from tests import past

FRAME_FIELDS = {
    "labels",
    "frame_rate",
    "utterance_scores",
    "weighted",
    "segments",
    "utterances",
    "curve",
}


def made(frames: bool = False, **facts) -> Report:
    return past.report(
        frames=past.frames() if frames else None, embedding_shape=(200, 512), **facts
    )


def test_what_was_written_is_read_back(subtests):
    for frames in [False, True]:
        with subtests.test(frames=frames):
            content = to_json(made(frames))
            assert to_json(parse(content)) == content


def test_what_is_written_is_what_the_classes_say(subtests):
    # Written by the values alone; the adapter, which knows the types, writes the same.
    adapter = TypeAdapter(Report)
    for frames in [False, True]:
        for report in (made(frames), in_words(made(frames), "zh")):
            with subtests.test(frames=frames):
                by_classes = adapter.dump_python(report, mode="json")
                found = to_dict(report)
                assert found == {name: module.rounded(by_classes[name]) for name in found}
                left = set(by_classes) - set(found)
                assert left == (set() if frames else FRAME_FIELDS)


def test_sub_classes_are_kept_and_results_without_are_read():
    one = SubclassScores(1, "happy", {"pleased": 0.5, "thrilled": 0.4}, 0.0, small=True)
    report = replace(made(), subclasses={"joy": one})
    content = json.loads(to_json(report))
    assert list(content["subclasses"]["joy"]) == ["version", "base", "scores", "none", "small"]
    assert parse(to_json(report)).subclasses == {"joy": one}
    assert json.loads(to_json(made()))["subclasses"] is None
    # As written before there were any.
    del content["subclasses"]
    assert parse(json.dumps(content).encode()).subclasses is None
    assert parse(json.dumps(schema_1()).encode()).subclasses is None


def test_the_five_classic_fields_come_first_and_frames_add_theirs():
    utterance, frame = to_dict(made()), to_dict(made(frames=True))
    classic = ["emotion", "confidence", "scores", "granularity", "timestamp", "schema"]
    assert list(utterance)[:6] == list(frame)[:6] == classic
    assert set(frame) - set(utterance) == FRAME_FIELDS
    assert list(utterance["scores"]) == list(frame["utterance_scores"]) == list(EMOTIONS)
    assert np.shape(frame["scores"]) == (200, 9) and frame["frame_rate"] == 50
    for scores in (utterance["scores"].values(), *frame["scores"]):
        assert sum(scores) == pytest.approx(1, abs=1e-5)


def test_files_are_for_people_except_where_they_hold_frames():
    assert b'\n "emotion"' in to_json(made()) and to_json(made(frames=True)).count(b"\n") == 1


def test_the_answer_is_the_file_and_its_addresses():
    files = Files("outputs/x", "/r", "/a", None)
    for report in (made(), made(frames=True)):
        answer = json.loads(module.with_files(to_json(report), files))
        assert answer == json.loads(to_json(report)) | vars(files)


def test_every_sentence_is_in_one_language_and_nothing_else_changes(subtests):
    for lang in texts.languages():
        with subtests.test(lang=lang):
            plain = made(quality="poor", emotion="happy", confidence=0.45, lang="en")
            words = in_words(plain, lang)
            assert words.reliability.advice == texts.text("advice.record_again", lang)
            assert all(one.text for one in words.warnings) and words.distribution.text
            assert words.log[0] == "Audio info: duration=5.2s, sr=16000"
            assert in_words(words, "en") == plain


def of_first_checks(frames: bool) -> dict:
    """A result without the checks that came later."""
    content = json.loads(to_json(made(frames)))
    later = {"reverberation", "voices", "channel_lag", "bit_rate"}
    quality = content["quality"]
    quality["checks"] = [one for one in quality["checks"] if one["code"] not in later]
    return content


def schema_1(frames: bool = False) -> dict:
    """A result as the first schema had it: fewer checks, and those without a bound."""
    content = of_first_checks(frames)
    content["schema"] = "emotion2vec_ui.result/1"
    for check in content["quality"]["checks"]:
        check.pop("bound", None)
    return content


def test_the_first_schema_is_read_as_the_present_one(subtests):
    for frames in [False, True]:
        with subtests.test(frames=frames):
            read = parse(json.dumps(schema_1(frames)).encode())
            present = parse(json.dumps(of_first_checks(frames)).encode())
            assert read == present and read.schema == SCHEMA


def test_a_result_of_the_first_webui_has_what_follows_from_its_scores(tmp_path):
    scores = [[0.9, *[0.0125] * 8]] * 10 + [[0.1, *[0.1125] * 8]] * 10
    old = {
        "emotion": "angry",
        "confidence": 0.5,
        "scores": scores,
        "granularity": "frame",
        "timestamp": "2025-06-01 08:00:00",
    }
    read = parse(json.dumps(old).encode())
    assert read.nine_scores["angry"] == pytest.approx(0.5)
    assert read.reliability.band == "low" and read.distribution.leading[0].emotion == "angry"
    assert read.source is read.model is read.quality is read.timing is read.weighted is None


def test_what_is_no_result_is_refused(subtests):
    for changes in [
        {"schema": "emotion2vec_ui.result/99"},
        {"emotion": "bored"},
        {"confidence": 1.5},
        {"timestamp": "2026-1-4 1:2:3"},
        {"scores": {"happy": 1.0}},
        {"quality": {"verdict": "splendid"}},
    ]:
        with subtests.test(changes=changes), pytest.raises(Unreadable):
            parse(json.dumps(json.loads(to_json(made())) | changes).encode())
