"""Predicts a list of clips in one call: for measurements, and for tests to compare with.

It uses the parts that `batching` uses, without its thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from emotion2vec_ui.frames import SAMPLE_RATE_HZ
from emotion2vec_ui.models import engine
from emotion2vec_ui.models.loader import Loaded


def predict(
    loaded: Loaded,
    clips: Sequence[np.ndarray],
    *,
    frames: bool = False,
    features: bool = False,
    window_s: float = engine.WINDOW_S,
    batch_s: float | None = None,
) -> list[engine.Prediction]:
    """Predicts clips; the answers are in the order of the clips.

    Args:
        loaded: the model that answers all of them.
        clips: float32 (samples,), 16 kHz mono, finite, at least 400 samples each.
        frames: keep the logits of every frame.
        features: keep the features of every frame.
        window_s: longest window in seconds.
        batch_s: padded seconds in one batch; None takes what suits the device.

    Raises:
        OutOfMemory: not even one window fits.
    """
    if batch_s is None:
        batch_s = engine.default_batch_s(loaded.network.device)
    collectors = [engine.Collector(len(c), frames=frames, features=features) for c in clips]
    pieces = [
        (i, window) for i, clip in enumerate(clips) for window in engine.plan(len(clip), window_s)
    ]
    pieces.sort(key=lambda piece: piece[1].n_samples)
    for batch in _batches(pieces, batch_s):
        waves = [clips[i][window.start : window.stop] for i, window in batch]
        for (i, window), (feats, logits) in zip(
            batch, engine.run(loaded.network, waves), strict=True
        ):
            collectors[i].add(window, feats, logits)
    return [collector.prediction() for collector in collectors]


def _batches(
    pieces: Sequence[tuple[int, engine.Window]], batch_s: float
) -> Iterator[Sequence[tuple[int, engine.Window]]]:
    """Groups consecutive pieces while the group, padded to its longest, stays within `batch_s`.

    A group has at least one piece, however long that is.
    """
    start = longest = 0
    for at, (_, window) in enumerate(pieces):
        longest = max(longest, window.n_samples)
        if start < at and longest * (at + 1 - start) > batch_s * SAMPLE_RATE_HZ:
            yield pieces[start:at]
            start, longest = at, window.n_samples
    if pieces:
        yield pieces[start:]
