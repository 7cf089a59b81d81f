"""What a prediction means: the report of one recognition, in codes and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from emotion2vec_ui.audio.load import Clip
from emotion2vec_ui.frames import FRAMES_PER_S
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading import familiarity, scoring, subclass_head, timeline
from emotion2vec_ui.records import report as records
from emotion2vec_ui.records.report import (
    Embedding,
    Model,
    Report,
    ReportWarning,
    SubclassScores,
    Timing,
    Utterance,
)
from emotion2vec_ui.records.store import EMBEDDING_NAME
from emotion2vec_ui.records.subclasses import Trained

if TYPE_CHECKING:
    from emotion2vec_ui.models.engine import Prediction
    from emotion2vec_ui.models.loader import Loaded

CURVE_COLUMNS = 300
"""Columns of the picture over time: what a phone has pixels for; an hour is as small as 6 s."""


def describe(
    clip: Clip,
    loaded: Loaded,
    prediction: Prediction,
    timing: Timing,
    *,
    with_embedding: bool,
    utterances: tuple[Utterance, ...] = (),
    trained: Sequence[Trained] = (),
) -> Report:
    """The report of one recognition: every figure that any front end shows, no sentence yet.

    Args:
        clip: what the model heard.
        loaded: the model.
        prediction: what it said; with frame logits for frame granularity.
        timing: of the steps so far.
        with_embedding: whether embedding.npy is kept.
        utterances: the stretches of speech, each recognised by itself.
        trained: sets of sub-classes of this model.
    """
    scores = _named_scores(prediction)
    reading = _read(loaded, prediction, quality_verdict=clip.quality.verdict)
    advice_code = reading.advice
    if (
        reading.band in ("low", "unreliable")
        and "unfamiliar" not in reading.caveats
        and len({one.emotion for one in utterances}) > 1
    ):
        # One label cannot fit several sentences; the sentences have their own.
        advice_code = "read_the_parts"
    report = Report(
        emotion=reading.emotion,
        confidence=round(reading.confidence, records.DECIMALS),
        scores=_rounded(scores),
        granularity="utterance",
        timestamp=records.now_text(),
        source=clip.source,
        model=model_facts(loaded),
        reliability=records.reliability(reading, advice_code),
        distribution=records.distribution(reading, scores),
        subclasses={one.card.name: _divided(one, prediction) for one in trained} or None,
        quality=clip.quality,
        timing=timing,
        embedding=_embedding(loaded, prediction) if with_embedding else None,
        warnings=_warnings(clip, reading),
    )
    return _over_time(report, prediction, utterances)


def _over_time(report: Report, prediction: Prediction, utterances: tuple[Utterance, ...]) -> Report:
    """The report with what frame granularity adds; itself where there are no frames."""
    frame_logits, frame_scores = prediction.frame_logits, prediction.frame_scores
    if frame_logits is None or frame_scores is None:
        return report
    return replace(
        report,
        granularity="frame",
        scores=np.round(frame_scores, records.DECIMALS).tolist(),
        labels=EMOTIONS,
        frame_rate=FRAMES_PER_S,
        utterance_scores=report.nine_scores,
        weighted=scoring.weighted_frames(frame_scores),
        segments=timeline.segments(frame_logits),
        utterances=utterances,
        curve=timeline.curve(frame_logits, CURVE_COLUMNS),
    )


def _divided(trained: Trained, prediction: Prediction) -> SubclassScores:
    """How the score of a set's base divides among its sub-classes."""
    card = trained.card
    shares = subclass_head.shares(prediction.embedding, trained.head)
    score = prediction.scores[EMOTIONS.index(card.base)]
    *parts, none = subclass_head.divided(score, [*shares.classes, shares.none], records.DECIMALS)
    return SubclassScores(
        version=card.version,
        base=card.base,
        scores=dict(zip(card.classes, parts, strict=True)),
        none=none,
        small=card.small,
    )


def describe_utterance(
    loaded: Loaded, prediction: Prediction, start_s: float, end_s: float
) -> Utterance:
    """One stretch of speech recognised by itself."""
    scores = _named_scores(prediction)
    reading = _read(loaded, prediction, quality_verdict=None)
    return Utterance(
        emotion=reading.emotion,
        start_s=round(start_s, 3),
        end_s=round(end_s, 3),
        confidence=round(reading.confidence, records.DECIMALS),
        band=reading.band,
        scores=_rounded(scores),
    )


def _read(
    loaded: Loaded, prediction: Prediction, *, quality_verdict: str | None
) -> scoring.Reading:
    """The prediction read by the article's rules, and judged by the model's reference if any."""
    familiar = calibrated = None
    if loaded.reference is not None:
        distance = familiarity.distance(prediction.embedding, loaded.reference)
        familiar = familiarity.rank(distance, loaded.reference)
        logits = prediction.logits
        if not loaded.is_built_in:  # its logits are tempered inside
            logits = familiarity.temper(logits, distance, loaded.reference)
        calibrated = float(scoring.softmax(logits).max())
    return scoring.read(
        _named_scores(prediction),
        quality_verdict=quality_verdict,
        built_in=loaded.is_built_in,
        familiarity=familiar,
        calibrated_confidence=calibrated,
    )


def _named_scores(prediction: Prediction) -> dict[str, float]:
    """The nine scores by name, in the contract's order."""
    return dict(zip(EMOTIONS, prediction.scores.tolist(), strict=True))


def model_facts(loaded: Loaded) -> Model:
    """What every answer says of the model that gave it."""
    return Model(
        id=loaded.id,
        origin=loaded.origin,
        revision=loaded.revision,
        weights_sha256=loaded.weights_sha256,
        device=loaded.network.device,
        precision=loaded.network.precision,
        runtime=loaded.network.runtime,
    )


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {emotion: round(score, records.DECIMALS) for emotion, score in scores.items()}


def _embedding(loaded: Loaded, prediction: Prediction) -> Embedding:
    features = prediction.frame_features
    norm = float(np.linalg.norm(prediction.embedding))
    return Embedding(
        file=EMBEDDING_NAME,
        shape=prediction.embedding.shape if features is None else features.shape,
        dtype="float32",
        norm=round(norm, records.DECIMALS),
        norm_verdict=scoring.norm_verdict(norm, loaded.embedding_norm),
        norm_range=loaded.embedding_norm,
        article_range=scoring.ARTICLE_NORM_RANGE,
        article_verdict=scoring.norm_verdict(norm, scoring.ARTICLE_NORM_RANGE),
    )


def _warnings(clip: Clip, reading: scoring.Reading) -> tuple[ReportWarning, ...]:
    """What limits this result, most of it about the recording."""
    # First what makes the answer a guess, then what is wrong with the recording.
    codes = [code for code in reading.caveats if code == "unfamiliar"]
    codes += clip.quality.warnings
    if clip.truncated:
        codes.append("truncated")
    # A poor or fair quality has its reasons in the list already.
    told = ("unfamiliar", "quality_fair", "quality_poor")
    codes += [code for code in reading.caveats if code not in told]
    return tuple(ReportWarning(code) for code in codes)
