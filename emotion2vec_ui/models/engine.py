"""Runs clips through a loaded model: windows, padded batches, halving when memory runs out.

`batching` builds the answers of many callers from these parts.

Audio of more than `WINDOW_S` is cut into windows of at most `LONG_WINDOW_S`, each normalised by
itself as every utterance is. Neighbouring windows overlap by `2 * CONTEXT_S`; the frames up to the
middle of the overlap are taken from the one, the others from the other, so every frame is counted
once and was computed with a second of audio on both sides. Windows start on the 20 ms grid, so that
a long recording has the same frames as a short one. Its logits and its embedding are the means over
all frames.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emotion2vec_ui.errors import OutOfMemory
from emotion2vec_ui.frames import (
    FRAMES_PER_S,
    HOP_SAMPLES,
    RECEPTIVE_FIELD_SAMPLES,
    SAMPLE_RATE_HZ,
    frame_count,
)
from emotion2vec_ui.reading.scoring import softmax

if TYPE_CHECKING:
    from emotion2vec_ui.models.network import Network

WINDOW_S = 30.0
"""Longest window: the article advises 1-30 s, and attention grows with its square."""

LONG_WINDOW_S = 20.0
"""Longest window of a recording that must be cut. Attention makes longer ones dearer, and shorter
ones repeat more context: on two cores, OpenVINO in fp32, a second of audio took 0.164 s in windows
of 20 s and 0.180 s in windows of 30 s, context included (a few runs, not a benchmark)."""

LOW_VRAM_WINDOW_S = 10.0
"""The same for --low-vram: 1/9 of the attention bias of a 30 s window."""

CONTEXT_S = 1.0
"""Audio in a window beyond the frames taken from it, on each side that has a neighbour."""

CUDA_BATCH_S = 120.0
"""Padded seconds in one batch on a GPU; not yet tuned on one."""

CPU_BATCH_S = 0.0
"""One window at a time on a CPU: one clip keeps all cores busy, and batches of eight measured no
faster on two cores, only larger."""

SPILL_BYTES = 64_000_000
"""Frame features above this size are kept in a temporary file instead of memory."""


@dataclass(frozen=True)
class Prediction:
    """The model's answer for one recording; labels in the order of `labels.EMOTIONS`.

    Attributes:
        logits: float32 (9,).
        embedding: float32 (dim,), the mean of the frame features.
        n_frames: frames in the recording, 50 per second.
        frame_logits: float32 (frames, 9), or None when not asked for.
        frame_features: float32 (frames, dim), or None when not asked for.
    """

    logits: np.ndarray
    embedding: np.ndarray
    n_frames: int
    frame_logits: np.ndarray | None = None
    frame_features: np.ndarray | None = None

    @property
    def scores(self) -> np.ndarray:
        """float64 (9,): softmax of the logits; sums to 1."""
        return softmax(self.logits)

    @property
    def frame_scores(self) -> np.ndarray | None:
        """float64 (frames, 9): softmax of each frame's logits, or None."""
        return None if self.frame_logits is None else softmax(self.frame_logits)


@dataclass(frozen=True)
class Window:
    """A part of one recording that the model sees at once, and the frames taken from it.

    Attributes:
        start, stop: samples of the recording; `stop` excluded.
        first, last: frames taken, counted from the window's own start; `last` excluded.
    """

    start: int
    stop: int
    first: int
    last: int

    @property
    def n_samples(self) -> int:
        """Its length in samples at 16 kHz."""
        return self.stop - self.start


def plan(n_samples: int, window_s: float = WINDOW_S) -> list[Window]:
    """Cuts a recording into windows of nearly equal length, of at most `LONG_WINDOW_S`.

    Args:
        n_samples: at least 400, at 16 kHz.
        window_s: the longest recording in seconds that is one window.
    """
    total = frame_count(n_samples)
    if n_samples <= int(window_s * SAMPLE_RATE_HZ):
        return [Window(0, n_samples, 0, total)]
    longest = int(min(window_s, LONG_WINDOW_S) * SAMPLE_RATE_HZ)
    context = int(CONTEXT_S * FRAMES_PER_S)
    # Frames taken from one window when it has a neighbour on both sides.
    core = frame_count(longest) - 2 * context
    n_windows = -(-total // core)
    edges = [total * i // n_windows for i in range(n_windows + 1)]
    windows = []
    for begin, end in itertools.pairwise(edges):
        left = max(0, begin - context)
        right = min(total, end + context)
        stop = n_samples if right == total else (right - 1) * HOP_SAMPLES + RECEPTIVE_FIELD_SAMPLES
        windows.append(Window(left * HOP_SAMPLES, stop, begin - left, end - left))
    return windows


class Collector:
    """Collects the windows of one recording, in any order, into its prediction.

    Sums are float64: an hour has 180,000 frames.
    """

    def __init__(self, n_samples: int, *, frames: bool, features: bool) -> None:
        self._n_frames = frame_count(n_samples)
        self._want_frames = frames
        self._want_features = features
        self._counted = 0
        self._logit_sum: np.ndarray | float = 0.0
        self._feature_sum: np.ndarray | float = 0.0
        self._frame_logits: np.ndarray | None = None
        self._frame_features: np.ndarray | None = None

    def add(self, window: Window, features: np.ndarray, logits: np.ndarray) -> None:
        """Adds a whole window's features (frames, dim) and logits (frames, 9)."""
        features = features[window.first : window.last]
        logits = logits[window.first : window.last]
        begin = window.start // HOP_SAMPLES + window.first
        place = slice(begin, begin + len(logits))
        self._counted += len(logits)
        self._logit_sum = self._logit_sum + logits.sum(axis=0, dtype=np.float64)
        self._feature_sum = self._feature_sum + features.sum(axis=0, dtype=np.float64)
        if self._want_frames:
            if self._frame_logits is None:
                self._frame_logits = np.empty((self._n_frames, logits.shape[1]), np.float32)
            self._frame_logits[place] = logits
        if self._want_features:
            if self._frame_features is None:
                self._frame_features = _buffer((self._n_frames, features.shape[1]))
            self._frame_features[place] = features

    def prediction(self) -> Prediction:
        """The recording's prediction, once every window was added."""
        assert self._counted == self._n_frames, (self._counted, self._n_frames)
        return Prediction(
            logits=np.asarray(self._logit_sum / self._counted, dtype=np.float32),
            embedding=np.asarray(self._feature_sum / self._counted, dtype=np.float32),
            n_frames=self._n_frames,
            frame_logits=self._frame_logits,
            frame_features=self._frame_features,
        )


def default_batch_s(device: str) -> float:
    """Padded seconds per batch on `device` ("cpu", "cuda:0", ...)."""
    return CPU_BATCH_S if device == "cpu" else CUDA_BATCH_S


def run(network: Network, waves: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Runs one batch; where memory runs out its halves, down to single windows.

    Args, Returns and Raises: see `Network.run`; `OutOfMemory` when a single window does not fit.
    """
    try:
        return network.run(waves)
    except OutOfMemory:
        if len(waves) == 1:
            raise
    half = len(waves) // 2
    return run(network, waves[:half]) + run(network, waves[half:])


def predict(network: Network, wave: np.ndarray, *, frames: bool = False) -> Prediction:
    """One recording by itself, without a queue.

    Args:
        network: the model's.
        wave: float32 (samples,), 16 kHz mono, finite, at least 400 samples.
        frames: keep the logits of every frame.

    Raises:
        OutOfMemory: a window does not fit.
    """
    collector = Collector(len(wave), frames=frames, features=False)
    for window in plan(len(wave)):
        ((features, logits),) = run(network, [wave[window.start : window.stop]])
        collector.add(window, features, logits)
    return collector.prediction()


def _buffer(shape: tuple[int, int]) -> np.ndarray:
    """An empty float32 array; a large one is mapped from a file that is deleted with it."""
    if shape[0] * shape[1] * 4 <= SPILL_BYTES:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
