"""The built-in `compact` model: a small speech-emotion classifier with plus_large's interface.

It answers while the 1.95 GB weights of emotion2vec_plus_large are absent.
The encoder is the lower part of OpenAI Whisper base (MIT), frozen;
gate, adapter and head are trained as `training/` describes;
the trained weights, in `models/built_in/`, are CC BY-NC-SA 4.0 (see card.json there).

    waveform -> log-mel (100/s) -> 2 convolutions (50/s) -> transformer layers
             -> adapter and gate = frame features
             -> mean over frames = embedding -> proj -> softmax

The gate says how much of a frame is speech. Over silence, a frame's features are the utterance's,
so that silence changes nothing. Features of a recording unlike those that the model learnt from are
divided by a temperature that grows with the distance (`reading/familiarity.py`): its scores are
less certain. One feature is the doubt that the recording is of a known kind: the head withdraws
`other` by it, which it knows from one corpus alone; no other answer depends on it. A
recording far from the known speakers has no score above 0.85 (its single frames may have).

Differences from Whisper: frames are not centred (so that there are exactly as many as
emotion2vec has), clips are not padded to 30 s, attention in longer ones is within pieces of at
most 10.24 s, and padding in a batch changes nothing (it is masked after each convolution and in
attention).
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emotion2vec_ui.frames import FRAMES_PER_S, SAMPLE_RATE_HZ, frame_count
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models import compact_file
from emotion2vec_ui.models.compact_file import (
    DOUBT_FEATURE,
    DOUBT_UNIT,
    LOG_FLOOR,
    LOG_RANGE,
    MAX_PIECE_FRAMES,
    MEL_HOP,
    MIN_FRAME_WEIGHT,
    N_FFT,
    N_MELS,
    SILENT_RMS,
    Config,
)
from emotion2vec_ui.models.files import (
    BUILT_IN_CARD_NAME,
    BUILT_IN_DIRECTORY,
    CALIBRATION_NAME,
)
from emotion2vec_ui.reading import familiarity

SHIPPED = Config()
"""The sizes of the model that is part of this package."""


class Block(nn.Module):
    """Whisper's pre-norm transformer layer, with one matrix for query, key and value."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Transform `x`.

        Args:
            x: float (batch, frames, width).
            keys: bool (batch, 1, 1, frames), True where a frame may be attended to;
                None = everywhere.

        Returns:
            float (batch, frames, width).
        """
        batch, frames, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, frames, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=keys)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, frames, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Compact(nn.Module):
    """Speech-emotion classifier, 50 frames/s, nine labels.

    The utterance embedding is the mean of the valid frame features,
    the logits are `proj(embedding)`, the scores their softmax.
    `proj` is linear, so `softmax(proj(frame))` is the score of one frame by itself, as far as the
    frame is speech: a frame of speech weight w has w parts of its own features and 1 - w of the
    utterance's.

    Attributes:
        labels: the nine labels, in the order of `proj`'s outputs.
        proj: Linear(dim, 9) without bias; a constant feature has its place.
        reference: what the model learnt from; None = features are not divided by a temperature.
        card: the model card (`card.json`), empty for a model not loaded from disk.
    """

    labels: tuple[str, ...] = EMOTIONS

    def __init__(self, config: Config = SHIPPED) -> None:
        super().__init__()
        self.config = config
        self.card: dict[str, Any] = {}
        width = config.width
        self.conv1 = nn.Conv1d(N_MELS, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.gate = nn.Linear(width, 1)
        self.adapter = nn.Linear(width, config.dim)
        self.proj = nn.Linear(config.dim, len(EMOTIONS), bias=False)
        self.reference: familiarity.Reference | None = None
        self.register_buffer("neighbours", None, persistent=False)

    def forward(self, waves: Tensor, n_samples: Tensor | None = None) -> Tensor:
        """Compute frame features.

        Args:
            waves: float (batch, samples), 16 kHz mono, each clip normalised to zero mean and
                unit variance over its own length, *then* padded with zeros.
                Leave it float32 whatever the model's dtype: the spectrogram is float32.
            n_samples: int64 (batch,), each clip's own length; None = none is padded.

        Returns:
            (batch, frames, dim) in the model's dtype, frames = frame_count(padded samples).
            Frames beyond a clip's own frame count are meaningless.

        Raises:
            ValueError: a wrong shape, or a clip shorter than 400 samples.
        """
        if waves.ndim != 2 or waves.shape[1] < N_FFT:
            raise ValueError(
                f"waves has shape {tuple(waves.shape)}; expected (batch, samples) with at least "
                f"{N_FFT} samples (25 ms at 16 kHz). Pad or reject shorter clips first."
            )
        if n_samples is None:
            n_samples = torch.full((len(waves),), waves.shape[1], device=waves.device)
        n_samples = n_samples.to(waves.device)
        if bool((n_samples < N_FFT).any()):
            raise ValueError(
                f"n_samples holds {int(n_samples.min())}; expected at least {N_FFT} "
                "(25 ms at 16 kHz). Reject shorter clips first."
            )
        x = self.encode(self.log_mel(waves, n_samples), n_samples)
        features, embedding = self.features(x, frame_count(n_samples))
        doubt, temperature = self.tempering(embedding)
        features[:, :, DOUBT_FEATURE] += DOUBT_UNIT * doubt[:, None]
        return (features / temperature[:, None, None]).to(x.dtype)

    def log_mel(self, waves: Tensor, n_samples: Tensor) -> Tensor:
        """Compute Whisper's log-mel spectrogram, 100 frames/s, zero beyond each clip's end.

        Args:
            waves: float (batch, samples), see `forward`.
            n_samples: int64 (batch,).

        Returns:
            float32 (batch, mel frames, 80), mel frames = floor((samples - 400) / 160) + 1.
        """
        device = str(waves.device)
        windows = waves.float().unfold(1, N_FFT, MEL_HOP)
        valid = _valid(_mel_frame_count(n_samples), windows.shape[1])[:, :, None]
        # The level of the loud frames, each weighted by its own amplitude: unlike the RMS of the
        # clip it stays when silence is added.
        rms = windows.square().mean(2, keepdim=True).sqrt() * valid + SILENT_RMS
        level = rms.square().sum(1, keepdim=True) / rms.sum(1, keepdim=True)
        power = torch.fft.rfft(windows * (_window(device) / level)).abs().square()
        mel = (power @ _mel_filters(device)).clamp_min(LOG_FLOOR).log10()
        # The loudest cell of the clip's own frames: padding must not matter.
        loudest = mel.masked_fill(~valid, -math.inf).amax((1, 2), keepdim=True)
        return torch.maximum(mel, loudest - LOG_RANGE).add(4).div(4) * valid

    def encode(
        self, mel: Tensor, n_samples: Tensor, *, layers: int | None = None, first: int = 0
    ) -> Tensor:
        """Run the convolutions and the first `layers` transformer layers.

        Args:
            mel: float32 (batch, mel frames, 80), zero beyond each clip's end.
            n_samples: int64 (batch,).
            layers: how many layers to run; None = all (training caches the frozen lower ones).
            first: position number of the first frame (training varies it).

        Returns:
            (batch, frames, width) in the model's dtype.
        """
        mel_valid = _valid(_mel_frame_count(n_samples), mel.shape[1])
        x = mel.to(self.conv1.weight.dtype).transpose(1, 2)
        # Biases make padding non-zero, and the second convolution would read it: mask between.
        x = F.gelu(self.conv1(x)) * mel_valid[:, None].to(x.dtype)
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        n_frames = frame_count(n_samples)
        width, device = x.shape[2], str(x.device)
        if x.shape[1] <= MAX_PIECE_FRAMES:
            positions = _positions(first + x.shape[1], width, device)[first:]
            return self.run_blocks(x + positions.to(x.dtype), n_frames, 0, layers)
        clip, start, size = _pieces(n_frames)
        positions = _positions(first + int(size.max()), width, device)[first:]
        valid = _valid(size, len(positions))
        frame = start[:, None] + torch.arange(len(positions), device=x.device)
        pieces = x[clip[:, None], frame.clamp_max(x.shape[1] - 1)] + positions.to(x.dtype)
        done = torch.zeros_like(x)
        done[clip[:, None].expand_as(frame)[valid], frame[valid]] = self.run_blocks(
            pieces, size, 0, layers
        )[valid]
        return done

    def run_blocks(
        self, x: Tensor, n_frames: Tensor, start: int = 0, stop: int | None = None
    ) -> Tensor:
        """Run transformer layers `start` to `stop` (exclusive) on `x` (batch, frames, width).

        Only the first `n_frames` (int64, (batch,)) frames of each clip are attended to.
        """
        valid = _valid(n_frames, x.shape[1])
        keys = None if bool(valid.all()) else valid[:, None, None]
        for block in self.blocks[start:stop]:
            x = block(x, keys)
        return x

    def features(self, x: Tensor, n_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map the last layer's output to features before temperature, and to their mean.

        Args:
            x: (batch, frames, width).
            n_frames: int64 (batch,).

        Returns:
            float32 (batch, frames, dim) and float32 (batch, dim). The second is the mean of own
            features weighted by speech and, exactly, the plain mean of the first:
            sum w (own - mean) = 0 by the mean's definition.
        """
        own = self.adapter(x).float()
        weight = self.speech_weight(x) * _valid(n_frames, x.shape[1])[:, :, None]
        mean = (weight * own).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        return mean + weight * (own - mean), mean[:, 0]

    def speech_weight(self, x: Tensor) -> Tensor:
        """Say how much of each frame of `x` (batch, frames, width) is speech.

        Returns:
            float32 (batch, frames, 1), 0.01 to 1.
        """
        speech = self.gate(x).float().sigmoid()
        return MIN_FRAME_WEIGHT + (1 - MIN_FRAME_WEIGHT) * speech

    def refer(self, reference: familiarity.Reference) -> None:
        """Take `reference` as what the model learnt from."""
        self.reference = reference
        weight = self.proj.weight
        self.neighbours = torch.from_numpy(reference.embeddings).to(weight.device, torch.float32)

    def tempering(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the doubt and the temperature of float32 embeddings (batch, dim): (batch,) each.

        As `familiarity.doubts` and `familiarity.capped_temperatures` do.
        """
        reference = self.reference
        if reference is None or self.neighbours is None:
            nothing = torch.zeros(len(embedding), device=embedding.device)
            return nothing, nothing + 1
        cosines = F.normalize(embedding, dim=1) @ self.neighbours.float().T
        distance = 1 - cosines.topk(reference.neighbours).values[:, -1]
        doubt, share = (
            ((distance - start) / width).clamp(0, 1)
            for start, width in map(reference.rise, (familiarity.DOUBTED, familiarity.CAPPED))
        )
        told = embedding.clone()
        told[:, DOUBT_FEATURE] += DOUBT_UNIT * doubt
        two = (told @ self.proj.weight.float().T).topk(2).values
        least = share * (two[:, 0] - two[:, 1]) / familiarity.LOG_ODDS_WHEN_CAPPED
        excess = ((distance - reference.median) / reference.spread).clamp_min(0)
        raised = reference.temperature * (1 + reference.slope * excess)
        return doubt, torch.maximum(raised.clamp_max(reference.max_temperature), least)

    def __repr__(self) -> str:
        """Inputs and outputs instead of torch's list of layers."""
        count = sum(p.numel() for p in self.parameters())
        return (
            f"Compact({self.config.layers} layers, {count / 1e6:.1f} M parameters; "
            f"float (batch, samples >= {N_FFT}) at {SAMPLE_RATE_HZ} Hz -> "
            f"(batch, frames at {FRAMES_PER_S}/s, {self.config.dim}); "
            f"{len(self.labels)} labels)"
        )


def load(
    directory: Path = BUILT_IN_DIRECTORY,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Compact:
    """Load the weights in `directory` (default: those shipped), in eval mode.

    Args:
        directory: holds `model.safetensors` and `card.json`.
        device: where the model runs.
        dtype: of weights and features; the spectrogram is float32 in any case.

    Raises:
        FileNotFoundError: the weights are not there.
        ValueError: the weights have another format or other labels.
    """
    config, weights = compact_file.read(directory)
    with torch.device("meta"):  # no memory and no random numbers for weights replaced at once
        model = Compact(config)
    state = {name: torch.from_numpy(value) for name, value in weights.items()}
    model.load_state_dict(state, assign=True)
    card, reference = directory / BUILT_IN_CARD_NAME, directory / CALIBRATION_NAME
    if card.is_file():
        model.card = json.loads(card.read_text(encoding="utf-8"))
    if reference.is_file():
        model.refer(familiarity.load(reference))
    return model.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _pieces(n_frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cut each clip into equal pieces of at most `MAX_PIECE_FRAMES`, by its own length alone.

    Args:
        n_frames: int64 (clips,).

    Returns:
        Three int64 (pieces,): the clip, the first frame, the number of frames of each piece.
    """
    rows = []
    for row, total in enumerate(n_frames.tolist()):
        step = compact_file.piece_frames(total)
        rows += [(row, at, min(step, total - at)) for at in range(0, total, step)]
    clip, start, size = torch.tensor(rows, device=n_frames.device).unbind(1)
    return clip, start, size


def _mel_frame_count(n_samples: Tensor) -> Tensor:
    """Return the mel frames (100/s) of clips of `n_samples` (at least 400)."""
    return (n_samples - N_FFT) // MEL_HOP + 1


def _valid(lengths: Tensor, size: int) -> Tensor:
    """Return bool (batch, size): True for the first `lengths[b]` columns of row b."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


# The tables are not buffers: `.to(bfloat16)` must leave them float32. Outside inference mode, so
# that training may use what inference cached.


@functools.lru_cache(maxsize=8)
def _window(device: str) -> Tensor:
    with torch.inference_mode(False):
        return torch.from_numpy(compact_file.window()).to(device)


@functools.lru_cache(maxsize=8)
def _mel_filters(device: str) -> Tensor:
    with torch.inference_mode(False):
        return torch.from_numpy(compact_file.mel_filters()).to(device)


@functools.lru_cache(maxsize=8)
def _all_positions(size: int, width: int, device: str) -> Tensor:
    with torch.inference_mode(False):
        return torch.from_numpy(compact_file.positions(size, width)).to(device)


def _positions(size: int, width: int, device: str) -> Tensor:
    """Return positions float32 (size, width), cached by whole minutes."""
    minute = 60 * FRAMES_PER_S
    return _all_positions(-(-size // minute) * minute, width, device)[:size]
