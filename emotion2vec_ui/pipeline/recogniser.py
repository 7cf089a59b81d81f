"""One recognition from file to folder: the verb that the page, the API and the command line share.

Admit, decode, wait for the model, predict, describe, save: each a step of its own. Who recognises
many recordings at once (`batch`) takes the middle ones, `submit` and `answer`, without the ends.
Nothing here knows HTTP, Gradio or argparse; errors pass through as `EmotionError`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.audio.load import Clip, Source
from emotion2vec_ui.errors import BadField, DeviceLost, QueueFull, ShuttingDown
from emotion2vec_ui.frames import SAMPLE_RATE_HZ
from emotion2vec_ui.models.batching import Batcher, Job, Priority
from emotion2vec_ui.pipeline import robustness
from emotion2vec_ui.pipeline.describe import describe, describe_utterance, model_facts
from emotion2vec_ui.pipeline.observer import Ended, Front, Kind, Observer
from emotion2vec_ui.reading import timeline
from emotion2vec_ui.records import store, subclasses
from emotion2vec_ui.records.report import GRANULARITIES, Model, Report, Timing, Utterance
from emotion2vec_ui.records.robustness import RobustnessTest
from emotion2vec_ui.records.sentences import in_words
from emotion2vec_ui.settings import Settings

if TYPE_CHECKING:
    from emotion2vec_ui.models.engine import Prediction
    from emotion2vec_ui.models.holder import ModelHolder
    from emotion2vec_ui.models.loader import Loaded

log = logging.getLogger(__name__)

MODEL_WAIT_S = 120.0
"""How long a request waits for a loading model before it is told to come back."""

RETRY_AFTER_S = 5
"""What a refused caller is told to wait; chosen: about ten short clips on two cores."""

ROBUSTNESS_S = 30.0
"""What the robustness test uses of a recording: about one utterance, recognised 21 times."""

POLL_S = 0.5
"""How often a waiting request looks whether its caller is still there."""


@dataclass(frozen=True)
class Recognition:
    """A finished recognition.

    Attributes:
        report: with its sentences.
        saved: where and what was written; None when saving was not wanted.
    """

    report: Report
    saved: store.Saved | None


@dataclass(frozen=True)
class Embedded:
    """The utterance embedding of one recording.

    Attributes:
        vector: float32 (dim,), as the model gave it.
        model: which model.
        source: the file as it came.
    """

    vector: NDArray[np.float32]
    model: Model
    source: Source


@dataclass(frozen=True)
class Submitted:
    """A decoded recording on its way through the model.

    Attributes:
        clip: what the model hears.
        loaded: the model.
        job: its place in the queue; afterwards, how long it took.
    """

    clip: Clip
    loaded: Loaded
    job: Job


class Cancelled(Exception):
    """The caller went away; nothing was saved."""


class Recogniser:
    """Everything that lives as long as the program: the model, its queue, the decoder.

    Args:
        settings: of the program.
        holder: finds, loads and keeps the model.
        decode: `audio.load` or `decoding.Decoder`: path and name in, Clip out.
        observer: told of every batch and request.
    """

    def __init__(
        self,
        settings: Settings,
        holder: ModelHolder,
        decode: Callable[[Path, str], Clip],
        *,
        observer: Observer | None = None,
    ) -> None:
        self.settings = settings
        self.holder = holder
        self.batcher = Batcher(
            low_vram=settings.low_vram, observe=observer.batch_done if observer else None
        )
        self._observer = observer
        self.decode = decode
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
        subclass: Sequence[str] = (),
        lang: str = "en",
        save: bool = True,
        front: Front = "cli",
        on_progress: Callable[[str, float], None] = lambda step, share: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Recognition:
        """Recognises one recording.

        Args:
            path: the file.
            name: what the user calls it.
            granularity: "utterance" or "frame".
            extract_embedding: keep the embedding: (dim,), or (frames, dim) in frame granularity.
            subclass: names of sets of sub-classes that divide the score of their base.
            lang: "zh" or "en", for the sentences in the report.
            save: write a folder under `outputs`.
            front: where the request came in.
            on_progress: called with a step ("decode", "model", "inference", "save") and its share.
            cancelled: asked now and then whether the caller is gone.

        Raises:
            EmotionError: what was found, expected and to be done.
            Cancelled: `cancelled` said so.
        """
        with self._request(front, "predict") as request:
            if granularity not in GRANULARITIES:
                raise BadField(
                    field="granularity",
                    value=repr(granularity)[:100],
                    allowed=", ".join(GRANULARITIES),
                )
            trained = [subclasses.load(self.settings.outputs, one) for one in subclass]
            started = time.perf_counter()
            on_progress("decode", 0.0)
            clip = self.decode(path, name or path.name)
            request.audio_s = clip.source.duration_s
            if cancelled():
                raise Cancelled
            on_progress("model", 0.0)
            waited = time.perf_counter()
            loaded = self.holder.get(MODEL_WAIT_S)
            model_wait_s = time.perf_counter() - waited
            # The holder answers in microseconds once a model is there.
            if model_wait_s < 0.05:
                model_wait_s = 0.0
            for one in trained:
                one.require(loaded.weights_sha256, loaded.id)
            frames = granularity == "frame"
            on_progress("inference", 0.0)
            submitted = self.submit(
                loaded,
                clip,
                frames=frames,
                features=frames and extract_embedding,
                on_progress=lambda share: on_progress("inference", share),
            )
            prediction = self.answer(submitted, cancelled)
            utterances: tuple[Utterance, ...] = ()
            if frames:
                utterances = self.utterances(loaded, clip, cancelled)
            timing = Timing(
                decode_s=clip.decode_s,
                model_load_s=model_wait_s,
                inference_s=submitted.job.inference_s,
                total_s=time.perf_counter() - started,
            )
            report = describe(
                clip,
                loaded,
                prediction,
                timing,
                with_embedding=extract_embedding,
                utterances=utterances,
                trained=trained,
            )
            report = in_words(report, lang)
            saved = None
            if save:
                on_progress("save", 0.0)
                saved = self.save(report, clip, prediction)
            on_progress("save", 1.0)
            return Recognition(report, saved)

    def submit(
        self,
        loaded: Loaded,
        clip: Clip,
        *,
        frames: bool,
        features: bool = False,
        priority: Priority = Priority.INTERACTIVE,
        group: Hashable | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Submitted:
        """Queues one decoded recording for the model; `answer` waits for it.

        Args:
            loaded: the model.
            clip: what it hears.
            frames: keep the logits of every frame.
            features: keep the features of every frame.
            priority: whether a person waits for this answer.
            group: recordings with an equal group share one caller's turns.
            on_progress: called from the model's thread with the share done, 0 to 1.

        Raises:
            ShuttingDown: the program is stopping.
        """
        job = self.batcher.submit(
            loaded,
            clip.samples,
            frames=frames,
            features=features,
            priority=priority,
            group=group,
            on_progress=on_progress,
        )
        return Submitted(clip, loaded, job)

    def answer(
        self, submitted: Submitted, cancelled: Callable[[], bool] = lambda: False
    ) -> Prediction:
        """Waits for the answer to one recording.

        Raises:
            Cancelled: `cancelled` said so.
            DeviceLost: the GPU failed; the model is loaded again.
            EmotionError: any other failure of the model.
        """
        (prediction,) = self._answers(submitted.loaded, [submitted.job], cancelled)
        return prediction

    def save(
        self, report: Report, clip: Clip, prediction: Prediction, *, origin: str = ""
    ) -> store.Saved:
        """Writes the result folder of one recognition.

        Args:
            report: with its sentences; where it tells of an embedding, that is kept too.
            clip: what the model heard.
            prediction: what it said.
            origin: by which `store.origins` finds it again.

        Raises:
            DiskFull, OutputError: it cannot be written, and nothing is left behind.
        """
        embedding = None
        if report.embedding is not None:
            frames = report.granularity == "frame"
            embedding = prediction.frame_features if frames else prediction.embedding
        return store.save(
            self.settings.outputs,
            report,
            clip.samples,
            embedding,
            kept_embedding=None if self.settings.no_index else prediction.embedding,
            origin=origin,
        )

    def utterances(
        self,
        loaded: Loaded,
        clip: Clip,
        cancelled: Callable[[], bool] = lambda: False,
        *,
        priority: Priority = Priority.INTERACTIVE,
    ) -> tuple[Utterance, ...]:
        """Each stretch of speech recognised by itself; none where there is only one.

        Raises:
            Cancelled: `cancelled` said so.
            DeviceLost: the GPU failed; the model is loaded again.
            EmotionError: any other failure of the model.
        """
        stretches = timeline.utterances(clip.quality.speech, duration_s=clip.duration_s)
        if len(stretches) < 2:
            return ()
        cut = [
            clip.samples[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
            for start_s, end_s in stretches
        ]
        predictions = self._predict_all(loaded, cut, cancelled=cancelled, priority=priority)
        return tuple(
            describe_utterance(loaded, prediction, start_s, end_s)
            for prediction, (start_s, end_s) in zip(predictions, stretches, strict=True)
        )

    def embed(
        self,
        path: Path,
        *,
        name: str | None = None,
        front: Front = "cli",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Embedded:
        """The utterance embedding of one recording; nothing is saved.

        Args:
            path: the file.
            name: what the user calls it.
            front: where the request came in.
            cancelled: asked now and then whether the caller is gone.

        Raises:
            EmotionError: what was found, expected and to be done.
            Cancelled: `cancelled` said so.
        """
        with self._request(front, "similar") as request:
            clip = self.decode(path, name or path.name)
            request.audio_s = clip.source.duration_s
            loaded = self.holder.get(MODEL_WAIT_S)
            prediction = self.answer(self.submit(loaded, clip, frames=False), cancelled)
        return Embedded(prediction.embedding, model_facts(loaded), clip.source)

    def robustness(
        self,
        path: Path,
        *,
        name: str | None = None,
        seed: int = 0,
        front: Front = "cli",
        on_progress: Callable[[str, float], None] = lambda step, share: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> RobustnessTest:
        """Recognises one recording under noise and codecs; nothing is saved.

        Args:
            path: the file; its first `ROBUSTNESS_S` are used.
            name: what the user calls it.
            seed: of the noises: the same seed gives the same figures.
            front: where the request came in.
            on_progress: called with a step and its share.
            cancelled: asked now and then whether the caller is gone.

        Raises:
            EmotionError: what was found, expected and to be done.
            Cancelled: `cancelled` said so.
        """
        with self._request(front, "robustness") as request:
            on_progress("decode", 0.0)
            clip = self.decode(path, name or path.name)
            on_progress("model", 0.0)
            loaded = self.holder.get(MODEL_WAIT_S)

            def predict(clips: list[np.ndarray]) -> np.ndarray:
                found = self._predict_all(
                    loaded,
                    clips,
                    on_progress=lambda share: on_progress("inference", share),
                    cancelled=cancelled,
                )
                return np.array([one.scores for one in found])

            samples = clip.samples[: int(ROBUSTNESS_S * SAMPLE_RATE_HZ)]
            request.audio_s = len(samples) / SAMPLE_RATE_HZ
            test = robustness.run(
                samples, predict, seed=seed, source=clip.source, model=model_facts(loaded)
            )
            on_progress("inference", 1.0)
        return test

    def stop(self, timeout_s: float) -> None:
        """Refuses what comes, finishes what runs within `timeout_s`."""
        self._stopping = True
        deadline = time.monotonic() + timeout_s
        self.wait_until_empty(timeout_s)
        self.batcher.stop(max(0.0, deadline - time.monotonic()))
        self.holder.stop()

    def wait_until_empty(self, timeout_s: float) -> None:
        """Returns when no request is inside, or after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self._inside and time.monotonic() < deadline:
            time.sleep(POLL_S)

    @contextlib.contextmanager
    def _request(self, front: Front, kind: Kind) -> Iterator[_Request]:
        """One request slot, released on exit; the observer is told how the request ended.

        Raises:
            QueueFull, ShuttingDown: there is no slot.
        """
        request = _Request()
        started = time.perf_counter()
        error: BaseException | None = None
        try:
            self._admit()
            try:
                yield request
            finally:
                with self._lock:
                    self._inside -= 1
        except BaseException as raised:
            error = raised
            raise
        finally:
            if self._observer is not None:
                taken_s = time.perf_counter() - started
                self._observer.request_ended(Ended(front, kind, error, taken_s, request.audio_s))

    def _admit(self) -> None:
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

    def _predict_all(
        self,
        loaded: Loaded,
        clips: Sequence[np.ndarray],
        *,
        on_progress: Callable[[float], None] = lambda share: None,
        cancelled: Callable[[], bool],
        priority: Priority = Priority.INTERACTIVE,
    ) -> list[Prediction]:
        """The answers for several clips of one request, which share one caller's turns."""
        caller = object()
        jobs = [
            self.batcher.submit(loaded, samples, priority=priority, group=caller)
            for samples in clips
        ]
        return self._answers(loaded, jobs, cancelled, on_progress)

    def _answers(
        self,
        loaded: Loaded,
        jobs: Sequence[Job],
        cancelled: Callable[[], bool],
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> list[Prediction]:
        """Waits for each job; after an error the others are cancelled.

        Raises:
            Cancelled: `cancelled` said so.
            DeviceLost: the GPU failed; the holder has been told.
        """
        answers = []
        try:
            for i, job in enumerate(jobs):
                on_progress(i / len(jobs))
                answers.append(_wait(job.future, cancelled))
        except DeviceLost:
            self.holder.lost(loaded)
            raise
        finally:
            for job in jobs:
                job.cancel()
        return answers


@dataclass
class _Request:
    """What is found out about a request while it runs."""

    audio_s: float = 0.0


def _wait(future: Future[Prediction], cancelled: Callable[[], bool]) -> Prediction:
    while True:
        # Asked first: one of many short answers in a row is always there already.
        if cancelled():
            raise Cancelled
        with contextlib.suppress(FutureTimeoutError):
            return future.result(POLL_S)
