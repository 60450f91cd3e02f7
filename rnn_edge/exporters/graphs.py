"""Whole networks as ONNX graphs, with the state as inputs and outputs.

The contract (names, shapes, what -1 means) is docs/bundle-format.md. The graph is in `scan` form: each layer multiplies
the whole stretch of text by its input weights at once, and only the recurrence itself runs token by token, in a Scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, NameFixPass
from onnxscript import GraphBuilder, OpBuilder
from torch import Tensor

from rnn_edge.bundle import Graph, Port
from rnn_edge.errors import ExportError
from rnn_edge.exporters.cells import Layer, Values, step
from rnn_edge.exporters.weights import FP32, Factor, Matrix, Plan, Stored, Table, Weights
from rnn_edge.modules import LanguageModel, Stack
from rnn_edge.runtimes.arrays import Floats
from rnn_edge.runtimes.step_graph import LOGITS, TOKENS, next_state_name
from rnn_edge.spec import ModelSpec

__all__ = ["NEWEST_OPSET", "OLDEST_OPSET", "Built", "describe_graph", "graph_name", "is_bounded", "step_graph"]

OLDEST_OPSET, NEWEST_OPSET = 17, 26
"""What the graphs need, and the newest that onnxruntime 1.31 runs."""


@dataclass(frozen=True)
class Built:
    """A graph, and what became of each of the network's tensors in it."""

    proto: onnx.ModelProto
    stored: tuple[Stored, ...]


def step_graph(model: LanguageModel, plan: Plan = FP32, *, opset: int = OLDEST_OPSET) -> Built:
    """Return a language model as a graph that reads any number of tokens of any number of rows.

    The same model and plan give the same bytes. Tied weights are stored once.
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ExportError(f"opset must be from {OLDEST_OPSET} to {NEWEST_OPSET}, got {opset}")
    spec = model.spec
    imports = {"": opset} if plan.is_float else {"": opset, "com.microsoft": 1}
    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports=imports, name="step"))
    op, weights = builder.op, Weights(builder, plan)
    tokens = builder.input(TOKENS, ir.DataType.INT64, ["batch", "time"])
    states = [
        builder.input(name, ir.DataType.FLOAT, [spec.num_layers, "batch", size])
        for name, size in spec.state_sizes.items()
    ]
    embedding, layers, bridge, output = _store(weights, model)

    by_time = op.Transpose(tokens, perm=[1, 0])  # (time, batch)
    present = op.Unsqueeze(op.GreaterOrEqual(by_time, 0), [-1])  # (time, batch, 1)
    x = embedding(op, op.Max(by_time, 0))  # (time, batch, embedding)
    after = _stack(builder, spec, layers, x, present, states)

    top = after[0][-1]  # (batch, output): the last layer's h is also its last output
    logits = output(op, top if bridge is None else bridge(op, top))
    _output(builder, logits, LOGITS, ["batch", spec.vocab_size])
    for (name, size), values in zip(spec.state_sizes.items(), after, strict=True):
        joined = op.Concat(*[op.Unsqueeze(value, [0]) for value in values], axis=0)
        _output(builder, joined, next_state_name(name), [spec.num_layers, "batch", size])
    return Built(_finish(builder.graph, opset), tuple(weights.stored))


def _store(weights: Weights, model: LanguageModel) -> tuple[Table, list[Layer], Matrix | None, Matrix]:
    """Store everything a language model is made of: its embedding, layers, bridge and output."""
    bounded = is_bounded(model.spec)
    layers = [_layer(weights, model.stack, index, bounded=bounded) for index in range(model.spec.num_layers)]
    embedding, bridge, output = _store_ends(weights, model)
    return embedding, layers, bridge, output


def _store_ends(weights: Weights, model: LanguageModel) -> tuple[Table, Matrix | None, Matrix]:
    """Store what stands before and behind the layers: the embedding, the bridge and the output."""
    bounded = is_bounded(model.spec)
    bridge = None
    if model.bridge is not None:
        bridge = weights.matrix("bridge", _array(model.bridge.weight.T), bounded=bounded)
    bias, read_bounded = _array(model.output.bias), bounded and bridge is None
    if model.spec.tied:
        embedding, output = weights.tied("embedding", _array(model.embedding.weight), bias, bounded=read_bounded)
    else:
        embedding = weights.table("embedding", _array(model.embedding.weight))
        output = weights.matrix("output", _array(model.output.weight.T), bias, bounded=read_bounded)
    return embedding, bridge, output


def _layer(weights: Weights, stack: Stack, index: int, *, bounded: bool) -> Layer:
    """Store one layer; biases that only ever occur as a sum become one."""
    rnn, prefix, spec = stack.rnn, f"layer{index}", stack.spec
    w, u, b, b_state = (
        _array(getattr(rnn, f"{name}_l{index}")) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    keeps_biases_apart = spec.cell == "gru" and spec.reset_after
    candidate = projection = None
    if spec.cell == "gru" and not spec.reset_after:
        u, new = u[: 2 * spec.hidden_size], u[2 * spec.hidden_size :]
        candidate = weights.matrix(f"{prefix}.candidate", new.T, bounded=bounded)
    if spec.proj_size:
        projection = weights.matrix(f"{prefix}.projection", _array(getattr(rnn, f"weight_hr_l{index}").T), bounded=True)
    return Layer(
        input=weights.matrix(
            f"{prefix}.input", w.T, b if keeps_biases_apart else b + b_state, bounded=bounded and index > 0
        ),
        state=weights.matrix(f"{prefix}.state", u.T, b_state if keeps_biases_apart else None, bounded=bounded),
        projection=projection,
        candidate=candidate,
    )


def graph_name(parameter: str) -> str:
    """Return what a parameter is called in graphs and reports: `stack.rnn.weight_ih_l0` is `layer0.input`."""
    kinds = {"weight_ih": "input", "weight_hh": "state", "weight_hr": "projection"}
    *_, name = parameter.removesuffix(".weight").split(".")
    kind, _, layer = name.rpartition("_l")
    return f"layer{layer}.{kinds[kind]}" if kind in kinds else name


def is_bounded(spec: ModelSpec) -> bool:
    """Tell whether h lies between -1 and 1, as it does where the last thing that happens to it is a squashing."""
    return spec.nonlinearity == "tanh" and not spec.proj_size


def describe_graph(model: onnx.ModelProto, file: str) -> Graph:
    """Return what a manifest says of a graph in `scan` form."""
    return Graph(
        file=file,
        form="scan",
        opset=model.opset_import[0].version,
        inputs=tuple(_port(value) for value in model.graph.input),
        outputs=tuple(_port(value) for value in model.graph.output),
    )


def _stack(
    builder: GraphBuilder,
    spec: ModelSpec,
    layers: list[Layer],
    x: Factor,
    present: ir.Value,
    states: list[ir.Value],
) -> list[list[ir.Value]]:
    """Run the layers over the stretch; return each state's value after it, layer by layer, (batch, width) each."""
    op = builder.op
    after: list[list[ir.Value]] = [[] for _ in states]
    for index, layer in enumerate(layers):
        gates = layer.input(op, x)  # (time, batch, gates × hidden)
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
        _value("gates", ["batch", spec.num_gates * spec.hidden_size]),
        _value("present", ["batch", 1], ir.DataType.BOOL),
    ]
    outputs = [_value(next_state_name(name), ["batch", size]) for name, size in sizes.items()]
    if give_outputs:
        outputs.append(_value("y", ["batch", spec.output_size]))
    graph = builder.subgraph(body, inputs, outputs, name="one_token")
    results = builder.op.Scan(*before, gates, present, body=graph, num_scan_inputs=2, _outputs=len(outputs))
    return list(results) if len(outputs) > 1 else [results]


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().numpy()
    return array


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
    proto = ir.to_proto(model)
    _drop_shapes(proto.graph)
    return proto


def _drop_shapes(graph: onnx.GraphProto) -> None:
    """Forget the shapes of values in between: every reader infers them, and they take room in each bundle."""
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _drop_shapes(attribute.g)


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return Port(value.name, dtype, tuple(size.dim_param or size.dim_value for size in tensor.shape.dim))
