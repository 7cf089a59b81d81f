"""Shares one model among many callers: one thread runs every forward pass, in turns.

A turn is one window, not one recording: an hour-long recording delays a short one by a window.
Interactive work goes first; bulk work runs while no interactive window waits. Within a priority
the callers take turns, however many jobs each has submitted. Windows of several turns that belong
to the same model and priority form one batch, sorted by length, as long as the padded batch stays
within what the device gains from (`engine.default_batch_s`).
"""

from __future__ import annotations

import contextlib
import enum
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING

import numpy as np

from emotion2vec_ui.errors import ShuttingDown
from emotion2vec_ui.frames import SAMPLE_RATE_HZ
from emotion2vec_ui.models import engine

if TYPE_CHECKING:
    from emotion2vec_ui.models.loader import Loaded
    from emotion2vec_ui.models.network import Network

IDLE_OFFLOAD_S = 30.0
"""With --low-vram, the weights leave the GPU after this long without work."""

STOP_RETRY_AFTER_S = 10
"""Retry-After of what a stopping program refuses: a restart takes about as long."""


class Priority(enum.IntEnum):
    """Who waits for the answer; lower values go first."""

    INTERACTIVE = 0
    BULK = 1


class Job:
    """One recording that was submitted.

    Attributes:
        loaded: the model that answers.
        samples: float32 (n,), 16 kHz mono.
        future: resolves to the `engine.Prediction`, or to the error.
        inference_s: seconds of forward passes that worked for it, shared batches counted by share.
    """

    def __init__(
        self,
        loaded: Loaded,
        samples: np.ndarray,
        *,
        frames: bool,
        features: bool,
        window_s: float,
        on_progress: Callable[[float], None] | None,
    ) -> None:
        self.loaded = loaded
        self.samples = samples
        self.future: Future[engine.Prediction] = Future()
        self.inference_s = 0.0
        self._collector = engine.Collector(len(samples), frames=frames, features=features)
        self._windows = deque(engine.plan(len(samples), window_s))
        self._total = self._left = len(self._windows)
        self._on_progress = on_progress

    def cancel(self) -> None:
        """Windows that have not begun are not run; does nothing once the job is answered."""
        self.future.cancel()

    def next_window(self) -> engine.Window | None:
        """Takes the next window to run; None when all are taken or the job was cancelled."""
        if self.future.done() or not self._windows:
            return None
        return self._windows.popleft()

    def add(self, window: engine.Window, features: np.ndarray, logits: np.ndarray) -> None:
        """Adds one window's answer; the last one resolves the future."""
        self._collector.add(window, features, logits)
        self._left -= 1
        if self._on_progress is not None:
            self._on_progress(1 - self._left / self._total)
        if self._left == 0:
            with contextlib.suppress(InvalidStateError):  # cancelled, or failed by `stop`
                self.future.set_result(self._collector.prediction())

    def fail(self, error: BaseException) -> None:
        """Ends the job with an error, unless it is answered or cancelled."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


class _Queue:
    """Jobs of one priority. Groups take turns, one window each; a group's jobs go in order."""

    def __init__(self) -> None:
        # The first group is the next to have its turn. No group is without jobs.
        self._groups: OrderedDict[Hashable, deque[Job]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._groups)

    def append(self, job: Job, group: Hashable) -> None:
        """Adds a job as its group's last."""
        self._groups.setdefault(group, deque()).append(job)

    def take(self, loaded: Loaded | None = None) -> tuple[Job, engine.Window] | None:
        """Takes the window whose turn it is, of the model `loaded` only unless that is None.

        Jobs without further windows are removed. Returns None when nothing suitable waits.
        """
        for _ in range(len(self._groups)):
            group, jobs = next(iter(self._groups.items()))
            self._groups.move_to_end(group)
            while jobs and (loaded is None or jobs[0].loaded is loaded):
                window = jobs[0].next_window()
                if window is not None:
                    return jobs[0], window
                jobs.popleft()
            if not jobs:
                del self._groups[group]
        return None


class Batcher:
    """Owns the thread that runs the forward passes.

    Args:
        low_vram: short windows, one at a time, and weights off the GPU when idle.
        observe: called after each batch with (windows, padded seconds, seconds taken).
    """

    def __init__(
        self,
        *,
        low_vram: bool = False,
        observe: Callable[[int, float, float], None] | None = None,
    ) -> None:
        self._low_vram = low_vram
        self._window_s = engine.LOW_VRAM_WINDOW_S if low_vram else engine.WINDOW_S
        self._observe = observe
        self._queues = {priority: _Queue() for priority in Priority}
        self._unanswered: set[Job] = set()
        self._on_gpu: Network | None = None  # with --low-vram: the model whose weights are there
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._started = False

    @property
    def waiting(self) -> int:
        """Recordings submitted and not yet answered."""
        return sum(not job.future.done() for job in self._unanswered.copy())

    def submit(
        self,
        loaded: Loaded,
        samples: np.ndarray,
        *,
        frames: bool = False,
        features: bool = False,
        priority: Priority = Priority.INTERACTIVE,
        group: Hashable | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Job:
        """Queues a recording.

        Args:
            loaded: the model that answers; kept for this recording whatever happens meanwhile.
            samples: float32 (n,), 16 kHz mono, n >= 400.
            frames: keep the logits of every frame.
            features: keep the features of every frame.
            priority: whether a person waits for this answer.
            group: jobs with an equal group share one caller's turns; None is a caller by itself.
            on_progress: called from the engine's thread with the share done, 0 to 1.

        Raises:
            ShuttingDown: `stop` was called.

        Example:
            caller = object()
            jobs = [batcher.submit(loaded, clip, group=caller) for clip in clips]
            predictions = [job.future.result() for job in jobs]
        """
        job = Job(
            loaded,
            samples,
            frames=frames,
            features=features,
            window_s=self._window_s,
            on_progress=on_progress,
        )
        with self._wake:
            if self._stopping:
                raise ShuttingDown(retry_after_s=STOP_RETRY_AFTER_S)
            if not self._started:
                self._started = True
                self._thread.start()
            self._unanswered.add(job)
            self._queues[priority].append(job, job if group is None else group)
            self._wake.notify()
        job.future.add_done_callback(lambda _: self._unanswered.discard(job))
        return job

    def stop(self, timeout_s: float) -> None:
        """Refuses new jobs, finishes the queued ones within `timeout_s`, fails the rest."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._started:
            self._thread.join(timeout_s)
        for job in self._unanswered.copy():
            job.fail(ShuttingDown(retry_after_s=STOP_RETRY_AFTER_S))

    def _serve(self) -> None:
        """Runs batches until `stop` was called and nothing is queued."""
        while True:
            with self._wake:
                while not any(self._queues.values()) and not self._stopping:
                    if not self._wake.wait(IDLE_OFFLOAD_S) and self._on_gpu is not None:
                        with contextlib.suppress(RuntimeError):  # the next batch meets it again
                            self._on_gpu.move("cpu")
                        self._on_gpu = None
                if not any(self._queues.values()):
                    return
                batch = self._next_batch()
            if batch:
                self._run(batch)

    def _next_batch(self) -> list[tuple[Job, engine.Window]]:
        """Windows of the first priority that has any; empty where all jobs were cancelled."""
        for priority in Priority:
            batch = self._batch_of(self._queues[priority])
            if batch:
                return batch
        return []

    def _batch_of(self, queue: _Queue) -> list[tuple[Job, engine.Window]]:
        """Windows in turn, all of one model, within the device's budget; sorted by length."""
        first = queue.take()
        if first is None:
            return []
        loaded = first[0].loaded
        budget_s = 0.0 if self._low_vram else engine.default_batch_s(loaded.network.device)
        batch = [first]
        longest = first[1].n_samples
        # The next window could be longer, and then the batch a little over its budget: the
        # budget is about speed. Memory has its own guard, engine.run.
        while longest * (len(batch) + 1) <= budget_s * SAMPLE_RATE_HZ:
            following = queue.take(loaded)
            if following is None:
                break
            batch.append(following)
            longest = max(longest, following[1].n_samples)
        batch.sort(key=lambda piece: piece[1].n_samples)
        return batch

    def _run(self, batch: list[tuple[Job, engine.Window]]) -> None:
        """Runs one batch and gives each job its answers."""
        started = time.perf_counter()
        waves = [job.samples[window.start : window.stop] for job, window in batch]
        try:
            network = batch[0][0].loaded.network
            if self._low_vram and network.device != "cpu" and self._on_gpu is None:
                network.move(network.device)
                self._on_gpu = network
            answers = engine.run(network, waves)
        except Exception as error:  # these callers get it; the thread goes on
            for job, _ in batch:
                job.fail(error)
            return
        taken_s = time.perf_counter() - started
        if self._observe is not None:
            padded_s = max(len(wave) for wave in waves) * len(waves) / SAMPLE_RATE_HZ
            self._observe(len(batch), padded_s, taken_s)
        total = sum(len(wave) for wave in waves)
        for (job, window), wave, (features, logits) in zip(batch, waves, answers, strict=True):
            job.inference_s += taken_s * len(wave) / total
            try:
                job.add(window, features, logits)
            except Exception as error:  # a caller's progress callback, a full temporary disk
                job.fail(error)
