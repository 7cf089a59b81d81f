"""Many callers, one model: one thread owns the forward pass and serves everybody in turn.

Work is shared out by windows, not by requests: the callers take turns, one window each, so an
hour-long recording delays a short one by a window and not by an hour. Windows of one turn that
belong to the same model go through it together, sorted by length, as long as the padded batch
stays within what the device gains from (engine.default_batch_s).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np

from emotion2vec_ui.errors import ShuttingDown
from emotion2vec_ui.models import engine

if TYPE_CHECKING:
    from emotion2vec_ui.models.loader import Loaded

IDLE_OFFLOAD_S = 30.0
"""With --low-vram, the weights leave the GPU after this long without work."""


class Job:
    """One recording on its way through the model.

    Attributes:
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
        """Gives its place up; windows not yet begun are never run."""
        self.future.cancel()

    def next_window(self) -> engine.Window | None:
        """Takes the next window to run; None when all are taken or nobody wants the answer."""
        if self.future.done() or not self._windows:
            return None
        return self._windows.popleft()

    def add(self, window: engine.Window, features: np.ndarray, logits: np.ndarray) -> None:
        """Takes one window's answer; the last one resolves the future."""
        self._collector.add(window, features, logits)
        self._left -= 1
        if self._on_progress is not None:
            self._on_progress(1 - self._left / self._total)
        if self._left == 0 and self.future.set_running_or_notify_cancel():
            self.future.set_result(self._collector.prediction())

    def fail(self, error: BaseException) -> None:
        """Ends it with an error."""
        if not self.future.done():
            self.future.set_exception(error)


class Batcher:
    """The thread that owns the forward pass.

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
        self._jobs: deque[Job] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._started = False

    @property
    def waiting(self) -> int:
        """Recordings submitted and not yet answered."""
        with self._wake:
            return sum(not job.future.done() for job in self._jobs)

    def submit(
        self,
        loaded: Loaded,
        samples: np.ndarray,
        *,
        frames: bool = False,
        features: bool = False,
        on_progress: Callable[[float], None] | None = None,
    ) -> Job:
        """Queues a recording.

        Args:
            loaded: the model that answers; kept for this recording whatever happens meanwhile.
            samples: float32 (n,), 16 kHz mono, n >= 400.
            frames: keep the logits of every frame.
            features: keep the features of every frame.
            on_progress: called from the engine's thread with the share done, 0 to 1.

        Raises:
            ShuttingDown: `stop` was called.
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
                raise ShuttingDown(retry_after_s=10)
            if not self._started:
                self._started = True
                self._thread.start()
            self._jobs.append(job)
            self._wake.notify()
        return job

    def stop(self, timeout_s: float) -> None:
        """Takes nothing new, finishes what it has within `timeout_s`, fails the rest."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._started:
            self._thread.join(timeout_s)
        with self._wake:
            for job in self._jobs:
                job.fail(ShuttingDown(retry_after_s=10))

    def _serve(self) -> None:
        resident: Loaded | None = None
        while True:
            with self._wake:
                while not self._jobs and not self._stopping:
                    if not self._wake.wait(IDLE_OFFLOAD_S) and resident is not None:
                        _move(resident, "cpu")
                        resident = None
                if not self._jobs:
                    return
                batch = self._take_turns()
            if not batch:
                continue
            if self._low_vram and batch[0][0].loaded.device != "cpu" and resident is None:
                resident = batch[0][0].loaded
                _move(resident, resident.device)
            self._run(batch)

    def _take_turns(self) -> list[tuple[Job, engine.Window]]:
        """The next batch: one window per caller in turn, all of one model, within the budget."""
        loaded = None
        budget = 0.0
        batch: list[tuple[Job, engine.Window]] = []
        longest = 0
        # Every job is looked at as long as windows are found; two empty rounds cannot happen.
        idle_turns = 0
        while self._jobs and idle_turns < len(self._jobs):
            job = self._jobs[0]
            if loaded is None:
                loaded = job.loaded
                budget = 0.0 if self._low_vram else engine.default_batch_s(loaded.device)
            if job.loaded is not loaded:
                self._jobs.rotate(-1)
                idle_turns += 1
                continue
            window = job.next_window()
            if window is None:
                # All its windows are running or it was cancelled.
                self._jobs.popleft()
                if not batch:
                    loaded = None
                continue
            longest = max(longest, window.n_samples)
            batch.append((job, window))
            self._jobs.rotate(-1)
            idle_turns = 0
            # The next window could be longer, and then the batch a little over its budget: the
            # budget is about speed. Memory has its own guard, engine.run.
            if longest * (len(batch) + 1) > budget * engine.SAMPLE_RATE_HZ:
                break
        batch.sort(key=lambda piece: piece[1].n_samples)
        return batch

    def _run(self, batch: list[tuple[Job, engine.Window]]) -> None:
        started = time.perf_counter()
        waves = [job.samples[window.start : window.stop] for job, window in batch]
        try:
            answers = engine.run(batch[0][0].loaded, waves)
        except Exception as error:  # whatever it is belongs to these callers, not to this thread
            for job, _ in batch:
                job.fail(error)
            return
        taken_s = time.perf_counter() - started
        if self._observe is not None:
            padded_s = max(len(wave) for wave in waves) * len(waves) / engine.SAMPLE_RATE_HZ
            self._observe(len(batch), padded_s, taken_s)
        total = sum(len(wave) for wave in waves)
        for (job, window), wave, (features, logits) in zip(batch, waves, answers, strict=True):
            job.inference_s += taken_s * len(wave) / total
            try:
                job.add(window, features, logits)
            except Exception as error:  # a caller's progress callback, a full temporary disk
                job.fail(error)


def _move(loaded: Loaded, device: str) -> None:
    import torch

    loaded.backbone.to(device)
    if loaded.device.startswith("cuda"):
        torch.cuda.empty_cache()
