"""Whole searches as graphs: a prompt, a source or a vector in; finished sequences, their scores and states out.

A Loop around one step of the network, which ends as soon as nothing can change. The choices are those of
`runtimes/decoding.py` and `runtimes/beams.py`, with their order among equals, so that both give the same tokens; the
contract of names and shapes is docs/bundle-format.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import onnx_ir as ir
from onnxscript import OpBuilder

from rnn_edge.bundle import Search
from rnn_edge.exporters.cells import Values
from rnn_edge.exporters.decoders import (
    AttentiveWriter,
    Writer,
    memory_shapes,
    state_inputs,
    store_attentive_writer,
    store_writer,
)
from rnn_edge.exporters.draft import Draft, value
from rnn_edge.exporters.layers import Slices
from rnn_edge.exporters.operators import INFINITY, reduce_max
from rnn_edge.exporters.readers import encode_source, encode_vectors
from rnn_edge.modules import AttentiveDecoder, Describer, LanguageModel, Translator
from rnn_edge.runtimes.arrays import NOTHING
from rnn_edge.runtimes.names import (
    LENGTH_PENALTY,
    LOG_PROB,
    MAX_NEW_TOKENS,
    MIN_P,
    NOISE,
    READOUT,
    SCORES,
    SEQUENCES,
    TEMPERATURE,
    TOKENS,
    TOP_K,
    TOP_P,
    next_state_name,
)
from rnn_edge.spec import DecoderSpec, TranslatorSpec

__all__ = ["draw_decode"]

_INT, _BOOL, _FLOAT, _DOUBLE = ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.FLOAT, ir.DataType.DOUBLE

_Shapes: TypeAlias = dict[str, tuple[list[int | str], ir.DataType]]
"""What a Loop carries: names, shapes and types."""
Choose: TypeAlias = Callable[[OpBuilder, ir.Value, ir.Value], ir.Value]
"""From logits, float32 (batch, vocab), and the number of the step, a scalar, to a token a row, int64 (batch, 1)."""


def draw_decode(draft: Draft, model: LanguageModel | Translator | Describer, search: Search) -> None:
    """Draw a whole search."""
    start = _begin(draft, model, search)
    if search.strategy == "beam":
        _Beam(draft, start, search).draw()
    else:
        _Walk(draft, start, search).draw()


@dataclass(frozen=True)
class _Start:
    """Where a search begins.

    logits  float32 (batch, vocab), of the first token
    state   before it, by name as in `sizes`
    sizes   how many layers each state has, and how wide it is
    """

    writer: Writer | AttentiveWriter
    spec: DecoderSpec
    logits: ir.Value
    state: Slices
    memory: Values
    sizes: dict[str, tuple[int, int]]

    def flat(self) -> list[ir.Value]:
        """Return the state as single values, float32 (batch, width) each."""
        return [each for layers in self.state for each in layers]

    def by_name(self, flat: Values) -> Slices:
        """Undo `flat`."""
        remaining = iter(flat)
        return [[next(remaining) for _ in range(layers)] for layers, _ in self.sizes.values()]

    def step(self, op: OpBuilder, tokens: ir.Value, flat: Values, memory: Values) -> tuple[ir.Value, list[ir.Value]]:
        """Read a token a row, int64 (batch, 1); return the logits and the state after it."""
        logits, after = self.writer.step(op, op.Transpose(tokens, perm=[1, 0]), self.by_name(flat), memory)
        return logits, [each for layers in after for each in layers]


def _begin(draft: Draft, model: LanguageModel | Translator | Describer, search: Search) -> _Start:
    """Read what is there to be read, and of a network that has a first token that one too."""
    op, spec = draft.op, model.spec
    sizes = {name: (spec.num_layers, size) for name, size in spec.state_sizes.items()}
    if isinstance(model, LanguageModel):
        tokens = draft.input(TOKENS, ["batch", "time"], _INT)
        states = state_inputs(draft, spec)
        writer = store_writer(draft, model)
        logits, state = writer.read(draft, tokens, states)
        return _Start(writer, spec, logits, state, (), sizes)
    values = encode_source(draft, model) if isinstance(model, Translator) else encode_vectors(draft, model)
    memory: list[ir.Value] = []
    decoder: Writer | AttentiveWriter
    if isinstance(model.decoder, AttentiveDecoder):
        assert isinstance(spec, TranslatorSpec)
        decoder = store_attentive_writer(draft, model.decoder, prefix="decoder.")
        memory = [values[name] for name in memory_shapes(spec)]
        if spec.carries_readout:
            sizes[READOUT] = (1, spec.readout_size)
    else:
        decoder = store_writer(draft, model.decoder, prefix="decoder.")
    state = [[op.Gather(values[name], layer, axis=0) for layer in range(layers)] for name, (layers, _) in sizes.items()]
    first = op.Expand(search.start_id, op.Concat([1], _batch(op, state[0][0]), axis=0))  # (1, batch)
    logits, state = decoder.step(op, first, state, memory)
    return _Start(decoder, spec, logits, state, memory, sizes)


@dataclass(frozen=True)
class _Scores:
    """How logits become log-probs, and which tokens may be chosen."""

    search: Search
    chosen_from: ir.Value | None  # bool (1, vocab), False for the unknown word; none where all may be chosen

    @classmethod
    def of(cls, op: OpBuilder, search: Search, vocab_size: int) -> _Scores:
        """Write down which tokens may be chosen; ONNX Runtime folds it into a constant."""
        if search.unknown_id is None:
            return cls(search, None)
        ids = op.Range(0, vocab_size, 1)
        return cls(search, op.Unsqueeze(op.Not(op.Equal(ids, search.unknown_id)), [0]))

    def allowed(self, op: OpBuilder, logits: ir.Value) -> ir.Value:
        """Return the logits with -inf for the unknown word."""
        return logits if self.chosen_from is None else op.Where(self.chosen_from, logits, -INFINITY)

    def log_totals(self, op: OpBuilder, logits: ir.Value) -> ir.Value:
        """Return log Σ exp(logits), float64 (batch, 1): powers in float32, as on the host, their sum in float64."""
        highest = reduce_max(op, logits, -1)
        powers = op.Cast(op.Exp(op.Sub(logits, highest)), to=_DOUBLE)
        total: ir.Value = op.Add(op.Log(op.ReduceSum(powers, [-1])), op.Cast(highest, to=_DOUBLE))
        return total

    def ends(self, op: OpBuilder, tokens: ir.Value) -> ir.Value:
        """Return which tokens end a text, bool."""
        end = NOTHING - 1 if self.search.end_id is None else self.search.end_id  # what no token is
        found: ir.Value = op.Equal(tokens, end)
        return found


class _Walk:
    """Each row by itself, one token after the other: the most probable, or one drawn by given noise."""

    def __init__(self, draft: Draft, start: _Start, search: Search) -> None:
        self._draft, self._start = draft, start
        op = draft.op
        self._scores = _Scores.of(op, search, start.spec.written_vocab_size)
        self._choose: Choose
        if search.strategy == "greedy":
            self._most = draft.input(MAX_NEW_TOKENS, [], _INT)
            self._choose = self._likeliest
        else:
            self._temperature = draft.input(TEMPERATURE, [], _DOUBLE)
            self._filters = _Filters(draft, start.spec.written_vocab_size)
            self._noise = draft.input(NOISE, ["batch", "steps"], _DOUBLE)
            self._most = op.Squeeze(op.Shape(self._noise, start=1, end=2), [0])
            self._choose = self._drawn

    def draw(self) -> None:
        """Choose the first token, and then step and choose until every row has ended."""
        op, start = self._draft.op, self._start
        rows = _batch(op, start.logits)
        begun = [
            op.Expand(NOTHING, op.Concat(rows, [0], axis=0)),  # sequences (batch, 0)
            _doubles(op, 0.0, op.Concat(rows, [1], axis=0)),  # log-probs
            op.Expand(op.Cast(0, to=_BOOL), op.Concat(rows, [1], axis=0)),  # who has ended
        ]
        first = self._advance(op, start.logits, op.Cast(0, to=_INT), begun)
        shapes: _Shapes = {
            "sequence": (["batch", "so_far"], _INT),
            "sum": (["batch", 1], _DOUBLE),
            "ended": (["batch", 1], _BOOL),
            "newest": (["batch", 1], _INT),
            **_state_shapes(start, ""),
        }
        carried = [*first, *start.flat()]
        found = _loop(self._draft, self._most, self._goes_on(op, first), carried, shapes, self._body)
        sequences, log_probs, _, _, *state = found
        self._draft.output(op.Unsqueeze(sequences, [1]), SEQUENCES, ["batch", 1, "written"], _INT)
        self._draft.output(op.Identity(log_probs), LOG_PROB, ["batch", 1], _DOUBLE)
        _state_outputs(self._draft, start, state)

    def _body(self, op: OpBuilder, number: ir.Value, carried: Values) -> list[ir.Value]:
        sequences, log_probs, ended, tokens, *state = carried
        logits, moved = self._start.step(op, tokens, state, self._start.memory)
        after = self._advance(op, logits, op.Add(number, 1), [sequences, log_probs, ended])
        kept = [op.Where(ended, old, new) for old, new in zip(state, moved, strict=True)]
        return [self._goes_on(op, after), *after, *kept]

    def _advance(self, op: OpBuilder, logits: ir.Value, number: ir.Value, so_far: Values) -> list[ir.Value]:
        """Choose a token a row; return sequences, log-probs and who has ended with it, and the tokens."""
        sequences, log_probs, ended = so_far
        tokens = self._choose(op, self._scores.allowed(op, logits), number)
        of_tokens = op.GatherElements(logits, tokens, axis=1)
        gained = op.Sub(op.Cast(of_tokens, to=_DOUBLE), self._scores.log_totals(op, logits))
        shown = op.Where(ended, NOTHING, tokens)
        return [
            op.Concat(sequences, shown, axis=1),
            op.Add(log_probs, op.Where(ended, 0.0, gained)),
            op.Or(ended, self._scores.ends(op, tokens)),
            tokens,
        ]

    def _goes_on(self, op: OpBuilder, after: Values) -> ir.Value:
        """Return whether any row has not ended."""
        going: ir.Value = op.Cast(op.ReduceMax(op.Cast(op.Not(after[2]), to=_FLOAT), keepdims=0), to=_BOOL)
        return going

    def _likeliest(self, op: OpBuilder, logits: ir.Value, _: ir.Value) -> ir.Value:
        """Of equals, the lowest id."""
        tokens: ir.Value = op.ArgMax(logits, axis=1)
        return tokens

    def _drawn(self, op: OpBuilder, logits: ir.Value, number: ir.Value) -> ir.Value:
        """Return the first token with which the probabilities, added up, exceed the noise's share of all."""
        scores = op.Div(op.Cast(logits, to=_DOUBLE), self._temperature)
        totals = op.CumSum(self._filters.powers(op, scores), 1)
        threshold = op.Mul(op.Gather(self._noise, op.Unsqueeze(number, [0]), axis=1), op.Gather(totals, [-1], axis=1))
        below = op.Cast(op.LessOrEqual(totals, threshold), to=_INT)
        tokens: ir.Value = op.ReduceSum(below, [1])
        return tokens


class _Filters:
    """What a draw may be: within `top_k`, then `top_p` of that, then `min_p`; inputs of the graph."""

    def __init__(self, draft: Draft, vocab_size: int) -> None:
        top_k, top_p, min_p = (
            draft.input(name, [], dtype) for name, dtype in ((TOP_K, _INT), (TOP_P, _DOUBLE), (MIN_P, _DOUBLE))
        )
        op = draft.op
        every, whole = op.Equal(top_k, 0), op.GreaterOrEqual(top_p, 1.0)
        self._unsorted = op.And(every, whole)  # all may be drawn, so none needs to be sorted
        most = op.Where(every, vocab_size, op.Min(top_k, vocab_size))
        self._most = op.Unsqueeze(op.Where(self._unsorted, 1, most), [0])
        self._share = op.Where(whole, INFINITY, top_p)
        self._below_best = op.Log(min_p)

    def powers(self, op: OpBuilder, scores: ir.Value) -> ir.Value:
        """Return what each token is drawn in proportion to, float64 (batch, vocab); 0 for those that are out.

        Of equals, the lowest ids stay.
        """
        highest = reduce_max(op, scores, -1)
        powers = op.Exp(op.Sub(scores, highest))
        _, ids = op.TopK(scores, self._most, axis=1, _outputs=2)
        best = op.GatherElements(powers, ids, axis=1)
        better = op.CumSum(best, 1, exclusive=1)  # the sum of those before each
        enough = op.Mul(op.ReduceSum(best, [1]), self._share)
        kept = op.ScatterElements(op.Mul(powers, 0.0), ids, op.Where(op.Less(better, enough), best, 0.0), axis=1)
        likely = op.GreaterOrEqual(scores, op.Add(highest, self._below_best))
        drawn: ir.Value = op.Where(likely, op.Where(self._unsorted, powers, kept), 0.0)
        return drawn


@dataclass(frozen=True)
class _Rows:
    """Hypotheses as rows: their tokens, int64 (rows, so far), and the state before the last of them."""

    tokens: ir.Value
    state: list[ir.Value]

    def take(self, op: OpBuilder, rows: ir.Value, last: ir.Value) -> _Rows:
        """Return the given rows, int64 (n,), each with one more token, int64 (n, 1); their state stays before it."""
        tokens = op.Concat(op.Gather(self.tokens, rows), last, axis=1)
        return _Rows(tokens, [op.Gather(each, rows) for each in self.state])

    def above(self, op: OpBuilder, other: _Rows) -> _Rows:
        """Put other rows under these."""
        pairs = zip(self.state, other.state, strict=True)
        return _Rows(op.Concat(self.tokens, other.tokens, axis=0), [op.Concat(*pair, axis=0) for pair in pairs])


@dataclass(frozen=True)
class _Hypotheses:
    """What a beam search carries from step to step.

    going      float64 (batch, beams), log-probs of what goes on; -inf where nothing does
    newest     int64 (batch × beams, 1), their last tokens
    live       their rows
    ended      float64 (batch, beams), log-probs of what has ended; -inf where nothing has
    ranked     float64 (batch, beams), their scores, best first
    finished   their rows; without a hypothesis, only -1
    """

    going: ir.Value
    newest: ir.Value
    live: _Rows
    ended: ir.Value
    ranked: ir.Value
    finished: _Rows

    def flat(self) -> list[ir.Value]:
        """Return everything as single values."""
        rows = [self.live.tokens, *self.live.state, self.finished.tokens, *self.finished.state]
        return [self.going, self.newest, self.ended, self.ranked, *rows]

    @classmethod
    def of(cls, flat: Values) -> _Hypotheses:
        """Undo `flat`."""
        going, newest, ended, ranked, *rows = flat
        half = len(rows) // 2
        live, finished = _Rows(rows[0], rows[1:half]), _Rows(rows[half], rows[half + 1 :])
        return cls(going, newest, live, ended, ranked, finished)


class _Beam:
    """The most probable hypotheses of each row side by side; those that end are kept aside."""

    def __init__(self, draft: Draft, start: _Start, search: Search) -> None:
        self._draft, self._start, self._search = draft, start, search
        self._beams = search.num_beams
        self._most = draft.input(MAX_NEW_TOKENS, [], _INT)
        self._penalty = draft.input(LENGTH_PENALTY, [], _DOUBLE)
        op = draft.op
        self._scores = _Scores.of(op, search, start.spec.written_vocab_size)
        self._rows = _batch(op, start.logits)  # int64 (1,)
        self._all_rows = op.Mul(self._rows, [self._beams])
        self._row_numbers = op.Unsqueeze(_count(op, self._rows), [-1])  # (batch, 1)
        self._places = op.Reshape(_count(op, self._all_rows), [-1, self._beams])  # (batch, beams)
        self._longest = op.Cast(self._most, to=_DOUBLE)

    def draw(self) -> None:
        """Select the first tokens, and then step and select until nothing better can come."""
        op, start, beams = self._draft.op, self._start, self._beams
        nothing = _doubles(op, -INFINITY, op.Concat(self._rows, [beams], axis=0))
        no_tokens = op.Expand(NOTHING, op.Concat(self._all_rows, [0], axis=0))
        each_row = op.Reshape(op.Expand(self._row_numbers, op.Concat([1], [beams], axis=0)), [-1])
        prompt = _Rows(op.Expand(NOTHING, op.Concat(self._rows, [0], axis=0)), start.flat())
        nowhere = _Rows(no_tokens, [op.Gather(each, each_row) for each in prompt.state])
        certain = _doubles(op, 0.0, op.Concat(self._rows, [1], axis=0))
        begun = _Hypotheses(certain, no_tokens, prompt, nothing, nothing, nowhere)
        first = self._select(op, start.logits, begun, op.Cast(1, to=_INT), grown_from=1)
        memory = [op.Gather(each, each_row, axis=1) for each in start.memory]

        def body(op: OpBuilder, number: ir.Value, carried: Values) -> list[ir.Value]:
            before = _Hypotheses.of(carried)
            logits, moved = start.step(op, before.newest, before.live.state, memory)
            before = replace(before, live=replace(before.live, state=moved))
            after = self._select(op, logits, before, op.Add(number, 2), grown_from=beams)
            return [self._goes_on(op, after), *after.flat()]

        shapes: _Shapes = {
            "going": (["batch", beams], _DOUBLE),
            "newest": (["rows", 1], _INT),
            "ended": (["batch", beams], _DOUBLE),
            "ranked": (["batch", beams], _DOUBLE),
            "live": (["rows", "so_far"], _INT),
            **_state_shapes(start, "live_"),
            "finished": (["rows", "so_far"], _INT),
            **_state_shapes(start, "finished_"),
        }
        found = _loop(self._draft, self._most, self._goes_on(op, first), first.flat(), shapes, body)
        self._give(_Hypotheses.of(found))

    def _select(
        self, op: OpBuilder, logits: ir.Value, before: _Hypotheses, length: ir.Value, *, grown_from: int
    ) -> _Hypotheses:
        """Grow every hypothesis by its best tokens, and keep the best of all, those that end apart.

        logits      float32 (batch × grown_from, vocab)
        before      with the state after its last tokens
        length      how many tokens the grown ones have, int64 scalar
        grown_from  how many hypotheses there are of each row
        """
        beams = self._beams
        grown, parents, tokens = self._grow(op, logits, before.going, grown_from)  # (batch, 2 × beams) each
        if self._search.narrowing:
            grown = self._narrow(op, grown, before.ranked)
        ends = op.Or(self._scores.ends(op, tokens), op.GreaterOrEqual(length, self._most))

        first = [op.Slice(each, [0], [beams], [1]) for each in (grown, parents, tokens, ends)]
        finished = op.Where(first[3], first[0], -INFINITY)
        scores = op.Div(finished, op.Pow(op.Cast(length, to=_DOUBLE), self._penalty))
        ranked, chosen = op.TopK(op.Concat(before.ranked, scores, axis=1), [beams], axis=1, _outputs=2)
        ended = op.GatherElements(op.Concat(before.ended, finished, axis=1), chosen, axis=1)
        sources = op.Concat(self._places, op.Add(first[1], self._all_rows), axis=1)  # ended before, or just now
        last = op.Concat(op.Mul(self._places, 0), op.Add(first[2], 1), axis=1)  # (batch, 2 × beams), -1 for the former
        last = op.Sub(op.Reshape(op.GatherElements(last, chosen, axis=1), [-1, 1]), 1)
        both = before.finished.above(op, before.live)
        aside = both.take(op, op.Reshape(op.GatherElements(sources, chosen, axis=1), [-1]), last)

        going, picked = op.TopK(op.Where(ends, -INFINITY, grown), [beams], axis=1, _outputs=2)
        if not self._search.narrowing:
            worst = op.Slice(ranked, [beams - 1], [beams], [1])
            hopeful = op.Greater(self._hope(op, going, length), worst)
            going = op.Where(hopeful, going, -INFINITY)
        newest = op.Reshape(op.GatherElements(tokens, picked, axis=1), [-1, 1])
        live = before.live.take(op, op.Reshape(op.GatherElements(parents, picked, axis=1), [-1]), newest)
        return _Hypotheses(going, newest, live, ended, ranked, aside)

    def _grow(
        self, op: OpBuilder, logits: ir.Value, log_probs: ir.Value, grown_from: int
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Return the best hypotheses that are one token longer, (batch, 2 × beams): log-probs, parents' rows, tokens.

        Of equals, those from the earlier beam come first, then those with the lowest id.
        """
        count = 2 * self._beams
        each = min(count, self._start.spec.written_vocab_size)
        best, ids = op.TopK(self._scores.allowed(op, logits), [each], axis=1, _outputs=2)  # (rows, each)
        gained = op.Sub(op.Cast(best, to=_DOUBLE), self._scores.log_totals(op, logits))
        totals = op.Reshape(op.Add(gained, op.Reshape(log_probs, [-1, 1])), [-1, grown_from * each])
        ids = op.Reshape(ids, [-1, grown_from * each])
        missing = count - grown_from * each
        if missing > 0:  # of a small vocabulary
            filler = op.Concat(self._rows, [missing], axis=0)
            totals = op.Concat(totals, _doubles(op, -INFINITY, filler), axis=1)
            ids = op.Concat(ids, op.Expand(0, filler), axis=1)
        grown, places = op.TopK(totals, [count], axis=1, _outputs=2)
        tokens = op.GatherElements(ids, places, axis=1)
        beams = op.Min(op.Div(places, each), grown_from - 1)  # a filler's parent is any
        return grown, op.Add(beams, op.Mul(self._row_numbers, grown_from)), tokens

    def _narrow(self, op: OpBuilder, grown: ir.Value, ranked: ir.Value) -> ir.Value:
        """Leave as many hypotheses as have not ended yet, float64 (batch, 2 × beams)."""
        absent = op.Cast(op.Equal(ranked, -INFINITY), to=_INT)
        places = op.Range(0, 2 * self._beams, 1)
        kept: ir.Value = op.Where(op.Less(places, op.ReduceSum(absent, [1])), grown, -INFINITY)
        return kept

    def _hope(self, op: OpBuilder, going: ir.Value, length: ir.Value) -> ir.Value:
        """Return scores that nothing which goes on from there can exceed: probabilities only fall."""
        lengths = op.Cast(op.Add(length, 1), to=_DOUBLE), self._longest
        best: ir.Value = op.Max(*(op.Div(going, op.Pow(each, self._penalty)) for each in lengths))
        return best

    def _goes_on(self, op: OpBuilder, after: _Hypotheses) -> ir.Value:
        """Return whether anything goes on."""
        best = op.ReduceMax(after.going, keepdims=0)
        goes_on: ir.Value = op.Greater(best, -INFINITY)
        return goes_on

    def _give(self, found: _Hypotheses) -> None:
        """Name the outputs: the best of each row, best first."""
        op, draft, beams, wanted = self._draft.op, self._draft, self._beams, self._search.num_return_sequences

        def best_of(rows: ir.Value) -> ir.Value:
            """Return the wanted ones of (batch × beams, width) as (batch, wanted, width)."""
            by_prompt = op.Reshape(rows, op.Concat(self._rows, [beams, -1], axis=0))
            best: ir.Value = op.Slice(by_prompt, [0], [wanted], [1])
            return best

        draft.output(best_of(found.finished.tokens), SEQUENCES, ["batch", wanted, "written"], _INT)
        for each, name in ((found.ended, LOG_PROB), (found.ranked, SCORES)):
            draft.output(op.Slice(each, [0], [wanted], [1]), name, ["batch", wanted], _DOUBLE)
        widths = (width for layers, width in self._start.sizes.values() for _ in range(layers))
        best_states = zip(found.finished.state, widths, strict=True)
        state = [op.Reshape(best_of(each), [-1, width]) for each, width in best_states]
        _state_outputs(draft, self._start, state)


def _state_shapes(start: _Start, prefix: str) -> _Shapes:
    return {
        f"{prefix}{name}{layer}": (["rows", size], _FLOAT)
        for name, (layers, size) in start.sizes.items()
        for layer in range(layers)
    }


def _loop(
    draft: Draft,
    most: ir.Value,
    goes_on: ir.Value,
    carried: Values,
    shapes: _Shapes,
    body: Callable[[OpBuilder, ir.Value, Values], list[ir.Value]],
) -> list[ir.Value]:
    """Run a body until it says that nothing goes on, or until there are as many tokens as there may be.

    carried  with one token already
    shapes   of it, in its order
    body     takes the number of the turn and what is carried; returns whether to go on, and what is carried on
    """
    op = draft.op
    inputs = [value("turn", [], _INT), value("goes_on", [], _BOOL)]
    inputs += [value(name, shape, dtype) for name, (shape, dtype) in shapes.items()]
    outputs = [value("next_goes_on", [], _BOOL)]
    outputs += [
        value(next_state_name(name), ["longer" if size == "so_far" else size for size in shape], dtype)
        for name, (shape, dtype) in shapes.items()
    ]

    def turn(op: OpBuilder, number: ir.Value, _: ir.Value, *carried: ir.Value) -> list[ir.Value]:
        return body(op, number, carried)

    graph = draft.builder.subgraph(turn, inputs, outputs, name="one_token")
    return list(op.Loop(op.Sub(most, 1), goes_on, *carried, body=graph, _outputs=len(carried)))


def _state_outputs(draft: Draft, start: _Start, flat: Values) -> None:
    """Name the states before each sequence's last token, layers on top of one another."""
    op = draft.op
    for (name, (layers, size)), values in zip(start.sizes.items(), start.by_name(flat), strict=True):
        joined = op.Concat(*[op.Unsqueeze(each, [0]) for each in values], axis=0)
        draft.output(joined, next_state_name(name), [layers, "sequences", size])


def _batch(op: OpBuilder, rows: ir.Value) -> ir.Value:
    """Return how many rows there are, int64 (1,)."""
    size: ir.Value = op.Shape(rows, start=0, end=1)
    return size


def _count(op: OpBuilder, number: ir.Value) -> ir.Value:
    """Return the numbers from 0 up to one, int64 (1,), without it."""
    numbers: ir.Value = op.Range(0, op.Squeeze(number, [0]), 1)
    return numbers


def _doubles(op: OpBuilder, number: float, shape: ir.Value) -> ir.Value:
    """Return a number in a shape, float64."""
    numbers: ir.Value = op.Expand(op.Cast(number, to=_DOUBLE), shape)
    return numbers
