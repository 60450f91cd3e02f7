"""Would a phone's provider take a graph in one piece? onnxruntime's own usability checker answers, without a phone."""

from __future__ import annotations

import onnx

from rnn_edge.errors import ExportError

__all__ = ["CHECKED", "require_one_partition"]

CHECKED = ("nnapi", "coreml")
"""Targets whose operators onnxruntime lists."""


def require_one_partition(model: onnx.ModelProto, target: str) -> None:
    """Raise ExportError, naming the nodes in the way, unless the provider would run the graph in one piece."""
    from onnxruntime.tools.mobile_helpers import usability_checker  # takes a second, and only phones need it

    inferred = onnx.shape_inference.infer_shapes(model)
    if target == "nnapi":
        found = usability_checker.check_nnapi_partitions(inferred, True)
    else:
        found = usability_checker.check_coreml_partitions(inferred, True, "coreml_supported_mlprogram_ops.md")
    if found.num_partitions == 1:
        return
    unsupported = {name.removeprefix("ai.onnx:") for name in found.unsupported_ops}
    nodes = [f"{node.name} ({node.op_type})" for node in inferred.graph.node if node.op_type in unsupported]
    raise ExportError(
        f"{target} would take this graph in {found.num_partitions} pieces rather than one: in the way are "
        f"{', '.join(nodes) or 'sizes that are not fixed'}"
    )
