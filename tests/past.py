"""Past results for the tests of the history: small, but as `results.save` writes them."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from emotion2vec_ui.audio import load as audio
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading import scoring, timeline
from emotion2vec_ui.records import store as results
from emotion2vec_ui.texts import text

EXAMPLE = Path(__file__).parents[1] / "emotion2vec_ui" / "page" / "assets" / "examples" / "en.wav"


@cache
def heard() -> Any:
    """The example recording, decoded and judged once."""
    return audio.load(EXAMPLE)


def scores_for(emotion: str, confidence: float) -> dict[str, float]:
    """Nine scores with this leader; the rest is shared by the others."""
    rest = (1 - confidence) / (len(EMOTIONS) - 1)
    return {one: confidence if one == emotion else rest for one in EMOTIONS}


def report(
    emotion: str = "happy",
    confidence: float = 0.9,
    *,
    timestamp: str = "2026-01-04 22:30:00",
    name: str = "call.wav",
    model: str = "compact",
    quality: str = "good",
    frames: np.ndarray | None = None,
    embedding_shape: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """A report as the pipeline makes it, with the facts a test wants."""
    clip, scores = heard(), scores_for(emotion, confidence)
    reading = scoring.read(scores, quality_verdict=quality, built_in=model == "compact")
    report = results.Report(
        emotion=emotion,
        confidence=confidence,
        scores=scores,
        granularity="utterance" if frames is None else "frame",
        timestamp=timestamp,
        source=clip.source,
        model=results.ModelFacts(model, "built in", None, "0" * 64, "cpu", "fp32"),
        reliability={
            "band": reading.band,
            "advice": text(f"advice.{reading.advice}", "en"),
            "advice_code": reading.advice,
            "caveats": list(reading.caveats),
        },
        distribution={
            "shape": reading.shape,
            "leading": [{"emotion": one, "score": scores[one]} for one in reading.leading],
            "mixture": reading.mixture or None,
            "text": "",
            "margin": reading.margin,
            "entropy": reading.entropy_bits,
            "entropy_normalised": reading.entropy_normalised,
        },
        quality=json.loads(json.dumps(asdict(clip.quality))) | {"verdict": quality},
        timing=results.Timing(0.1, 0.0, 0.2, 0.3),
        embedding=None
        if embedding_shape is None
        else results.EmbeddingFacts(
            "embedding.npy", embedding_shape, "float32", 2.0, "unknown", None, (1.8, 2.2), "normal"
        ),
        warnings=[],
        log=["Audio info: duration=5.2s, sr=16000", "Inference time: 0.20s"],
        labels=EMOTIONS,
        frame_scores=frames,
        time={} if frames is None else _over_time(frames),
    ).to_dict()
    report["source"]["name"] = name
    return report


def save(outputs: Path, embedding: np.ndarray | None = None, **facts: Any) -> str:
    """Saves a report and returns its folder's name."""
    shape = None if embedding is None else embedding.shape
    made = report(**facts, embedding_shape=shape)
    return results.save(outputs, made, heard().samples[:8000], embedding).name


def save_old(outputs: Path, **changes: Any) -> str:
    """A result of the first WebUI: the five fields of the contract and no more."""
    made = {
        "emotion": "happy",
        "confidence": 0.853,
        "scores": {
            "angry": 0.012,
            "disgusted": 0.008,
            "fearful": 0.015,
            "happy": 0.853,
            "neutral": 0.045,
            "other": 0.023,
            "sad": 0.018,
            "surprised": 0.021,
            "unknown": 0.005,
        },
        "granularity": "utterance",
        "timestamp": "2025-06-01 08:00:00",
    } | changes
    return results.save(outputs, made, heard().samples[:8000], None).name


def frames(seconds: float = 4.0) -> np.ndarray:
    """Frame scores that go from happy to sad half-way: (frames, 9)."""
    n = round(seconds * scoring.FRAMES_PER_S)
    scores = np.full((n, 9), 0.02)
    scores[: n // 2, EMOTIONS.index("happy")] = 0.84
    scores[n // 2 :, EMOTIONS.index("sad")] = 0.84
    return scores


def _over_time(frames: np.ndarray) -> dict[str, Any]:
    end_s = len(frames) / scoring.FRAMES_PER_S
    halves = [("happy", 0.0, end_s / 2), ("sad", end_s / 2, end_s)]
    parts = [
        {"emotion": one, "start_s": start, "end_s": end, "confidence": 0.84}
        for one, start, end in halves
    ]
    return {
        "curve": asdict(timeline.curve(np.log(frames), 300)),
        "weighted": asdict(scoring.weighted_frames(frames)),
        "segments": parts,
        "utterances": [],
    }
