"""What every form of `compact` shares: its constants and tables, and the file of its weights.

`compact` is the torch module that is trained, `compact_openvino` the same network without torch.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from emotion2vec_ui.frames import RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models.files import BUILT_IN_WEIGHTS_NAME

# 25 ms, Whisper's window; emotion2vec's receptive field is as long, hence equal frame counts.
N_FFT = RECEPTIVE_FIELD_SAMPLES
MEL_HOP = 160  # 10 ms, Whisper's hop; the second convolution has stride 2: frames of 20 ms
N_MELS = 80  # Whisper's
MEL_BREAK_HZ = 1000.0  # Slaney's mel scale: linear below, logarithmic above
# Whisper was trained on waveforms in [-1, 1], where speech is typically near -20 dBFS RMS.
# 0.1 puts ours there.
INPUT_RMS = 0.1
SILENT_RMS = 1e-6  # keeps digital silence from being divided by zero
MIN_FRAME_WEIGHT = 0.01  # of frames without speech: a clip that has no speech has an embedding too
LOG_FLOOR = 1e-10  # Whisper's audio.py
LOG_RANGE = 8.0  # Whisper's: keep 80 dB below the clip's loudest mel cell
POSITION_PERIOD = 10_000.0  # Whisper's sinusoids
LAYER_NORM_EPSILON = 1e-5  # torch's default
# Attention is within pieces of at most 10.24 s, as long as the training clips.
# Measured on 24 one-minute recordings of unheard speakers: whole-minute attention names 71 % right
# (true label's mean score 0.34), pieces 92 % (0.63).
MAX_PIECE_FRAMES = 512

# The feature by which the head hears how far a recording is doubted to be of a known kind
# (`familiarity.doubts`), times DOUBT_UNIT: too small to matter in lengths and cosines.
DOUBT_FEATURE = 1
DOUBT_UNIT = 0.01

FORMAT = "emotion2vec_ui.compact/3"
SCALE_SUFFIX = ".scale"  # a stored int8 weight "x" has its per-row float32 scale in "x.scale"

Weights = dict[str, np.ndarray]
"""Arrays by the names of the torch module's parameters."""


@dataclass(frozen=True)
class Config:
    """Sizes of the network; stored in the weights' metadata.

    Attributes:
        width: channels of the encoder (Whisper base: 512).
        heads: attention heads (Whisper base: 8).
        layers: transformer layers kept of Whisper's six.
        dim: frame feature dimension.
    """

    width: int = 512
    heads: int = 8
    layers: int = 3
    dim: int = 512


# --- the file -----------------------------------------------------------------------------------


def read(directory: Path) -> tuple[Config, Weights]:
    """Read the sizes and the float32 weights in `directory`.

    Raises:
        FileNotFoundError: the weights are not there.
        ValueError: the weights have another format or other labels.
    """
    from safetensors import safe_open

    path = directory / BUILT_IN_WEIGHTS_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file. It belongs to this package; reinstall it, or make it anew "
            "with `python -m training.train` (training/README.md)."
        )
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise ValueError(
                f"{path}: format is {metadata.get('format')!r}, expected {FORMAT!r}. "
                "The file is of another version of this package; reinstall both together."
            )
        if tuple(json.loads(metadata["labels"])) != EMOTIONS:
            raise ValueError(f"{path}: labels are {metadata['labels']}, expected {list(EMOTIONS)}.")
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    return Config(**json.loads(metadata["config"])), dequantise(stored)


def quantise(weights: Weights) -> Weights:
    """Store the encoder's matrices as int8 with one float32 scale per row, all else as float32.

    A row's largest value becomes 127: rounding costs at most 0.4 % of it.
    """
    stored = {}
    for name, value in weights.items():
        value = np.ascontiguousarray(value, dtype=np.float32)
        if value.ndim < 2 or name.startswith(("gate.", "adapter.", "proj.")):
            stored[name] = value
            continue
        rows = value.reshape(len(value), -1)
        scale = np.maximum(np.abs(rows).max(1), 1e-12) / np.float32(127)
        stored[name] = np.rint(rows / scale[:, None]).astype(np.int8).reshape(value.shape)
        stored[name + SCALE_SUFFIX] = scale
    return stored


def dequantise(stored: Weights) -> Weights:
    """Undo `quantise`: float32 arrays by name."""
    weights = {}
    for name, value in stored.items():
        if name.endswith(SCALE_SUFFIX):
            continue
        if value.dtype == np.int8:
            scale = stored[name + SCALE_SUFFIX]
            value = value.astype(np.float32) * scale.reshape(-1, *[1] * (value.ndim - 1))
        weights[name] = value
    return weights


def save_metadata(config: Config, version: str, **more: str) -> dict[str, str]:
    """Return the safetensors metadata (strings only) that `read` checks."""
    return {
        "format": FORMAT,
        "id": "compact",
        "version": version,
        "labels": json.dumps(EMOTIONS),
        "config": json.dumps(asdict(config)),
        **more,
    }


# --- tables and sizes ---------------------------------------------------------------------------


def piece_frames(n_frames: int) -> int:
    """Return the frames of each piece of a clip but the last, which may have fewer.

    The clip is cut into as few pieces of at most `MAX_PIECE_FRAMES` as there can be.
    """
    return -(-n_frames // -(-n_frames // MAX_PIECE_FRAMES))


@functools.lru_cache(maxsize=1)
def window() -> np.ndarray:
    """Return the periodic Hann window times the input level, float32 (400,)."""
    angles = 2 * np.pi * np.arange(N_FFT) / N_FFT
    return (INPUT_RMS * (0.5 - 0.5 * np.cos(angles))).astype(np.float32)


@functools.lru_cache(maxsize=1)
def mel_filters() -> np.ndarray:
    """Return Slaney's area-normalised triangles (librosa.filters.mel), float32 (201, 80)."""
    log_step = math.log(6.4) / 27  # Slaney: 27 steps from 1 kHz to 6.4 kHz
    top = 15 + math.log(SAMPLE_RATE_HZ / 2 / MEL_BREAK_HZ) / log_step
    mel = np.linspace(0, top, N_MELS + 2)
    linear = mel * (MEL_BREAK_HZ / 15)  # 15 mel = 1 kHz
    corners = np.where(mel < 15, linear, MEL_BREAK_HZ * np.exp(log_step * (mel - 15)))
    bins = np.linspace(0, SAMPLE_RATE_HZ / 2, N_FFT // 2 + 1)[:, None]
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    filters = np.maximum(np.minimum(rising, falling), 0) * 2 / (corners[2:] - corners[:-2])
    return filters.astype(np.float32)


@functools.lru_cache(maxsize=8)
def positions(size: int, width: int) -> np.ndarray:
    """Return Whisper's sinusoids, float32 (size, width)."""
    step = math.log(POSITION_PERIOD) / (width // 2 - 1)
    rates = np.exp(-step * np.arange(width // 2, dtype=np.float32))
    angles = np.arange(size, dtype=np.float32)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
