"""Past results for the tests: described and saved by the program's own functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from emotion2vec_ui.audio import damage
from emotion2vec_ui.audio.load import Clip, load
from emotion2vec_ui.frames import FRAMES_PER_S
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models.engine import Prediction
from emotion2vec_ui.models.files import BUILT_IN
from emotion2vec_ui.models.loader import Loaded
from emotion2vec_ui.models.network import Runtime
from emotion2vec_ui.pipeline import robustness as pipeline_robustness
from emotion2vec_ui.pipeline.describe import describe, model_facts
from emotion2vec_ui.reading.familiarity import Reference
from emotion2vec_ui.records import store
from emotion2vec_ui.records.report import Report, Timing
from emotion2vec_ui.records.robustness import RobustnessTest
from emotion2vec_ui.records.sentences import in_words

EXAMPLE = Path(__file__).parents[1] / "emotion2vec_ui" / "page" / "assets" / "examples" / "en.wav"


@cache
def heard() -> Clip:
    """The example recording, decoded and judged once."""
    return load(EXAMPLE)


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
    familiarity: float | None = None,
    lang: str = "en",
) -> Report:
    """A report with the facts a test wants."""
    clip = heard()
    clip = replace(
        clip,
        source=replace(clip.source, name=name),
        quality=replace(clip.quality, verdict=quality),
    )
    scores = scores_for(emotion, confidence)
    features = None
    if embedding_shape is not None and len(embedding_shape) == 2:
        features = np.zeros(embedding_shape, np.float32)
    prediction = Prediction(
        logits=np.log(np.array(list(scores.values()))),
        embedding=np.full((embedding_shape or (512,))[-1], 0.1, np.float32),
        n_frames=250,
        frame_logits=None if frames is None else np.log(frames),
        frame_features=features,
    )
    made = describe(
        clip,
        _loaded(model, familiarity),
        prediction,
        Timing(decode_s=0.1, model_load_s=0.0, inference_s=0.2, total_s=0.3),
        with_embedding=embedding_shape is not None,
    )
    return in_words(replace(made, timestamp=timestamp), lang)


class NotRun:
    """The facts of a network in a report, without the network."""

    runtime: Runtime = "pytorch"
    device = "cpu"
    precision = "fp32"

    def run(self, waves: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        raise NotImplementedError

    def move(self, device: str) -> None:
        raise NotImplementedError


def _reference(familiarity: float) -> Reference:
    """By which an embedding of equal numbers has this familiarity."""
    one = np.zeros((1, 512), np.float32)
    one[0, 0] = 1
    distance = 1 - 512**-0.5
    return Reference(
        embeddings=one,
        neighbours=1,
        quantiles=np.array([0.0, distance / (1 - familiarity)]),
        temperature=2.0,
        slope=0.0,
        max_temperature=2.0,
        norm_range=(0.0, 10.0),
    )


def _loaded(model: str, familiarity: float | None = None) -> Loaded:
    return Loaded(
        network=NotRun(),
        id=model,
        origin=BUILT_IN if model == "compact" else "cache",
        weights_sha256="0" * 64,
        revision=None,
        load_s=0.0,
        parameters=0,
        dim=512,
        embedding_norm=None,
        reference=None if familiarity is None else _reference(familiarity),
    )


def save(
    outputs: Path,
    embedding: np.ndarray | None = None,
    *,
    kept: np.ndarray | None = None,
    weights_sha256: str = "0" * 64,
    **facts: Any,
) -> str:
    """Saves a report and returns its folder's name; `kept` is the embedding for the index."""
    shape = None if embedding is None else embedding.shape
    made = report(**facts, embedding_shape=shape)
    assert made.model is not None
    made = replace(made, model=replace(made.model, weights_sha256=weights_sha256))
    samples = heard().samples[:8000]
    return store.save(outputs, made, samples, embedding, kept_embedding=kept).folder.name


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
    return save_content(outputs, json.dumps(made).encode(), made["timestamp"])


def save_content(outputs: Path, content: bytes, timestamp: str = "2025-06-01 08:00:00") -> str:
    """A result folder whose result.json has just this content."""
    folder = save(outputs, timestamp=timestamp)
    (outputs / folder / store.RESULT_NAME).write_bytes(content)
    return folder


def frames(seconds: float = 4.0) -> np.ndarray:
    """Frame scores that go from happy to sad half-way: (frames, 9)."""
    n = round(seconds * FRAMES_PER_S)
    scores = np.full((n, 9), 0.02)
    scores[: n // 2, EMOTIONS.index("happy")] = 0.84
    scores[n // 2 :, EMOTIONS.index("sad")] = 0.84
    return scores


def robustness(flips: tuple[str, ...] = (), *, model: str = "compact") -> RobustnessTest:
    """A robustness test: happy leads, and sad under the conditions with the codes in `flips`."""

    def predict(clips: list[np.ndarray]) -> np.ndarray:
        leaders = ["sad" if one.code in flips else "happy" for one in damage.conditions()]
        rows = [
            list(scores_for(leader, 0.9 - 0.01 * i).values()) for i, leader in enumerate(leaders)
        ]
        return np.array(rows)

    return pipeline_robustness.run(
        heard().samples[:8000],
        predict,
        seed=0,
        source=heard().source,
        model=model_facts(_loaded(model)),
    )
