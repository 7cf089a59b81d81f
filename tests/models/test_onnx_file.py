"""Operations as ONNX, run by ONNX Runtime, against scipy, torch and OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
import scipy.special
import torch

from emotion2vec_ui.models.onnx_file import to_onnx
from emotion2vec_ui.models.openvino_network import Compiled
from emotion2vec_ui.models.openvino_runtime import op, ov

pytest.importorskip("onnx")


def graph(result: Any, *parameters: Any) -> ov.Model:
    result.output(0).set_names({"y"})
    for parameter in parameters:
        parameter.output(0).set_names({parameter.get_friendly_name()})
    return ov.Model([op.result(result)], list(parameters), "test")


def by_onnx(model: ov.Model, feed: Mapping[str, np.ndarray]) -> np.ndarray:
    content = to_onnx(model, {}, "0", "").SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["y"], dict(feed))[0]


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_gelu_is_scipys() -> None:
    x = op.parameter([-1], np.float32, name="x")
    feed = {"x": np.linspace(-6, 6, 101, dtype=np.float32)}
    expected = feed["x"] * scipy.special.ndtr(feed["x"])
    np.testing.assert_allclose(by_onnx(graph(op.gelu(x, "erf"), x), feed), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [[-1, 12], [-1, -1]], ids=["width known", "width open"])
def test_normalising_is_torchs(shape: list[int]) -> None:
    x = op.parameter(shape, np.float32, name="x")
    feed = {"x": 3 + 5 * array(7, 12)}
    expected = torch.nn.functional.layer_norm(torch.from_numpy(feed["x"]), (12,)).numpy()
    found = by_onnx(graph(op.mvn(x, ints(-1), True, 1e-5, "inside_sqrt"), x), feed)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["none", "bias", "mask"])
def test_attention_is_torchs(kind: str) -> None:
    query, key, value = (op.parameter([1, 2, -1, 8], np.float32, name=n) for n in "qkv")
    feed = {n: array(1, 2, 5, 8) * (i + 1) for i, n in enumerate("qkv")}
    extra = {
        "none": None,
        "bias": array(1, 2, 5, 5),
        "mask": np.array([True, True, False, True, False]).reshape(1, 1, 1, 5),
    }[kind]
    more = () if extra is None else (op.constant(extra),)
    found = by_onnx(
        graph(op.scaled_dot_product_attention(query, key, value, *more), query, key, value), feed
    )
    mask = None if extra is None else torch.from_numpy(extra)
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(torch.from_numpy(feed[n]) for n in "qkv"), attn_mask=mask
    )
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("groups", [1, 4])
def test_convolution_is_torchs(groups: int) -> None:
    weight = array(8, 8 // groups, 3)
    x = op.parameter([1, 8, -1], np.float32, name="x")
    if groups == 1:
        node = op.convolution(x, weight, [2], [1], [0], [2])
    else:
        shaped = weight.reshape(groups, 8 // groups, 8 // groups, 3)
        node = op.group_convolution(x, shaped, [2], [1], [0], [2])
    feed = {"x": array(1, 8, 40)}
    padded = torch.nn.functional.pad(torch.from_numpy(feed["x"]), (1, 0))
    expected = torch.nn.functional.conv1d(
        padded, torch.from_numpy(weight), stride=2, dilation=2, groups=groups
    )
    np.testing.assert_allclose(by_onnx(graph(node, x), feed), expected.numpy(), atol=1e-5)


def test_the_rest_is_openvinos(subtests: pytest.Subtests) -> None:
    x = op.parameter([-1, 6], np.float32, name="x")
    feed = {"x": array(4, 6)}
    rows = op.gather(op.shape_of(x, "i64"), ints(0), np.int64(0))
    cases = {
        "topk": op.topk(x, np.int64(3), 1, "max", "value"),
        "slice backwards": op.slice(x, ints(4), ints(0), ints(-2), ints(1)),
        "pad": op.pad(x, ints(0, 1), op.concat([rows, ints(0)], 0), "constant", np.float32(7)),
        "pad with zeros": op.pad(x, ints(1, 0), ints(0, 2), "constant", np.float32(0)),
        "reshape, a size copied": op.reshape(x, ints(0, 2, 3), True),
        "product with a transposed matrix": op.matmul(x, array(5, 6), False, True),
        "greatest of all": op.reduce_max(x, ints(0, 1), True),
        "least, axes dropped": op.reduce_min(x, ints(1), False),
        "softmax": op.softmax(x, 0),
    }
    for name, node in cases.items():
        with subtests.test(name=name):
            model = graph(node, x)
            np.testing.assert_allclose(
                by_onnx(model, feed), Compiled(model, "fp32")(feed, 1)["y"], atol=1e-6
            )


def test_what_has_no_form_here_is_refused(subtests: pytest.Subtests) -> None:
    x, open_ = (op.parameter([size, 3], np.float32, name="x") for size in (2, -1))
    for parameter, node in (
        (x, op.gelu(x, "tanh")),
        (x, op.tan(x)),
        (open_, op.reshape(open_, ints(0, 3), False)),
        (x, op.matmul(x, x, True, False)),
        (x, op.matmul(x, x, False, True)),
    ):
        model = graph(node, parameter)
        with (
            subtests.test(kind=node.get_type_name()),
            pytest.raises(ValueError, match=r"has no form|is transposed"),
        ):
            to_onnx(model, {}, "0", "")


def test_metadata_and_names() -> None:
    x = op.parameter([1, -1], np.float32, name="x")
    model = to_onnx(graph(op.abs(x), x), {"a": "é"}, "1.2", "what it is")
    assert {one.key: one.value for one in model.metadata_props} == {"a": "é"}
    assert (model.producer_version, model.doc_string) == ("1.2", "what it is")
    (size_1, size_n) = model.graph.input[0].type.tensor_type.shape.dim
    assert (size_1.dim_value, size_n.dim_param) == (1, "samples")
