"""Whole networks as ONNX graphs, with the state as inputs and outputs.

The contract (names, shapes, what -1 means) is docs/bundle-format.md. The graph is in `scan` form: each layer multiplies
the whole stretch of text by its input weights at once, and only the recurrence itself runs token by token, in a Scan.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, NameFixPass
from onnxscript import GraphBuilder, OpBuilder
from torch import Tensor

from rnn_edge.bundle import Graph, Port
from rnn_edge.errors import ExportError
from rnn_edge.exporters.cells import Layer, Values, step
from rnn_edge.modules import LanguageModel, Stack
from rnn_edge.runtimes.step_graph import LOGITS, TOKENS, next_state_name
from rnn_edge.spec import ModelSpec

__all__ = ["NEWEST_OPSET", "OLDEST_OPSET", "describe_graph", "step_graph"]

OLDEST_OPSET, NEWEST_OPSET = 17, 26
"""What the graphs need, and the newest that onnxruntime 1.31 runs."""


def step_graph(model: LanguageModel, *, opset: int = OLDEST_OPSET) -> onnx.ModelProto:
    """Return a language model as a graph that reads any number of tokens of any number of rows.

    The same model gives the same bytes. Tied weights are one initializer.
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ExportError(f"opset must be from {OLDEST_OPSET} to {NEWEST_OPSET}, got {opset}")
    spec = model.spec
    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": opset}, name="step"))
    op = builder.op
    tokens = builder.input(TOKENS, ir.DataType.INT64, ["batch", "time"])
    states = [
        builder.input(name, ir.DataType.FLOAT, [spec.num_layers, "batch", size])
        for name, size in spec.state_sizes.items()
    ]
    embedding = _initializer(op, "embedding", model.embedding.weight)

    by_time = op.Transpose(tokens, perm=[1, 0])  # (time, batch)
    present = op.Unsqueeze(op.GreaterOrEqual(by_time, 0), [-1])  # (time, batch, 1)
    x = op.Gather(embedding, op.Max(by_time, 0))  # (time, batch, embedding)
    after = _stack(builder, spec, _layers(op, model.stack), x, present, states)

    top = after[0][-1]  # (batch, output): the last layer's h is also its last output
    if model.bridge is not None:
        top = op.MatMul(top, _initializer(op, "bridge", model.bridge.weight.T))
    matrix = embedding if spec.tied else _initializer(op, "output", model.output.weight)
    logits = op.Gemm(top, matrix, _initializer(op, "output_bias", model.output.bias), transB=1)

    _output(builder, logits, LOGITS, ["batch", spec.vocab_size])
    for (name, size), layers in zip(spec.state_sizes.items(), after, strict=True):
        joined = op.Concat(*[op.Unsqueeze(value, [0]) for value in layers], axis=0)
        _output(builder, joined, next_state_name(name), [spec.num_layers, "batch", size])
    return _finish(builder.graph, opset)


def describe_graph(model: onnx.ModelProto, file: str) -> Graph:
    """Return what a manifest says of a graph in `scan` form."""
    return Graph(
        file=file,
        form="scan",
        opset=model.opset_import[0].version,
        inputs=tuple(_port(value) for value in model.graph.input),
        outputs=tuple(_port(value) for value in model.graph.output),
    )


def _layers(op: OpBuilder, stack: Stack) -> list[Layer]:
    """Return the initializers of each layer; biases that only ever occur as a sum are one."""
    rnn, layers = stack.rnn, []
    is_gru = rnn.mode == "GRU"
    for index in range(stack.num_layers):
        parameters = {
            name: getattr(rnn, f"{name}_l{index}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        bias, state_bias = parameters["bias_ih"], parameters["bias_hh"]
        prefix = f"layer{index}"
        layers.append(
            Layer(
                _initializer(op, f"{prefix}.input", parameters["weight_ih"].T),
                _initializer(op, f"{prefix}.bias", bias if is_gru else bias + state_bias),
                _initializer(op, f"{prefix}.state", parameters["weight_hh"].T),
                _initializer(op, f"{prefix}.state_bias", state_bias) if is_gru else None,
                _initializer(op, f"{prefix}.projection", getattr(rnn, f"weight_hr_l{index}").T)
                if rnn.proj_size
                else None,
            )
        )
    return layers


def _stack(
    builder: GraphBuilder,
    spec: ModelSpec,
    layers: list[Layer],
    x: ir.Value,
    present: ir.Value,
    states: list[ir.Value],
) -> list[list[ir.Value]]:
    """Run the layers over the stretch; return each state's value after it, layer by layer, (batch, width) each."""
    op = builder.op
    after: list[list[ir.Value]] = [[] for _ in states]
    for index, layer in enumerate(layers):
        gates = op.Add(op.MatMul(x, layer.input_weight), layer.input_bias)  # (time, batch, gates × hidden)
        before = [op.Gather(state, index, axis=0) for state in states]  # (batch, width) each
        is_last = index == len(layers) - 1
        results = _scan(builder, spec, layer, before, gates, present, give_outputs=not is_last)
        for values, value in zip(after, results, strict=False):
            values.append(value)
        x = results[-1]
    return after


def _scan(
    builder: GraphBuilder,
    spec: ModelSpec,
    layer: Layer,
    before: Values,
    gates: ir.Value,
    present: ir.Value,
    *,
    give_outputs: bool,
) -> list[ir.Value]:
    """Run one layer over the stretch; return its state after it, then its outputs (time, batch, output) if wanted."""
    sizes = spec.state_sizes
    count = len(sizes)

    def body(op: OpBuilder, *inputs: ir.Value) -> list[ir.Value]:
        state, (gates_now, present_now) = inputs[:count], inputs[count:]
        moved = step(op, spec, layer, gates_now, state)
        kept = [op.Where(present_now, new, old) for new, old in zip(moved, state, strict=True)]
        return [*kept, op.Identity(kept[0])] if give_outputs else kept

    inputs = [_value(name, ["batch", size]) for name, size in sizes.items()]
    inputs += [
        _value("gates", ["batch", _gates_size(spec)]),
        _value("present", ["batch", 1], ir.DataType.BOOL),
    ]
    outputs = [_value(next_state_name(name), ["batch", size]) for name, size in sizes.items()]
    if give_outputs:
        outputs.append(_value("y", ["batch", spec.output_size]))
    graph = builder.subgraph(body, inputs, outputs, name="one_token")
    results = builder.op.Scan(*before, gates, present, body=graph, num_scan_inputs=2, _outputs=len(outputs))
    return list(results) if len(outputs) > 1 else [results]


def _gates_size(spec: ModelSpec) -> int:
    return {"elman": 1, "gru": 3, "lstm": 4}[spec.cell] * spec.hidden_size


def _initializer(op: OpBuilder, name: str, tensor: Tensor) -> ir.Value:
    array: NDArray[np.float32] = np.ascontiguousarray(tensor.detach().numpy())
    value: ir.Value = op.initializer(ir.tensor(array, name=name), name)
    return value


def _value(name: str, shape: list[int | str], dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    return ir.val(name, dtype=dtype, shape=shape)


def _output(builder: GraphBuilder, value: ir.Value, name: str, shape: list[int | str]) -> None:
    value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape(shape)
    builder.add_output(value, name)


def _finish(graph: ir.Graph, opset: int) -> onnx.ModelProto:
    """Make names unique across subgraphs, drop the builder's notes, and pick the oldest file format that will do."""
    oldest_ir = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    model = ir.Model(graph, ir_version=oldest_ir, producer_name="rnn-edge")
    for tidy in (NameFixPass(), ClearMetadataAndDocStringPass()):
        model = tidy(model).model
    return ir.to_proto(model)


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return Port(value.name, dtype, tuple(size.dim_param or size.dim_value for size in tensor.shape.dim))
