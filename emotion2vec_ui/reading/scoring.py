"""Reads scores: how far to trust a result, and how its scores are distributed.

Every conclusion is a code; the words for the codes are in `texts`.
"The article" is the guide of the WebUI that this program rebuilds; its rules are kept as given.

Codes, and the figures that go with each:

``Reading.band``: ``high``, ``medium``, ``low``, ``unreliable``
(figure: ``calibrated_confidence``, or ``confidence`` where there is none).

``Reading.shape``: ``single``, ``double``, ``flat``, ``graded`` (figures: ``leading``, ``margin``).

``Reading.mixture``: ``""`` (nothing to name),
``with`` ("happy with surprised": the leader with ``beside``),
``dissatisfaction_under_calm`` (angry and neutral together).

``Reading.advice``:
``use`` (usable as it is), ``check_context``, ``check_audio``, ``record_again``,
``improve_audio_first`` (confident, but on a poor recording),
``confirm_with_large_model`` (would be ``use``, but the built-in model answered),
``treat_as_guess`` (unlike what the model learnt from), ``treat_as_guess_ask_large_model`` (the same
of the built-in model),
``no_emotion_recognised`` (``unknown`` leads), ``outside_the_list`` (``other`` leads).

``Reading.caveats``: ``quality_fair``, ``quality_poor`` (the recording limits the claim),
``unfamiliar`` (figure: ``familiarity``), ``compact_model``, ``flat_distribution``,
``near_tie`` (figure: ``margin``).

``Note.code``: ``model_load_slow``, ``inference_slow`` (figures: ``value``, ``limit``, both s),
``downsampled`` (content above ``limit`` Hz was lost),
``upsampled`` (nothing above ``limit`` Hz was ever there);
for both, ``value`` is the source rate in Hz.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.frames import FRAMES_PER_S, SAMPLE_RATE_HZ
from emotion2vec_ui.labels import EMOTIONS, NOT_AN_EMOTION
from emotion2vec_ui.reading.familiarity import UNFAMILIAR_BELOW

FloatArray = NDArray[np.float64]

Band = Literal["high", "medium", "low", "unreliable"]
Shape = Literal["single", "double", "flat", "graded"]
NormRange = Literal["normal", "low", "high", "unknown"]

# Bands of the confidence: the article.
HIGH_ABOVE = 0.85
MEDIUM_FROM = 0.70
LOW_FROM = 0.50

# Shapes of the distribution: the article.
SINGLE_ABOVE = 0.70
SINGLE_OTHERS_BELOW = 0.10
DOUBLE_ABOVE = 0.30
FLAT_FROM = 0.08
FLAT_TO = 0.15
# A second emotion is named beside the leader from this score on: the article.
NAMED_FROM = 0.10

# Chosen, not calibrated: two leaders closer than this may swap places on the next take.
NEAR_TIE_BELOW = 0.10

# Thresholds are decimal fractions and the scores come from float32 arithmetic (0.85 becomes
# 0.8500000238): a score this close to a threshold counts as equal to it.
# Ten times the float32 softmax error, and a thousandth of what is shown.
TOLERANCE = 1e-6
# Looser than the contract (1e-5): nine scores read back with three decimals may miss 1 by 0.0045.
SUM_TOLERANCE = 5e-3

# The article's weighted window: (share of the window, weight).
WINDOW_FRAMES = 100
WINDOW_STEP_FRAMES = 50
WINDOW_PARTS = ((0.3, 0.3), (0.4, 0.5), (0.3, 0.2))

# The article's normal embedding norm, and its normal times.
ARTICLE_NORM_RANGE = (1.8, 2.2)
MODEL_LOAD_LIMIT_S = 12.0
INFERENCE_LIMIT_S = 2.0
# The article's inference figure is about one utterance; 30 s is the longest it advises.
# Longer audio is allowed proportionally more. Chosen, not calibrated.
INFERENCE_LIMIT_AUDIO_S = 30.0


@dataclass(frozen=True)
class Reading:
    """What one set of nine scores means."""

    emotion: str
    """The leader: the one of `EMOTIONS` with the highest score."""
    confidence: float
    """The leader's score, 0 to 1."""
    familiarity: float | None
    """How like what the model learnt from, 0 to 1; None where that was not measured."""
    calibrated_confidence: float | None
    """The leader's score as labelled recordings say it should be; None where there were none."""
    band: Band
    """How far to trust the confidence; from the calibrated one, else from the leader's score."""
    shape: Shape
    """How the scores are distributed."""
    leading: tuple[str, ...]
    """The leader, then every other label from `NAMED_FROM` on, by falling score."""
    beside: tuple[str, ...]
    """`leading` without the leader and without `other` and `unknown`."""
    mixture: str
    """Code of the mixture, or the empty string."""
    margin: float
    """Leader's score less the second's, 0 to 1."""
    entropy_bits: float
    """Shannon entropy, 0 (certain) to log2(9) = 3.17."""
    entropy_normalised: float
    """Shannon entropy divided by log2(9), 0 to 1."""
    advice: str
    """Code of what to do with the result; from band, quality and model together."""
    caveats: tuple[str, ...]
    """Codes of what limits the result."""


@dataclass(frozen=True)
class Peak:
    """The window in which one emotion scores highest of all windows and emotions."""

    emotion: str
    """The emotion that scores highest, one of the nine keys."""
    score: float
    """Its weighted score in this window, 0 to 1."""
    start_s: float
    """Start of the window in s from the start of the audio."""
    end_s: float
    """End of the window in s; 2 s after `start_s` unless the clip is shorter."""


@dataclass(frozen=True)
class Weighted:
    """The article's weighted reading of frame scores."""

    scores: dict[str, float]
    """Weighted score per emotion, 0 to 1, summing to 1."""
    windows: int
    """Number of windows that were averaged, at least 1."""
    window_frames: int
    """Frames per window, 50 per second; less than 100 only where the clip is shorter."""
    peak: Peak
    """The window with the highest single score."""


@dataclass(frozen=True)
class Note:
    """A figure of the processing log that is outside the normal range."""

    code: Literal["model_load_slow", "inference_slow", "downsampled", "upsampled"]
    """Which figure; see the module's docstring."""
    value: float
    """The figure: s, or Hz for the sample rate of the file."""
    limit: float
    """The end of the normal range in s, or the highest frequency in Hz that the model gets."""


def softmax(logits: np.ndarray) -> FloatArray:
    """Returns the softmax over the last axis, in float64.

    Args:
        logits: (..., labels), any float type; -inf marks a label that is not in use.

    Returns:
        float64, same shape, each row summing to 1.
    """
    logits = np.asarray(logits, dtype=np.float64)
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def read(
    scores: Mapping[str, float],
    *,
    quality_verdict: str | None,
    built_in: bool,
    familiarity: float | None = None,
    calibrated_confidence: float | None = None,
) -> Reading:
    """Reads nine scores by the article's rules.

    Args:
        scores: One score per label of `EMOTIONS`, summing to 1.
        quality_verdict: `good`, `fair` or `poor` (`audio.checks.Quality.verdict`);
            None where the audio was not assessed, and the band then stands by itself.
        built_in: Whether the built-in model answered, which limits the claim.
        familiarity: `reading.familiarity.familiarity` of the recording; None where the model has no
            reference.
        calibrated_confidence: The leader's score after tempering; None likewise.

    Raises:
        ValueError: Labels are missing or unknown, a score is not finite, or the sum is not 1.
    """
    if set(scores) != set(EMOTIONS):
        raise ValueError(f"scores have the labels {sorted(scores)}, expected {list(EMOTIONS)}")
    if quality_verdict not in (None, "good", "fair", "poor"):
        raise ValueError(f"quality_verdict is {quality_verdict!r}, not good, fair, poor or None")
    p = np.array([float(scores[e]) for e in EMOTIONS])
    if not np.isfinite(p).all() or p.min() < 0 or abs(p.sum() - 1) > SUM_TOLERANCE:
        raise ValueError(f"scores must be finite, not negative and sum to 1, got {dict(scores)}")

    # A stable sort: equal scores keep the order of EMOTIONS, so the result is deterministic.
    order = np.argsort(-p, kind="stable")
    ranked = [EMOTIONS[i] for i in order]
    confidence, second = float(p[order[0]]), float(p[order[1]])
    band = _band(confidence if calibrated_confidence is None else calibrated_confidence)
    unfamiliar = familiarity is not None and familiarity < UNFAMILIAR_BELOW
    shape = _shape(p[order])
    leading = (ranked[0], *(e for e in ranked[1:] if scores[e] >= NAMED_FROM - TOLERANCE))
    beside = tuple(e for e in leading[1:] if e not in NOT_AN_EMOTION)
    positive = p[p > 0]
    entropy_bits = max(0.0, float(-(positive * np.log2(positive)).sum()))
    margin = confidence - second

    caveats = []
    if quality_verdict in ("fair", "poor"):
        caveats.append(f"quality_{quality_verdict}")
    if unfamiliar:
        caveats.append("unfamiliar")
    if built_in:
        caveats.append("compact_model")
    if shape == "flat":
        caveats.append("flat_distribution")
    if margin < NEAR_TIE_BELOW - TOLERANCE:
        caveats.append("near_tie")

    return Reading(
        emotion=ranked[0],
        confidence=confidence,
        familiarity=familiarity,
        calibrated_confidence=calibrated_confidence,
        band=band,
        shape=shape,
        leading=leading,
        beside=beside,
        mixture=_mixture(shape, ranked[0], beside, scores),
        margin=margin,
        entropy_bits=entropy_bits,
        entropy_normalised=min(1.0, entropy_bits / math.log2(len(EMOTIONS))),
        advice=_advice(ranked[0], band, quality_verdict, built_in, unfamiliar),
        caveats=tuple(caveats),
    )


def _band(confidence: float) -> Band:
    """Returns the band of a confidence: 0.85 is medium, 0.70 medium, 0.50 low."""
    if confidence > HIGH_ABOVE + TOLERANCE:
        return "high"
    if confidence >= MEDIUM_FROM - TOLERANCE:
        return "medium"
    if confidence >= LOW_FROM - TOLERANCE:
        return "low"
    return "unreliable"


def _shape(falling: FloatArray) -> Shape:
    """Returns the shape of the scores, given by falling value.

    The three named shapes exclude each other: beside a leader over 0.7 no second can be over 0.3,
    and a flat distribution has none over 0.15. Three labels over 0.3 are not "two": graded.
    """
    if falling[0] > SINGLE_ABOVE + TOLERANCE and falling[1] < SINGLE_OTHERS_BELOW - TOLERANCE:
        return "single"
    if int((falling > DOUBLE_ABOVE + TOLERANCE).sum()) == 2:
        return "double"
    if falling[-1] >= FLAT_FROM - TOLERANCE and falling[0] <= FLAT_TO + TOLERANCE:
        return "flat"
    return "graded"


def _mixture(shape: str, leader: str, beside: tuple[str, ...], scores: Mapping[str, float]) -> str:
    """Returns the code of the mixture; a flat distribution has none."""
    if shape == "flat" or leader in NOT_AN_EMOTION or not beside:
        return ""
    # The article's reading of angry 0.42 + neutral 0.38. Both must be strong:
    # angry 0.85 with neutral 0.11 is anger, not calm.
    strong = all(scores[e] > DOUBLE_ABOVE + TOLERANCE for e in ("angry", "neutral"))
    return "dissatisfaction_under_calm" if strong else "with"


def _advice(
    leader: str, band: str, quality_verdict: str | None, built_in: bool, unfamiliar: bool
) -> str:
    """Returns what to do with the result; the weakest of band, recording and model decides."""
    # A poor recording is the reason itself; and where no emotion was found, none is guessed.
    if unfamiliar and quality_verdict != "poor" and leader != "unknown":
        return "treat_as_guess_ask_large_model" if built_in else "treat_as_guess"
    if band == "unreliable":
        return "record_again"
    if quality_verdict == "poor":
        return "record_again" if band == "low" else "improve_audio_first"
    if leader == "unknown":
        return "no_emotion_recognised"
    if leader == "other":
        return "outside_the_list"
    if band == "low":
        return "check_audio"
    if built_in:
        return "confirm_with_large_model"
    return "check_context" if band == "medium" or quality_verdict == "fair" else "use"


def norm_verdict(norm: float, bounds: tuple[float, float] | None) -> NormRange:
    """Where an embedding's L2 norm lies relative to a normal range (lowest, highest).

    The norm is a property of one model: `unknown` where its range was not measured.
    """
    if bounds is None or not math.isfinite(norm):
        return "unknown"
    if norm < bounds[0] - TOLERANCE:
        return "low"
    return "high" if norm > bounds[1] + TOLERANCE else "normal"


def weighted_frames(frame_scores: np.ndarray) -> Weighted:
    """Returns the article's weighted scores over frame scores.

    A window of 100 frames (2 s) counts its first 30 % with weight 0.3, its middle 40 % with 0.5 and
    its last 30 % with 0.2, each part averaged. Windows start every 50 frames and are averaged.
    Where they do not end with the clip, one more window is added that does, so that the last frames
    count too (our choice: the article does not say). A shorter clip is one window, divided by the
    same shares; the weight of a part without a frame goes to the others in proportion.

    Args:
        frame_scores: (frames, 9), 50/s, labels in the order of `EMOTIONS`, rows summing to 1.

    Raises:
        ValueError: The shape is not (frames >= 1, 9).
    """
    frame_scores = np.asarray(frame_scores, dtype=np.float64)
    if frame_scores.ndim != 2 or frame_scores.shape[1] != len(EMOTIONS) or not len(frame_scores):
        raise ValueError(
            f"frame scores have the shape {frame_scores.shape}, expected (frames, {len(EMOTIONS)})"
        )
    frames = len(frame_scores)
    size = min(frames, WINDOW_FRAMES)
    starts = np.arange(0, frames - size + 1, WINDOW_STEP_FRAMES)
    if starts[-1] != frames - size:
        starts = np.append(starts, frames - size)

    # Cumulative sums make every window three subtractions, also for an hour.
    total = np.concatenate([np.zeros((1, len(EMOTIONS))), np.cumsum(frame_scores, axis=0)])
    windows = np.zeros((len(starts), len(EMOTIONS)))
    weight_used = 0.0
    share_end = 0.0
    begin = 0
    for share, weight in WINDOW_PARTS:
        share_end += share
        end = math.floor(share_end * size + 0.5)
        if end > begin:
            windows += weight * (total[starts + end] - total[starts + begin]) / (end - begin)
            weight_used += weight
        begin = end
    windows /= weight_used

    at, label = np.unravel_index(int(windows.argmax()), windows.shape)
    return Weighted(
        scores=dict(zip(EMOTIONS, (float(v) for v in windows.mean(axis=0)), strict=True)),
        windows=len(starts),
        window_frames=size,
        peak=Peak(
            emotion=EMOTIONS[label],
            score=float(windows[at, label]),
            start_s=float(starts[at]) / FRAMES_PER_S,
            end_s=float(starts[at] + size) / FRAMES_PER_S,
        ),
    )


def log_notes(
    *,
    model_load_s: float = 0.0,
    inference_s: float = 0.0,
    duration_s: float = 0.0,
    source_rate_hz: int = SAMPLE_RATE_HZ,
) -> tuple[Note, ...]:
    """Returns notes on figures of the processing log outside the article's normal range.

    Args:
        model_load_s: Wait for the model; 0 where this request did not wait.
        inference_s: Time in the model for this clip.
        duration_s: Length of the clip; over 30 s, inference is allowed proportionally more time.
        source_rate_hz: Sample rate of the file.
    """
    notes = []
    if model_load_s > MODEL_LOAD_LIMIT_S:
        notes.append(Note("model_load_slow", float(model_load_s), MODEL_LOAD_LIMIT_S))
    limit = INFERENCE_LIMIT_S * max(1.0, duration_s / INFERENCE_LIMIT_AUDIO_S)
    if inference_s > limit:
        notes.append(Note("inference_slow", float(inference_s), limit))
    if source_rate_hz > SAMPLE_RATE_HZ:
        notes.append(Note("downsampled", float(source_rate_hz), SAMPLE_RATE_HZ / 2))
    elif source_rate_hz < SAMPLE_RATE_HZ:
        notes.append(Note("upsampled", float(source_rate_hz), source_rate_hz / 2))
    return tuple(notes)
