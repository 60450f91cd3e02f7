"""A step graph that gives its gates out too. It takes the onnx package, as few places outside `exporters/` do."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from rnn_edge.errors import BundleError

__all__ = ["with_gates"]


def with_gates(content: bytes, names: Sequence[str]) -> tuple[bytes, list[str]]:
    """Return a graph in `scan` form with its gates as outputs, and the names of these, layer by layer.

    names    of a layer's gates: its loop has a sigmoid for each, in the order in which `exporters/cells.py` has them
    returns  outputs float32 (time, batch, cells)
    """
    model = onnx.load_model_from_string(content)
    outputs: list[str] = []
    for layer, scan in enumerate(node for node in model.graph.node if node.op_type == "Scan"):
        (body,) = (attribute.g for attribute in scan.attribute if attribute.name == "body")
        gates = [node.output[0] for node in body.node if node.op_type == "Sigmoid"]
        if len(gates) != len(names):
            raise BundleError(f"layer {layer + 1} has {len(gates)} sigmoids in place of its gates, {', '.join(names)}")
        for name, gate in zip(names, gates, strict=True):
            outputs.append(f"{name}_gate_{layer}")
            _give_out(model.graph, scan, body, gate, outputs[-1])
    return model.SerializeToString(), outputs


def _give_out(graph: onnx.GraphProto, scan: onnx.NodeProto, body: onnx.GraphProto, gate: str, name: str) -> None:
    """Have the loop collect a value of its body, which may be in halves, and the graph give it out."""
    inside = f"{name}_now"
    body.node.append(onnx.helper.make_node("Cast", [gate], [inside], to=onnx.TensorProto.FLOAT))
    body.output.append(onnx.helper.make_tensor_value_info(inside, onnx.TensorProto.FLOAT, None))
    scan.output.append(name)
    graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
