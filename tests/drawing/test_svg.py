"""The arithmetic of the drawings."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from emotion2vec_ui.drawing import svg
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.timeline import Curve, Segment
from emotion2vec_ui.records.subclasses import CurvePoint
from tests import past


def points(path: str) -> np.ndarray:
    """The (x, y) of a closed path."""
    assert path.startswith("M") and path.endswith("Z")
    return np.array([[float(one) for one in pair.split()] for pair in path[1:-1].split("L")])


def quality(low: list[float], high: list[float], verdict: str = "ok"):
    """The example's quality with another envelope and verdict on clipping."""
    made = past.heard().quality
    checks = tuple(
        replace(one, verdict=verdict) if one.code == "clipping" else one for one in made.checks
    )
    picture = replace(made.picture, envelope_min=tuple(low), envelope_max=tuple(high), column_s=0.1)
    return replace(made, checks=checks, picture=picture, speech=((0.1, 0.3),))


def test_a_loud_recording_is_drawn_against_full_scale_and_a_quiet_one_enlarged():
    for peak, height in ((1.0, 48), (0.8, 0.8 * 48), (0.1, 0.9 * 48)):
        y = points(svg.wave(quality([-peak, 0.0], [peak, 0.0])).outline)[:, 1]
        assert (y.min(), y.max()) == pytest.approx((50 - height, 50 + height), abs=0.06)


def test_speech_and_clipping_are_in_columns():
    clipped = svg.wave(quality([-0.5, -0.1, -0.99], [0.98, 0.1, 0.5], "fail"))
    assert clipped.columns == 3
    assert clipped.speech == (svg.Box("1.00", "2.00"),)
    assert clipped.clipped == ("0.5", "2.5")
    # A recording that only reaches its own peak is not clipped there.
    assert svg.wave(quality([-0.5, -0.1, -0.99], [0.98, 0.1, 0.5])).clipped == ()


def test_the_strongest_band_touches_the_top():
    drawn = points(svg.spectrum(past.heard().quality.picture))
    assert drawn[:, 1].min() == 0 and drawn[:, 1].max() == 100
    assert drawn[-1].tolist() == [8000, 100]


def test_ticks(subtests):
    for duration_s, labels in [
        (0.4, ["0"]),
        (3.0, ["0", "0.5", "1", "1.5", "2", "2.5", "3"]),
        (59.0, ["0", "10", "20", "30", "40", "50"]),
        (90.0, ["0:00", "0:20", "0:40", "1:00", "1:20"]),
        (3600.0, ["0:00", "10:00", "20:00", "30:00", "40:00", "50:00", "60:00"]),
    ]:
        with subtests.test(duration_s=duration_s):
            assert [one.label for one in svg.ticks(duration_s)] == labels


def test_ticks_stay_few_in_a_recording_of_any_length():
    for duration_s in np.geomspace(0.025, 3600, 50):
        drawn = svg.ticks(duration_s)
        assert 1 <= len(drawn) <= 8
        assert float(drawn[-1].left.split("%")[0].removeprefix("min(")) <= 100


def test_the_last_label_stays_inside_the_drawing():
    first, *_, last = svg.ticks(3600.0)
    assert first == svg.Tick("min(0.00%, 100% - 1.2em)", "0:00")
    assert last == svg.Tick("min(100.00%, 100% - 1.5em)", "60:00")


def test_the_ribbon_has_a_piece_per_segment_and_faces_where_there_is_room():
    segments = (Segment("happy", 0.0, 0.4, 0.9), Segment("sad", 0.4, 10.0, 0.8))
    assert svg.ribbon(segments, 10.0) == (
        svg.Piece("happy", "0.000%", "4.000%", has_face=False),
        svg.Piece("sad", "4.000%", "96.000%", has_face=True),
    )


def test_of_too_many_segments_each_slot_shows_the_emotion_that_fills_most_of_it():
    # Every second: 0.9 s happy and 0.1 s sad, but the last minute, which is the other way round.
    segments = []
    for second in range(3600):
        first, short = ("happy", 0.9) if second < 3540 else ("happy", 0.1)
        segments.append(Segment(first, float(second), second + short, 0.9))
        segments.append(Segment("sad", second + short, second + 1.0, 0.9))
    pieces = svg.ribbon(segments, 3600.0)
    assert [one.emotion for one in pieces] == ["happy", "sad"]
    assert [one.left for one in pieces] == ["0.000%", "98.333%"]


def test_areas_are_stacked_without_gaps_from_the_largest_up():
    rows = np.random.default_rng(0).dirichlet(np.ones(9), size=20)
    areas = svg.areas(Curve(0.1, tuple(map(tuple, rows))), EMOTIONS, EMOTIONS)
    means = dict(zip(EMOTIONS, rows.mean(axis=0), strict=True))
    assert [one.emotion for one in areas] == sorted(means, key=lambda one: -means[one])
    below = np.full(20, 200.0)
    for one in areas:
        drawn = points(one.path)
        top, base = drawn[:20], drawn[20:][::-1]
        assert base[:, 1].tolist() == below.tolist()
        assert (top[0, 0], top[-1, 0]) == (0, 1000)
        below = top[:, 1]
    assert below.tolist() == [0.0] * 20


def test_one_column_reaches_from_edge_to_edge():
    (first,) = svg.areas(Curve(0.02, ((0.92,) + (0.01,) * 8,)), EMOTIONS, {"angry"})
    assert first == svg.Area("angry", "M0 16L1000 16L1000 200L0 200Z")


def test_paths_hold_nothing_but_numbers():
    made = past.report(frames=past.frames())
    assert made.curve and made.labels and made.quality
    paths = [one.path for one in svg.areas(made.curve, made.labels, EMOTIONS)]
    paths += [svg.wave(made.quality).outline, svg.spectrum(made.quality.picture)]
    assert all(re.fullmatch(r"M[-0-9. L]+Z", one) for one in paths)


def test_a_learning_curve_rises_with_the_samples():
    curve = svg.learning_curve([CurvePoint(400, 0.75), CurvePoint(100, 0.5)])
    # A quarter of the samples stands at a quarter of the width; y counts from the top.
    assert curve.path == "M25.00 50.00L100.00 25.00"
    assert [one.label for one in curve.dots] == ["100", "400"]
