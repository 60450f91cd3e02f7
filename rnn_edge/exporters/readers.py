"""Networks that read whole texts, or vectors, as graphs: encoders, classifiers, sentence encoders.

Rows are padded on the right with -1; each comes out as it does alone.
"""

from __future__ import annotations

import onnx_ir as ir
from torch import nn

from rnn_edge.exporters.decoders import memory_shapes
from rnn_edge.exporters.draft import Draft
from rnn_edge.exporters.layers import Encoded, array, encode, in_columns, store_linear
from rnn_edge.exporters.operators import INFINITY, reduce_max, weighted_sum, zeros
from rnn_edge.modules import Attention, AttentiveDecoder, Classifier, Describer, SentenceEncoder, Translator
from rnn_edge.runtimes.names import LOGITS, MEMORY, MEMORY_KEYS, MEMORY_MASK, READOUT, TOKENS, VECTORS
from rnn_edge.spec import Pooling, TranslatorSpec

__all__ = [
    "draw_classifier",
    "draw_describer_encoder",
    "draw_sentence_encoder",
    "draw_translator_encoder",
    "encode_source",
    "encode_vectors",
]


def draw_sentence_encoder(draft: Draft, model: SentenceEncoder) -> None:
    """Draw a text's vector."""
    draft.output(_text_vector(draft, model), VECTORS, ["batch", model.spec.read_size])


def draw_classifier(draft: Draft, model: Classifier) -> None:
    """Draw a text's scores."""
    op, spec = draft.op, model.spec
    y, bounded = _text_vector(draft, model.sentence), spec.is_bounded
    if model.head is not None:
        y, bounded = op.Relu(store_linear(draft.weights, "head", model.head, bounded=bounded)(op, y)), False
    logits = store_linear(draft.weights, "output", model.output, bounded=bounded)(op, y)
    draft.output(logits, LOGITS, ["batch", len(spec.labels)])


def draw_translator_encoder(draft: Draft, model: Translator) -> None:
    """Draw what leads from a source to the first state of its decoder, and to the memory it looks at."""
    spec = model.spec
    values = encode_source(draft, model)
    for name, size in spec.state_sizes.items():
        draft.output(values[name], name, [spec.num_layers, "batch", size])
    if spec.carries_readout:
        draft.output(values[READOUT], READOUT, [1, "batch", spec.readout_size])
    for name, (shape, dtype) in memory_shapes(spec).items():
        draft.output(draft.op.Identity(values[name]), name, shape, dtype)


def draw_describer_encoder(draft: Draft, model: Describer) -> None:
    """Draw what leads from vectors to the first state of their decoder."""
    spec = model.spec
    values = encode_vectors(draft, model)
    for name, size in spec.state_sizes.items():
        draft.output(values[name], name, [spec.num_layers, "batch", size])


def encode_source(draft: Draft, model: Translator) -> dict[str, ir.Value]:
    """Read a source; return the first state of its decoder and the memory it looks at, by name."""
    op, spec = draft.op, model.spec
    tokens = draft.input(TOKENS, ["batch", "time"], ir.DataType.INT64)
    by_time, present = in_columns(op, tokens)
    embedding = draft.weights.table("encoder.embedding", array(model.embedding.weight))
    x = embedding(op, by_time)
    looks = isinstance(model.decoder, AttentiveDecoder)
    encoded = encode(draft, model.encoder, x, present, prefix="encoder.", give_outputs=looks)
    values: dict[str, ir.Value] = {}
    for number, (name, layers) in enumerate(zip(spec.state_sizes, encoded.state, strict=True)):
        state = op.Concat(*[op.Unsqueeze(each, [0]) for each in layers], axis=0)  # (layers, batch, directions × width)
        if spec.bidirectional:
            bridge = model.bridges[number]
            assert isinstance(bridge, nn.Linear)
            bounded = spec.is_bounded if name == "h" else spec.squash == "state"
            state = op.Tanh(store_linear(draft.weights, f"bridge.{name}", bridge, bounded=bounded)(op, state))
        values[name] = state
    if spec.carries_readout:
        values[READOUT] = op.Unsqueeze(zeros(op, present, spec.readout_size), [0])
    if isinstance(model.decoder, AttentiveDecoder):
        values |= _remember(draft, model.decoder.attention, spec, encoded)
    return values


def encode_vectors(draft: Draft, model: Describer) -> dict[str, ir.Value]:
    """Read vectors; return the first state of their decoder, by name."""
    op, spec = draft.op, model.spec
    vectors = draft.input(VECTORS, ["batch", spec.vector_size])
    values: dict[str, ir.Value] = {}
    for (name, size), bridge in zip(spec.state_sizes.items(), model.bridges, strict=True):
        assert isinstance(bridge, nn.Linear)
        flat = op.Tanh(store_linear(draft.weights, f"bridge.{name}", bridge, bounded=False)(op, vectors))
        values[name] = op.Transpose(op.Reshape(flat, [-1, spec.num_layers, size]), perm=[1, 0, 2])
    return values


def _remember(draft: Draft, attention: Attention, spec: TranslatorSpec, encoded: Encoded) -> dict[str, ir.Value]:
    """Return the memory by name, in columns: what pads a row then stands at its end."""
    assert encoded.outputs is not None
    found = {MEMORY: encoded.outputs, MEMORY_MASK: encoded.present}
    if attention.key is not None:
        found[MEMORY_KEYS] = store_linear(draft.weights, "attention.key", attention.key, bounded=spec.is_bounded)(
            draft.op, encoded.outputs
        )
    return found


def _text_vector(draft: Draft, model: SentenceEncoder) -> ir.Value:
    """Draw the layers and what is pooled of them, float32 (batch, directions × output)."""
    op, spec = draft.op, model.spec
    tokens = draft.input(TOKENS, ["batch", "time"], ir.DataType.INT64)
    by_time, present = in_columns(op, tokens)
    x = draft.weights.table("embedding", array(model.embedding.weight))(op, by_time)
    encoded = encode(draft, model.encoder, x, present, give_outputs=spec.pooling != "last")
    return _pool(draft, encoded, spec.pooling, spec.read_size)


def _pool(draft: Draft, encoded: Encoded, pooling: Pooling, width: int) -> ir.Value:
    op = draft.op
    if encoded.outputs is None:
        return encoded.state[0][-1]
    if pooling == "max":
        return reduce_max(op, op.Where(encoded.present, encoded.outputs, -INFINITY), 0, keepdims=False)
    present = op.Cast(encoded.present, to=ir.DataType.FLOAT)
    total, count = weighted_sum(op, encoded.outputs, present, width)
    mean: ir.Value = op.Div(total, count)
    return mean
