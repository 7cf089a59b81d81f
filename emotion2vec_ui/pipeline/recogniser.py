"""One recognition from file to folder: the verb that the page, the API and the command line share.

decode -> (wait for the model) -> predict -> read the scores -> save. Nothing here knows HTTP,
Gradio or argparse; errors pass through as `EmotionError`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion2vec_ui import texts
from emotion2vec_ui.audio.load import Clip
from emotion2vec_ui.errors import BadField, DeviceLost, QueueFull, ShuttingDown
from emotion2vec_ui.frames import RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models.batching import Batcher
from emotion2vec_ui.pipeline import robustness
from emotion2vec_ui.reading import scoring, timeline
from emotion2vec_ui.records import store as results
from emotion2vec_ui.settings import Settings

if TYPE_CHECKING:
    from emotion2vec_ui.models.engine import Prediction
    from emotion2vec_ui.models.holder import ModelHolder
    from emotion2vec_ui.models.loader import Loaded

log = logging.getLogger(__name__)

GRANULARITIES = ("utterance", "frame")

MODEL_WAIT_S = 120.0
"""How long a request waits for a loading model before it is told to come back."""

RETRY_AFTER_S = 5
"""What a refused caller is told to wait; chosen: about ten short clips on two cores."""

CURVE_COLUMNS = 300
"""Columns of the picture over time: what a phone has pixels for; an hour is as light as 6 s."""

STRESS_S = 30.0
"""What the robustness test listens to: one utterance; it is recognised 19 times."""

POLL_S = 0.5
"""How often a waiting request looks whether its caller is still there."""


@dataclass(frozen=True)
class Result:
    """A finished recognition.

    Attributes:
        report: the content of result.json.
        folder: where it was saved; None when saving was not wanted.
    """

    report: dict[str, Any]
    folder: Path | None


class Cancelled(Exception):
    """The caller went away; nothing was saved."""


class Recogniser:
    """Everything that lives as long as the program: the model, its queue, the decoder.

    Args:
        settings: of the program.
        holder: finds, loads and keeps the model.
        decode: `audio.load` or `decoding.Decoder`: path and name in, Clip out.
        observe: called after each batch with (windows, padded seconds, seconds taken).
    """

    def __init__(
        self,
        settings: Settings,
        holder: ModelHolder,
        decode: Callable[[Path, str], Clip],
        *,
        observe: Callable[[int, float, float], None] | None = None,
    ) -> None:
        self.settings = settings
        self.holder = holder
        self.batcher = Batcher(low_vram=settings.low_vram, observe=observe)
        self._decode = decode
        self._lock = threading.Lock()
        self._inside = 0
        self._stopping = False

    @property
    def inside(self) -> int:
        """Requests accepted and not yet answered."""
        return self._inside

    def analyse(
        self,
        path: Path,
        *,
        name: str | None = None,
        granularity: str = "utterance",
        extract_embedding: bool = False,
        lang: str = "en",
        save: bool = True,
        on_progress: Callable[[str, float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Result:
        """Recognises one recording.

        Args:
            path: the file.
            name: what the user calls it.
            granularity: "utterance" or "frame".
            extract_embedding: keep the embedding: (dim,), or (frames, dim) in frame granularity.
            lang: "zh" or "en", for the sentences in the report.
            save: write a folder under `outputs`.
            on_progress: called with a step ("decode", "model", "inference", "save") and its share.
            cancelled: asked now and then whether the caller is gone.

        Raises:
            EmotionError: what was found, expected and to be done.
            Cancelled: `cancelled` said so.
        """
        if granularity not in GRANULARITIES:
            raise BadField(
                field="granularity", value=repr(granularity), allowed=", ".join(GRANULARITIES)
            )
        step = on_progress or _no_progress
        with self._admitted():
            started = time.perf_counter()
            step("decode", 0.0)
            clip = self._decode(path, name or path.name)
            _raise_if(cancelled)
            step("model", 0.0)
            waited = time.perf_counter()
            loaded = self.holder.get(MODEL_WAIT_S)
            model_wait_s = time.perf_counter() - waited
            # The holder answers in microseconds once a model is there.
            if model_wait_s < 0.05:
                model_wait_s = 0.0
            frames = granularity == "frame"
            step("inference", 0.0)
            prediction, inference_s = self._predict(
                loaded,
                clip.samples,
                frames=frames,
                features=frames and extract_embedding,
                on_progress=lambda share: step("inference", share),
                cancelled=cancelled,
            )
            spoken = []
            if frames:
                spoken = self._utterances(loaded, clip, lang, cancelled)
            timing = results.Timing(
                decode_s=clip.decode_s,
                model_load_s=model_wait_s,
                inference_s=inference_s,
                total_s=time.perf_counter() - started,
            )
            report = describe(
                clip,
                loaded,
                prediction,
                timing,
                granularity=granularity,
                with_embedding=extract_embedding,
                spoken=spoken,
                lang=lang,
            ).to_dict()
            folder = None
            if save:
                step("save", 0.0)
                embedding = None
                if extract_embedding:
                    embedding = prediction.frame_features if frames else prediction.embedding
                folder = results.save(self.settings.outputs, report, clip.samples, embedding)
            step("save", 1.0)
            return Result(report, folder)

    def stress(
        self,
        path: Path,
        *,
        name: str | None = None,
        seed: int = 0,
        on_progress: Callable[[str, float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> dict[str, Any]:
        """Recognises one recording under noise and codecs; plain data, nothing is saved.

        Args:
            path: the file; its first `STRESS_S` are used.
            name: what the user calls it.
            seed: of the noises: the same seed gives the same figures.
            on_progress: called with a step and its share.
            cancelled: asked now and then whether the caller is gone.

        Raises:
            EmotionError: what was found, expected and to be done.
            Cancelled: `cancelled` said so.
        """
        step = on_progress or _no_progress
        with self._admitted():
            step("decode", 0.0)
            clip = self._decode(path, name or path.name)
            step("model", 0.0)
            loaded = self.holder.get(MODEL_WAIT_S)

            def predict(clips: list[np.ndarray]) -> np.ndarray:
                caller = object()
                jobs = [self.batcher.submit(loaded, samples, group=caller) for samples in clips]
                rows = []
                try:
                    for i, job in enumerate(jobs):
                        step("inference", i / len(jobs))
                        rows.append(_wait(job.future, cancelled).scores)
                finally:
                    for job in jobs:
                        job.cancel()
                return np.array(rows)

            samples = clip.samples[: int(STRESS_S * SAMPLE_RATE_HZ)]
            report = robustness.run(samples, predict, seed)
            step("inference", 1.0)
        return {
            "source": asdict(clip.source),
            "model": asdict(model_facts(loaded)),
            "used_s": len(samples) / SAMPLE_RATE_HZ,
        } | asdict(report)

    def stop(self, timeout_s: float) -> None:
        """Refuses what comes, finishes what runs within `timeout_s`."""
        self._stopping = True
        deadline = time.monotonic() + timeout_s
        while self._inside and time.monotonic() < deadline:
            time.sleep(POLL_S)
        self.batcher.stop(max(0.0, deadline - time.monotonic()))
        self.holder.stop()

    def _admitted(self) -> _Place:
        with self._lock:
            if self._stopping:
                raise ShuttingDown(retry_after_s=RETRY_AFTER_S)
            # One runs, `max_queue` wait.
            if self._inside > self.settings.max_queue:
                raise QueueFull(
                    waiting=self._inside - 1,
                    limit=self.settings.max_queue,
                    retry_after_s=RETRY_AFTER_S,
                )
            self._inside += 1
        return _Place(self)

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1

    def _predict(
        self,
        loaded: Loaded,
        samples: np.ndarray,
        *,
        frames: bool = False,
        features: bool = False,
        on_progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> tuple[Prediction, float]:
        job = self.batcher.submit(
            loaded, samples, frames=frames, features=features, on_progress=on_progress
        )
        try:
            return _wait(job.future, cancelled), job.inference_s
        except CancelledError:
            raise Cancelled from None
        except DeviceLost:
            self.holder.lost(loaded)
            raise
        finally:
            job.cancel()

    def _utterances(
        self, loaded: Loaded, clip: Clip, lang: str, cancelled: Callable[[], bool] | None
    ) -> list[dict[str, Any]]:
        """Each stretch of speech recognised as an utterance of its own, in one pass."""
        stretches = timeline.utterances(clip.quality.speech, duration_s=clip.duration_s)
        if len(stretches) < 2:
            return []
        pieces = []
        caller = object()
        for start_s, end_s in stretches:
            first, last = round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ)
            samples = clip.samples[first:last]
            if len(samples) >= RECEPTIVE_FIELD_SAMPLES:
                job = self.batcher.submit(loaded, samples, group=caller)
                pieces.append((start_s, end_s, job))
        spoken = []
        try:
            for start_s, end_s, job in pieces:
                prediction = _wait(job.future, cancelled)
                scores = named_scores(prediction)
                reading = scoring.read(scores, quality_verdict=None, built_in=loaded.is_built_in)
                spoken.append(
                    {
                        "start_s": round(start_s, 3),
                        "end_s": round(end_s, 3),
                        "emotion": reading.emotion,
                        "confidence": round(reading.confidence, 6),
                        "band": reading.band,
                        "scores": {key: round(value, 6) for key, value in scores.items()},
                    }
                )
        except CancelledError:
            raise Cancelled from None
        finally:
            for _, _, job in pieces:
                job.cancel()
        return spoken


@dataclass(frozen=True)
class _Place:
    """A request's place in the house, given back however it ends."""

    recogniser: Recogniser

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.recogniser._leave()


def named_scores(prediction: Prediction) -> dict[str, float]:
    """The nine scores by name, in the contract's order."""
    return dict(zip(EMOTIONS, prediction.scores.tolist(), strict=True))


def model_facts(loaded: Loaded) -> results.ModelFacts:
    """What every answer says of the model that gave it."""
    return results.ModelFacts(
        id=loaded.id,
        origin=loaded.origin,
        revision=loaded.revision,
        weights_sha256=loaded.weights_sha256,
        device=loaded.device,
        precision=loaded.precision,
    )


def describe(
    clip: Clip,
    loaded: Loaded,
    prediction: Prediction,
    timing: results.Timing,
    *,
    granularity: str,
    with_embedding: bool,
    spoken: list[dict[str, Any]],
    lang: str,
) -> results.Report:
    """The report of one recognition: every figure that any front end shows."""
    scores = named_scores(prediction)
    quality = clip.quality
    reading = scoring.read(scores, quality_verdict=quality.verdict, built_in=loaded.is_built_in)
    frame_scores = prediction.frame_scores
    time_facts: dict[str, Any] = {}
    if prediction.frame_logits is not None and frame_scores is not None:
        weighted = scoring.weighted_frames(frame_scores)
        segments = timeline.segments(prediction.frame_logits)
        time_facts = {
            "weighted": asdict(weighted),
            "segments": [asdict(segment) for segment in segments],
            "utterances": spoken,
            "curve": asdict(timeline.curve(prediction.frame_logits, CURVE_COLUMNS)),
        }
    embedding = None
    if with_embedding:
        norm = scoring.embedding_norm_verdict(
            float(np.linalg.norm(prediction.embedding)), loaded.embedding_norm
        )
        features = prediction.frame_features
        embedding = results.EmbeddingFacts(
            file=results.EMBEDDING_NAME,
            shape=prediction.embedding.shape if features is None else features.shape,
            dtype="float32",
            norm=round(norm.norm, 6),
            norm_verdict=norm.verdict,
            norm_range=norm.model_range,
            article_range=norm.article_range,
            article_verdict=norm.article_verdict,
        )
    notes = scoring.log_notes(
        model_load_s=timing.model_load_s or None,
        inference_s=timing.inference_s,
        duration_s=clip.duration_s,
        source_rate_hz=clip.source.sample_rate,
    )
    advice = reading.advice
    if reading.band in ("low", "unreliable") and len({part["emotion"] for part in spoken}) > 1:
        # One label cannot fit several sentences; the sentences have their own.
        advice = "read_the_parts"
    warnings = _warnings(clip, loaded, reading, lang)
    return results.Report(
        emotion=reading.emotion,
        confidence=reading.confidence,
        scores=scores,
        granularity=granularity,
        timestamp=results.now_text(),
        source=clip.source,
        model=model_facts(loaded),
        reliability={
            "band": reading.band,
            "advice": texts.text(f"advice.{advice}", lang),
            "advice_code": advice,
            "caveats": list(reading.caveats),
        },
        distribution={
            "shape": reading.shape,
            "leading": [
                {"emotion": emotion, "score": round(scores[emotion], 6)}
                for emotion in reading.leading
            ],
            "mixture": reading.mixture or None,
            "text": distribution_text(reading, lang),
            "margin": round(reading.margin, 6),
            "entropy": round(reading.entropy_bits, 6),
            "entropy_normalised": round(reading.entropy_normalised, 6),
        },
        quality=asdict(quality),
        timing=timing,
        embedding=embedding,
        warnings=warnings,
        log=_log_lines(clip, timing, notes, lang),
        labels=EMOTIONS,
        frame_scores=frame_scores,
        time=time_facts,
    )


def distribution_text(reading: scoring.Reading, lang: str) -> str:
    """One sentence on the shape of the scores; mixed emotions are named."""
    leader = texts.text(f"emotion.{reading.emotion}", lang)
    beside = (texts.text(f"emotion.{emotion}", lang) for emotion in reading.beside)
    sentence = texts.text(
        f"shape.{reading.shape}", lang, leader=leader, percent=f"{reading.confidence:.1%}"
    )
    if reading.mixture:
        sentence += texts.text(
            f"mixture.{reading.mixture}",
            lang,
            leader=leader,
            beside=texts.text("list.join", lang).join(beside),
        )
    return sentence


def _warnings(
    clip: Clip, loaded: Loaded, reading: scoring.Reading, lang: str
) -> list[dict[str, Any]]:
    """What limits this result, most of it about the recording; each with its sentence."""
    found = [(code, f"quality.{code}") for code in clip.quality.warnings]
    if clip.truncated:
        found.append(("truncated", "warning.truncated"))
    found += [
        (caveat, f"caveat.{caveat}")
        for caveat in reading.caveats
        if not caveat.startswith("quality_")  # its reasons are listed already
    ]
    return [{"code": code, "text": texts.text(key, lang, model=loaded.id)} for code, key in found]


def _log_lines(
    clip: Clip, timing: results.Timing, notes: tuple[scoring.Note, ...], lang: str
) -> list[str]:
    """The processing log. The first four forms are fixed: contract section 8."""
    source = clip.source
    lines = [f"Audio info: duration={source.duration_s:.1f}s, sr={source.sample_rate}"]
    if clip.resampled:
        lines.append(f"Warning: Resampling from {source.sample_rate} to 16000")
    if timing.model_load_s:
        lines.append(f"Model loaded in {timing.model_load_s:.1f}s")
    lines.append(f"Inference time: {timing.inference_s:.2f}s")
    lines += [
        texts.text(f"note.{note.code}", lang, value=note.value, limit=note.limit) for note in notes
    ]
    return lines


def _wait(future: Future[Prediction], cancelled: Callable[[], bool] | None) -> Prediction:
    while True:
        # Asked first: one of many short answers in a row is always there already.
        _raise_if(cancelled)
        with contextlib.suppress(FutureTimeoutError):
            return future.result(POLL_S)


def _raise_if(cancelled: Callable[[], bool] | None) -> None:
    if cancelled is not None and cancelled():
        raise Cancelled


def _no_progress(step: str, share: float) -> None:
    """Nobody watches."""
