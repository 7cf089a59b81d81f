"""A model whole as one OpenVINO graph: waveform in; scores, frame scores and embedding out.

What the engine computes outside its graphs (the spectrogram and the temperature of `compact`, the
means over frames, softmax) is in the graph here, for one window of any length. `onnx_file` writes
the same graph as ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from emotion2vec_ui.frames import HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES
from emotion2vec_ui.models import compact_file, compact_openvino, emotion2vec_graph
from emotion2vec_ui.models.compact_file import (
    DOUBT_FEATURE,
    DOUBT_UNIT,
    LAYER_NORM_EPSILON,
    LOG_FLOOR,
    LOG_RANGE,
    MAX_PIECE_FRAMES,
    MEL_HOP,
    N_FFT,
    SILENT_RMS,
    Config,
    Weights,
)
from emotion2vec_ui.models.openvino_runtime import op, ov
from emotion2vec_ui.reading import familiarity

Node: TypeAlias = Any
"""`openvino.Node`, of which no types are shipped."""

INPUT = "waveform"
OUTPUTS = ("scores", "frame_scores", "embedding")


def emotion2vec(
    tensors: emotion2vec_graph.Tensors, config: Mapping[str, Any], head_order: Sequence[int]
) -> ov.Model:
    """The graph of an emotion2vec model.

    Args:
        tensors: see `emotion2vec_graph.build`.
        config: the same.
        head_order: of the head's logits, those that belong to `labels.EMOTIONS` in their order.

    Returns:
        Input "waveform", float32 (1, samples), 16 kHz mono, at least 400 samples, not normalised.
        Outputs, float32, in the order of `labels.EMOTIONS`: "scores" (1, 9), "frame_scores"
        (1, frames, 9), 50 frames/s, "embedding" (1, dim), the mean of the frame features.

    Raises:
        ValueError: the model is built in a way that the graph does not follow.
        KeyError: a weight is missing.
    """
    graph = emotion2vec_graph.build(tensors, config)
    waveform = op.parameter([1, -1], np.float32, name=INPUT)
    samples = op.squeeze(waveform, _ints(0))
    (inner,) = graph.get_parameters()
    for use in inner.output(0).get_target_inputs():
        use.replace_source_output(samples.output(0))
    features, logits = (result.input_value(0).get_node() for result in graph.get_results())
    logits = op.gather(logits, _ints(*head_order), np.int64(1))
    return _model(waveform, features, logits)


def compact(config: Config, weights: Weights, reference: familiarity.Reference | None) -> ov.Model:
    """The graph of the built-in model; see `emotion2vec` for what goes in and comes out.

    Args:
        config: as `compact_file.read` gives it.
        weights: the same.
        reference: by which features are divided by a temperature; None = they are not.
    """
    waveform = op.parameter([1, -1], np.float32, name=INPUT)
    n_samples = op.gather(op.shape_of(waveform, "i64"), _ints(1), np.int64(0))
    keep = _keep(n_samples)
    features, embedding = compact_openvino.frame_features(_log_mel(waveform), keep, config, weights)
    if reference is not None:
        distance = _distance(embedding, reference)
        doubt = _rise(distance, reference, familiarity.DOUBTED)
        unit = np.zeros((1, config.dim), np.float32)
        unit[0, DOUBT_FEATURE] = DOUBT_UNIT
        told = op.multiply(doubt, unit)
        share = _rise(distance, reference, familiarity.CAPPED)
        least = op.multiply(share, _least_temperature(op.add(embedding, told), weights))
        heat = op.maximum(_temperature(distance, reference), least)
        features = op.divide(op.add(features, told), heat)
    logits = op.matmul(features, weights["proj.weight"], False, True)
    return _model(waveform, features, logits)


def _model(waveform: Node, features: Node, logits: Node) -> ov.Model:
    """Scores and embedding from features (frames, dim) and logits (frames, 9)."""
    mean_logits = op.reduce_mean(logits, _ints(0), True)
    nodes = (
        op.softmax(mean_logits, 1),
        op.unsqueeze(op.softmax(logits, 1), _ints(0)),
        op.reduce_mean(features, _ints(0), True),
    )
    for name, node in zip(OUTPUTS, nodes, strict=True):
        node.output(0).set_names({name})
    waveform.output(0).set_names({INPUT})
    return ov.Model([op.result(node) for node in nodes], [waveform], "emotion2vec_ui")


def _keep(n_samples: Node) -> Node:
    """Which frames of the pieces there are, bool (pieces, frames of a piece).

    As `compact_file.piece_frames` cuts them. `n_samples` is int64 (1,).
    """
    past_first = op.subtract(n_samples, _ints(RECEPTIVE_FIELD_SAMPLES))
    n_frames = op.add(op.divide(past_first, _ints(HOP_SAMPLES)), _ints(1))
    step = _ceil_divide(n_frames, _ceil_divide(n_frames, _ints(MAX_PIECE_FRAMES)))
    n_pieces = _ceil_divide(n_frames, step)
    stop = op.squeeze(op.multiply(n_pieces, step), _ints(0))
    frame = op.range(np.int64(0), stop, np.int64(1), "i64")
    return op.reshape(op.less(frame, n_frames), op.concat([n_pieces, step], 0), False)


def _ceil_divide(a: Node, b: Node) -> Node:
    return op.divide(op.subtract(op.add(a, b), _ints(1)), b)


def _log_mel(waveform: Node) -> Node:
    """`compact_openvino.log_mel`, float32 (mel frames, 80), of `waveform` (1, samples).

    The Fourier transform of 400 samples is two convolutions with its cosines and sines.
    """
    wave = op.mvn(waveform, _ints(1), True, LAYER_NORM_EPSILON, "inside_sqrt")
    wave = op.unsqueeze(wave, _ints(0))
    angles = 2 * np.pi / N_FFT * np.outer(np.arange(N_FFT // 2 + 1), np.arange(N_FFT))
    window = compact_file.window().astype(np.float64)
    real, imaginary = (_windows(wave, window * part) for part in (np.cos(angles), np.sin(angles)))
    mean_square = _windows(op.multiply(wave, wave), np.full((1, N_FFT), 1 / N_FFT))
    rms = op.add(op.sqrt(mean_square), np.float32(SILENT_RMS))
    level = op.divide(
        op.reduce_sum(op.multiply(rms, rms), _ints(0), True), op.reduce_sum(rms, _ints(0), True)
    )
    real, imaginary = op.divide(real, level), op.divide(imaginary, level)
    power = op.add(op.multiply(real, real), op.multiply(imaginary, imaginary))
    mel = op.matmul(power, compact_file.mel_filters(), False, False)
    mel = op.log(op.maximum(mel, np.float32(LOG_FLOOR)))
    mel = op.multiply(mel, np.float32(1 / math.log(10)))
    loudest = op.reduce_max(mel, _ints(0, 1), True)
    mel = op.maximum(mel, op.subtract(loudest, np.float32(LOG_RANGE)))
    return op.multiply(op.add(mel, np.float32(4)), np.float32(1 / 4))


def _windows(wave: Node, rows: np.ndarray) -> Node:
    """Products of each window of `wave` (1, 1, samples) with `rows` (n, 400): (mel frames, n)."""
    kernel = rows[:, None].astype(np.float32)
    products = op.convolution(wave, kernel, [MEL_HOP], [0], [0], [1])
    return op.squeeze(op.transpose(products, _ints(0, 2, 1)), _ints(0))


def _distance(embedding: Node, reference: familiarity.Reference) -> Node:
    """`familiarity.distance` of `embedding` (1, dim), float32 (1, 1)."""
    square = op.reduce_sum(op.multiply(embedding, embedding), _ints(1), True)
    unit = op.divide(embedding, op.maximum(op.sqrt(square), np.float32(1e-12)))
    cosines = op.matmul(unit, reference.embeddings, False, True)
    nearest = op.topk(cosines, np.int64(reference.neighbours), 1, "max", "value")
    # The least of the k nearest, whatever their order.
    return op.subtract(np.float32(1), op.reduce_min(nearest.output(0), _ints(1), True))


def _rise(
    distance: Node, reference: familiarity.Reference, familiarities: tuple[float, float]
) -> Node:
    """From 0 to 1 as the distance goes from one familiarity to the other, float32 (1, 1)."""
    start, width = reference.rise(familiarities)
    beyond = op.subtract(distance, np.float32(start))
    share = op.divide(beyond, np.float32(width))
    return op.minimum(op.maximum(share, np.float32(0)), np.float32(1))


def _least_temperature(embedding: Node, weights: Weights) -> Node:
    """That at which the leader of `embedding` (1, dim) is wholly limited, float32 (1, 1)."""
    logits = op.matmul(embedding, weights["proj.weight"], False, True)
    two = op.topk(logits, np.int64(2), 1, "max", "value").output(0)
    gap = op.subtract(op.reduce_max(two, _ints(1), True), op.reduce_min(two, _ints(1), True))
    return op.divide(gap, np.float32(familiarity.LOG_ODDS_WHEN_CAPPED))


def _temperature(distance: Node, reference: familiarity.Reference) -> Node:
    """`familiarity.temperatures`, float32 (1, 1)."""
    beyond = op.divide(
        op.subtract(distance, np.float32(reference.median)), np.float32(reference.spread)
    )
    excess = op.maximum(beyond, np.float32(0))
    rise = op.multiply(excess, np.float32(reference.temperature * reference.slope))
    raised = op.add(rise, np.float32(reference.temperature))
    return op.minimum(raised, np.float32(reference.max_temperature))


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
