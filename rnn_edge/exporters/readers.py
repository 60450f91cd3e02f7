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

__all__ = ["draw_classifier", "draw_describer_encoder", "draw_sentence_encoder", "draw_translator_encoder"]


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
    op, spec = draft.op, model.spec
    tokens = draft.input(TOKENS, ["batch", "time"], ir.DataType.INT64)
    by_time, present = in_columns(op, tokens)
    embedding = draft.weights.table("encoder.embedding", array(model.embedding.weight))
    x = embedding(op, op.Max(by_time, 0))
    looks = isinstance(model.decoder, AttentiveDecoder)
    encoded = encode(draft, model.encoder, x, present, prefix="encoder.", give_outputs=looks)
    for number, ((name, size), layers) in enumerate(zip(spec.state_sizes.items(), encoded.state, strict=True)):
        state = op.Concat(*[op.Unsqueeze(each, [0]) for each in layers], axis=0)  # (layers, batch, directions × width)
        if spec.bidirectional:
            bridge = model.bridges[number]
            assert isinstance(bridge, nn.Linear)
            bounded = spec.is_bounded if name == "h" else spec.squash == "state"
            state = op.Tanh(store_linear(draft.weights, f"bridge.{name}", bridge, bounded=bounded)(op, state))
        draft.output(state, name, [spec.num_layers, "batch", size])
    if spec.carries_readout:
        nothing = op.Unsqueeze(zeros(op, present, spec.readout_size), [0])
        draft.output(nothing, READOUT, [1, "batch", spec.readout_size])
    if isinstance(model.decoder, AttentiveDecoder):
        _remember(draft, model.decoder.attention, spec, encoded)


def draw_describer_encoder(draft: Draft, model: Describer) -> None:
    """Draw what leads from vectors to the first state of their decoder."""
    op, spec = draft.op, model.spec
    vectors = draft.input(VECTORS, ["batch", spec.vector_size])
    for (name, size), bridge in zip(spec.state_sizes.items(), model.bridges, strict=True):
        assert isinstance(bridge, nn.Linear)
        flat = op.Tanh(store_linear(draft.weights, f"bridge.{name}", bridge, bounded=False)(op, vectors))
        state = op.Transpose(op.Reshape(flat, [-1, spec.num_layers, size]), perm=[1, 0, 2])
        draft.output(state, name, [spec.num_layers, "batch", size])


def _remember(draft: Draft, attention: Attention, spec: TranslatorSpec, encoded: Encoded) -> None:
    """Name the outputs of the memory, in columns: what pads a row then stands at its end."""
    op = draft.op
    assert encoded.outputs is not None
    found = {MEMORY: encoded.outputs, MEMORY_MASK: encoded.present}
    if attention.key is not None:
        found[MEMORY_KEYS] = store_linear(draft.weights, "attention.key", attention.key, bounded=spec.is_bounded)(
            op, encoded.outputs
        )
    for name, (shape, dtype) in memory_shapes(spec).items():
        draft.output(op.Identity(found[name]), name, shape, dtype)


def _text_vector(draft: Draft, model: SentenceEncoder) -> ir.Value:
    """Draw the layers and what is pooled of them, float32 (batch, directions × output)."""
    op, spec = draft.op, model.spec
    tokens = draft.input(TOKENS, ["batch", "time"], ir.DataType.INT64)
    by_time, present = in_columns(op, tokens)
    x = draft.weights.table("embedding", array(model.embedding.weight))(op, op.Max(by_time, 0))
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
