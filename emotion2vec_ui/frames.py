"""The time grid of all models: 16 kHz samples in, 50 frames per second out.

No library is imported here; every other module takes these figures from this one.
"""

from __future__ import annotations

from typing import Any

SAMPLE_RATE_HZ = 16_000
"""Sample rate that the models were trained on, in Hz."""

RECEPTIVE_FIELD_SAMPLES = 400
"""Samples that one frame depends on, 25 ms: emotion2vec's seven convolutions have the kernels
(10, 3, 3, 3, 3, 2, 2). Anything shorter has no frame."""

HOP_SAMPLES = 320
"""Samples between frames, 20 ms: the product of the convolutions' strides, 5 * 2^6."""

FRAMES_PER_S = SAMPLE_RATE_HZ // HOP_SAMPLES
"""Frames per second: 50."""


def frame_count(n_samples: Any) -> Any:
    """Returns the number of frames of `n_samples` (at least 400) at 16 kHz.

    Args:
        n_samples: An int, or an integer tensor with the lengths of several clips.
    """
    return (n_samples - RECEPTIVE_FIELD_SAMPLES) // HOP_SAMPLES + 1
