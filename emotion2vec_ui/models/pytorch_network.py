"""A model run by PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from emotion2vec_ui.errors import DeviceLost, OutOfMemory
from emotion2vec_ui.frames import RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ, frame_count
from emotion2vec_ui.models.network import Runtime

LOST_RETRY_AFTER_S = 15
"""Retry-After when the GPU failed: the longest time that loading plus_large takes."""


class Backbone(Protocol):
    """A torch module: frame features and the linear head on them."""

    @property
    def proj(self) -> torch.nn.Linear:
        """The head: features (..., dim) -> logits (..., 9)."""

    def __call__(self, waves: Tensor, n_samples: Tensor | None = None) -> Tensor:
        """Frame features (batch, frames, dim), 50 frames/s, of waves (batch, samples) at 16 kHz.

        `n_samples`, int64 (batch,), are the lengths before padding; None when none is padded.
        """

    def to(self, device: str) -> Any:
        """As of `torch.nn.Module`."""


class PyTorchNetwork:
    """A `Network` of a torch module.

    Args:
        backbone: in eval mode, on `device`.
        device: "cpu", "cuda:0", ...
        precision: "fp32", "bf16" or "fp16", of the module's weights.
    """

    runtime: ClassVar[Runtime] = "pytorch"

    def __init__(self, backbone: Backbone, device: str, precision: str) -> None:
        self.backbone = backbone
        self.device = device
        self.precision = precision

    def run(self, waves: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Network.run`."""
        try:
            return self._forward(waves)
        except RuntimeError as error:
            if _is_device_lost(error):
                raise DeviceLost(device=self.device, retry_after_s=LOST_RETRY_AFTER_S) from error
            if not _is_out_of_memory(error):
                raise
        # Outside the except block: its traceback would keep the tensors that did not fit.
        if self.device != "cpu":
            torch.cuda.empty_cache()
        raise OutOfMemory(device=self.device, window_s=max(map(len, waves)) / SAMPLE_RATE_HZ)

    def move(self, device: str) -> None:
        """See `Network.move`."""
        self.backbone.to(device)
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _forward(self, waves: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        head = self.backbone.proj
        # Each clip by itself and before padding, as upstream does; in fp32 at any precision.
        clips = [_normalised(wave) for wave in waves]
        ragged = len({len(clip) for clip in clips}) > 1
        lengths = torch.tensor([len(clip) for clip in clips]) if ragged else None
        batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
        if head.weight.is_cuda:  # one copy, which the CPU does not wait for
            batch = batch.pin_memory()
        batch = batch.to(head.weight.device, head.weight.dtype, non_blocking=True)
        features = self.backbone(batch, lengths)
        # The head is tiny: in fp32 it costs nothing and keeps frame and utterance logits equal.
        features = features.float()
        bias = None if head.bias is None else head.bias.float()
        logits = F.linear(features, head.weight.float(), bias)
        features, logits = features.cpu(), logits.cpu()
        n_frames = [frame_count(len(clip)) for clip in clips]
        return [(features[i, :n].numpy(), logits[i, :n].numpy()) for i, n in enumerate(n_frames)]


def _normalised(wave: np.ndarray) -> Tensor:
    """float32 (samples,) of mean 0 and variance 1."""
    assert wave.ndim == 1 and len(wave) >= RECEPTIVE_FIELD_SAMPLES, wave.shape
    clip = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))
    return F.layer_norm(clip, clip.shape)


def _is_device_lost(error: RuntimeError) -> bool:
    # "CUDA error: unspecified launch failure", "... the launch timed out ...": every later call
    # fails as well. Out of memory says "CUDA out of memory".
    return str(error).startswith("CUDA error") and "out of memory" not in str(error)


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The CPU allocator has no exception class of its own.
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
