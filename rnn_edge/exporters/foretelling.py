"""Which nodes of a graph will its target run? Foretold from what is known of providers, on a machine without them.

For phones onnxruntime's own usability checker knows; of the others, here are the operators that our graphs have in
common with their lists of kernels. What really ran, `rnn-edge placement` compares with this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import onnx

from rnn_edge.bundle import Foretold
from rnn_edge.errors import ExportError
from rnn_edge.runtimes.providers import Provider

__all__ = ["foretell"]


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


_FIXED = _words("Add Concat Gather Gemm MatMul Mul Relu Sigmoid Split Squeeze Sub Tanh Unsqueeze")
_STEP = _FIXED | _words("Cast GreaterOrEqual Max Where")

_OPERATORS: Mapping[str, frozenset[str]] = {
    "cuda": _words(
        "Add Cast Concat CumSum GRU Gather Gemm Greater GreaterOrEqual LSTM MatMul Max RNN ReduceSum ScatterElements "
        "Split Squeeze Sub Transpose Unsqueeze Where"
    ),
    "tensorrt": _STEP,
    "directml": _STEP,
    "webgpu": _STEP,
    "openvino": _STEP,
    "qnn": _FIXED | _words("Cast DequantizeLinear QuantizeLinear"),
    "xnnpack": _words("Gemm MatMul"),
}
_LEFT: Mapping[str, frozenset[str]] = {"coreml": _words("Gather"), "xnnpack": _STEP}
"""What a target may leave to the CPU: Core ML the look-up of the token; XNNPACK, there too, all but products."""

_CHECKED = ("nnapi", "coreml")


def foretell(model: onnx.ModelProto, target: Provider) -> Foretold:
    """Return where the nodes of a graph will run; raise ExportError, naming nodes, where the target cannot take it."""
    inferred = onnx.shape_inference.infer_shapes(model)
    if target.name in _CHECKED:
        refused = _refused_by_checker(inferred, target.name)
    else:
        refused = {node.op_type for node in inferred.graph.node} - _OPERATORS[target.name]
    nodes = _running(inferred.graph)
    in_the_way = [node for node in nodes if node.op_type in refused - _LEFT.get(target.name, frozenset())]
    if in_the_way:
        named = ", ".join(f"{node.name} ({node.op_type})" for node in in_the_way)
        raise ExportError(f"{target.name} would not run the whole graph: in the way are {named}")
    counts = Counter(node.op_type for node in nodes)
    here = {name: count for name, count in sorted(counts.items()) if name not in refused}
    return Foretold(here, {name: count for name, count in sorted(counts.items()) if name in refused})


def _refused_by_checker(model: onnx.ModelProto, target: str) -> set[str]:
    """Return the operators that a phone's provider does not take; raise ExportError unless it takes one piece."""
    from onnxruntime.tools.mobile_helpers import usability_checker  # takes a second, and only phones need it

    if target == "nnapi":
        found = usability_checker.check_nnapi_partitions(model, True)
    else:
        found = usability_checker.check_coreml_partitions(model, True, "coreml_supported_mlprogram_ops.md")
    unsupported = {name.removeprefix("ai.onnx:") for name in found.unsupported_ops}
    if found.num_partitions != 1:
        nodes = [f"{node.name} ({node.op_type})" for node in model.graph.node if node.op_type in unsupported]
        raise ExportError(
            f"{target} would take this graph in {found.num_partitions} pieces rather than one: in the way are "
            f"{', '.join(nodes) or 'sizes that are not fixed'}"
        )
    return unsupported


def _running(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that run at every call: what is computed from weights alone, onnxruntime does at once.

    But for quantized weights, which providers take as they are.
    """
    constants = {each.name for each in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "DequantizeLinear" and constants.issuperset(node.input):
            constants.update(node.output)
        else:
            nodes.append(node)
    return nodes
