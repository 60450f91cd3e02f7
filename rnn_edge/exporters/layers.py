"""Recurrent layers as graphs: one layer in either direction, a stack that carries its state, a reader of whole texts.

Each layer multiplies the whole stretch of text by its input weights at once, and only the recurrence itself runs token
by token, in a Scan. Time stands on the first axis; where `present` is False a row's state passes through unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir
from onnxscript import OpBuilder
from torch import Tensor, nn

from rnn_edge.exporters.cells import Layer, Values, step
from rnn_edge.exporters.draft import Draft, value
from rnn_edge.exporters.operators import zeros
from rnn_edge.exporters.weights import Factor, Matrix, Table, Weights, floats
from rnn_edge.modules import Encoder, Stack
from rnn_edge.runtimes.arrays import Floats
from rnn_edge.runtimes.names import next_state_name
from rnn_edge.spec import StackSpec

__all__ = [
    "Encoded",
    "Fed",
    "Slices",
    "array",
    "encode",
    "in_columns",
    "layer_of",
    "scan",
    "scan_stack",
    "step_stack",
    "store_layer",
    "store_layers",
    "store_linear",
]

Slices: TypeAlias = list[list[ir.Value]]
"""Of each state, each layer's value, float32 (batch, width)."""


@dataclass(frozen=True)
class Fed:
    """What the first layer reads beside its tokens' vectors, float32 (time, batch, size)."""

    value: ir.Value
    size: int
    is_bounded: bool


@dataclass(frozen=True)
class Encoded:
    """What the layers make of a batch of texts.

    outputs  float32 (time, batch, directions × output), or nothing where nobody asked
    present  bool (time, batch, 1), which of them there are
    state    of each state, each layer's value, float32 (batch, directions × width)
    """

    outputs: ir.Value | None
    present: ir.Value
    state: Slices


def in_columns(op: OpBuilder, tokens: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return tokens in columns, int64 (time, batch), and where there are any, bool (time, batch, 1)."""
    by_time = op.Transpose(tokens, perm=[1, 0])
    return by_time, op.GreaterOrEqual(op.Unsqueeze(by_time, [-1]), 0)


def store_layer(
    weights: Weights,
    stack: Stack,
    index: int,
    name: str,
    *,
    is_first: bool,
    vectors: Floats | None = None,
    fed: tuple[int, bool] = (0, False),
    backwards: bool = False,
) -> Layer:
    """Store one layer; biases that only ever occur as a sum become one.

    is_first  it reads what tokens look up, which is not bounded
    vectors   of all tokens, float32 (tokens, input): multiplied now, so that the layer reads tokens themselves
    fed       how many of its last inputs are not a token's vector, and whether those are bounded
    """
    rnn, spec, bounded = stack.rnn, stack.spec, stack.spec.is_bounded
    suffix, ending = ("_reverse", ".reverse") if backwards else ("", "")
    w, u, b, b_state = (
        array(getattr(rnn, f"{kind}_l{index}{suffix}")) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    keeps_biases_apart = spec.cell == "gru" and spec.reset_after
    candidate = projection = beside = None
    if spec.cell == "gru" and not spec.reset_after:
        u, new = u[: 2 * spec.hidden_size], u[2 * spec.hidden_size :]
        candidate = weights.matrix(f"{name}.candidate{ending}", new.T, bounded=bounded)
    if spec.proj_size:
        project = array(getattr(rnn, f"weight_hr_l{index}{suffix}"))
        projection = weights.matrix(f"{name}.projection{ending}", project.T, bounded=True)
    fed_size, fed_is_bounded = fed
    if fed_size:
        w, w_fed = w[:, :-fed_size], w[:, -fed_size:]
        beside = weights.matrix(f"{name}.fed{ending}", w_fed.T, bounded=fed_is_bounded)
    bias = b if keeps_biases_apart else b + b_state
    return Layer(
        input=weights.matrix(f"{name}.input{ending}", w.T, bias, bounded=bounded and not is_first)
        if vectors is None
        else _look_up(weights.table(f"{name}.input{ending}", vectors @ w.T + bias)),
        state=weights.matrix(f"{name}.state{ending}", u.T, b_state if keeps_biases_apart else None, bounded=bounded),
        projection=projection,
        candidate=candidate,
        fed=beside,
    )


def _look_up(table: Table) -> Matrix:
    """Return what takes tokens, int64 (time, batch), to their rows of a table, as numbers."""

    def look_up(op: OpBuilder, tokens: Factor) -> ir.Value:
        assert isinstance(tokens, ir.Value)
        return floats(op, table(op, tokens))

    return look_up


def store_layers(weights: Weights, stack: Stack, prefix: str = "", vectors: Floats | None = None) -> list[Layer]:
    """Store all layers of a stack that reads tokens' vectors and nothing else, or, if they are given, tokens."""
    first = store_layer(weights, stack, 0, f"{prefix}layer0", is_first=True, vectors=vectors)
    numbers = range(1, stack.spec.num_layers)
    return [first, *(store_layer(weights, stack, n, f"{prefix}layer{n}", is_first=False) for n in numbers)]


def scan_stack(
    draft: Draft, spec: StackSpec, layers: list[Layer], x: Factor, present: ir.Value, states: Values
) -> Slices:
    """Run the layers over the stretch; return the state after it.

    states  float32 (layers, batch, width) each
    """
    op = draft.op
    after: Slices = [[] for _ in states]
    for index, layer in enumerate(layers):
        gates = layer.input(op, x)  # (time, batch, gates × hidden)
        before = [layer_of(op, spec, state, index) for state in states]  # (batch, width) each
        is_last = index == len(layers) - 1
        results = scan(draft, spec, layer, before, gates, present, give_outputs=not is_last)
        for values, each in zip(after, results, strict=False):
            values.append(each)
        x = results[-1]
    return after


def layer_of(op: OpBuilder, spec: StackSpec, state: ir.Value, index: int) -> ir.Value:
    """Return a layer's part of a state, (layers, batch, width) to (batch, width); of a single layer, without a copy."""
    part: ir.Value = op.Squeeze(state, [0]) if spec.num_layers == 1 else op.Gather(state, index, axis=0)
    return part


def step_stack(op: OpBuilder, spec: StackSpec, layers: list[Layer], x: Factor, state: Slices) -> Slices:
    """Take one step of the layers without a Scan; return the state after it.

    x  float32 (1, batch, input), as deep as a stretch, so that its products have the bits they have there; or tokens
    """
    after: Slices = [[] for _ in state]
    for index, layer in enumerate(layers):
        x = op.Unsqueeze(after[0][-1], [0]) if index else x
        gates = op.Squeeze(layer.input(op, x), [0])  # (batch, gates × hidden)
        moved = step(op, spec, layer, gates, [values[index] for values in state])
        for values, each in zip(after, moved, strict=True):
            values.append(each)
    return after


def scan(
    draft: Draft,
    spec: StackSpec,
    layer: Layer,
    before: Values,
    gates: ir.Value,
    present: ir.Value,
    *,
    give_outputs: bool,
    backwards: bool = False,
) -> list[ir.Value]:
    """Run one layer over the stretch; return its state after it, then its outputs (time, batch, output) if wanted."""
    sizes = spec.state_sizes
    count = len(sizes)

    def body(op: OpBuilder, *inputs: ir.Value) -> list[ir.Value]:
        state, (gates_now, present_now) = inputs[:count], inputs[count:]
        moved = step(op, spec, layer, gates_now, state)
        kept = [op.Where(present_now, new, old) for new, old in zip(moved, state, strict=True)]
        return [*kept, op.Identity(kept[0])] if give_outputs else kept

    inputs = [value(name, ["batch", size]) for name, size in sizes.items()]
    inputs += [
        value("gates", ["batch", spec.num_gates * spec.hidden_size]),
        value("present", ["batch", 1], ir.DataType.BOOL),
    ]
    outputs = [value(next_state_name(name), ["batch", size]) for name, size in sizes.items()]
    if give_outputs:
        outputs.append(value("y", ["batch", spec.output_size]))
    graph = draft.builder.subgraph(body, inputs, outputs, name="one_token")
    directions: dict[str, list[int]] = {}
    if backwards:
        directions["scan_input_directions"] = [1, 1]
    if backwards and give_outputs:
        directions["scan_output_directions"] = [1]
    results = draft.op.Scan(*before, gates, present, body=graph, num_scan_inputs=2, **directions, _outputs=len(outputs))
    return list(results) if len(outputs) > 1 else [results]


def encode(
    draft: Draft,
    encoder: Encoder,
    x: Factor,
    present: ir.Value,
    *,
    prefix: str = "",
    fed: Fed | None = None,
    give_outputs: bool = True,
) -> Encoded:
    """Store an encoder's layers and read with them; a row reads backwards from its own last token.

    x        (time, batch, input)
    present  bool (time, batch, 1)
    """
    op, spec = draft.op, encoder.spec
    state: Slices = [[] for _ in spec.state_sizes]
    outputs: ir.Value | None = None
    for number, (stack, index) in enumerate(_stacked(encoder)):
        if outputs is not None and encoder.pyramidal:
            outputs, present = _join_neighbours(op, outputs, present)
        first = outputs is None
        given = x if outputs is None else outputs
        directions = []
        for backwards in (False, True)[: encoder.directions]:
            fed_size = (fed.size, fed.is_bounded) if fed and first else (0, False)
            layer = store_layer(
                draft.weights, stack, index, f"{prefix}layer{number}", is_first=first, fed=fed_size, backwards=backwards
            )
            gates = layer.input(op, given)  # (time, batch, gates × hidden)
            if fed and layer.fed:
                gates = op.Add(gates, layer.fed(op, fed.value))
            before = [zeros(op, present, size) for size in spec.state_sizes.values()]
            gives = give_outputs or number + 1 < spec.num_layers
            directions.append(scan(draft, spec, layer, before, gates, present, give_outputs=gives, backwards=backwards))
        joined = [op.Concat(*parts, axis=-1) if len(parts) > 1 else parts[0] for parts in zip(*directions, strict=True)]
        for values, each in zip(state, joined, strict=False):
            values.append(each)
        outputs = joined[-1]
    return Encoded(outputs if give_outputs else None, present, state)


def _stacked(encoder: Encoder) -> Iterator[tuple[Stack, int]]:
    """Yield the module that holds each layer, and the layer's number in it."""
    for stack in encoder.stacks:
        assert isinstance(stack, Stack)
        for index in range(stack.spec.num_layers):
            yield stack, index


def _join_neighbours(op: OpBuilder, x: ir.Value, present: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Read two columns as one, a last one with zeros: (time, batch, width) to (time / 2, batch, 2 × width)."""
    x = op.Where(present, x, 0.0)
    seconds = op.Pad(x, [0, 0, 0, 1, 0, 0])
    joined = op.Concat(_every_second(op, x, 0), _every_second(op, seconds, 1), axis=-1)
    return joined, _every_second(op, present, 0)


def _every_second(op: OpBuilder, x: ir.Value, first: int) -> ir.Value:
    columns: ir.Value = op.Slice(x, [first], [2**62], [0], [2])
    return columns


def store_linear(weights: Weights, name: str, linear: nn.Linear, *, bounded: bool) -> Matrix:
    """Store a linear map, with its bias where it has one."""
    bias = None if linear.bias is None else array(linear.bias)
    return weights.matrix(name, array(linear.weight.T), bias, bounded=bounded)


def array(tensor: Tensor) -> Floats:
    """Return a tensor's numbers themselves, no copy."""
    numbers: Floats = tensor.detach().numpy()
    return numbers
