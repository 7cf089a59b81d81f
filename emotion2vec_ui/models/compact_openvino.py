"""The built-in `compact` model run by OpenVINO on the CPU: no torch.

The network is that of `compact`, from the same weights file, for one clip of any length. numpy
computes the spectrogram; the graph has everything from the convolutions to the frame features;
numpy divides these by the temperature (`reading/familiarity.py`) and applies the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from emotion2vec_ui.frames import RECEPTIVE_FIELD_SAMPLES, frame_count
from emotion2vec_ui.models import compact_file
from emotion2vec_ui.models.compact_file import (
    DOUBT_FEATURE,
    DOUBT_UNIT,
    LAYER_NORM_EPSILON,
    LOG_FLOOR,
    LOG_RANGE,
    MAX_PIECE_FRAMES,
    MEL_HOP,
    MIN_FRAME_WEIGHT,
    N_FFT,
    N_MELS,
    SILENT_RMS,
    Config,
    Weights,
    piece_frames,
)
from emotion2vec_ui.models.network import Runtime
from emotion2vec_ui.models.openvino_network import DEVICE, Compiled, has_bf16
from emotion2vec_ui.models.openvino_runtime import op, ov
from emotion2vec_ui.reading import familiarity

PRECISIONS = ("fp32", "bf16")
"""What this network computes in."""


class CompactOpenVino:
    """A `Network` of the built-in model.

    Args:
        config: as `compact_file.read` gives it.
        weights: the same.
        reference: by which features are divided by a temperature; None = they are not.
        precision: "fp32", or "bf16" where the CPU has it in hardware.

    Raises:
        ValueError: the CPU does not compute in this precision.
        RuntimeError: OpenVINO cannot compile the graph.
    """

    runtime: ClassVar[Runtime] = "openvino"
    device: ClassVar[str] = DEVICE

    def __init__(
        self,
        config: Config,
        weights: Weights,
        reference: familiarity.Reference | None,
        precision: str,
    ) -> None:
        if precision not in PRECISIONS or (precision == "bf16" and not has_bf16()):
            raise ValueError(f"it does not compute in {precision} on this CPU")
        self.precision = precision
        self._head = weights["proj.weight"]
        self._reference = reference
        self._graph = Compiled(build(config, weights), precision)

    def run(self, waves: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Network.run`."""
        return [self._run(wave) for wave in waves]

    def move(self, device: str) -> None:
        """See `Network.move`; there is only one place."""

    def _run(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert wave.ndim == 1 and len(wave) >= RECEPTIVE_FIELD_SAMPLES, wave.shape
        n_frames = frame_count(len(wave))
        step = piece_frames(n_frames)
        n_pieces = -(-n_frames // step)
        keep = (np.arange(n_pieces * step) < n_frames).reshape(n_pieces, step)
        outputs = self._graph({"mel": log_mel(wave), "keep": keep}, len(wave))
        features, embedding = outputs["features"], outputs["embedding"][0]
        if self._reference is not None:
            distance = np.array(familiarity.distance(embedding, self._reference))
            doubt = familiarity.doubts(distance, self._reference)
            features[:, DOUBT_FEATURE] += np.float32(DOUBT_UNIT * doubt)
            embedding[DOUBT_FEATURE] += np.float32(DOUBT_UNIT * doubt)
            logits = self._head @ embedding
            features /= np.float32(
                familiarity.capped_temperatures(logits, distance, self._reference)
            )
        return features, features @ self._head.T


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Whisper's log-mel spectrogram of a whole clip, 100 frames/s: `Compact.log_mel` in numpy.

    Args:
        wave: float (samples,), 16 kHz mono, at least 400 samples, not yet normalised.

    Returns:
        float32 (mel frames, 80), mel frames = floor((samples - 400) / 160) + 1.
    """
    wave = np.asarray(wave, np.float64)
    wave = (wave - wave.mean()) / np.sqrt(wave.var() + LAYER_NORM_EPSILON)
    windows = sliding_window_view(wave.astype(np.float32), N_FFT)[::MEL_HOP]
    rms = np.sqrt(np.square(windows).mean(1)) + SILENT_RMS
    level = np.square(rms).sum() / rms.sum()
    spectrum = np.fft.rfft(windows * (compact_file.window() / level))
    power = (np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float32)
    mel = np.log10(np.maximum(power @ compact_file.mel_filters(), LOG_FLOOR))
    return (np.maximum(mel, mel.max() - LOG_RANGE) + 4) / 4


def build(config: Config, weights: Weights) -> ov.Model:
    """The graph from the spectrogram to features before temperature.

    Inputs: `mel`, float32 (mel frames, 80), see `log_mel`; `keep`, bool (pieces, frames of a
    piece), False for what the last piece lacks in frames.
    Outputs: `features`, float32 (frames, dim), and their mean `embedding`, float32 (1, dim).
    """
    mel = op.parameter([-1, N_MELS], np.float32, name="mel")
    keep = op.parameter([-1, -1], np.bool_, name="keep")
    features, embedding = frame_features(mel, keep, config, weights)
    features.output(0).set_names({"features"})
    embedding.output(0).set_names({"embedding"})
    return ov.Model([op.result(features), op.result(embedding)], [mel, keep], "compact")


def frame_features(mel: Any, keep: Any, config: Config, weights: Weights) -> tuple[Any, Any]:
    """Adds the network to a graph.

    Args:
        mel: node, float32 (mel frames, 80), see `log_mel`.
        keep: node, bool (pieces, frames of a piece), False for what the last piece lacks.
        config: as `compact_file.read` gives it.
        weights: the same.

    Returns:
        Nodes: features before temperature, float32 (frames, dim), and their mean, (1, dim).
    """
    # As nodes: of an array the functions below would make a list of Python's numbers first.
    constants = {name: op.constant(value) for name, value in weights.items()}

    def linear(x: Any, name: str) -> Any:
        return op.add(
            op.matmul(x, constants[name + ".weight"], False, True), constants[name + ".bias"]
        )

    def norm(x: Any, name: str) -> Any:
        x = op.mvn(x, _axes(-1), True, LAYER_NORM_EPSILON, "inside_sqrt")
        return op.add(op.multiply(x, constants[name + ".weight"]), constants[name + ".bias"])

    def convolution(x: Any, name: str, stride: int) -> Any:
        x = op.convolution(x, constants[name + ".weight"], [stride], [1], [1], [1])
        return op.gelu(op.add(x, weights[name + ".bias"].reshape(1, -1, 1)), "erf")

    def block(x: Any, name: str) -> Any:
        head_width = config.width // config.heads
        qkv = linear(norm(x, name + "norm1"), name + "qkv")
        qkv = op.reshape(qkv, _axes(0, 0, 3, config.heads, head_width), True)
        qkv = op.transpose(qkv, _axes(2, 0, 3, 1, 4))
        query, key, value = (op.gather(qkv, np.int64(i), np.int64(0)) for i in range(3))
        mixed = op.scaled_dot_product_attention(query, key, value, keys)
        mixed = op.reshape(op.transpose(mixed, _axes(0, 2, 1, 3)), _axes(0, 0, config.width), True)
        x = op.add(x, linear(mixed, name + "out"))
        hidden = op.gelu(linear(norm(x, name + "norm2"), name + "up"), "erf")
        return op.add(x, linear(hidden, name + "down"))

    keys = op.unsqueeze(keep, _axes(1, 2))
    x = op.unsqueeze(op.transpose(mel, _axes(1, 0)), _axes(0))
    x = convolution(convolution(x, "conv1", 1), "conv2", 2)
    x = op.squeeze(op.transpose(x, _axes(0, 2, 1)), _axes(0))
    n_frames = op.slice(op.shape_of(x), _axes(0), _axes(1), _axes(1))

    shape = op.shape_of(keep)
    lacking = op.subtract(op.reduce_prod(shape, _axes(0), True), n_frames)
    end = op.concat([lacking, _axes(0)], 0)
    x = op.pad(x, _axes(0, 0), end, "constant", np.float32(0))
    x = op.reshape(x, op.concat([shape, _axes(config.width)], 0), False)
    step = op.slice(shape, _axes(1), _axes(2), _axes(1))
    positions = op.constant(compact_file.positions(MAX_PIECE_FRAMES, config.width))
    x = op.add(x, op.slice(positions, _axes(0), step, _axes(1), _axes(0)))
    for i in range(config.layers):
        x = block(x, f"blocks.{i}.")
    x = op.reshape(x, _axes(-1, config.width), False)
    x = op.slice(x, _axes(0), n_frames, _axes(1), _axes(0))

    own = linear(x, "adapter")
    speech = op.sigmoid(linear(x, "gate"))
    weight = op.add(
        op.multiply(speech, np.float32(1 - MIN_FRAME_WEIGHT)), np.float32(MIN_FRAME_WEIGHT)
    )
    total = op.reduce_sum(weight, _axes(0), True)
    mean = op.divide(op.reduce_sum(op.multiply(weight, own), _axes(0), True), total)
    features = op.add(mean, op.multiply(weight, op.subtract(own, mean)))
    return features, mean


def _axes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
