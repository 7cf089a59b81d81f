"""emotion2vec's forward pass as an OpenVINO graph, built from its weights without torch or funasr.

It computes what `backbone.Emotion2vecBackbone` computes of one clip, the normalisation before it
and the head after it included: waveform in, frame features and frame logits out, any length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from emotion2vec_ui.models.alibi import slopes
from emotion2vec_ui.models.openvino_runtime import op, ov

Node: TypeAlias = Any
"""`openvino.Node`, of which no types are shipped."""

Tensors = Mapping[str, np.ndarray]
"""float32 weights by their names in the slim file; used in place, not copied."""

NORM_EPS = 1e-5
"""torch's, which funasr leaves as it is wherever config.yaml does not set `norm_eps`."""

AUDIO = "modality_encoders.AUDIO."

FIRST_LAYER = f"{AUDIO}local_encoder.conv_layers.0.0"
"""Name of the product that takes the waveform itself."""

UNTIL_THE_END = 2**31 - 1


def build(tensors: Tensors, config: Mapping[str, Any]) -> ov.Model:
    """The graph of the model that `config` describes.

    Args:
        tensors: the weights; they must outlive the graph and what is compiled from it.
        config: `model_conf` of config.yaml.

    Returns:
        Input "waveform", float32 (samples,), 16 kHz mono, not normalised. Outputs "features",
        float32 (frames, dim), and "logits", float32 (frames, 9), in the head's own order.

    Raises:
        ValueError: the model is built in a way that this graph does not follow.
        KeyError: a weight is missing.
    """
    audio = config["modalities"]["audio"]
    _check(config, audio)
    graph = _Graph(tensors, float(config["norm_eps"]))
    waveform = op.parameter([-1], np.float32, name="waveform")
    # Normalised over the whole clip as every utterance is, then (1, samples, 1).
    x = op.unsqueeze(graph.normalise(op.unsqueeze(waveform, _axes(0)), NORM_EPS), _axes(2))
    for i, stride in enumerate(_strides(audio["feature_encoder_spec"])):
        x = graph.waveform_layer(x, f"{AUDIO}local_encoder.conv_layers.{i}.", stride)
    x = graph.norm(x, f"{AUDIO}project_features.1", NORM_EPS)
    x = graph.linear(x, f"{AUDIO}project_features.2")
    x = op.add(x, graph.positions(x, audio["conv_pos_depth"]))
    n_extra = audio["num_extra_tokens"]
    if n_extra:
        x = op.concat([graph.constant(f"{AUDIO}extra_tokens"), x], 1)
    bias = graph.alibi(x, audio["num_alibi_heads"], n_extra) if audio["use_alibi_encoder"] else None
    if f"{AUDIO}context_encoder.norm.weight" in tensors:
        x = graph.norm(x, f"{AUDIO}context_encoder.norm")
    names = [f"{AUDIO}context_encoder.blocks.{i}." for i in range(audio["prenet_depth"])]
    names += [f"blocks.{i}." for i in range(config["depth"])]
    for name in names:
        x = graph.block(x, name, config["num_heads"], bias)
    x = op.squeeze(x, _axes(0))
    x = op.slice(x, _axes(n_extra), _axes(UNTIL_THE_END), _axes(1), _axes(0))
    outputs = []
    for name, node in (("features", x), ("logits", graph.linear(x, "proj"))):
        result = op.result(node, name=name)
        result.output(0).set_names({name})
        outputs.append(result)
    waveform.output(0).set_names({"waveform"})
    return ov.Model(outputs, [waveform], "emotion2vec")


def _check(config: Mapping[str, Any], audio: Mapping[str, Any]) -> None:
    """Raises ValueError where `backbone.Emotion2vecBackbone` or this graph would differ."""
    supported = {
        "layer_norm_first": (config["layer_norm_first"], False),
        "conv_pos_pre_ln": (audio["conv_pos_pre_ln"], False),
        "extractor_mode": (audio["extractor_mode"], "layer_norm"),
        "learned_alibi": (audio["learned_alibi"], False),
        "learned_alibi_scale_per_layer": (audio["learned_alibi_scale_per_layer"], False),
        "alibi_max_pos": (audio["alibi_max_pos"], None),
    }
    for name, (found, expected) in supported.items():
        if found != expected:
            raise ValueError(f"{name} is {found!r}; only {expected!r} is supported")


def _strides(spec: str) -> list[int]:
    """Strides of the waveform's convolutions from "[(512, 10, 5)] + [(512, 3, 2)] * 4 + ..."."""
    strides = []
    for part in spec.split("+"):
        match = re.fullmatch(r"\s*\[\(\s*\d+,\s*\d+,\s*(\d+)\)\](?:\s*\*\s*(\d+))?\s*", part)
        if match is None:
            raise ValueError(f"feature_encoder_spec is {spec!r}")
        strides += [int(match[1])] * int(match[2] or 1)
    return strides


class _Graph:
    """Adds layers to a graph by the names of their weights.

    Arrays are (1, tokens, dim), around the positional convolutions (1, channels, tokens).

    Args:
        tensors: the weights.
        eps: of the transformer's normalisations.
    """

    def __init__(self, tensors: Tensors, eps: float) -> None:
        self._tensors = tensors
        self._eps = eps

    def constant(self, name: str, shape: tuple[int, ...] | None = None) -> Node:
        """The weight `name`, in another shape where one is given."""
        tensor = self._tensors[name]
        return op.constant(tensor.reshape(shape or tensor.shape), shared_memory=True)

    def normalise(self, x: Node, eps: float) -> Node:
        """Mean 0 and variance 1 over the last axis."""
        return op.mvn(x, _axes(-1), True, eps, "inside_sqrt")

    def norm(self, x: Node, name: str, eps: float | None = None) -> Node:
        """Layer normalisation with the weights `name`."""
        x = self.normalise(x, self._eps if eps is None else eps)
        x = op.multiply(x, self.constant(f"{name}.weight"))
        return op.add(x, self.constant(f"{name}.bias"))

    def linear(self, x: Node, name: str) -> Node:
        """A linear layer."""
        x = op.matmul(x, self.constant(f"{name}.weight"), False, True)
        return op.add(x, self.constant(f"{name}.bias"))

    def waveform_layer(self, x: Node, name: str, stride: int) -> Node:
        """Convolution without bias, layer normalisation over channels, GELU.

        The convolution is a product with what each of its outputs sees: OpenVINO's own wants
        channels before time, and the transposes around it cost a fifth of the whole model.
        """
        weight = self._tensors[f"{name}0.weight"]
        flat = op.constant(weight.transpose(0, 2, 1).reshape(len(weight), -1).copy())
        x = op.matmul(patches(x, weight.shape[2], stride), flat, False, True)
        x.set_friendly_name(f"{name}0")
        return op.gelu(self.norm(x, f"{name}2.1", NORM_EPS), "erf")

    def positions(self, x: Node, depth: int) -> Node:
        """The positional convolutions, whose normalisation has no weights."""
        x = _transposed(x)
        for i in range(1, depth + 1):
            name = f"{AUDIO}relative_positional_encoder.{i}.0"
            channels, per_group, width = self._tensors[f"{name}.weight"].shape
            groups = channels // per_group
            shape = (groups, channels // groups, per_group, width)
            weight = self.constant(f"{name}.weight", shape)
            x = op.group_convolution(x, weight, [1], [width // 2], [width // 2], [1])
            if width % 2 == 0:  # funasr's SamePad drops the last
                x = op.slice(x, _axes(0), _axes(-1), _axes(1), _axes(2))
            x = op.add(x, self.constant(f"{name}.bias", (1, channels, 1)))
            x = _transposed(self.normalise(_transposed(x), NORM_EPS))
            x = op.gelu(x, "erf")
        return _transposed(x)

    def alibi(self, x: Node, heads: int, n_extra: int) -> Node:
        """The bias (1, heads, tokens, tokens) for `x`: see `backbone._alibi`."""
        n_tokens = op.gather(op.shape_of(x, "i64"), np.int64(1), np.int64(0))
        position = op.range(np.int64(0), n_tokens, np.int64(1), "i64")
        is_frame = op.convert(op.greater_equal(position, np.int64(n_extra)), "f32")
        position = op.convert(position, "f32")
        row, column = _axes(0), _axes(1)
        distance = op.abs(op.subtract(op.unsqueeze(position, row), op.unsqueeze(position, column)))
        both = op.multiply(op.unsqueeze(is_frame, row), op.unsqueeze(is_frame, column))
        scale = np.array(slopes(heads), np.float32)
        learned = self._tensors.get(f"{AUDIO}alibi_scale")
        if learned is not None:
            scale = scale * np.maximum(learned, 0).reshape(-1)
        by_head = op.constant(-scale.reshape(1, -1, 1, 1))
        return op.multiply(op.unsqueeze(op.multiply(distance, both), _axes(0, 1)), by_head)

    def block(self, x: Node, name: str, heads: int, bias: Node | None) -> Node:
        """A transformer block that normalises after attention and after its two linear layers."""
        dim = self._tensors[f"{name}norm1.weight"].shape[0]
        qkv = self.linear(x, f"{name}attn.qkv")
        qkv = op.reshape(qkv, _axes(0, 0, 3, heads, dim // heads), True)
        qkv = op.transpose(qkv, _axes(2, 0, 3, 1, 4))
        query, key, value = (op.gather(qkv, np.int64(i), np.int64(0)) for i in range(3))
        mixed = op.scaled_dot_product_attention(query, key, value, bias)
        mixed = op.reshape(op.transpose(mixed, _axes(0, 2, 1, 3)), _axes(0, 0, dim), True)
        x = self.norm(op.add(x, self.linear(mixed, f"{name}attn.proj")), f"{name}norm1")
        hidden = op.gelu(self.linear(x, f"{name}mlp.fc1"), "erf")
        return self.norm(op.add(x, self.linear(hidden, f"{name}mlp.fc2")), f"{name}norm2")


def patches(x: Node, width: int, stride: int) -> Node:
    """(1, patches, width x channels) of (1, time, channels): time, then channel.

    Runs of `stride` taps are taken as they lie in memory, those of a shorter last run one by one.
    """
    channels = x.get_output_partial_shape(0)[2].get_length()
    n_times = op.gather(op.shape_of(x, "i64"), _axes(1), np.int64(0))
    count = op.add(op.divide(op.subtract(n_times, _axes(width)), _axes(stride)), _axes(1))
    span = op.multiply(count, _axes(stride))
    whole_runs = width - width % stride
    runs = []
    for first in range(0, whole_runs, stride):
        run = op.slice(x, _axes(first), op.add(span, _axes(first)), _axes(1), _axes(1))
        runs.append(op.reshape(run, _axes(1, -1, stride * channels), False))
    for tap in range(whole_runs, width):
        runs.append(op.slice(x, _axes(tap), op.add(span, _axes(tap)), _axes(stride), _axes(1)))
    return op.concat(runs, 2)


def _transposed(x: Node) -> Node:
    """(1, tokens, channels) from (1, channels, tokens), and back."""
    return op.transpose(x, _axes(0, 2, 1))


def _axes(*values: int) -> np.ndarray:
    """What OpenVINO's operations take as axes, shapes and bounds: int64."""
    return np.array(values, np.int64)
