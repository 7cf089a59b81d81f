"""The arithmetic of the drawings: figures of a report as paths and positions for SVG and CSS.

Markup stands in the templates. Sizes are those of the template's viewBox, unless they are shares
of the width, which are written as CSS percentages.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emotion2vec_ui.audio.checks import Quality
from emotion2vec_ui.audio.levels import Picture
from emotion2vec_ui.reading.calibration import Bin
from emotion2vec_ui.reading.metrics import Estimate, RiskPoint
from emotion2vec_ui.reading.timeline import Curve, Segment

MAX_PIECES = 300
"""Slots of the ribbon of segments: about what a phone has pixels for."""

FACE_FROM = 0.05
"""A piece of the ribbon with this share of its width has room for a face."""

# Chosen by eye: a recording with a peak above this is drawn against full scale, a quieter one is
# enlarged until its peak is at this share of the height.
LOUD_ABOVE = 0.7
QUIET_PEAK_AT = 0.9

# The envelope is of the resampled signal, whose flat tops ripple by a few percent.
CLIPPED_FROM = 0.97

SPECTRUM_RANGE_DB = 80.0

_TICK_STEPS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)
_MAX_TICK_GAPS = 7
_MAX_COLUMN_TICKS = 4


@dataclass(frozen=True)
class Box:
    """A rectangle as high as the drawing."""

    x: str
    width: str


@dataclass(frozen=True)
class Wave:
    """The envelope of a recording, 100 high.

    Attributes:
        columns: width of the drawing.
        outline: closed path around the envelope.
        speech: where speech is.
        clipped: x of the columns that reach the clipping level.
    """

    columns: int
    outline: str
    speech: tuple[Box, ...]
    clipped: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """One emotion's stretch of the ribbon; `left` and `width` are CSS percentages."""

    emotion: str
    left: str
    width: str
    has_face: bool


@dataclass(frozen=True)
class Area:
    """One emotion's area among the stacked scores; 1000 wide and 200 high together."""

    emotion: str
    path: str


@dataclass(frozen=True)
class Rect:
    """One emotion's part of a stacked column; sizes are those of the drawing."""

    emotion: str
    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True)
class Tick:
    """A label of the time axis; `left` is where its middle is, as a CSS length."""

    left: str
    label: str


# --- the recording --------------------------------------------------------------------------------


def wave(quality: Quality) -> Wave:
    """The envelope, where speech is in it, and where it is clipped."""
    low, high = quality.picture.envelope_min, quality.picture.envelope_max
    peak = max(*high, *(-value for value in low), 1e-6)
    scale = 48 / (1.0 if peak > LOUD_ABOVE else peak / QUIET_PEAK_AT)
    top = [f"{i + 0.5:g} {50 - value * scale:.1f}" for i, value in enumerate(high)]
    bottom = [f"{i + 0.5:g} {50 - value * scale:.1f}" for i, value in enumerate(low)]
    per_s = 1 / quality.picture.column_s
    return Wave(
        columns=len(high),
        outline=_closed(top + bottom[::-1]),
        speech=tuple(
            Box(f"{start * per_s:.2f}", f"{(end - start) * per_s:.2f}")
            for start, end in quality.speech
        ),
        clipped=tuple(f"{i + 0.5:g}" for i in _clipped_columns(quality)),
    )


def _clipped_columns(quality: Quality) -> list[int]:
    """Columns at the clipping level, where the check found clipping at all."""
    if not any(
        one.code == "clipping" and one.verdict in ("warn", "fail") for one in quality.checks
    ):
        return []
    low = np.asarray(quality.picture.envelope_min)
    high = np.asarray(quality.picture.envelope_max)
    level = CLIPPED_FROM * max(float(high.max()), -float(low.min()))
    columns: list[int] = np.flatnonzero((high >= level) | (low <= -level)).tolist()
    return columns


def spectrum(picture: Picture) -> str:
    """Closed path of the mean power over frequency, 8000 Hz wide and 100 high; empty without any.

    The strongest band touches the top, 80 dB less is the bottom.
    """
    if not picture.spectrum_db:
        return ""
    levels = np.asarray(picture.spectrum_db)
    y = np.clip((levels.max() - levels) / SPECTRUM_RANGE_DB * 100, 0, 100)
    hz = picture.spectrum_hz
    points = [f"{x:.0f} {v:.1f}" for x, v in zip(hz, y, strict=True)]
    return _closed([f"{hz[0]:.0f} 100", *points, f"{hz[-1]:.0f} 100"])


# --- over time ------------------------------------------------------------------------------------


def ticks(duration_s: float) -> tuple[Tick, ...]:
    """Labels for a drawing that is as wide as `duration_s`: seconds, or minutes from 60 s on."""
    step_s = next((s for s in _TICK_STEPS_S if duration_s / s <= _MAX_TICK_GAPS), _TICK_STEPS_S[-1])
    count = int(duration_s / step_s) + 1
    return tuple(
        Tick(
            # The last label stays inside the drawing: a figure is about 0.6 em wide.
            left=f"min({at_s / duration_s:.2%}, 100% - {0.3 * len(label):.1f}em)",
            label=label,
        )
        for at_s, label in (
            (at_s, f"{at_s:g}" if duration_s < 60 else f"{at_s // 60:.0f}:{at_s % 60:02.0f}")
            for at_s in (number * step_s for number in range(count))
        )
    )


def ribbon(segments: Sequence[Segment], duration_s: float) -> tuple[Piece, ...]:
    """The segments on one line as long as `duration_s`."""
    return tuple(
        Piece(
            emotion=emotion,
            left=f"{start_s / duration_s:.3%}",
            width=f"{(end_s - start_s) / duration_s:.3%}",
            has_face=(end_s - start_s) / duration_s > FACE_FROM,
        )
        for start_s, end_s, emotion in _thinned(segments, duration_s)
    )


def _thinned(segments: Sequence[Segment], duration_s: float) -> Iterable[tuple[float, float, str]]:
    """The segments as (start, end, emotion); of too many, what fills most of each slot of time."""
    if len(segments) <= MAX_PIECES:
        return [(one.start_s, one.end_s, one.emotion) for one in segments]
    # Eight samples per slot: the emotion found most often stands for it.
    samples = 8
    at_s = (np.arange(MAX_PIECES * samples) + 0.5) * duration_s / (MAX_PIECES * samples)
    ends = [one.end_s for one in segments]
    index = np.minimum(np.searchsorted(ends, at_s), len(segments) - 1).reshape(-1, samples)
    leaders = []
    for slot in index:
        found = [segments[i].emotion for i in slot]
        leaders.append(max(found, key=found.count))
    slot_s = duration_s / MAX_PIECES
    runs = []
    start = 0
    for emotion, run in itertools.groupby(leaders):
        end = start + len(list(run))
        runs.append((start * slot_s, end * slot_s, emotion))
        start = end
    return runs


def areas(curve: Curve, labels: Sequence[str], drawn: Container[str]) -> tuple[Area, ...]:
    """The scores over time stacked, from the bottom up by falling mean.

    The largest is at the bottom: its edge is then a plain curve, easiest to read.

    Args:
        curve: (columns >= 1, labels).
        labels: names of the curve's columns.
        drawn: those to draw; what the others have stays empty at the top.
    """
    scores = np.asarray(curve.scores)
    ranked = np.argsort(-scores.mean(axis=0), kind="stable")
    if len(scores) == 1:
        # A single column reaches from edge to edge.
        scores = np.repeat(scores, 2, axis=0)
    x = np.linspace(0, 1000, len(scores))
    base = np.zeros(len(x))
    stacked = []
    for index in (one for one in ranked if labels[one] in drawn):
        top = base + scores[:, index]
        edges = [
            [f"{a:.0f} {200 - 200 * b:.0f}" for a, b in zip(x, edge, strict=True)]
            for edge in (top, base)
        ]
        stacked.append(Area(labels[index], _closed(edges[0] + edges[1][::-1])))
        base = top
    return tuple(stacked)


# --- many recordings ------------------------------------------------------------------------------


def shares(counts: Mapping[str, int]) -> tuple[Piece, ...]:
    """Emotions side by side, the most frequent first, as wide as there are recordings of each."""
    total = sum(counts.values())
    pieces = []
    done = 0
    for emotion, count in sorted(counts.items(), key=lambda item: -item[1]):
        pieces.append(
            Piece(
                emotion=emotion,
                left=f"{done / total:.3%}",
                width=f"{count / total:.3%}",
                has_face=count / total > FACE_FROM,
            )
        )
        done += count
    return tuple(pieces)


def stacked_columns(
    periods: Sequence[Mapping[str, int]], emotions: Sequence[str]
) -> tuple[Rect, ...]:
    """A column per period, 1000 wide and 100 high together; the highest touches the top.

    Args:
        periods: recordings of each emotion; one period at least has some.
        emotions: from the bottom up.
    """
    highest = max(sum(counts.values()) for counts in periods)
    step = 1000 / len(periods)
    rects = []
    for place, counts in enumerate(periods):
        top = 100.0
        for emotion in emotions:
            height = 100 * counts.get(emotion, 0) / highest
            top -= height
            if height:
                x, width = (place + 0.06) * step, 0.88 * step
                rects.append(
                    Rect(emotion, f"{x:.1f}", f"{top:.2f}", f"{width:.1f}", f"{height:.2f}")
                )
    return tuple(rects)


def column_ticks(names: Sequence[str]) -> tuple[Tick, ...]:
    """Names below some of the columns, so that a phone has room for them."""
    step = -(-len(names) // _MAX_COLUMN_TICKS)
    return tuple(
        Tick(left=f"{(place + 0.5) / len(names):.2%}", label=names[place])
        for place in range(0, len(names), step)
    )


def _closed(points: Iterable[str]) -> str:
    """A closed path through `x y` points."""
    return f"M{'L'.join(points)}Z"


# --- how good a model is --------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """One bin of a reliability diagram, 100 wide and 100 high together.

    Attributes:
        x, width: of the bin's confidences.
        y, height: of its accuracy, from the bottom.
        mean_x: its mean confidence.
        opacity: 0.25 to 1, by how many recordings it holds.
    """

    x: str
    width: str
    y: str
    height: str
    mean_x: str
    opacity: str


def reliability(bins: Sequence[Bin]) -> tuple[Bar, ...]:
    """Accuracy over confidence; at least one bin."""
    most = max(one.count for one in bins)
    return tuple(
        Bar(
            x=f"{100 * one.low:.2f}",
            width=f"{100 * (one.high - one.low):.2f}",
            y=f"{100 - 100 * one.accuracy:.2f}",
            height=f"{100 * one.accuracy:.2f}",
            mean_x=f"{100 * one.confidence:.2f}",
            opacity=f"{0.25 + 0.75 * (one.count / most) ** 0.5:.2f}",
        )
        for one in bins
    )


def risk(points: Sequence[RiskPoint]) -> str:
    """The curve of risk over coverage as an open path, 100 wide and 100 high."""
    return "M" + "L".join(f"{100 * one.coverage:.2f} {100 - 100 * one.risk:.2f}" for one in points)


def span(estimate: Estimate) -> Box:
    """An interval on a track of 0 to 1, as CSS percentages."""
    return Box(f"{estimate.low:.2%}", f"{estimate.high - estimate.low:.2%}")
