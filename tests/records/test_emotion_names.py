"""Names of emotions: each stands for one of the model's, and what has no counterpart has none."""

from __future__ import annotations

from collections import Counter

import pytest

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records.emotion_names import NAMES, counterpart, parse
from emotion2vec_ui.settings import UsageError


def test_every_name_stands_for_one_emotion():
    assert set(NAMES) < set(EMOTIONS)
    counts = Counter(name for names in NAMES.values() for name in names)
    assert set(counts.values()) == {1} and not set(counts) & set(EMOTIONS)


@pytest.mark.parametrize(
    ("label", "emotion"),
    [
        ("anger", "angry"), ("ANG", "angry"), (" Happiness ", "happy"), ("exc", "happy"),
        ("Fear", "fearful"), ("neu", "neutral"), ("Surprise", "surprised"),
        ("disgust", "disgusted"),
        ("Sad", "sad"), ("unknown", "unknown"), ("悲伤", "sad"),
        ("boredom", None), ("calm", None), ("A", None), ("xxx", None), ("", None),
    ],
)  # fmt: skip
def test_names_as_corpora_write_them(label, emotion):
    assert counterpart(label, {}) == emotion


def test_what_is_said_comes_first():
    more = parse(["Boredom=other", "exc=surprised", "a=b=sad"])
    assert counterpart("boredom", more) == "other"
    assert counterpart("Exc", more) == "surprised"
    assert counterpart("a=b", more) == "sad"


@pytest.mark.parametrize("pair", ["boredom", "=sad", "boredom=", "boredom=bored"])
def test_what_is_no_pair_is_told(pair):
    with pytest.raises(UsageError, match="--map"):
        parse([pair])
