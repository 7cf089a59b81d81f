"""What the engine needs of a model that is ready to answer, whichever runtime runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

Runtime = Literal["pytorch", "openvino"]


class Network(Protocol):
    """A model's forward pass: waveforms in, frame features and frame logits out."""

    @property
    def runtime(self) -> Runtime:
        """What runs it."""

    @property
    def device(self) -> str:
        """Where it runs: "cpu", "cuda:0", ..."""

    @property
    def precision(self) -> str:
        """Of weights and activations: "fp32", "bf16" or "fp16"."""

    def run(self, waves: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Runs one batch.

        Args:
            waves: float32 (samples,) each, 16 kHz mono, at least 400 samples, not yet normalised.

        Returns:
            For each: features (frames, dim) and logits (frames, 9), float32, 50 frames/s, labels in
            the order of `labels.EMOTIONS`.

        Raises:
            OutOfMemory: the batch does not fit; nothing of it is kept.
            DeviceLost: the GPU failed and takes no more work from this process.
        """

    def move(self, device: str) -> None:
        """Moves the weights to `device`; memory that becomes free goes back to its driver."""
