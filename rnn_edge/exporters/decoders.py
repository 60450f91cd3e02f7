"""Networks that write, as step graphs: a language model, and a decoder that looks at an encoder's memory.

Tokens and a state in, scores of the next token and the state after them out; the contract (names, shapes, what -1
means) is docs/bundle-format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder

from rnn_edge.exporters.cells import Layer, Values, step
from rnn_edge.exporters.draft import Draft, value
from rnn_edge.exporters.layers import (
    Slices,
    array,
    in_columns,
    layer_of,
    scan_stack,
    step_stack,
    store_layer,
    store_layers,
)
from rnn_edge.exporters.operators import INFINITY, reduce_max, weighted_sum
from rnn_edge.exporters.two_stage import store_two_stages
from rnn_edge.exporters.weights import Matrix, Plan, Table, Weights
from rnn_edge.modules import Attention, AttentiveDecoder, LanguageModel
from rnn_edge.runtimes.names import (
    ATTENTION,
    LOGITS,
    MEMORY,
    MEMORY_KEYS,
    MEMORY_MASK,
    READOUT,
    TOKENS,
    next_state_name,
)
from rnn_edge.spec import DecoderSpec, StackSpec, TranslatorSpec

__all__ = [
    "AttentiveWriter",
    "Writer",
    "draw_attentive_step",
    "draw_step",
    "memory_shapes",
    "state_inputs",
    "state_outputs",
    "store_attentive_writer",
    "store_ends",
    "store_writer",
]

Attend: TypeAlias = Callable[[OpBuilder, ir.Value, Values], tuple[ir.Value, ir.Value]]
"""Takes queries, float32 (batch, output), and a memory; returns contexts (batch, width), weights (source, batch, 1)."""


def draw_step(draft: Draft, model: LanguageModel, *, prefix: str = "") -> None:
    """Draw a language model, which reads any number of tokens of any number of rows."""
    tokens = draft.input(TOKENS, ["batch", "time"], ir.DataType.INT64)
    states = state_inputs(draft, model.spec)
    writer = store_writer(draft, model, prefix=prefix)
    logits, after = writer.read(draft, tokens, states)
    draft.output(logits, LOGITS, ["batch", model.spec.written_vocab_size])
    state_outputs(draft, model.spec, after)


def draw_attentive_step(draft: Draft, model: AttentiveDecoder, *, prefix: str) -> None:
    """Draw a decoder with attention. Where a step needs the readout before it, all layers run in one Scan."""
    op, spec = draft.op, model.spec
    tokens = draft.input(TOKENS, ["batch", "time"], ir.DataType.INT64)
    states = state_inputs(draft, spec)
    if spec.carries_readout:
        states.append(draft.input(READOUT, [1, "batch", spec.readout_size]))
    memory = [draft.input(name, shape, dtype) for name, (shape, dtype) in memory_shapes(spec).items()]
    writer = store_attentive_writer(draft, model, prefix=prefix)
    logits, after, looked = writer.read(draft, tokens, states, memory)
    draft.output(logits, LOGITS, ["batch", spec.written_vocab_size])
    state_outputs(draft, spec, after[: len(spec.state_sizes)])
    if spec.carries_readout:
        draft.output(op.Unsqueeze(after[-1][0], [0]), next_state_name(READOUT), [1, "batch", spec.readout_size])
    draft.output(op.Transpose(op.Squeeze(looked, [-1]), perm=[1, 0]), ATTENTION, ["batch", "source"])


@dataclass(frozen=True)
class Writer:
    """A language model that is stored in a graph: it reads a stretch, or takes one step."""

    spec: DecoderSpec
    layers: list[Layer]
    embedding: Table
    output: Matrix

    def read(self, draft: Draft, tokens: ir.Value, states: Values) -> tuple[ir.Value, Slices]:
        """Read a stretch; return the logits after its last column, and the state after it.

        tokens  int64 (batch, time)
        states  float32 (layers, batch, width) each
        """
        op = draft.op
        by_time, present = in_columns(op, tokens)
        x = self.embedding(op, by_time)  # (time, batch, embedding)
        after = scan_stack(draft, self.spec, self.layers, x, present, states)
        return self.output(op, after[0][-1]), after  # the last layer's h, (batch, output), is also its last output

    def step(self, op: OpBuilder, tokens: ir.Value, state: Slices, memory: Values = ()) -> tuple[ir.Value, Slices]:
        """Read one token of every row, with the bits that `read` gives; return the logits and the state after it.

        tokens  int64 (1, batch)
        """
        assert not memory
        after = step_stack(op, self.spec, self.layers, self.embedding(op, tokens), state)
        return self.output(op, after[0][-1]), after


@dataclass(frozen=True)
class AttentiveWriter:
    """A decoder with attention that is stored in a graph: it reads a stretch, or takes one step."""

    network: _Network
    embedding: Table
    output: Matrix

    def read(self, draft: Draft, tokens: ir.Value, states: Values, memory: Values) -> tuple[ir.Value, Slices, ir.Value]:
        """Read a stretch; return the logits after its last column, the state after it, and where it looked.

        tokens  int64 (batch, time)
        states  float32 (layers, batch, width) each; the last is the readout where there is one
        memory  as `memory_shapes` has it
        """
        op, network, spec = draft.op, self.network, self.network.spec
        by_time, present = in_columns(op, tokens)
        x = self.embedding(op, by_time)  # (time, batch, embedding)
        if not spec.carries_readout:
            after = scan_stack(draft, spec, network.layers, x, present, states)
            context, looked = network.attend(op, after[0][-1], memory)
            return self.output(op, network.read_out(op, context, after[0][-1])), after, looked
        *layered, readout = states
        gates = network.layers[0].input(op, x)  # (time, batch, gates × hidden)
        nowhere = op.Mul(op.Cast(memory[-1], to=ir.DataType.FLOAT), 0.0)
        before = [*(layer_of(op, spec, state, layer) for layer in range(spec.num_layers) for state in layered)]
        before += [op.Squeeze(readout, [0]), nowhere]
        after, said, looked = _scan_steps(draft, network, before, gates, present, memory)
        return self.output(op, said), [*after, [said]], looked

    def step(self, op: OpBuilder, tokens: ir.Value, state: Slices, memory: Values) -> tuple[ir.Value, Slices]:
        """Read one token of every row, with the bits that `read` gives; return the logits and the state after it.

        tokens  int64 (1, batch)
        """
        network, spec = self.network, self.network.spec
        x = self.embedding(op, tokens)  # (1, batch, embedding)
        if not spec.carries_readout:
            after = step_stack(op, spec, network.layers, x, state)
            context, _ = network.attend(op, after[0][-1], memory)
            return self.output(op, network.read_out(op, context, after[0][-1])), after
        gates = op.Squeeze(network.layers[0].input(op, x), [0])  # (batch, gates × hidden)
        *layered, (readout,) = state
        moved, said, _ = network.step(op, gates, list(zip(*layered, strict=True)), readout, memory)
        return self.output(op, said), [*map(list, zip(*moved, strict=True)), [said]]


def store_writer(draft: Draft, model: LanguageModel, *, prefix: str = "") -> Writer:
    """Store a language model; where that takes little room, its tokens look up what the first layer makes of them."""
    weights = draft.weights
    if not _is_multiplied_beforehand(weights.plan, model, prefix):
        return Writer(model.spec, store_layers(weights, model.stack, prefix), *store_ends(weights, model, prefix))
    layers = store_layers(weights, model.stack, prefix, array(model.embedding.weight))
    output = _store_output(weights, model, prefix, bounded=model.spec.is_bounded)
    return Writer(model.spec, layers, lambda _, tokens: tokens, output)


def _is_multiplied_beforehand(plan: Plan, model: LanguageModel, prefix: str) -> bool:
    """Tell whether a table of W x + b, of all tokens, is to stand for the embedding and the first layer's W.

    It spares each step a product, and rounding once; where it is smaller, or makes all no more than a sixteenth larger.
    """
    if plan.is_float or model.spec.tied or {f"{prefix}embedding", f"{prefix}layer0.input"} & set(plan.keep_float):
        return False
    tokens, width = model.embedding.weight.shape
    gates = model.spec.num_gates * model.spec.hidden_size
    added = tokens * gates - (tokens + gates) * width
    return 16 * added <= sum(each.numel() for each in model.parameters())


def store_attentive_writer(draft: Draft, model: AttentiveDecoder, *, prefix: str) -> AttentiveWriter:
    """Store a decoder with attention."""
    spec, weights = model.spec, draft.weights
    network = _Network(
        spec=spec,
        attend=_store_attention(draft, model.attention, spec),
        layers=[_store_fed_layer(weights, model, index, prefix) for index in range(spec.num_layers)],
        readout=weights.matrix(
            f"{prefix}readout", array(model.readout.weight.T), array(model.readout.bias), bounded=spec.is_bounded
        ),
    )
    return AttentiveWriter(network, *_store_vocabulary(weights, model, prefix, bounded=True))


def memory_shapes(spec: TranslatorSpec) -> dict[str, tuple[list[int | str], ir.DataType]]:
    """Return name, shape and type of what a decoder looks at; for dot attention the memory is its own key."""
    if spec.attention == "none":
        return {}
    ports: dict[str, tuple[list[int | str], ir.DataType]] = {
        MEMORY: (["source", "batch", spec.read_size], ir.DataType.FLOAT)
    }
    if spec.attention != "dot":
        ports[MEMORY_KEYS] = (["source", "batch", spec.output_size], ir.DataType.FLOAT)
    return {**ports, MEMORY_MASK: (["source", "batch", 1], ir.DataType.BOOL)}


@dataclass(frozen=True)
class _Network:
    """What a decoder with attention does in each step."""

    spec: TranslatorSpec
    layers: list[Layer]
    attend: Attend
    readout: Matrix

    def read_out(self, op: OpBuilder, context: ir.Value, h: ir.Value) -> ir.Value:
        """Return tanh(W [context; h] + b), float32 (batch, readout)."""
        said: ir.Value = op.Tanh(self.readout(op, op.Concat(context, h, axis=-1)))
        return said

    def step(
        self, op: OpBuilder, gates: ir.Value, states: Sequence[Values], readout: ir.Value, memory: Values
    ) -> tuple[list[Values], ir.Value, ir.Value]:
        """Read one token: the layers' states after it, the readout, and where it looked.

        gates   float32 (batch, gates × hidden), the token's part of the first layer's
        states  of each layer, float32 (batch, width) each
        """
        looks_first = self.spec.attention == "bahdanau"
        fed = []
        if looks_first:
            context, looked = self.attend(op, states[-1][0], memory)
            fed.append(context)
        if self.spec.input_feeding:
            fed.append(readout)
        beside = self.layers[0].fed
        assert beside is not None
        gates = op.Add(gates, beside(op, op.Concat(*fed, axis=-1) if len(fed) > 1 else fed[0]))
        after: list[Values] = []
        for layer, state in zip(self.layers, states, strict=True):
            after.append(step(op, self.spec, layer, layer.input(op, after[-1][0]) if after else gates, state))
        if not looks_first:
            context, looked = self.attend(op, after[-1][0], memory)
        return after, self.read_out(op, context, after[-1][0]), looked


def _store_fed_layer(weights: Weights, model: AttentiveDecoder, index: int, prefix: str) -> Layer:
    """Store a layer; the first one may read a context, and the readout before, with each token."""
    spec = model.spec
    fed = model.stack.input_size - spec.embedding_size if index == 0 else 0
    bounded = spec.is_bounded or spec.attention != "bahdanau"  # a context is as bounded as the memory it is a mean of
    return store_layer(weights, model.stack, index, f"{prefix}layer{index}", is_first=index == 0, fed=(fed, bounded))


def _store_attention(draft: Draft, attention: Attention, spec: TranslatorSpec) -> Attend:
    """Store what compares a memory with queries; return how to look.

    The softmax is written out: the memory's columns are added up one after the other, so that what pads them changes
    nothing.
    """
    project = None
    if attention.query is not None and attention.score is not None:
        project = draft.weights.matrix("attention.query", array(attention.query.weight.T), bounded=spec.is_bounded)
        summed = draft.weights.vector("attention.score", array(attention.score)[:, None])
    else:
        summed = draft.op.initializer(ir.tensor(np.ones((spec.output_size, 1), np.float32)), "attention.ones")

    def attend(op: OpBuilder, queries: ir.Value, memory: Values) -> tuple[ir.Value, ir.Value]:
        values, keys, mask = memory[0], memory[-2], memory[-1]  # for dot attention the memory is its own key
        compared = op.Mul(keys, queries) if project is None else op.Tanh(op.Add(keys, project(op, queries)))
        scores = op.Where(mask, op.MatMul(compared, summed), -INFINITY)  # (source, batch, 1)
        powers = op.Exp(op.Sub(scores, reduce_max(op, scores, 0)))
        total, power = weighted_sum(op, values, powers, spec.read_size)
        return op.Div(total, power), op.Div(powers, power)

    return attend


def _scan_steps(
    draft: Draft, network: _Network, before: list[ir.Value], gates: ir.Value, present: ir.Value, memory: Values
) -> tuple[Slices, ir.Value, ir.Value]:
    """Run whole steps over the stretch: each state's value after it layer by layer, the readout, where it looked.

    before  of each layer its states, (batch, width) each; then the readout and where it looked
    """
    spec = network.spec
    sizes, layers = spec.state_sizes, range(spec.num_layers)
    count = len(sizes) * spec.num_layers

    def body(op: OpBuilder, *inputs: ir.Value) -> list[ir.Value]:
        carried, (gates_now, present_now) = inputs[:-2], inputs[-2:]
        by_layer: list[Values] = [carried[len(sizes) * layer : len(sizes) * (layer + 1)] for layer in layers]
        after, said, looked = network.step(op, gates_now, by_layer, carried[count], memory)
        moved = [*(each for state in after for each in state), said, looked]
        return [op.Where(present_now, new, old) for new, old in zip(moved, carried, strict=True)]

    shapes: dict[str, list[int | str]] = {
        f"{name}{layer}": ["batch", size] for layer in layers for name, size in sizes.items()
    }
    shapes |= {READOUT: ["batch", spec.readout_size], "looked": ["source", "batch", 1]}
    inputs = [value(name, shape) for name, shape in shapes.items()]
    inputs += [
        value("gates", ["batch", spec.num_gates * spec.hidden_size]),
        value("present", ["batch", 1], ir.DataType.BOOL),
    ]
    outputs = [value(next_state_name(name), shape) for name, shape in shapes.items()]
    graph = draft.builder.subgraph(body, inputs, outputs, name="one_token")
    *flat, said, looked = draft.op.Scan(*before, gates, present, body=graph, num_scan_inputs=2, _outputs=len(outputs))
    return [flat[number :: len(sizes)] for number in range(len(sizes))], said, looked


def state_inputs(draft: Draft, spec: StackSpec, batch: int | str = "batch") -> list[ir.Value]:
    """Name the states before: float32 (layers, batch, width) each."""
    return [draft.input(name, [spec.num_layers, batch, size]) for name, size in spec.state_sizes.items()]


def state_outputs(draft: Draft, spec: StackSpec, after: Slices, batch: int | str = "batch") -> None:
    """Name the states after: of each its layers, (batch, width), on top of one another."""
    op = draft.op
    for (name, size), values in zip(spec.state_sizes.items(), after, strict=True):
        parts = [op.Unsqueeze(each, [0]) for each in values]
        joined = op.Concat(*parts, axis=0) if len(parts) > 1 else parts[0]
        draft.output(joined, next_state_name(name), [spec.num_layers, batch, size])


def store_ends(weights: Weights, model: LanguageModel, prefix: str = "") -> tuple[Table, Matrix]:
    """Store what stands before and behind the layers: what a token looks up, and what scores the tokens, given h."""
    bounded = model.spec.is_bounded
    if model.bridge is None:
        return _store_vocabulary(weights, model, prefix, bounded=bounded)
    bridge = weights.matrix(f"{prefix}bridge", array(model.bridge.weight.T), bounded=bounded)
    embedding, output = _store_vocabulary(weights, model, prefix, bounded=False)
    return embedding, lambda op, h: output(op, bridge(op, h))


def _store_vocabulary(
    weights: Weights, model: LanguageModel | AttentiveDecoder, prefix: str, *, bounded: bool
) -> tuple[Table, Matrix]:
    """Store what a token looks up, and what scores the tokens: one tensor where they are tied."""
    if not model.spec.tied:
        embedding = weights.table(f"{prefix}embedding", array(model.embedding.weight))
        return embedding, _store_output(weights, model, prefix, bounded=bounded)
    preview = weights.plan.preview
    rows, bias = array(model.output.weight), (f"{prefix}output.bias", array(model.output.bias))
    if preview is None:
        return weights.tied(f"{prefix}embedding", rows, bias, bounded=bounded)
    return store_two_stages(weights, f"{prefix}embedding", rows, bias, preview, bounded=bounded)


def _store_output(weights: Weights, model: LanguageModel | AttentiveDecoder, prefix: str, *, bounded: bool) -> Matrix:
    """Store what scores the tokens, and nothing else."""
    name, preview = f"{prefix}output", weights.plan.preview
    rows, bias = array(model.output.weight), array(model.output.bias)
    if preview is None:
        return weights.matrix(name, rows.T, bias, bounded=bounded)
    return store_two_stages(weights, name, rows, (f"{name}.bias", bias), preview, bounded=bounded)[1]
