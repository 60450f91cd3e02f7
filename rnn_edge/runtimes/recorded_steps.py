"""Steps of one row that an accelerator records once and then replays, without the host's work for each operator.

What onnxruntime recorded under a number (`gpu_graph_id`) it replays in the memory of that time, whatever is bound
later. So the two places of a row stay where they are, and so does its token; each of the ways from one place to the
other is recorded under a number of its own. They are lent to one search after the other.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from rnn_edge.errors import ProviderError, RnnEdgeError
from rnn_edge.runtimes.arrays import Floats, Ids, State
from rnn_edge.runtimes.decoding import Position
from rnn_edge.runtimes.device_steps import DeviceSteps, Helpers, Resident
from rnn_edge.runtimes.names import LOGITS, TOKENS, next_state_name
from rnn_edge.runtimes.providers import import_onnxruntime
from rnn_edge.runtimes.sessions import numbered

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["RecordedSteps", "Recordings"]


class _Recording:
    """One row's places on the device, and the ways between them, which are recorded when they are first run."""

    def __init__(
        self, session: onnxruntime.InferenceSession, names: Sequence[str], device: str, position: Position, number: int
    ) -> None:
        """Make room for what has the shapes of a position.

        number  the ways are recorded under this one and the next
        """
        value = import_onnxruntime().OrtValue.ortvalue_from_numpy

        def room(like: Floats) -> onnxruntime.OrtValue:
            return value(np.zeros(like.shape, np.float32), device)

        self._session = session
        self._token = value(np.zeros((1, 1), np.int64), device)
        first, second = (Resident([*map(room, position.state)], room(position.logits)) for _ in range(2))
        self.places = first, second
        self._ways = self._bind(names, first, second), self._bind(names, second, first)
        self._runs = numbered(number), numbered(number + 1)

    def _bind(self, names: Sequence[str], before: Resident, after: Resident) -> onnxruntime.IOBinding:
        way = self._session.io_binding()
        way.bind_ortvalue_input(TOKENS, self._token)
        way.bind_ortvalue_output(LOGITS, after.logits)
        for name, old, new in zip(names, before.states, after.states, strict=True):
            way.bind_ortvalue_input(name, old)
            way.bind_ortvalue_output(next_state_name(name), new)
        return way

    def load(self, position: Position) -> Resident:
        """Copy a position to the first place."""
        for value, part in zip(self.places[0].states, position.state, strict=True):
            value.update_inplace(np.ascontiguousarray(part))
        return self.places[0]

    def step(self, here: Resident, token: int) -> Resident:
        """Read a token in one of the places; return the other, where the row stands then."""
        side = self.places.index(here)
        self._token.update_inplace(np.array([[token]], np.int64))
        self._session.run_with_iobinding(self._ways[side], self._runs[side])
        return self.places[1 - side]


class Recordings:
    """The recordings of one session: as many as searches ever stepped at the same time."""

    def __init__(self, session: onnxruntime.InferenceSession, names: Sequence[str], device: str) -> None:
        self._session, self._names, self._device = session, names, device
        self._free: list[_Recording] = []
        self._numbers = count(1, step=2)

    def lend(self, borrower: object, position: Position) -> _Recording:
        """Return a recording that is the borrower's alone as long as that lives."""
        try:
            recording = self._free.pop()
        except IndexError:
            recording = _Recording(self._session, self._names, self._device, position, next(self._numbers))
        weakref.finalize(borrower, self._free.append, recording)
        return recording


class RecordedSteps(DeviceSteps):
    """As `DeviceSteps`, but a row that goes on alone does so by replaying; several rows are run as ever."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        names: Sequence[str],
        explain: Callable[[Exception, Ids, State], RnnEdgeError],
        helpers: Helpers,
        position: Position,
        recordings: Recordings,
    ) -> None:
        """Begin at a position, as `DeviceSteps` does."""
        super().__init__(session, names, explain, helpers, position)
        self._recordings = recordings
        self._recording: _Recording | None = None

    def go_on(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Read a token each in some rows, in their order; a row may come twice, or not at all."""
        if list(rows) != [0] or self._rows_here > 1:
            super().go_on(rows, tokens)
            return
        try:
            self._here, self._other = self._replay(tokens[0]), None
        except Exception as error:  # onnxruntime has a dozen unrelated classes for this
            raise ProviderError(
                f"onnxruntime cannot record and replay a step of this graph: {error}; leave out the option that asks "
                "for it"
            ) from error

    def _replay(self, token: int) -> Resident:
        recording = self._recording
        if recording is None:
            recording = self._recording = self._recordings.lend(self, self.position)
        here = self._here
        if isinstance(here, Position) or here not in recording.places:
            here = recording.load(self.position)
        return recording.step(here, token)
