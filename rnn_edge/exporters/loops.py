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

_AN_END = 2**40  # marks what ends; beyond the number of any turn

_Shapes: TypeAlias = dict[str, tuple[list[int | str], ir.DataType]]
"""What a Loop carries: names, shapes and types."""
Choose: TypeAlias = Callable[[OpBuilder, ir.Value, ir.Value | int], ir.Value]
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
        return _typed(logits), [each for layers in after for each in layers]


def _begin(draft: Draft, model: LanguageModel | Translator | Describer, search: Search) -> _Start:
    """Read what is there to be read, and of a network that has a first token that one too."""
    op, spec = draft.op, model.spec
    sizes = {name: (spec.num_layers, size) for name, size in spec.state_sizes.items()}
    if isinstance(model, LanguageModel):
        tokens = draft.input(TOKENS, ["batch", "time"], _INT)
        states = state_inputs(draft, spec)
        writer = store_writer(draft, model)
        logits, state = writer.read(draft, tokens, states)
        return _Start(writer, spec, _typed(logits), state, (), sizes)
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
    return _Start(decoder, spec, _typed(logits), state, memory, sizes)


class _Walk:
    """Each row by itself, one token after the other: the most probable, or one drawn by given noise."""

    def __init__(self, draft: Draft, start: _Start, search: Search) -> None:
        self._draft, self._start = draft, start
        self._end_id, self._unknown_id = search.end_id, search.unknown_id
        op, vocab_size = draft.op, start.spec.written_vocab_size
        self._choose: Choose
        if search.strategy == "greedy":
            self._most = draft.input(MAX_NEW_TOKENS, [], _INT)
            self._choose = self._likeliest
        else:
            self._temperature = draft.input(TEMPERATURE, [], _DOUBLE)
            self._filters = _Filters(draft, vocab_size)
            self._noise = draft.input(NOISE, ["batch", "steps"], _DOUBLE)
            if search.unknown_id is not None:
                is_unknown = op.Equal(op.Range(0, vocab_size, 1), search.unknown_id)
                self._unsaid = op.Where(is_unknown, op.Cast(-INFINITY, to=_FLOAT), 0.0)  # float32 (vocab,), a constant
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
        first = self._advance(op, start.logits, 0, begun)
        shapes: _Shapes = {
            "sequence": (["batch", "so_far"], _INT),
            "sum": (["batch", 1], _DOUBLE),
            "ended": (["batch", 1], _BOOL),
            "newest": (["batch", 1], _INT),
            **_state_shapes(start, ""),
        }
        carried = [*first, *start.flat()]
        found = _loop(op, op.Sub(self._most, 1), self._goes_on(op, first), carried, shapes, self._body)
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

    def _advance(self, op: OpBuilder, logits: ir.Value, number: ir.Value | int, so_far: Values) -> list[ir.Value]:
        """Choose a token a row; return sequences, log-probs and who has ended with it, and the tokens."""
        sequences, log_probs, ended = so_far
        tokens = self._choose(op, logits, number)
        gained = _log_probs(op, logits, tokens)
        shown = op.Where(ended, NOTHING, tokens)
        return [
            op.Concat(sequences, shown, axis=1),
            op.Add(log_probs, op.Where(ended, 0.0, gained)),
            op.Or(ended, op.Equal(tokens, _id_or_none(self._end_id))),
            tokens,
        ]

    def _goes_on(self, op: OpBuilder, after: Values) -> ir.Value:
        """Return whether any row has not ended."""
        going: ir.Value = op.Cast(op.ReduceMax(op.Cast(op.Not(after[2]), to=_FLOAT), keepdims=0), to=_BOOL)
        return going

    def _likeliest(self, op: OpBuilder, logits: ir.Value, _: ir.Value | int) -> ir.Value:
        """Of equals, the lowest id. ONNX Runtime's TopK is more than twice as quick as its ArgMax."""
        tokens: ir.Value
        if self._unknown_id is None:
            _, tokens = op.TopK(logits, [1], axis=1, _outputs=2)
            return tokens
        _, best_two = op.TopK(logits, [2], axis=1, _outputs=2)
        tokens, second = op.Split(best_two, [1, 1], axis=1, _outputs=2)
        tokens = op.Where(op.Equal(tokens, self._unknown_id), second, tokens)
        return tokens

    def _drawn(self, op: OpBuilder, logits: ir.Value, number: ir.Value | int) -> ir.Value:
        """Return the first token with which the probabilities, added up, exceed the noise's share of all."""
        allowed = logits if self._unknown_id is None else op.Add(logits, self._unsaid)
        scores = op.Div(op.Cast(allowed, to=_DOUBLE), self._temperature)
        totals = op.CumSum(self._filters.powers(op, scores), 1)
        threshold = op.Mul(op.Gather(self._noise, op.Unsqueeze(number, [0]), axis=1), op.Gather(totals, [-1], axis=1))
        below = op.Cast(op.LessOrEqual(totals, threshold), to=_FLOAT)  # counted many times as fast as integers are
        tokens: ir.Value = op.Cast(op.ReduceSum(below, [1]), to=_INT)
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
        self._most = op.Unsqueeze(op.Where(every, vocab_size, op.Min(top_k, vocab_size)), [0])
        self._share = op.Where(whole, INFINITY, top_p)
        self._below_best = op.Log(min_p)

    def powers(self, op: OpBuilder, scores: ir.Value) -> ir.Value:
        """Return what each token is drawn in proportion to, float64 (batch, vocab); 0 for those that are out.

        Of equals, the lowest ids stay.
        """
        highest = reduce_max(op, scores, -1)
        powers = op.Exp(op.Sub(scores, highest))
        likely = op.GreaterOrEqual(scores, op.Add(highest, self._below_best))

        def unsorted(op: OpBuilder) -> ir.Value:
            drawn: ir.Value = op.Where(likely, powers, 0.0)
            return drawn

        def sorted_first(op: OpBuilder) -> ir.Value:
            _, ids = op.TopK(scores, self._most, axis=1, _outputs=2)
            best = op.GatherElements(powers, ids, axis=1)
            better = op.CumSum(best, 1, exclusive=1)  # the sum of those before each
            enough = op.Mul(op.ReduceSum(best, [1]), self._share)
            kept = op.ScatterElements(op.Mul(powers, 0.0), ids, op.Where(op.Less(better, enough), best, 0.0), axis=1)
            drawn: ir.Value = op.Where(likely, kept, 0.0)
            return drawn

        branches = {
            f"{name}_branch": op.builder.subgraph(branch, [], [value(name, ["batch", "vocab"], _DOUBLE)], name=name)
            for name, branch in (("then", unsorted), ("else", sorted_first))
        }
        drawn: ir.Value = op.If(self._unsorted, **branches)
        return drawn


@dataclass(frozen=True)
class _Rows:
    """Hypotheses as rows: their tokens, int64 (rows, so far), and states, float32 (rows, width) each."""

    tokens: ir.Value
    state: Values

    def flat(self) -> list[ir.Value]:
        """Return everything as single values."""
        return [self.tokens, *self.state]

    @classmethod
    def of(cls, flat: Values) -> _Rows:
        """Undo `flat`."""
        tokens, *state = flat
        return cls(tokens, state)

    def take(self, op: OpBuilder, rows: ir.Value, last: ir.Value) -> _Rows:
        """Return the given rows, int64 (n,), each with one more token, int64 (n, 1)."""
        tokens = op.Concat(op.Gather(self.tokens, rows), last, axis=1)
        return _Rows(tokens, [op.Gather(each, rows) for each in self.state])

    def above(self, op: OpBuilder, other: _Rows) -> _Rows:
        """Put other rows under these."""
        pairs = zip(self.state, other.state, strict=True)
        return _Rows(op.Concat(self.tokens, other.tokens, axis=0), [op.Concat(*pair, axis=0) for pair in pairs])


@dataclass(frozen=True)
class _Crowd:
    """Hypotheses with one token more, of which a few become the next beam.

    log_probs  float64 (batch, beams × branches), -inf where there is none
    tokens     their last tokens, int64 (batch, beams × branches)
    rows       of what they grew from, (batch × beams): its tokens, and the state after them
    """

    log_probs: ir.Value
    tokens: ir.Value
    rows: _Rows


@dataclass(frozen=True)
class _Next:
    """The next beam, float64 and int64 (batch, beams): log-probs, -inf where none goes on, last tokens, and rows."""

    log_probs: ir.Value
    tokens: ir.Value
    parents: ir.Value

    def flat(self, op: OpBuilder) -> list[ir.Value]:
        """Return them as a step wants them, by row: (rows, 1), (rows, 1) and (rows,)."""
        return [op.Reshape(self.log_probs, [-1, 1]), op.Reshape(self.tokens, [-1, 1]), op.Reshape(self.parents, [-1])]


@dataclass(frozen=True)
class _Ended:
    """The best that has ended, best first.

    worth  float64 (batch, 2 × beams), log-probs and then scores, -inf where nothing has ended
    rows   (batch × beams), with the state before the last token; without a hypothesis, only -1
    """

    worth: ir.Value
    rows: _Rows

    def flat(self) -> list[ir.Value]:
        """Return everything as single values."""
        return [self.worth, *self.rows.flat()]

    @classmethod
    def of(cls, flat: Values) -> _Ended:
        """Undo `flat`."""
        worth, *rows = flat
        return cls(worth, _Rows.of(rows))


class _Beam:
    """The most probable hypotheses of each row side by side; those that end are kept aside.

    In most steps nothing ends, and the best few simply go on. What ending takes stands in a Loop of at most one turn:
    each output of an If costs more than a value that a Loop leaves as it is.
    """

    def __init__(self, draft: Draft, start: _Start, search: Search) -> None:
        self._draft, self._start, self._search = draft, start, search
        self._beams = beams = search.num_beams
        self._end = _id_or_none(search.end_id)
        self._stopping = "never" if search.narrowing else search.early_stopping
        self._most = draft.input(MAX_NEW_TOKENS, [], _INT)
        self._penalty = draft.input(LENGTH_PENALTY, [], _DOUBLE)
        # A hypothesis grows in as many ways as there are beams, and one more that ends; the unknown word is not one.
        branches = beams + 1 + (search.unknown_id is not None)
        self._branches = min(branches, start.spec.written_vocab_size)
        op = draft.op
        self._rows = _batch(op, start.logits)  # int64 (1,)
        self._square = op.Concat(self._rows, [beams], axis=0)  # (batch, beams)
        self._all_rows = op.Mul(self._rows, [beams])
        self._places = op.Reshape(_count(op, self._all_rows), [-1, beams])  # (batch, beams)
        crowded = op.Concat(self._square, [self._branches], axis=0)
        parents = op.Expand(op.Unsqueeze(self._places, [-1]), crowded)
        self._parents = op.Reshape(parents, [-1, beams * self._branches])  # the row that each of a crowd grew from
        self._last = op.Sub(self._most, 2)  # turn
        self._longest = op.Pow(op.Cast(self._most, to=_DOUBLE), self._penalty)

    def draw(self) -> None:
        """Grow the prompts, and then step and grow until they are done."""
        op, start, beams = self._draft.op, self._start, self._beams
        each_row = op.Reshape(op.Expand(op.Unsqueeze(_count(op, self._rows), [-1]), self._square), [-1])
        self._memory = [op.Gather(each, each_row, axis=1) for each in start.memory]
        log_probs, tokens = self._branch(op, start.logits)
        others = op.Concat(self._rows, [(beams - 1) * self._branches], axis=0)  # what other beams would grow into
        log_probs = op.Concat(log_probs, _doubles(op, -INFINITY, others), axis=1)
        tokens = op.Concat(tokens, op.Expand(0, others), axis=1)
        no_tokens = op.Expand(NOTHING, op.Concat(self._all_rows, [0], axis=0))
        rows = _Rows(no_tokens, [op.Gather(each, each_row) for each in start.flat()])
        crowd = _Crowd(log_probs, tokens, rows)
        ended = _Ended(_doubles(op, -INFINITY, op.Concat(self._rows, [2 * beams], axis=0)), rows)
        floors = _doubles(op, -INFINITY, op.Concat(self._rows, [beams if self._search.narrowing else 1], axis=0))
        goes_on, *first = self._settle(op, crowd, floors, ended, -1)
        shapes = {**_row_shapes(start, "live"), **self._settled_shapes()}
        found = _loop(op, op.Sub(self._most, 1), goes_on, [*rows.flat(), *first], shapes, self._one_token)
        live, _, _, ended = self._parts(found)
        self._give(replace(ended, rows=self._lengthen(op, ended.rows, op.Add(_columns(op, live), 1))))

    def _parts(self, carried: Values) -> tuple[_Rows, Values, ir.Value, _Ended]:
        """Return what is carried: the rows before the newest tokens, the beam, its floors, and what has ended."""
        count = len(self._start.flat()) + 1
        rows, beam, (floors, *ended) = carried[:count], carried[count : count + 3], carried[count + 3 :]
        return _Rows.of(rows), beam, floors, _Ended.of(ended)

    def _one_token(self, op: OpBuilder, number: ir.Value, carried: Values) -> list[ir.Value]:
        """Read the newest tokens, grow, and settle what goes on."""
        before, (log_probs, newest, parents), floors, ended = self._parts(carried)
        live = before.take(op, parents, newest)
        logits, state = self._start.step(op, newest, live.state, self._memory)
        gained, tokens = self._branch(op, logits)
        wide, rows = [-1, self._beams * self._branches], replace(live, state=state)
        crowd = _Crowd(op.Reshape(op.Add(gained, log_probs), wide), op.Reshape(tokens, wide), rows)
        goes_on, *settled = self._settle(op, crowd, floors, ended, number)
        return [goes_on, *rows.flat(), *settled]

    def _settle(
        self, op: OpBuilder, crowd: _Crowd, floors: ir.Value, ended: _Ended, number: ir.Value | int
    ) -> list[ir.Value]:
        """Return whether anything goes on, the next beam, its floors, and what has ended.

        number  of the turn, int64 scalar; -1 before the first
        """
        best = self._best(op, crowd, self._beams)
        alive = self._alive(op, best.log_probs, floors, number)
        if self._search.narrowing:
            best = replace(best, log_probs=op.Where(alive, best.log_probs, -INFINITY))
        elif self._stopping != "never":
            floors = op.Where(alive, floors, INFINITY)  # what is done stays so
        marks = op.Where(alive, op.Where(op.Equal(best.tokens, self._end), _AN_END, 1), 0)
        mark = op.ReduceMax(marks, keepdims=0)  # 0 where none goes on, 1 where some do and none of them ends
        some_end = op.Greater(op.Add(mark, number), self._last)  # of those that go on, all end in the last turn

        def choose(op: OpBuilder, *_: object) -> list[ir.Value]:
            goes_on, *chosen = self._choose(op, crowd, ended, alive, number)
            return [op.Identity(goes_on), goes_on, *chosen]

        shapes: _Shapes = {"any": ([], _BOOL), **self._settled_shapes()}
        unless = [op.Equal(mark, 1), *best.flat(op), floors, *ended.flat()]
        return _loop(op, 1, some_end, unless, shapes, choose)

    def _branch(self, op: OpBuilder, logits: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return each row's most probable tokens, best first, and their log-probs, (rows, branches), as `top_k` does.

        The unknown word may be among them, with -inf.
        """
        _, tokens = op.TopK(logits, [self._branches], axis=1, _outputs=2)
        log_probs = _log_probs(op, logits, tokens)
        if self._search.unknown_id is not None:
            log_probs = op.Where(op.Equal(tokens, self._search.unknown_id), -INFINITY, log_probs)
        return log_probs, tokens

    def _best(self, op: OpBuilder, crowd: _Crowd, count: int) -> _Next:
        """Return the best of a crowd; of equals, those from the earlier beam come first, then the lowest id."""
        log_probs, places = op.TopK(crowd.log_probs, [count], axis=1, _outputs=2)
        tokens = op.GatherElements(crowd.tokens, places, axis=1)
        return _Next(log_probs, tokens, op.GatherElements(self._parents, places, axis=1))

    def _choose(
        self, op: OpBuilder, crowd: _Crowd, before: _Ended, alive: ir.Value, number: ir.Value | int
    ) -> list[ir.Value]:
        """Return what `_settle` does, after some of a crowd's best have ended.

        alive  which of them, or which rows, were not done before
        """
        beams = self._beams
        length = op.Add(number, 2)  # of the crowd's hypotheses, in tokens
        log_probs, ranked = op.Split(before.worth, [beams, beams], axis=1, _outputs=2)
        count = beams * min(self._branches, 2)  # half of them may end
        best = self._best(op, crowd, count)
        if self._search.narrowing:
            left = self._places_left(op, ranked, count)
            best = replace(best, log_probs=op.Where(left, best.log_probs, -INFINITY))
        elif self._stopping != "never":
            best = replace(best, log_probs=op.Where(alive, best.log_probs, -INFINITY))
        ends = op.Or(op.Equal(best.tokens, self._end), op.GreaterOrEqual(length, self._most))

        finished = op.Where(ends, best.log_probs, -INFINITY)
        finished, tokens, parents = (
            op.Slice(each, [0], [beams], [1]) for each in (finished, best.tokens, best.parents)
        )
        scores = self._score(op, finished, length)
        ranked, chosen = op.TopK(op.Concat(ranked, scores, axis=1), [beams], axis=1, _outputs=2)

        def take(old: ir.Value, new: ir.Value) -> ir.Value:
            taken: ir.Value = op.GatherElements(op.Concat(old, new, axis=1), chosen, axis=1)
            return taken

        sources = op.Reshape(take(self._places, op.Add(parents, self._all_rows)), [-1])
        last = op.Reshape(take(op.Expand(NOTHING, self._square), tokens), [-1, 1])
        rows = self._lengthen(op, before.rows, _columns(op, crowd.rows)).above(op, crowd.rows).take(op, sources, last)
        ended = _Ended(op.Concat(take(log_probs, finished), ranked, axis=1), rows)

        going, picked = op.TopK(op.Where(ends, -INFINITY, best.log_probs), [beams], axis=1, _outputs=2)
        floors = self._floors(op, ranked, length)
        alive = self._alive(op, going, floors, number)
        if self._stopping != "never":
            floors = op.Where(alive, floors, INFINITY)
        goes_on = op.Cast(op.ReduceMax(op.Cast(alive, to=_INT), keepdims=0), to=_BOOL)
        beam = _Next(going, *(op.GatherElements(each, picked, axis=1) for each in (best.tokens, best.parents)))
        return [goes_on, *beam.flat(op), floors, *ended.flat()]

    def _lengthen(self, op: OpBuilder, rows: _Rows, length: ir.Value) -> _Rows:
        """Fill rows with -1 up to a length, int64 (1,)."""
        missing = op.Sub(length, _columns(op, rows))
        filler = op.Expand(NOTHING, op.Concat(self._all_rows, missing, axis=0))
        return replace(rows, tokens=op.Concat(rows.tokens, filler, axis=1))

    def _places_left(self, op: OpBuilder, ranked: ir.Value, count: int) -> ir.Value:
        """Return which of so many places are left in a beam that narrows, bool (batch, count)."""
        left = op.ReduceSum(op.Cast(op.Equal(ranked, -INFINITY), to=_INT), [1])
        found: ir.Value = op.Less(op.Range(0, count, 1), left)
        return found

    def _alive(self, op: OpBuilder, log_probs: ir.Value, floors: ir.Value, number: ir.Value | int) -> ir.Value:
        """Return which hypotheses go on, bool (batch, beams), or which rows, (batch, 1): all of theirs do.

        log_probs  float64 (batch, beams), best first
        number     of the turn, in which hypotheses have two tokens more than that
        """
        if self._stopping != "never":
            log_probs = op.Slice(log_probs, [0], [1], [1])
        worth = self._score(op, log_probs, op.Add(number, 2)) if self._stopping is False else log_probs
        alive: ir.Value = op.Greater(worth, floors)
        return alive

    def _score(self, op: OpBuilder, log_probs: ir.Value, length: ir.Value) -> ir.Value:
        """Return what hypotheses are worth if they end with so many tokens."""
        score: ir.Value = op.Div(log_probs, op.Pow(op.Cast(length, to=_DOUBLE), self._penalty))
        return score

    def _floors(self, op: OpBuilder, ranked: ir.Value, length: ir.Value) -> ir.Value:
        """Return what log-probs must exceed for a hypothesis to go on, float64 (batch, 1 or beams).

        A beam that narrows has as many places as have not ended yet. Else, with `early_stopping` "never", a hypothesis
        must be able to become better than the worst of as many that have ended as there are beams: probabilities only
        fall. Of a negative length penalty, the bound is that of the next token, and not drawn tighter until something
        ends again. With False, the best one's score must exceed that worst one's; with True, nothing does.
        """
        floors: ir.Value
        if self._search.narrowing:
            floors = op.Where(self._places_left(op, ranked, self._beams), op.Cast(-INFINITY, to=_DOUBLE), INFINITY)
            return floors
        worst: ir.Value = op.Slice(ranked, [self._beams - 1], [self._beams], [1])
        if self._stopping == "never":
            soon = op.Pow(op.Cast(op.Add(length, 1), to=_DOUBLE), self._penalty)
            floors = op.Mul(worst, op.Max(soon, self._longest))
        elif self._stopping:
            floors = op.Where(op.Equal(worst, -INFINITY), worst, INFINITY)
        else:
            floors = worst
        return floors

    def _settled_shapes(self) -> _Shapes:
        return {
            "going": (["rows", 1], _DOUBLE),
            "newest": (["rows", 1], _INT),
            "parents": (["rows"], _INT),
            "floors": (["batch", self._beams if self._search.narrowing else 1], _DOUBLE),
            "ended": (["batch", 2 * self._beams], _DOUBLE),
            **_row_shapes(self._start, "finished"),
        }

    def _give(self, ended: _Ended) -> None:
        """Name the outputs: the best of each row, best first."""
        op, draft, beams, wanted = self._draft.op, self._draft, self._beams, self._search.num_return_sequences

        def best_of(rows: ir.Value) -> ir.Value:
            """Return the wanted ones of (batch × beams, width) as (batch, wanted, width)."""
            by_prompt = op.Reshape(rows, op.Concat(self._square, [-1], axis=0))
            best: ir.Value = op.Slice(by_prompt, [0], [wanted], [1])
            return best

        draft.output(best_of(ended.rows.tokens), SEQUENCES, ["batch", wanted, "written"], _INT)
        for first, name in ((0, LOG_PROB), (beams, SCORES)):
            draft.output(op.Slice(ended.worth, [first], [first + wanted], [1]), name, ["batch", wanted], _DOUBLE)
        widths = (width for layers, width in self._start.sizes.values() for _ in range(layers))
        best_states = zip(ended.rows.state, widths, strict=True)
        state = [op.Reshape(best_of(each), [-1, width]) for each, width in best_states]
        _state_outputs(draft, self._start, state)


def _state_shapes(start: _Start, prefix: str) -> _Shapes:
    return {
        f"{prefix}{name}{layer}": (["rows", size], _FLOAT)
        for name, (layers, size) in start.sizes.items()
        for layer in range(layers)
    }


def _row_shapes(start: _Start, name: str) -> _Shapes:
    return {name: (["rows", f"{name}_so_far"], _INT), **_state_shapes(start, f"{name}_")}


def _loop(
    op: OpBuilder,
    most: ir.Value | int,
    goes_on: ir.Value,
    carried: Values,
    shapes: _Shapes,
    body: Callable[[OpBuilder, ir.Value, Values], list[ir.Value]],
) -> list[ir.Value]:
    """Run a body until it says that nothing goes on, and at most so many times.

    shapes  of what is carried, in its order
    body    takes the number of the turn and what is carried; returns whether to go on, and what is carried on
    """
    inputs = [value("turn", [], _INT), value("goes_on", [], _BOOL)]
    inputs += [value(name, shape, dtype) for name, (shape, dtype) in shapes.items()]
    outputs = [value("next_goes_on", [], _BOOL)]
    outputs += [
        value(next_state_name(name), [_longer(size) for size in shape], dtype)
        for name, (shape, dtype) in shapes.items()
    ]

    def turn(op: OpBuilder, number: ir.Value, _: ir.Value, *carried: ir.Value) -> list[ir.Value]:
        return body(op, number, carried)

    graph = op.builder.subgraph(turn, inputs, outputs, name="one_token")
    return list(op.Loop(most, goes_on, *carried, body=graph, _outputs=len(carried)))


def _longer(size: int | str) -> int | str:
    """Return another name for a size that may grow; onnxruntime takes what has the same name as equally large."""
    return size.replace("so_far", "longer") if isinstance(size, str) else size


def _state_outputs(draft: Draft, start: _Start, flat: Values) -> None:
    """Name the states before each sequence's last token, layers on top of one another."""
    op = draft.op
    for (name, (layers, size)), values in zip(start.sizes.items(), start.by_name(flat), strict=True):
        joined = op.Concat(*[op.Unsqueeze(each, [0]) for each in values], axis=0)
        draft.output(joined, next_state_name(name), [layers, "sequences", size])


def _typed(logits: ir.Value) -> ir.Value:
    """Say that these are float32, where the builder cannot tell: it would cast every constant beside them."""
    logits.dtype = _FLOAT
    return logits


def _id_or_none(token: int | None) -> int:
    """Return a token, or what no token is."""
    return NOTHING - 1 if token is None else token


def _log_probs(op: OpBuilder, logits: ir.Value, tokens: ir.Value) -> ir.Value:
    """Return what tokens, int64 (rows, n), are worth among all, float64 (rows, n), with the bits that `top_k` gives."""
    log_probs: ir.Value = op.Cast(op.GatherElements(op.LogSoftmax(logits, axis=1), tokens, axis=1), to=_DOUBLE)
    return log_probs


def _columns(op: OpBuilder, rows: _Rows) -> ir.Value:
    """Return how many tokens there are so far, int64 (1,)."""
    length: ir.Value = op.Shape(rows.tokens, start=1, end=2)
    return length


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
