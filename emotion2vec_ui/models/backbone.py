"""funasr's Emotion2vec with its own forward pass: exact for padded batches, low in memory.

funasr's own path differs from this one in three ways, all measured on its code (1.4.16):

* It runs one clip at a time; a padded batch given to `extract_features` leaks the padding through
  the five positional convolutions into up to 45 frames of the shorter clips. Here the padded
  frames are zeroed before each of those convolutions: exactly what the convolutions' own zero
  padding does at the end of a clip that is alone.
* It materialises attention scores and the ALiBi bias for every clip of the batch in fp32 and keeps
  the largest bias forever. Here attention is `scaled_dot_product_attention`, and one bias serves
  all layers and is dropped with the batch.
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
        keep = None
        if n_samples is not None:
            n_frames = frame_count(n_samples).to(x.device)
            keep = torch.arange(frames, device=x.device) < n_frames.unsqueeze(1)
        x = x + _positions(encoder.relative_positional_encoder, x, keep)

        extra = 0
        if encoder.extra_tokens is not None:
            extra = encoder.extra_tokens.size(1)
            x = torch.cat([encoder.extra_tokens.expand(x.size(0), -1, -1), x], dim=1)
        bias = _alibi(encoder, frames, extra, x)
        if keep is not None:
            bias = _without_padding(bias, F.pad(keep, (extra, 0), value=True))

        if encoder.context_encoder.norm is not None:
            x = encoder.context_encoder.norm(x)
        for block in [*encoder.context_encoder.blocks, *self.module.blocks]:
            x = block.norm1(x + _attention(block.attn, x, bias))
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
    """The positional convolutions of `x` (batch, frames, dim), padded frames held at zero.

    `keep`, bool (batch, frames), is False where a frame is padding; None where none is.
    """
    # First and last of the Sequential only transpose (batch, frames, dim) to channels first
    # and back.
    x = x.transpose(1, 2)
    for block in list(encoder)[1:-1]:
        if keep is not None:
            x = x * keep.unsqueeze(1)
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


def _without_padding(bias: Tensor | None, keep: Tensor) -> Tensor:
    """The mask (batch, heads or 1, tokens or 1, tokens) by which no token attends to padding.

    One for all layers: at most the scores of one, and padded batches then need no loop over clips.

    Args:
        bias: (1, heads, tokens, tokens), added to attention scores; None where there is none.
        keep: bool (batch, tokens), False where a token is padding.
    """
    keys = keep[:, None, None, :]
    return keys if bias is None else bias.masked_fill(~keys, -torch.inf)


def _attention(attention: Any, x: Tensor, bias: Tensor | None) -> Tensor:
    """Self-attention of `x` (batch, tokens, dim)."""
    batch, tokens, dim = x.shape
    qkv = attention.qkv(x).reshape(batch, tokens, 3, attention.num_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=attention.scale)
    return attention.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))
