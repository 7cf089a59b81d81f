"""funasr's Emotion2vec with its own forward pass: exact for padded batches, low in memory.

funasr's own path differs from this one in three ways, all measured on its code (1.4.16):

* It runs one clip at a time; a padded batch given to `extract_features` leaks the padding through
  the five positional convolutions into up to 45 frames of the shorter clips. Here the padded
  frames are zeroed before each of those convolutions: exactly what the convolutions' own zero
  padding does at the end of a clip that is alone.
* It materialises attention scores and the ALiBi bias for every clip of the batch in fp32 and keeps
  the largest bias forever. Here attention is `scaled_dot_product_attention`, and one bias serves
  the whole batch and is dropped with it.
* In 16-bit precision it fails, for it feeds fp32 audio. Here the input takes the weights' dtype.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emotion2vec_ui.frames import frame_count
from emotion2vec_ui.models.alibi import slopes


class Emotion2vecBackbone(nn.Module):
    """Frame features from a loaded `funasr.models.emotion2vec.model.Emotion2vec`.

    Args:
        module: the loaded module in eval mode, its decoder already dropped; `module.proj` is the
            linear head.

    Raises:
        ValueError: the module is built in a way this forward does not follow.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        encoder = module.modality_encoders["AUDIO"]
        if module.cfg.layer_norm_first or encoder.modality_cfg.conv_pos_pre_ln:
            raise ValueError("pre-norm emotion2vec models are not supported")
        if encoder.alibi_scale is not None and encoder.alibi_scale.size(0) != 1:
            raise ValueError("emotion2vec models with an ALiBi scale per layer are not supported")
        # A group norm in the waveform encoder averages over time, padding included.
        self._time_local = encoder.modality_cfg.extractor_mode == "layer_norm"

    @property
    def proj(self) -> nn.Linear:
        """The head: logits from the mean of the frame features; linear, so from frames as well."""
        return self.module.proj

    def forward(self, waves: Tensor, n_samples: Tensor | None = None) -> Tensor:
        """Frame features of a batch.

        Args:
            waves: (batch, samples), 16 kHz, each clip normalised by itself and then padded with
                zeros at its end.
            n_samples: int64 (batch,), the clips' own lengths; None when none is padded.

        Returns:
            (batch, frames, dim); rows past a clip's own frames are meaningless.
        """
        encoder = self.module.modality_encoders["AUDIO"]
        x = self._local_features(encoder, waves, n_samples)
        frames = x.size(1)
        lengths: list[int] | None = None
        keep = None
        if n_samples is not None:
            n_frames = frame_count(n_samples)
            lengths = n_frames.tolist()
            keep = torch.arange(frames, device=x.device) < n_frames.to(x.device).unsqueeze(1)
            keep = keep.unsqueeze(-1).to(x.dtype)
        x = x + _positions(encoder.relative_positional_encoder, x, keep)

        extra = 0
        if encoder.extra_tokens is not None:
            extra = encoder.extra_tokens.size(1)
            x = torch.cat([encoder.extra_tokens.expand(x.size(0), -1, -1), x], dim=1)
        bias = _alibi(encoder, frames, extra, x)
        if lengths is not None:
            lengths = [extra + length for length in lengths]

        if encoder.context_encoder.norm is not None:
            x = encoder.context_encoder.norm(x)
        for block in [*encoder.context_encoder.blocks, *self.module.blocks]:
            x = block.norm1(x + _attention(block.attn, x, bias, lengths))
            x = block.norm2(x + block.mlp(x))
        return x[:, extra:]

    def _local_features(self, encoder: Any, waves: Tensor, n_samples: Tensor | None) -> Tensor:
        if n_samples is None or self._time_local:
            return encoder.project_features(encoder.local_encoder(waves))
        clips = [
            encoder.project_features(encoder.local_encoder(wave[:n].unsqueeze(0)))[0]
            for wave, n in zip(waves, n_samples.tolist(), strict=True)
        ]
        return nn.utils.rnn.pad_sequence(clips, batch_first=True)


def _positions(encoder: nn.Sequential, x: Tensor, keep: Tensor | None) -> Tensor:
    """The positional convolutions of `x` (batch, frames, dim), padded frames held at zero."""
    # First and last of the Sequential only transpose (batch, frames, dim) to channels first
    # and back.
    keep_channels = None if keep is None else keep.transpose(1, 2)
    x = x.transpose(1, 2)
    for block in list(encoder)[1:-1]:
        if keep_channels is not None:
            x = x * keep_channels
        x = block(x)
    return x.transpose(1, 2)


def _alibi(encoder: Any, frames: int, extra: int, like: Tensor) -> Tensor | None:
    """ALiBi bias (1, heads, extra + frames, extra + frames): -slope * |i - j|, 0 for extra tokens.

    Slopes are those of Press et al., arXiv 2108.12409, times the learned scale per head.
    """
    if encoder.get_alibi_bias is None:
        return None
    # On CUDA the fused kernels want the bias in the dtype of the queries; on a CPU they take fp32
    # beside 16-bit queries, which keeps far positions exact.
    dtype = like.dtype if like.device.type == "cuda" else torch.float32
    heads = encoder.modality_cfg.num_alibi_heads
    slope = torch.tensor(slopes(heads), device=like.device)
    if encoder.alibi_scale is not None:
        slope = slope * encoder.alibi_scale.clamp_min(0).float().reshape(-1)
    position = torch.arange(frames, device=like.device)
    distance = (position.unsqueeze(0) - position.unsqueeze(1)).abs()
    bias = torch.zeros(1, heads, extra + frames, extra + frames, device=like.device, dtype=dtype)
    bias[0, :, extra:, extra:] = -slope.reshape(-1, 1, 1) * distance
    return bias


def _attention(attention: Any, x: Tensor, bias: Tensor | None, lengths: list[int] | None) -> Tensor:
    """Self-attention of `x` (batch, tokens, dim); each clip attends within its own length."""
    batch, tokens, dim = x.shape
    heads = attention.num_heads
    q, k, v = attention.qkv(x).reshape(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    if lengths is None:
        mixed = _dot_product(q, k, v, bias, attention.scale)
    else:
        # A loop, not a mask: a mask for ragged clips would be (batch, heads, tokens, tokens).
        mixed = torch.zeros_like(q)
        for i, n in enumerate(lengths):
            part = None if bias is None else bias[:, :, :n, :n]
            one = slice(i, i + 1)
            mixed[one, :, :n] = _dot_product(
                q[one, :, :n], k[one, :, :n], v[one, :, :n], part, attention.scale
            )
    return attention.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))


def _dot_product(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
