"""The time grid that all models share: 16 kHz samples in, 50 frames per second out.

Nothing is imported here; every other module takes these figures from this one.
"""

from __future__ import annotations

from typing import Any

SAMPLE_RATE_HZ = 16_000
"""What the models were trained on."""

RECEPTIVE_FIELD_SAMPLES = 400
"""Samples that one frame looks at, 25 ms: emotion2vec's seven convolutions have the kernels
(10, 3, 3, 3, 3, 2, 2). Anything shorter has no frame."""

HOP_SAMPLES = 320
"""Samples between frames, 20 ms: the product of the convolutions' strides, 5 * 2^6."""

FRAMES_PER_S = SAMPLE_RATE_HZ // HOP_SAMPLES


def frame_count(n_samples: Any) -> Any:
    """Frames of `n_samples` at 16 kHz (at least 400); for ints, arrays and tensors alike."""
    return (n_samples - RECEPTIVE_FIELD_SAMPLES) // HOP_SAMPLES + 1
