"""A step graph in an ONNX Runtime session: tokens and a state in, logits and the next state out.

It knows the contract of docs/bundle-format.md and nothing of text. It keeps no state, so any number of sessions and
threads may share one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rnn_edge.bundle import Bundle, Graph, Port
from rnn_edge.errors import BundleError, RnnEdgeError
from rnn_edge.runtimes.arrays import NOTHING, Floats, Ids, State, join_states, rows_of
from rnn_edge.runtimes.bound_steps import BoundSteps, Rooms
from rnn_edge.runtimes.decoding import Position, Steps
from rnn_edge.runtimes.device_steps import DeviceSteps, Helpers
from rnn_edge.runtimes.names import ATTENTION, LOGITS, TOKENS, next_state_name
from rnn_edge.runtimes.providers import CPU, find
from rnn_edge.runtimes.recorded_steps import RecordedSteps, Recordings
from rnn_edge.runtimes.sessions import UNRECORDED, Place, numbered, open_session, records, unrecorded, why_it_failed

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["StepGraph"]


class StepGraph:
    """Runs one step graph in any of its forms; implements `StepModel`.

    A state that the graph does not give back, such as an encoder's memory, stays what it is. A graph in `step` form
    reads one token at a time; if its batch is fixed, one row at a time.
    """

    def __init__(self, content: bytes, state_ports: Sequence[Port], **place: Unpack[Place]) -> None:
        self._session = open_session(content, recorded=True, **place)
        self._ports = tuple(state_ports)
        self._names = [port.name for port in self._ports]
        found = [port.name for port in self._session.get_inputs()]
        given = {port.name: port for port in self._session.get_outputs()}
        self._moving = [name for name in self._names if next_state_name(name) in given]
        self._outputs = [LOGITS, *map(next_state_name, self._moving)]
        self.has_attention = ATTENTION in given
        self.moving = len(self._moving)  # how many parts of the state, its first ones, a step changes
        if found != [TOKENS, *self._names] or not self._moving or given.keys() - {ATTENTION} != set(self._outputs):
            raise BundleError(
                f"this is not a step graph: wanted the inputs {', '.join([TOKENS, *self._names])}, "
                f"found {', '.join(found)}"
            )
        batch, time = self._session.get_inputs()[0].shape
        self._one_row, self._one_token = batch == 1, time == 1
        self.vocab_size = given[LOGITS].shape[1]
        self._place = place
        device = find(place.get("provider", CPU.name)).name
        self._recordings = Recordings(self._session, self._names, device) if records(place) else None
        self._rooms = Rooms(self._session, self._names)
        self._binds = not self._one_row and self._moving == self._names and not self.has_attention

    @classmethod
    def from_bundle(cls, bundle: Bundle, **place: Unpack[Place]) -> StepGraph:
        """Open the graph in the role `step` of a bundle; `place` is what `open_session` takes.

        What a provider compiled ahead of time is opened there, unless it may fall back: no other could open that.
        """
        graph: Graph | None = bundle.manifest.graphs.get("step")
        if graph is None:
            raise BundleError(f"bundle {bundle.path} has no step graph")
        provider = CPU if place.get("allow_fallback") else find(place.get("provider", CPU.name))
        return cls(bundle.content(graph, provider.name), graph.inputs[1:], **place)

    def start(self, batch: int) -> State:
        """Return a language model's state before the first token: zeros, float32 (layers, batch, width) each."""
        layers_and_widths = [(port.shape[0], port.shape[2]) for port in self._ports]
        return tuple(np.zeros((int(layers), batch, int(width)), np.float32) for layers, width in layers_and_widths)

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Read a stretch of every row.

        tokens   int64 (batch, time), time at least 1; -1 means "nothing here" and leaves the row's state as it is
        state    as `start`, or an encoder, gives it
        returns  logits float32 (batch, vocab) of what follows each row's last token, and the state after it
        """
        try:
            return self._read(tokens, state)
        except Exception as error:  # onnxruntime has a dozen unrelated classes for this
            raise self._explain(error, tokens, state) from error

    def steps_from(self, position: Position) -> Steps:
        """Return steps from a position on; without a memory to look at, on the CPU or on a GPU, they copy nothing."""
        if self._binds and len(position.logits):
            bound = self._session, self._names, self._explain
            ran_on = self._session.get_providers()[0]
            if ran_on == CPU.full_name:
                return BoundSteps(self._rooms, self._explain, position)
            if find(self._place["provider"]).has_memory:
                if self._recordings:
                    return RecordedSteps(*bound, self._helpers, position, self._recordings)
                return DeviceSteps(*bound, self._helpers, position)
        return Steps(self, position, self.moving)

    @cached_property
    def _helpers(self) -> Helpers:
        return Helpers(**unrecorded(self._place))

    def look(self, tokens: Ids, state: State) -> tuple[Floats, State, Floats]:
        """Read as `step` does; return also where the last token looked, float32 (batch, source), rows that sum to 1."""
        try:
            logits, weights, *after = self._run([LOGITS, ATTENTION, *self._outputs[1:]], tokens, state)
        except Exception as error:  # onnxruntime has a dozen unrelated classes for this
            raise self._explain(error, tokens, state) from error
        return logits, self._after(state, after), weights

    def _read(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Call the graph as often as its form asks for."""
        if self._one_row:
            rows = [self._read_row(row, part) for row, part in zip(tokens, rows_of(state), strict=True)]
            return np.concatenate([logits for logits, _ in rows]), join_states(after for _, after in rows)
        if self._one_token and tokens.shape[1] > 1:
            for column in _columns(tokens):
                logits, state = self._call(column, state)
            return logits, state
        return self._call(tokens, state)

    def _read_row(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Read one row, int64 (time,), with a graph of fixed shapes; an idle row's logits are not computed, but NaN."""
        logits = np.full((1, self.vocab_size), np.nan, np.float32)
        for token in tokens[tokens != NOTHING].astype(np.int32):
            logits, state = self._call(token.reshape(1, 1), state)
        return logits, state

    def _call(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        logits, *after = self._run(self._outputs, tokens, state)
        return logits, self._after(state, after)

    def _run(self, outputs: Sequence[str], tokens: Ids, state: State) -> list[Floats]:
        feed = dict(zip([TOKENS, *self._names], (tokens, *state), strict=True))
        found: list[Floats] = self._session.run(outputs, feed, numbered(UNRECORDED))
        return found

    def _after(self, before: State, moved: Sequence[Floats]) -> State:
        if len(moved) == len(before):
            return tuple(moved)
        news = dict(zip(self._moving, moved, strict=True))
        return tuple(news.get(name, old) for name, old in zip(self._names, before, strict=True))

    def end_profile(self) -> str:
        """Return the file that onnxruntime wrote its profile to; only of a graph opened with `profile`."""
        return str(self._session.end_profiling())

    def _explain(self, error: Exception, tokens: Ids, state: State) -> RnnEdgeError:
        """Say what a step wants and what it got; looked at only after it failed."""
        wanted = ", ".join([f"{TOKENS} int64 (batch, time) below the vocabulary's size", *map(str, self._ports)])
        return why_it_failed(error, wanted, [tokens, *state])


def _columns(tokens: Ids) -> Iterator[Ids]:
    """Yield the columns that some row has a token in, and the last."""
    for time in range(tokens.shape[1]):
        column = np.ascontiguousarray(tokens[:, time : time + 1])
        if time == tokens.shape[1] - 1 or (column != NOTHING).any():
            yield column
