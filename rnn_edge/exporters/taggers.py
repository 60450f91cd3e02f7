"""Taggers as graphs: words in, a label for each out, with the choice of labels inside the graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder

from rnn_edge.exporters.cells import Values
from rnn_edge.exporters.draft import Draft, value
from rnn_edge.exporters.layers import Fed, array, encode, in_columns, store_linear
from rnn_edge.exporters.operators import log_sum_exp, reduce_max, weighted_sum, zeros
from rnn_edge.exporters.weights import Matrix, floats
from rnn_edge.modules import CRF, Tagger
from rnn_edge.runtimes.names import CHARACTERS, LABELS, LOG_PROB, LOGITS, TOKENS

__all__ = ["draw_crf", "draw_tagger"]


def draw_tagger(draft: Draft, model: Tagger) -> None:
    """Draw a tagger: its layers, its scores, and the labels that go best with them."""
    op, spec, weights = draft.op, model.spec, draft.weights
    tokens = draft.input(TOKENS, ["batch", "time"], ir.DataType.INT64)
    letters = None
    if spec.character_vocab_size:
        letters = draft.input(CHARACTERS, ["batch", "time", "letters"], ir.DataType.INT64)
    by_time, present = in_columns(op, tokens)
    x = weights.table("embedding", array(model.embedding.weight))(op, by_time)
    fed = None if letters is None else _spell(draft, model, letters, by_time)
    encoded = encode(draft, model.encoder, x, present, fed=fed)
    assert encoded.outputs is not None
    output = store_linear(weights, "output", model.output, bounded=spec.is_bounded or spec.decoder == "feedback")
    if model.crf is not None:
        logits = output(op, encoded.outputs)  # (time, batch, labels)
        labels, log_prob = draw_crf(draft, model.crf, logits, by_time)
    else:
        scores = _feed_back if model.previous is not None else _score_alone
        logits = scores(draft, model, output, encoded.outputs)
        labels = op.ArgMax(logits, axis=-1, keepdims=0)  # (time, batch)
        log_prob = _sum_log_probs(draft, logits, present, len(spec.labels))
    shown = op.Where(op.Squeeze(present, [-1]), labels, -1)
    draft.output(op.Transpose(shown, perm=[1, 0]), LABELS, ["batch", "time"], ir.DataType.INT64)
    draft.output(op.Transpose(logits, perm=[1, 0, 2]), LOGITS, ["batch", "time", len(spec.labels)])
    draft.output(log_prob, LOG_PROB, ["batch"])


def draw_crf(draft: Draft, crf: CRF, emissions: ir.Value, by_time: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Draw the most probable labels, int64 (time, batch), and their log-prob, float32 (batch,).

    emissions  float32 (time, batch, labels)
    by_time    int64 (time, batch), -1 behind a row's end

    Viterbi 1967 and the forward algorithm in one Scan. `best` and `relative` are both the score of the best path to
    each label: the one as it is, and the other less what is taken from `total`, the sum over all paths, so that their
    difference stays exact over long texts.
    """
    op, count = draft.op, len(crf.start)
    start, end = (draft.weights.vector(f"crf.{name}", array(getattr(crf, name))) for name in ("start", "end"))
    transitions = draft.weights.added("crf.transitions", array(crf.transitions))  # from, to
    moves = op.Unsqueeze(transitions, [1])  # (from, 1, to)
    itself = draft.op.initializer(ir.tensor(np.arange(count)[None]), "crf.itself")

    def body(op: OpBuilder, *inputs: ir.Value) -> Values:
        best, relative, total, emitted, present, follows = inputs
        paths = op.Add(_from(op, best), moves)  # (from, batch, to)
        origins = op.ArgMax(paths, axis=0, keepdims=0)  # of equals the lowest, (batch, to)
        came = op.Add(op.GatherElements(relative, origins, axis=1), op.GatherElements(transitions, origins, axis=0))
        best_now = op.Add(op.Where(follows, reduce_max(op, paths, 0, keepdims=False), start), emitted)
        relative_now = op.Add(op.Where(follows, came, start), emitted)
        total_now = op.Add(op.Where(follows, log_sum_exp(op, op.Add(_from(op, total), moves)), start), emitted)
        taken = reduce_max(op, total_now, -1)
        moved = (best_now, op.Sub(relative_now, taken), op.Sub(total_now, taken))
        kept = [op.Where(present, new, old) for new, old in zip(moved, (best, relative, total), strict=True)]
        return [*kept, op.Where(op.And(present, follows), origins, itself)]

    present = op.Unsqueeze(op.GreaterOrEqual(by_time, 0), [-1])
    before = op.Slice(op.Pad(by_time, [1, 0, 0, 0], -1), [0], [-1], [0])
    follows = op.Unsqueeze(op.GreaterOrEqual(before, 0), [-1])  # (time, batch, 1): a word stands before it
    names = ("best", "relative", "total")
    inputs = [value(name, ["batch", count]) for name in (*names, "emitted")]
    inputs += [value(name, ["batch", 1], ir.DataType.BOOL) for name in ("present", "follows")]
    outputs = [value(f"next_{name}", ["batch", count]) for name in names]
    outputs.append(value("origins", ["batch", count], ir.DataType.INT64))
    graph = draft.builder.subgraph(body, inputs, outputs, name="one_word")
    nothing = zeros(op, emissions, count)  # (batch, labels)
    best, relative, total, origins = op.Scan(
        nothing, nothing, nothing, emissions, present, follows, body=graph, num_scan_inputs=3, _outputs=4
    )
    last = op.ArgMax(op.Add(best, end), axis=1, keepdims=1)  # (batch, 1)
    score = op.GatherElements(op.Add(relative, end), last, axis=1)
    log_total = log_sum_exp(op, _from(op, op.Add(total, end)))  # (batch, 1)
    return _trace_back(draft, last, origins, count), op.Squeeze(op.Sub(score, log_total), [-1])


def _from(op: OpBuilder, scores: ir.Value) -> ir.Value:
    """Put labels first, so that sums over them are taken one by one: (batch, labels) to (labels, batch, 1)."""
    first: ir.Value = op.Unsqueeze(op.Transpose(scores, perm=[1, 0]), [-1])
    return first


def _trace_back(draft: Draft, last: ir.Value, origins: ir.Value, count: int) -> ir.Value:
    """Follow each row's labels from the last one back, int64 (time, batch).

    last     int64 (batch, 1)
    origins  int64 (time, batch, labels), the label before each
    """

    def body(op: OpBuilder, label: ir.Value, origins: ir.Value) -> Values:
        return [op.GatherElements(origins, label, axis=1), op.Identity(label)]

    whole = ir.DataType.INT64
    inputs = [value("label", ["batch", 1], whole), value("origins", ["batch", count], whole)]
    outputs = [value("label_before", ["batch", 1], whole), value("chosen", ["batch", 1], whole)]
    graph = draft.builder.subgraph(body, inputs, outputs, name="one_word_back")
    backwards = {"scan_input_directions": [1], "scan_output_directions": [1]}
    _, chosen = draft.op.Scan(last, origins, body=graph, num_scan_inputs=1, **backwards, _outputs=2)
    labels: ir.Value = draft.op.Squeeze(chosen, [-1])
    return labels


def _score_alone(draft: Draft, _: Tagger, output: Matrix, y: ir.Value) -> ir.Value:
    return output(draft.op, y)


def _feed_back(draft: Draft, model: Tagger, output: Matrix, y: ir.Value) -> ir.Value:
    """Choose each label after the one before it; return the scores, float32 (time, batch, labels)."""
    assert model.previous is not None
    op, spec = draft.op, model.spec
    previous = draft.weights.table("previous", array(model.previous.weight))

    def body(op: OpBuilder, label: ir.Value, now: ir.Value) -> Values:
        scores = output(op, op.Tanh(op.Add(now, floats(op, previous(op, label)))))
        return [op.ArgMax(scores, axis=-1, keepdims=0), scores]

    inputs = [value("label", ["batch"], ir.DataType.INT64), value("now", ["batch", spec.read_size])]
    outputs = [value("next_label", ["batch"], ir.DataType.INT64), value("scores", ["batch", len(spec.labels)])]
    graph = draft.builder.subgraph(body, inputs, outputs, name="one_word")
    beginning = op.Expand(len(spec.labels), op.Shape(y, start=1, end=2))
    _, logits = op.Scan(beginning, y, body=graph, num_scan_inputs=1, _outputs=2)
    scores: ir.Value = logits
    return scores


def _sum_log_probs(draft: Draft, logits: ir.Value, present: ir.Value, count: int) -> ir.Value:
    """Return the log-prob of each row's best labels, float32 (batch,): a best score less itself is 0."""
    op = draft.op
    ones = op.initializer(ir.tensor(np.ones((count, 1), np.float32)), "ones")
    powers = op.Exp(op.Sub(logits, reduce_max(op, logits, -1)))
    log_totals = op.Log(op.MatMul(powers, ones))  # (time, batch, 1)
    total, _ = weighted_sum(op, log_totals, op.Cast(present, to=ir.DataType.FLOAT), 1)
    log_prob: ir.Value = op.Neg(op.Squeeze(total, [-1]))
    return log_prob


def _spell(draft: Draft, model: Tagger, letters: ir.Value, by_time: ir.Value) -> Fed:
    """Read the letters of all words of all rows as so many texts; return what they say of each word."""
    op, spec = draft.op, model.spec
    assert model.characters is not None
    words = op.Reshape(op.Transpose(letters, perm=[2, 1, 0]), [0, -1])  # (letters, time × batch)
    present = op.Unsqueeze(op.GreaterOrEqual(words, 0), [-1])
    table = draft.weights.table("characters.embedding", array(model.character_embedding.weight))
    encoded = encode(draft, model.characters, table(op, words), present, prefix="characters.", give_outputs=False)
    width = 2 * spec.characters.output_size
    vectors = op.Reshape(encoded.state[0][-1], op.Concat(op.Shape(by_time), [width], axis=0))
    return Fed(vectors, width, spec.characters.is_bounded)
