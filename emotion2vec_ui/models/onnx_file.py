"""Writes an OpenVINO graph as ONNX, operation by operation.

OpenVINO reads ONNX and does not write it; torch's exporter would need a second form of each model
that it can trace, with torch, funasr and onnxscript. Here both formats come from one graph
(`export_graph`), and only the onnx package is needed. Each operation of ONNX below is described
at https://onnx.ai/onnx/operators/, each of OpenVINO at
https://docs.openvino.ai/2025/documentation/openvino-ir-format/operation-sets.html.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from emotion2vec_ui.models.openvino_runtime import ov

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""ONNX Runtime reads it since 1.14 (February 2023). 17 has `LayerNormalization`, 18 takes the axes
of every reduction as an input."""

IR_VERSION = 8
"""The file format that came with opset 18; onnx itself writes its newest, which older runtimes
refuse."""

Node: TypeAlias = Any
"""`openvino.Node`, of which no types are shipped."""

SAME = {
    "Abs": "Abs",
    "Add": "Add",
    "Divide": "Div",
    "GreaterEqual": "GreaterOrEqual",
    "Less": "Less",
    "Log": "Log",
    "Maximum": "Max",
    "Minimum": "Min",
    "Multiply": "Mul",
    "Range": "Range",
    "ShapeOf": "Shape",
    "Sigmoid": "Sigmoid",
    "Sqrt": "Sqrt",
    "Squeeze": "Squeeze",
    "Subtract": "Sub",
    "Unsqueeze": "Unsqueeze",
}
"""Operations without attributes that take the same inputs in both. `Divide` of integers rounds
down in OpenVINO and towards zero in ONNX: the same for the counts that are divided here."""

REDUCTIONS = {"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"}
"""Operations that have the same names, too, and say whether the reduced axes stay."""


def to_onnx(
    graph: ov.Model, metadata: Mapping[str, str], version: str, about: str
) -> onnx.ModelProto:
    """The graph as an ONNX model.

    Args:
        graph: its inputs and outputs have names.
        metadata: becomes `metadata_props`.
        version: of the program that writes it.
        about: what it is, in a sentence.

    Returns:
        A model with the same names of inputs and outputs.

    Raises:
        ImportError: the onnx package is not installed.
        ValueError: the graph has an operation that is not translated here.
    """
    import onnx

    # Parts that helpers make are copied into the whole: twice the memory for every level.
    model = onnx.ModelProto(
        ir_version=IR_VERSION,
        opset_import=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="emotion2vec-ui",
        producer_version=version,
        doc_string=about,
    )
    model.graph.name = graph.get_friendly_name()
    model.graph.input.extend(_value(one) for one in graph.inputs)
    model.graph.output.extend(_value(one) for one in graph.outputs)
    writer = _Writer(model.graph)
    for node in graph.get_ordered_ops():
        writer.add(node)
    onnx.helper.set_model_props(model, dict(metadata))
    return model


def _value(port: Any) -> onnx.ValueInfoProto:
    """Name, float32 and shape of an input or output of the graph; an open size has a name."""
    import onnx

    name = port.get_any_name()
    open_size = "samples" if port.get_node().get_type_name() == "Parameter" else "frames"
    shape = [open_size if size.is_dynamic else size.get_length() for size in port.partial_shape]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


class _Writer:
    """Adds nodes and constants to an ONNX graph, in an order in which they can be computed.

    Args:
        graph: to be filled.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._names: dict[str, str] = {}  # by the unique name of OpenVINO's node
        self._values: dict[str, np.ndarray] = {}  # of OpenVINO's constants, likewise
        self._kept: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def add(self, node: Node) -> None:
        """Translates one node; those whose outputs it takes must have been added."""
        key, kind, attributes = node.get_name(), node.get_type_name(), node.get_attributes()
        if kind == "Result":
            return
        named = next(iter(node.output(0).get_names()), None) if kind != "Constant" else None
        if kind == "Constant":
            # Written where it is used: matrices are transposed, axes become attributes.
            self._values[key] = node.get_data()
        elif kind == "Parameter":
            self._names[key] = named or key
        else:
            sources = [value.get_node() for value in node.input_values()]
            self._names[key] = self._translate(kind, node, sources, attributes, named)

    def _translate(
        self,
        kind: str,
        node: Node,
        sources: Sequence[Node],
        attributes: Mapping[str, Any],
        named: str | None,
    ) -> str:
        """Adds what computes the node's first output; returns its name, `named` if that is set."""
        if kind in SAME:
            return self._node(SAME[kind], self._inputs(sources), named)
        if kind in REDUCTIONS:
            return self._node(
                kind, self._inputs(sources), named, keepdims=int(attributes["keep_dims"])
            )
        x = sources[0]
        match kind:
            case "Concat" | "Softmax":
                axis = int(attributes["axis"])
                return self._node(kind, self._inputs(sources), named, axis=axis)
            case "Convert":
                return self._node("Cast", self._inputs(sources), named, to=_element_type(node))
            case "Convolution" | "GroupConvolution":
                return self._convolution(kind, sources, attributes, named)
            case "Gather":
                axis = int(self._values[sources[2].get_name()])
                return self._node(kind, self._inputs(sources[:2]), named, axis=axis)
            case "Gelu" if attributes["approximation_mode"] == "ERF":
                return self._gelu(self._input(x), named)
            case "MatMul" if not attributes["transpose_a"]:
                right = self._right(sources[1], transposed=bool(attributes["transpose_b"]))
                return self._node(kind, [self._input(x), right], named)
            case "MVN" if attributes["normalize_variance"]:
                return self._normalise(sources, attributes, named)
            case "Pad" if attributes["pad_mode"] == "constant":
                data, begin, end, *value = self._inputs(sources)  # without a value: 0
                pads = self._node("Concat", [begin, end], axis=0)
                return self._node(kind, [data, pads, *value], named)
            case "Reshape":  # ONNX copies a size where the shape has 0, OpenVINO only if told to
                shape = self._values.get(sources[1].get_name())
                if attributes["special_zero"] or shape is None or 0 not in shape:
                    return self._node(kind, self._inputs(sources), named)
            case "ScaledDotProductAttention" if not attributes["causal"]:
                return self._attention(node, sources, named)
            case "Slice":
                data, start, stop, step, axes = self._inputs(sources)
                return self._node(kind, [data, start, stop, axes, step], named)
            case "TopK" if node.output(1).get_target_inputs() == set():
                count = self._constant(self._values[sources[1].get_name()].reshape(1))
                axis, largest = int(attributes["axis"]), int(attributes["mode"] == "max")
                return self._node(
                    kind, [self._input(x), count], named, outputs=2, axis=axis, largest=largest
                )
            case "Transpose":
                order = self._values[sources[1].get_name()].tolist()
                return self._node(kind, [self._input(x)], named, perm=order)
        raise ValueError(f"the operation {kind} ({dict(attributes)}) has no form in ONNX here")

    def _convolution(
        self,
        kind: str,
        sources: Sequence[Node],
        attributes: Mapping[str, Any],
        named: str | None,
    ) -> str:
        """Weights are (out, in, width), with groups (groups, out, in, width) in OpenVINO."""
        weight = self._values[sources[1].get_name()]
        groups = weight.shape[0] if kind == "GroupConvolution" else 1
        if groups > 1 or kind == "GroupConvolution":
            weight = weight.reshape(-1, *weight.shape[2:])
        return self._node(
            "Conv",
            [self._input(sources[0]), self._constant(weight)],
            named,
            strides=list(attributes["strides"]),
            dilations=list(attributes["dilations"]),
            pads=[*attributes["pads_begin"], *attributes["pads_end"]],
            group=groups,
        )

    def _gelu(self, x: str, named: str | None) -> str:
        """The form of x / 2 * (1 + erf(x / sqrt 2)) that ONNX Runtime fuses to one operation."""
        inner = self._node("Div", [x, self._number(math.sqrt(2))])
        inner = self._node("Add", [self._node("Erf", [inner]), self._number(1)])
        return self._node("Mul", [self._node("Mul", [x, inner]), self._number(0.5)], named)

    def _normalise(
        self, sources: Sequence[Node], attributes: Mapping[str, Any], named: str | None
    ) -> str:
        x, eps = self._input(sources[0]), float(attributes["eps"])
        assert attributes["eps_mode"] == "INSIDE_SQRT", attributes
        shape = sources[0].output(0).get_partial_shape()
        last = self._values[sources[1].get_name()].tolist() in ([-1], [len(shape) - 1])
        width = shape[len(shape) - 1]
        if last and not width.is_dynamic:
            ones = self._constant(np.ones(width.get_length(), np.float32))
            return self._node("LayerNormalization", [x, ones], named, axis=-1, epsilon=eps)
        # A waveform, whose length is open.
        axes = self._input(sources[1])
        centred = self._node("Sub", [x, self._node("ReduceMean", [x, axes], keepdims=1)])
        square = self._node("Mul", [centred, centred])
        variance = self._node("ReduceMean", [square, axes], keepdims=1)
        deviation = self._node("Sqrt", [self._node("Add", [variance, self._number(eps)])])
        return self._node("Div", [centred, deviation], named)

    def _attention(self, node: Node, sources: Sequence[Node], named: str | None) -> str:
        """Softmax of scaled products, and their bias or mask, times the values."""
        query, key, value = self._inputs(sources[:3])
        width = sources[0].output(0).get_partial_shape()[3].get_length()
        query = self._node("Mul", [query, self._number(1 / math.sqrt(width))])
        key = self._node("Transpose", [key], perm=[0, 1, 3, 2])
        products = self._node("MatMul", [query, key])
        if len(sources) > 3:
            bias = self._input(sources[3])
            if str(sources[3].output(0).get_element_type().to_string()) == "boolean":
                products = self._node("Where", [bias, products, self._number(-math.inf)])
            else:
                products = self._node("Add", [products, bias])
        return self._node("MatMul", [self._node("Softmax", [products], axis=-1), value], named)

    def _right(self, source: Node, *, transposed: bool) -> str:
        """The second factor of a matrix product."""
        if not transposed:
            return self._input(source)
        matrix = self._values.get(source.get_name())
        if matrix is None:
            raise ValueError("a computed matrix is transposed within a product")
        return self._constant(matrix.swapaxes(-1, -2))

    def _inputs(self, sources: Sequence[Node]) -> list[str]:
        return [self._input(source) for source in sources]

    def _input(self, source: Node) -> str:
        name = source.get_name()
        if name in self._values:
            return self._constant(self._values[name])
        return self._names[name]

    def _number(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _constant(self, value: np.ndarray) -> str:
        """The name of a constant; small ones that are equal are one."""
        import onnx

        value = np.array(value, order="C") if value.ndim == 0 else np.ascontiguousarray(value)
        name = f"constant_{len(self._graph.initializer)}"
        if value.nbytes <= 4096:
            known = self._kept.setdefault((value.dtype.str, value.shape, value.tobytes()), name)
            if known != name:
                return known
        tensor = self._graph.initializer.add(name=name, dims=value.shape)
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor.raw_data = value.tobytes()
        return name

    def _node(
        self,
        kind: str,
        inputs: Sequence[str],
        named: str | None = None,
        *,
        outputs: int = 1,
        **attributes: Any,
    ) -> str:
        """Adds a node; returns the name of its first output."""
        import onnx

        name = f"{kind}_{len(self._graph.node)}"
        first = named or name
        others = [f"{name}_{i}" for i in range(1, outputs)]
        self._graph.node.append(
            onnx.helper.make_node(kind, inputs, [first, *others], name=name, **attributes)
        )
        return first


def _element_type(node: Node) -> int:
    import onnx

    types = {"f32": onnx.TensorProto.FLOAT, "i64": onnx.TensorProto.INT64}
    return types[node.output(0).get_element_type().to_string()]
