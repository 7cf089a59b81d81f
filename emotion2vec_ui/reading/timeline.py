"""Emotion over time: segments and a curve from frame logits, utterances from stretches of speech.

The method, in short (see `segments`): the frames' *logits* are smoothed by a Gaussian of 0.2 s and
divided into segments by one Viterbi pass with a cost for each change of emotion. Both treat every
frame alike, so input that comes one frame later gives the same segments one frame later, and noise
that does not outweigh the cost adds none.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.frames import FRAMES_PER_S
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.scoring import softmax

FloatArray = NDArray[np.float64]

# Chosen, not calibrated: a syllable lasts about 0.2 s, and emotion does not change within one.
SMOOTHING_S = 0.2
# A frame counts at most this many nats against a label: no 20 ms alone can change the segment,
# however certain the head is of them.
FRAME_CAP_NATS = 2.0
# What a change of emotion costs, in nats. With the cap it bounds the length of a segment from
# below: 25 / 2 = 12.5 frames = 0.25 s. At moderate odds (1 nat) an inserted emotion must last 1 s.
SWITCH_COST_NATS = 25.0

# Length of a window: the article advises 1-30 s; up to 15 s there is usually one emotion in it.
UTTERANCE_MIN_S = 1.0
UTTERANCE_MAX_S = 15.0
# A pause this long ends a sentence: the usual figure of endpointing. Chosen, not calibrated.
SENTENCE_PAUSE_S = 0.7
# Silence kept at both ends: the article's 0.3 s.
UTTERANCE_PAD_S = 0.3
# A stretch too short for a window of its own joins a neighbour not further away than this.
JOIN_WITHIN_S = 2.0


@dataclass(frozen=True)
class Segment:
    """A stretch with one emotion."""

    emotion: str
    """One of the nine keys."""
    start_s: float
    """Start in s from the start of the audio."""
    end_s: float
    """End in s, more than `start_s`."""
    confidence: float
    """What the model scores for just these frames, 0 to 1: the softmax of the mean of their
    logits."""


# --- segments -----------------------------------------------------------------------------------


def segments(frame_logits: np.ndarray, *, labels: Sequence[str] = EMOTIONS) -> tuple[Segment, ...]:
    """Divides frame logits into stretches of one emotion.

    1. Logits are smoothed over time by a Gaussian (standard deviation 0.2 s; the ends are
       continued by their last value). Logits and not probabilities: their mean is what the head
       would give for the mean frame.
    2. Each frame costs every label its distance in nats to the frame's best label, at most 2.
    3. The sequence of labels with the lowest sum of frame costs plus 25 nats per change is found
       exactly (Viterbi 1967; the one cost for all changes makes it linear in the labels as well).

    No segment is shorter than 0.25 s unless the audio is.

    Args:
        frame_logits: (frames, labels), float, 50 frames/s; -inf marks a label that is not in use.
        labels: Names of the columns.

    Returns:
        Segments in order, without gaps, from 0 to the end of the last frame.
    """
    logits = np.asarray(frame_logits, dtype=np.float64)
    if logits.ndim != 2 or logits.shape[1] != len(labels):
        raise ValueError(f"frame logits are {logits.shape}, expected (frames, {len(labels)})")
    if not len(logits):
        return ()
    finite = _finite(logits)
    smooth = _smooth(finite)
    score = np.maximum(smooth - smooth.max(axis=1, keepdims=True), -FRAME_CAP_NATS)
    path = _viterbi(score, SWITCH_COST_NATS)

    starts = np.flatnonzero(np.diff(path, prepend=-1))
    ends = np.append(starts[1:], len(path))
    total = np.concatenate([np.zeros((1, len(labels))), np.cumsum(finite, axis=0)])
    out = []
    for start, end in zip(starts, ends, strict=True):
        label = int(path[start])
        mean = (total[end] - total[start]) / (end - start)
        out.append(
            Segment(
                emotion=labels[label],
                start_s=float(start) / FRAMES_PER_S,
                end_s=float(end) / FRAMES_PER_S,
                confidence=float(softmax(mean)[label]),
            )
        )
    return tuple(out)


@dataclass(frozen=True)
class Curve:
    """Scores over time, averaged into a few hundred columns for drawing."""

    step_s: float
    """Width of a column in s; the first column starts at 0."""
    scores: tuple[tuple[float, ...], ...]
    """A row per column: the scores in the order of the labels, each row summing to 1."""


def curve(frame_logits: np.ndarray, max_columns: int) -> Curve:
    """Returns the smoothed logits of `segments` as scores, averaged into columns for drawing.

    Logits are averaged within each column before the softmax, so a column has what the model would
    score for just its stretch.

    Args:
        frame_logits: (frames >= 1, labels), 50 frames/s; -inf marks a label that is not in use.
        max_columns: At least 1.
    """
    smooth = _smooth(_finite(np.asarray(frame_logits, dtype=np.float64)))
    frames = len(smooth)
    columns = min(frames, max_columns)
    starts = np.arange(columns) * frames // columns
    counts = np.diff(np.append(starts, frames))[:, None]
    means = np.add.reduceat(smooth, starts, axis=0) / counts
    return Curve(
        step_s=frames / columns / FRAMES_PER_S,
        scores=tuple(tuple(float(v) for v in row) for row in softmax(means)),
    )


def _finite(logits: FloatArray) -> FloatArray:
    """Replaces -inf, which smoothing would turn into NaN, by a logit too low to ever win."""
    return np.maximum(logits, -1e6)


def _smooth(logits: FloatArray) -> FloatArray:
    from scipy import ndimage  # a quarter of a second, and only frame granularity needs it

    return ndimage.gaussian_filter1d(logits, SMOOTHING_S * FRAMES_PER_S, axis=0, mode="nearest")


def _viterbi(score: FloatArray, switch_cost: float) -> NDArray[np.intp]:
    """Returns the label per frame with the highest sum of scores less `switch_cost` per change.

    Args:
        score: (frames >= 1, labels).
        switch_cost: At least 0.
    """
    frames, labels = score.shape
    best = np.empty((frames, labels))
    best[0] = score[0]
    highest, maximum, add = np.maximum.reduce, np.maximum, np.add
    # Viterbi needs the rows one after another; three ufuncs per row keep an hour under 1 s.
    for before, now, row in zip(best[:-1], best[1:], score[1:], strict=True):
        maximum(before, highest(before) - switch_cost, out=now)
        add(now, row, out=now)

    # Going back: a label came from itself unless the best other was more than the cost ahead.
    leader = best.argmax(axis=1)
    changed = best < (best.max(axis=1) - switch_cost)[:, None]
    changes = [np.flatnonzero(changed[:-1, k]) for k in range(labels)]
    path = np.empty(frames, dtype=np.intp)
    end, label = frames, int(leader[-1])
    while end:
        # The last frame before `end - 1` after which this label was entered from another.
        of_label = changes[label]
        found = int(np.searchsorted(of_label, end - 1)) - 1
        start = int(of_label[found]) + 1 if found >= 0 else 0
        path[start:end] = label
        end, label = start, int(leader[start - 1])
    return path


# --- utterances -----------------------------------------------------------------------------------


def utterances(
    speech: Sequence[tuple[float, float]], *, duration_s: float | None = None
) -> list[tuple[float, float]]:
    """Returns windows for recognising a long recording sentence by sentence.

    A pause of 0.7 s ends a sentence. A sentence too long for a window is divided at its longest
    pause, repeatedly; speech without any pause is divided into equal parts. One shorter than 1 s is
    joined to the nearer neighbour within 2 s where both fit into a window. Then each window is
    widened by 0.3 s of silence at both sides, up to half the gap to the next; one that is then
    shorter than 1 s is widened up to the neighbouring windows.

    Args:
        speech: (start_s, end_s) of the stretches of speech, rising and disjoint
            (`audio.checks.Quality.speech`).
        duration_s: Length of the recording; windows end there. None: at the last speech.

    Returns:
        (start_s, end_s), rising and disjoint, which together contain all of the speech; each at
        most 15 s, and at least 1 s where the recording is long enough.
    """
    if not speech:
        return []
    longest = UTTERANCE_MAX_S - 2 * UTTERANCE_PAD_S
    spans: list[tuple[float, float]] = []
    group = [speech[0]]
    for before, now in itertools.pairwise(speech):
        if now[0] - before[1] >= SENTENCE_PAUSE_S:
            spans += _split(group, longest)
            group = []
        group.append(now)
    spans += _split(group, longest)
    return _widen(_join_short(spans, longest), duration_s)


def _split(group: list[tuple[float, float]], longest: float) -> list[tuple[float, float]]:
    """Divides stretches of speech into spans of at most `longest` s, at the longest pauses."""
    spans = []
    waiting = [group]
    while waiting:
        part = waiting.pop()
        start, end = part[0][0], part[-1][1]
        if end - start <= longest:
            spans.append((start, end))
        elif len(part) == 1:
            count = int(np.ceil((end - start) / longest))
            edges = np.linspace(start, end, count + 1)
            spans += [(float(a), float(b)) for a, b in itertools.pairwise(edges)]
        else:
            pauses = [b[0] - a[1] for a, b in itertools.pairwise(part)]
            at = int(np.argmax(pauses)) + 1
            waiting += [part[:at], part[at:]]
    return sorted(spans)


def _join_short(spans: list[tuple[float, float]], longest: float) -> list[tuple[float, float]]:
    """Joins spans under 1 s to the nearer neighbour within 2 s where the whole fits a window."""
    spans = list(spans)
    i = 0
    while i < len(spans):
        start, end = spans[i]
        options = []
        if end - start < UTTERANCE_MIN_S:
            for j in (i - 1, i + 1):
                if 0 <= j < len(spans):
                    low, high = min(start, spans[j][0]), max(end, spans[j][1])
                    gap = max(spans[j][0] - end, start - spans[j][1])
                    if gap <= JOIN_WITHIN_S and high - low <= longest:
                        options.append((gap, j, (low, high)))
        if options:
            _, j, joined = min(options)
            first = min(i, j)
            spans[first : first + 2] = [joined]
            i = first  # the joined span may still be short
        else:
            i += 1
    return spans


def _widen(spans: list[tuple[float, float]], duration_s: float | None) -> list[tuple[float, float]]:
    """Widens spans by 0.3 s at both sides, or more to reach 1 s, within the gaps between them."""
    duration_s = max(duration_s or 0.0, spans[-1][1])
    middles = [(before[1] + now[0]) / 2 for before, now in itertools.pairwise(spans)]
    windows = []
    for (start, end), lowest, highest in zip(
        spans, [0.0, *middles], [*middles, duration_s], strict=True
    ):
        pad = max(UTTERANCE_PAD_S, (UTTERANCE_MIN_S - (end - start)) / 2)
        windows.append((max(lowest, start - pad), min(highest, end + pad)))
    # One that half the gaps do not widen to 1 s also gets what its neighbours did not need.
    for i, (start, end) in enumerate(windows):
        lowest = windows[i - 1][1] if i else 0.0
        highest = windows[i + 1][0] if i + 1 < len(windows) else duration_s
        if end - start < UTTERANCE_MIN_S:
            start = max(lowest, end - UTTERANCE_MIN_S)
            windows[i] = (start, max(end, min(highest, start + UTTERANCE_MIN_S)))
    return windows
