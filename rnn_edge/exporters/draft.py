"""A graph in the making: its operators, its weights, its inputs and outputs; and the file that comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, NameFixPass
from onnxscript import GraphBuilder

from rnn_edge.exporters.weights import CalibratedWeights, Plan, Weights

__all__ = ["Draft", "value"]


class Draft:
    """One graph that is being written; inputs and outputs come in the order in which they are named."""

    def __init__(self, name: str, plan: Plan, opset: int, *, settle: bool = False) -> None:
        imports = {"": opset} if plan.is_standard else {"": opset, "com.microsoft": 1}
        self.builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports=imports, name=name))
        self.op = self.builder.op
        self.weights = (CalibratedWeights if plan.is_calibrated else Weights)(self.builder, plan, settle=settle)
        self._opset = opset

    def input(self, name: str, shape: list[int | str], dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        """Name an input."""
        return self.builder.input(name, dtype, shape)

    def output(
        self, value: ir.Value, name: str, shape: list[int | str], dtype: ir.DataType = ir.DataType.FLOAT
    ) -> None:
        """Name an output."""
        value.dtype, value.shape = dtype, ir.Shape(shape)
        self.builder.add_output(value, name)

    def finish(self) -> onnx.ModelProto:
        """Make names unique across subgraphs, drop the builder's notes, and pick the oldest file format that will do.

        The same calls give the same bytes.
        """
        oldest_ir = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", self._opset)])
        model = ir.Model(self.builder.graph, ir_version=oldest_ir, producer_name="rnn-edge")
        for tidy in (NameFixPass(), ClearMetadataAndDocStringPass()):
            model = tidy(model).model
        _keep_names_apart(model.graph)
        proto = ir.to_proto(model)
        _drop_shapes(proto.graph)
        return proto


def value(name: str, shape: list[int | str], dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    """Return an input or output of a subgraph."""
    return ir.val(name, dtype=dtype, shape=shape)


def _keep_names_apart(graph: ir.Graph, outer: frozenset[str | None] = frozenset()) -> None:
    """Rename what a subgraph calls like a value of a graph around it; the pass overlooks those that come later."""
    outer |= {each.name for each in (*graph.inputs, *graph.initializers.values(), *_results(graph))}
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                inner = attribute.as_graph()
                values = [*inner.inputs, *_results(inner)]
                taken = outer | {each.name for each in values}
                for each in values:
                    if each.name in outer:
                        each.name = next(name for n in count(1) if (name := f"{each.name}_inner{n}") not in taken)
                        taken |= {each.name}
                _keep_names_apart(inner, outer)


def _results(graph: ir.Graph) -> Iterator[ir.Value]:
    return (output for node in graph for output in node.outputs)


def _drop_shapes(graph: onnx.GraphProto) -> None:
    """Forget the shapes of values in between: every reader infers them, and they take room in each bundle."""
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _drop_shapes(attribute.g)
