"""Segments are stable and optimal, utterances lose no speech, and other tools read the files."""

import csv
import io
import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading import timeline
from emotion2vec_ui.reading.timeline import Segment
from emotion2vec_ui.records import exports


def staircase(*parts: tuple[str, float], strength: float = 3.0) -> np.ndarray:
    """Logits that favour each emotion for its seconds."""
    rows = []
    for emotion, seconds in parts:
        row = np.zeros(9)
        row[EMOTIONS.index(emotion)] = strength
        rows += [row] * round(seconds * 50)
    return np.array(rows)


SCENE = staircase(("neutral", 2.0), ("angry", 1.5), ("neutral", 3.0), ("sad", 2.5))


def bounds(parts: tuple[Segment, ...]) -> list[tuple[str, int]]:
    return [(s.emotion, round(s.start_s * 50)) for s in parts]


# --- segments -----------------------------------------------------------------------------------


def test_known_scene_is_cut_where_it_was_made():
    parts = timeline.segments(SCENE)
    assert [s.emotion for s in parts] == ["neutral", "angry", "neutral", "sad"]
    np.testing.assert_allclose([s.start_s for s in parts], [0, 2.0, 3.5, 6.5], atol=0.041)
    assert parts[-1].end_s == pytest.approx(9.0)
    # softmax of (3, 0 x 8) = e^3 / (e^3 + 8)
    assert parts[0].confidence == pytest.approx(np.e**3 / (np.e**3 + 8), abs=0.02)


def test_segments_cover_the_audio_without_gaps():
    logits = np.random.default_rng(0).normal(size=(777, 9)).cumsum(axis=0) * 0.3
    parts = timeline.segments(logits)
    assert parts[0].start_s == 0 and parts[-1].end_s == pytest.approx(777 / 50)
    for a, b in itertools.pairwise(parts):
        assert a.end_s == b.start_s and a.emotion != b.emotion
    assert all(s.end_s - s.start_s >= 0.25 for s in parts)
    assert all(0 <= s.confidence <= 1 for s in parts)


@given(st.integers(0, 10_000), st.integers(1, 25))
@settings(max_examples=60, deadline=None)
def test_a_shift_moves_boundaries_by_as_much_and_adds_nothing(seed, shift):
    rng = np.random.default_rng(seed)
    names = rng.choice(EMOTIONS, 6)
    logits = staircase(*((str(n), rng.uniform(0.8, 3)) for n in names))
    logits = logits + rng.normal(size=logits.shape) * 0.5
    before = bounds(timeline.segments(logits))
    later = bounds(timeline.segments(np.concatenate([logits[:1]] * shift + [logits])))
    assert [e for e, _ in later] == [e for e, _ in before]
    for (_, a), (_, b) in zip(before[1:], later[1:], strict=True):
        assert abs(b - a - shift) <= 1
    # 20 ms of jitter the other way: the first frame is lost.
    lost = bounds(timeline.segments(logits[1:]))
    assert [e for e, _ in lost] == [e for e, _ in before]
    assert all(abs(a - 1 - b) <= 1 for (_, a), (_, b) in zip(before[1:], lost[1:], strict=True))


@given(st.integers(0, 10_000), st.floats(0, 1.0))
@settings(max_examples=60, deadline=None)
def test_noise_adds_no_segments(seed, strength):
    noise = np.random.default_rng(seed).normal(size=SCENE.shape) * strength
    noisy = timeline.segments(SCENE + noise)
    assert [s.emotion for s in noisy] == ["neutral", "angry", "neutral", "sad"]
    np.testing.assert_allclose([s.start_s for s in noisy], [0, 2.0, 3.5, 6.5], atol=0.2)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_few_wild_frames_do_not_make_a_segment(frames):
    logits = staircase(("neutral", 4.0))
    logits[100 : 100 + frames, EMOTIONS.index("angry")] = 50.0
    assert [s.emotion for s in timeline.segments(logits)] == ["neutral"]


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_viterbi_equals_trying_every_path(seed):
    rng = np.random.default_rng(seed)
    score, cost = rng.normal(size=(6, 3)) * 2, float(rng.uniform(0, 3))

    def total(path):
        return sum(score[t, k] for t, k in enumerate(path)) - cost * sum(
            a != b for a, b in itertools.pairwise(path)
        )

    best = max(itertools.product(range(3), repeat=6), key=total)
    assert total(timeline._viterbi(score, cost)) == pytest.approx(total(best))


def test_one_frame_none_and_labels_out_of_use():
    (only,) = timeline.segments(staircase(("happy", 0.02)))
    assert (only.emotion, only.start_s, only.end_s) == ("happy", 0.0, 0.02)
    assert timeline.segments(np.zeros((0, 9))) == ()
    masked = np.where(np.arange(9) == 4, 0.0, -np.inf) * np.ones((50, 1))
    (part,) = timeline.segments(masked)
    assert (part.emotion, part.confidence) == ("neutral", 1.0)
    with pytest.raises(ValueError, match="expected"):
        timeline.segments(np.zeros((10, 5)))


def test_an_hour_is_cut_in_linear_time():
    rng = np.random.default_rng(0)
    logits = np.repeat(rng.normal(size=(900, 9)) * 2, 200, axis=0) + rng.normal(size=(180_000, 9))
    start = time.process_time()
    parts = timeline.segments(logits)
    # 0.7 s on a busy two-core machine; twice that before it is an error.
    assert time.process_time() - start < 1.5
    assert 600 < len(parts) <= 900


# --- utterances -----------------------------------------------------------------------------------


@st.composite
def speech(draw):
    out, at = [], 0.0
    for _ in range(draw(st.integers(1, 30))):
        at += draw(st.floats(0.2, 4.0))
        length = draw(st.one_of(st.floats(0.1, 3.0), st.floats(3.0, 40.0)))
        out.append((at, at + length))
        at += length
    return out, at + draw(st.floats(0, 3.0))


@given(speech())
@settings(max_examples=150, deadline=None)
def test_utterances_hold_all_speech_in_windows_of_the_right_length(given_speech):
    parts, duration_s = given_speech
    windows = timeline.utterances(parts, duration_s=duration_s)
    for start, end in windows:
        assert 0 <= start < end <= duration_s + 1e-9
        assert end - start <= 15 + 1e-9
    for a, b in itertools.pairwise(windows):
        assert a[1] <= b[0] + 1e-9
    for start, end in parts:
        inside = sum(max(0.0, min(end, b) - max(start, a)) for a, b in windows)
        assert inside == pytest.approx(end - start, abs=1e-6)
    for i, (start, end) in enumerate(windows):
        room_before = start - (windows[i - 1][1] if i else 0.0)
        room_after = (windows[i + 1][0] if i + 1 < len(windows) else duration_s) - end
        if end - start < 1 - 1e-6:  # only where the neighbours leave no room
            assert room_before < 1e-6 and room_after < 1e-6


def test_a_long_sentence_is_cut_at_its_longest_pause():
    parts = [(0.0, 6.0), (6.3, 9.0), (9.6, 14.0), (14.2, 18.0)]
    assert timeline.utterances(parts) == [(0.0, pytest.approx(9.3)), (pytest.approx(9.3), 18.0)]


def test_short_words_join_their_sentence_and_sentences_stay_apart():
    parts = [(1.0, 3.0), (4.0, 4.3), (9.0, 12.0)]
    windows = timeline.utterances(parts, duration_s=20)
    assert windows == [(0.7, pytest.approx(4.6)), (8.7, 12.3)]
    (alone,) = timeline.utterances([(5.0, 5.2)], duration_s=20)
    assert alone == (pytest.approx(4.6), pytest.approx(5.6))
    assert timeline.utterances([(0.0, 0.2)], duration_s=20) == [(0.0, 1.0)]
    assert timeline.utterances([]) == []


def test_a_short_word_at_the_end_gets_the_silence_that_its_neighbour_does_not_need():
    windows = timeline.utterances([(1.0, 15.0), (15.75, 16.25)], duration_s=16.25)
    np.testing.assert_allclose(windows, [(0.7, 15.3), (15.3, 16.25)])


def test_speech_without_a_pause_is_cut_evenly():
    windows = timeline.utterances([(0.0, 40.0)], duration_s=40)
    np.testing.assert_allclose(windows, [(0, 40 / 3), (40 / 3, 80 / 3), (80 / 3, 40)])


# --- files, read back by other people's readers -------------------------------------------------

PARTS = (
    Segment("happy", 0.0, 1.25, 0.853),
    Segment("angry", 1.25, 3.02, 0.4),
    Segment("sad", 3661.5, 3700.0004, 0.999),
)
NASTY = {"happy": 'a<b> & "c"\t--> d\ne', "angry": "生气"}
FLAT = 'a<b> & "c" --> d e'


def test_csv_reads_back():
    rows = list(csv.DictReader(io.StringIO(exports.to_csv(PARTS), newline="")))
    assert [r["emotion"] for r in rows] == ["happy", "angry", "sad"]
    assert [float(r["start_s"]) for r in rows] == [0.0, 1.25, 3661.5]
    assert float(rows[0]["confidence"]) == 0.853


def test_srt_reads_back():
    srt = pytest.importorskip("srt")
    cues = list(srt.parse(exports.to_srt(PARTS)))
    assert [c.content for c in cues] == ["happy 85%", "angry 40%", "sad 100%"]
    assert [c.start.total_seconds() for c in cues] == [0.0, 1.25, 3661.5]
    assert cues[2].end.total_seconds() == 3700.0
    assert "01:01:01,500 --> 01:01:40,000" in exports.to_srt(PARTS)
    named = list(srt.parse(exports.to_srt(PARTS, NASTY)))
    assert named[0].content == FLAT + " 85%" and named[1].content == "生气 40%"


def test_vtt_reads_back():
    webvtt = pytest.importorskip("webvtt")
    text = exports.to_vtt(PARTS, NASTY)
    cues = list(webvtt.from_string(text))
    assert [(c.start, c.end) for c in cues] == [
        ("00:00:00.000", "00:00:01.250"),
        ("00:00:01.250", "00:00:03.020"),
        ("01:01:01.500", "01:01:40.000"),
    ]
    import html

    assert html.unescape(cues[0].raw_text) == FLAT + " 85%"
    # The W3C grammar: cue text holds no "-->" and no bare "<" or "&".
    assert text.count("-->") == len(PARTS)
    assert "&lt;b&gt; &amp;" in text


def test_textgrid_reads_back(tmp_path):
    textgrid = pytest.importorskip("praatio.textgrid")
    path = tmp_path / "emotion.TextGrid"
    path.write_text(exports.to_textgrid(PARTS, NASTY, duration_s=4000.0), encoding="utf-8")
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True)
    entries = grid.getTier("emotion").entries
    assert [e.label for e in entries] == [FLAT, "生气", "", "sad", ""]
    assert [e.start for e in entries] == [0.0, 1.25, 3.02, 3661.5, 3700.0004]
    assert grid.maxTimestamp == 4000.0
    for a, b in itertools.pairwise(entries):
        assert a.end == b.start


def test_audacity_labels_read_back():
    rows = [line.split("\t") for line in exports.to_audacity(PARTS, NASTY).splitlines()]
    assert [len(r) for r in rows] == [3, 3, 3]
    assert [float(r[0]) for r in rows] == [0.0, 1.25, 3661.5]
    assert rows[0][2] == FLAT + " 85%"


def test_no_segments_still_make_valid_files():
    webvtt = pytest.importorskip("webvtt")
    assert exports.to_srt(()) == "" and exports.to_audacity(()) == ""
    assert len(exports.to_csv(()).splitlines()) == 1
    assert len(webvtt.from_string(exports.to_vtt(()))) == 0
    assert "intervals: size = 1" in exports.to_textgrid((), duration_s=2.0)


# --- curve ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 299, 300, 301, 180_000])
def test_a_curve_has_at_most_its_columns_and_each_sums_to_one(frames):
    logits = np.random.default_rng(0).normal(size=(frames, 9))
    curve = timeline.curve(logits, max_columns=300)
    scores = np.array(curve.scores)
    assert scores.shape == (min(frames, 300), 9)
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-12)
    assert curve.step_s * len(scores) == pytest.approx(frames / 50)


def test_the_curve_of_a_constant_is_its_softmax():
    logits = np.tile(np.linspace(-2, 2, 9), (500, 1))
    curve = timeline.curve(logits, max_columns=40)
    expected = np.exp(logits[0]) / np.exp(logits[0]).sum()
    np.testing.assert_allclose(curve.scores, np.tile(expected, (40, 1)), atol=1e-12)


def test_one_column_is_the_score_of_the_whole():
    logits = np.random.default_rng(1).normal(size=(400, 9))
    # Smoothing keeps the mean but for what leaves over the ends.
    mean = logits.mean(axis=0)
    expected = np.exp(mean) / np.exp(mean).sum()
    np.testing.assert_allclose(timeline.curve(logits, 1).scores[0], expected, atol=5e-3)
