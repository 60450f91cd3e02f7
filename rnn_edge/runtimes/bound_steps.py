"""Steps of a graph, one after the other, without a copy or an allocation: its states take turns in two places.

What one step writes is what the next one reads. Only where rows change their order, or some are left out, are they
moved, to the other place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rnn_edge.errors import RnnEdgeError
from rnn_edge.runtimes.arrays import Ids, State
from rnn_edge.runtimes.decoding import Position, Steps, join, take
from rnn_edge.runtimes.names import LOGITS, TOKENS, next_state_name
from rnn_edge.runtimes.providers import import_onnxruntime
from rnn_edge.runtimes.top_k import Scores, TopK

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["BoundSteps"]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The places of so many rows, which are views of the buffers.

    tokens     int64 (rows, 1)
    positions  where the rows stand once a step has written to the first place, or to the second
    ways       to run from the first place to the second, and back, once they were needed
    finders    of the most probable tokens, once they were needed
    """

    tokens: Ids
    positions: tuple[Position, Position]
    ways: list[onnxruntime.IOBinding | None]
    finders: dict[int, TopK]


class BoundSteps(Steps):
    """Implements `Steps` for a graph whose inputs are tokens and states, and all of whose states move; on the CPU."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        names: Sequence[str],
        explain: Callable[[Exception, Ids, State], RnnEdgeError],
        position: Position,
    ) -> None:
        """Begin at a position.

        names    of the states, in their order
        explain  says why a run failed
        """
        self._session, self._names, self._explain = session, names, explain
        self._sizes = [(part.shape[0], part.shape[2]) for part in position.state]  # layers, width
        self._vocab_size = position.logits.shape[1]
        self._places: _Rows
        self._capacity = 0  # rows
        self._side = 0  # where they stand: in the first place or in the second
        self._load(position)

    @property
    def position(self) -> Position:
        """Return where the rows stand."""
        return self._places.positions[self._side]

    @property
    def scores(self) -> Scores:
        """Return what the rows expect next."""
        return Scores(self.position.logits, self._places.finders)

    def join(self, position: Position) -> None:
        """Put the rows of a position under those that are here."""
        self._load(join([self.position, position]))

    def go_on(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Read a token each in some rows, in their order; a row may come twice, or not at all."""
        if len(rows) > self._capacity:
            self._load(take(self.position, rows))
        elif len(rows) != len(self._places.tokens) or rows != self._in_order[: len(rows)]:
            self._move(rows)
        places = self._places
        places.tokens[:, 0] = tokens
        try:
            self._session.run_with_iobinding(places.ways[self._side] or self._bind(places))
        except Exception as error:  # onnxruntime has a dozen unrelated classes for this
            raise self._explain(error, places.tokens, places.positions[self._side].state) from error
        self._side = 1 - self._side

    def _move(self, rows: Sequence[int]) -> None:
        """Copy rows to the other place, in their order."""
        chosen = np.array(rows, np.int64)
        here, self._side = self.position.state, 1 - self._side
        self._places = self._places_of(len(rows))
        for old, new in zip(here, self.position.state, strict=True):
            old.take(chosen, axis=1, out=new, mode="clip")  # in the usual mode, it would be copied twice

    def _load(self, position: Position) -> None:
        """Copy where rows stand, and what they expect next, to the first place."""
        rows = len(position.logits)
        if rows > self._capacity:
            self._make_room(rows)
        self._places, self._side = self._places_of(rows), 0
        self.position.logits[...] = position.logits
        for here, part in zip(self.position.state, position.state, strict=True):
            here[...] = part

    def _make_room(self, rows: int) -> None:
        """Begin anew with buffers for so many rows."""
        self._capacity, self._in_order = rows, list(range(rows))
        self._known: dict[int, _Rows] = {}
        self._token_buffer = np.empty(rows, np.int64)
        self._logits_buffer = np.empty(rows * self._vocab_size, np.float32)
        sizes = [layers * rows * width for layers, width in self._sizes]
        self._state_buffers = [[np.empty(size, np.float32) for size in sizes] for _ in range(2)]

    def _places_of(self, rows: int) -> _Rows:
        """Return the places of so many rows, at the beginning of the buffers."""
        if rows not in self._known:
            tokens = self._token_buffer[:rows].reshape(rows, 1)
            logits = self._logits_buffer[: rows * self._vocab_size].reshape(rows, self._vocab_size)
            first, second = (
                tuple(
                    buffer[: layers * rows * width].reshape(layers, rows, width)
                    for buffer, (layers, width) in zip(buffers, self._sizes, strict=True)
                )
                for buffers in self._state_buffers
            )
            self._known[rows] = _Rows(tokens, (Position(logits, first), Position(logits, second)), [None, None], {})
        return self._known[rows]

    def _bind(self, places: _Rows) -> onnxruntime.IOBinding:
        """Return the way from where the rows stand to the other place."""
        before, after = places.positions[self._side], places.positions[1 - self._side]
        value = import_onnxruntime().OrtValue.ortvalue_from_numpy
        way = places.ways[self._side] = self._session.io_binding()
        way.bind_ortvalue_input(TOKENS, value(places.tokens))
        way.bind_ortvalue_output(LOGITS, value(after.logits))
        for name, old, new in zip(self._names, before.state, after.state, strict=True):
            way.bind_ortvalue_input(name, value(old))
            way.bind_ortvalue_output(next_state_name(name), value(new))
        return way
