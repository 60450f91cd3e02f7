"""Steps of a graph, one after the other, without a copy or an allocation: its states take turns in two places.

What one step writes is what the next one reads. Only where rows change their order, or some are left out, are they
moved, to the other place.
"""

from __future__ import annotations

import weakref
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

__all__ = ["BoundSteps", "Rooms"]

# What is kept from one search to the next.
_ROOMS_KEPT = 2
_ROWS_KEPT = 16  # of a room


@dataclass(frozen=True, slots=True)
class _Rows:
    """The places of so many rows, which are views of the buffers.

    in_order   the numbers of all rows
    tokens     int64 (rows, 1)
    positions  where the rows stand once a step has written to the first place, or to the second
    ways       to run from the first place to the second, and back, once they were needed
    finders    of the most probable tokens, once they were needed
    """

    in_order: list[int]
    tokens: Ids
    positions: tuple[Position, Position]
    ways: list[onnxruntime.IOBinding | None]
    finders: dict[int, TopK]


class _Room:
    """The two places, of as many rows as were needed so far."""

    def __init__(self, session: onnxruntime.InferenceSession, names: Sequence[str], position: Position) -> None:
        """Make it for what has the shapes of a position."""
        self.session, self._names = session, names
        self._sizes = [(part.shape[0], part.shape[2]) for part in position.state]  # layers, width
        self._vocab_size = position.logits.shape[1]
        self.capacity = 0  # rows

    def make(self, rows: int) -> None:
        """Begin anew with buffers for so many rows."""
        self.capacity = rows
        self._known: dict[int, _Rows] = {}
        self._token_buffer = np.empty(rows, np.int64)
        self._logits_buffer = np.empty(rows * self._vocab_size, np.float32)
        sizes = [layers * rows * width for layers, width in self._sizes]
        self._state_buffers = [[np.empty(size, np.float32) for size in sizes] for _ in range(2)]

    def places_of(self, rows: int) -> _Rows:
        """Return the places of so many rows, for which there is room, at the beginning of the buffers."""
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
            positions = Position(logits, first), Position(logits, second)
            self._known[rows] = _Rows(list(range(rows)), tokens, positions, [None, None], {})
        return self._known[rows]

    def way_from(self, side: int, places: _Rows) -> onnxruntime.IOBinding:
        """Return the way from the first place to the second, or back."""
        way = places.ways[side]
        if way is None:
            before, after = places.positions[side], places.positions[1 - side]
            value = import_onnxruntime().OrtValue.ortvalue_from_numpy
            way = places.ways[side] = self.session.io_binding()
            way.bind_ortvalue_input(TOKENS, value(places.tokens))
            way.bind_ortvalue_output(LOGITS, value(after.logits))
            for name, old, new in zip(self._names, before.state, after.state, strict=True):
                way.bind_ortvalue_input(name, value(old))
                way.bind_ortvalue_output(next_state_name(name), value(new))
        return way


class Rooms:
    """The rooms of one session, lent to one search after the other: to bind one takes about as long as a small step."""

    def __init__(self, session: onnxruntime.InferenceSession, names: Sequence[str]) -> None:
        """Make it for a graph whose states have these names, in their order."""
        self._session, self._names = session, names
        self._free: list[_Room] = []

    def lend(self, borrower: object, position: Position) -> _Room:
        """Return a room that is the borrower's alone as long as that lives."""
        try:
            room = self._free.pop()
        except IndexError:
            room = _Room(self._session, self._names, position)
        weakref.finalize(borrower, self._take_back, room)
        return room

    def _take_back(self, room: _Room) -> None:
        if room.capacity <= _ROWS_KEPT and len(self._free) < _ROOMS_KEPT:
            self._free.append(room)


class BoundSteps(Steps):
    """Implements `Steps` for a graph whose inputs are tokens and states, and all of whose states move; on the CPU.

    What it gives is good until the next step, and no longer than itself.
    """

    def __init__(
        self, rooms: Rooms, explain: Callable[[Exception, Ids, State], RnnEdgeError], position: Position
    ) -> None:
        """Begin at a position; `explain` says why a run failed."""
        self._explain = explain
        self._room = rooms.lend(self, position)
        self._places: _Rows
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
        if len(rows) > self._room.capacity:
            self._load(take(self.position, rows))
        elif rows != self._places.in_order:
            self._move(rows)
        self._places.tokens[:, 0] = tokens
        try:
            self._room.session.run_with_iobinding(self._room.way_from(self._side, self._places))
        except Exception as error:  # onnxruntime has a dozen unrelated classes for this
            raise self._explain(error, self._places.tokens, self.position.state) from error
        self._side = 1 - self._side

    def _move(self, rows: Sequence[int]) -> None:
        """Copy rows to the other place, in their order."""
        chosen = np.array(rows, np.int64)
        here, self._side = self.position.state, 1 - self._side
        self._places = self._room.places_of(len(rows))
        for old, new in zip(here, self.position.state, strict=True):
            old.take(chosen, axis=1, out=new, mode="clip")  # in the usual mode, it would be copied twice

    def _load(self, position: Position) -> None:
        """Copy where rows stand, and what they expect next, to the first place."""
        rows = len(position.logits)
        if rows > self._room.capacity:
            self._room.make(rows)
        self._places, self._side = self._room.places_of(rows), 0
        self.position.logits[...] = position.logits
        for here, part in zip(self.position.state, position.state, strict=True):
            here[...] = part
