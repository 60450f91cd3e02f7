"""A step graph in an ONNX Runtime session: tokens and a state in, logits and the next state out.

It knows the contract of docs/bundle-format.md and nothing of text. It keeps no state, so any number of sessions and
threads may share one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnn_edge.bundle import Bundle, Graph, Port
from rnn_edge.errors import BundleError, ProviderError, RnnEdgeError, TextError
from rnn_edge.runtimes.arrays import NOTHING, Floats, Ids, State, join_states, rows_of
from rnn_edge.runtimes.sessions import Place, open_session

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LOGITS", "TOKENS", "StepGraph", "next_state_name"]

TOKENS, LOGITS = "tokens", "logits"


def next_state_name(name: str) -> str:
    """Return the output's name for a state's input name: `h` comes back as `next_h`."""
    return f"next_{name}"


class StepGraph:
    """Runs one step graph in any of its forms; implements `StepModel`.

    A graph in `step` form reads one token at a time; if its batch is fixed, one row at a time.
    """

    def __init__(self, content: bytes, state_ports: Sequence[Port], **place: Unpack[Place]) -> None:
        self._session = open_session(content, **place)
        self._ports = tuple(state_ports)
        names = [port.name for port in self._ports]
        self._inputs = [TOKENS, *names]
        self._outputs = [LOGITS, *map(next_state_name, names)]
        found = [port.name for port in self._session.get_inputs()]
        if found != self._inputs or [port.name for port in self._session.get_outputs()] != self._outputs:
            raise BundleError(
                f"this is not a step graph: wanted the inputs {', '.join(self._inputs)}, found {', '.join(found)}"
            )
        batch, time = self._session.get_inputs()[0].shape
        self._one_row, self._one_token = batch == 1, time == 1
        self._vocab_size = self._session.get_outputs()[0].shape[1]

    @classmethod
    def from_bundle(cls, bundle: Bundle, **place: Unpack[Place]) -> StepGraph:
        """Open the graph in the role `step` of a bundle; `place` is what `open_session` takes."""
        graph: Graph | None = bundle.manifest.graphs.get("step")
        if graph is None:
            raise BundleError(f"bundle {bundle.path} has no step graph")
        return cls(bundle.files[graph.file], graph.inputs[1:], **place)

    def start(self, batch: int) -> State:
        """Return the state before the first token: zeros, float32 (layers, batch, width) each."""
        layers_and_widths = [(port.shape[0], port.shape[2]) for port in self._ports]
        return tuple(np.zeros((int(layers), batch, int(width)), np.float32) for layers, width in layers_and_widths)

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Read a stretch of every row.

        tokens   int64 (batch, time), time at least 1; -1 means "nothing here" and leaves the row's state as it is
        state    as `start` gives it
        returns  logits float32 (batch, vocab) of what follows each row's last token, and the state after it
        """
        try:
            return self._read(tokens, state)
        except Exception as error:  # onnxruntime has a dozen unrelated classes for this
            if type(error).__name__ == "EPFail":
                raise ProviderError(f"the provider failed while it ran: {error}") from error
            raise self._explain(tokens, state) from error

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
        logits = np.full((1, self._vocab_size), np.nan, np.float32)
        for token in tokens[tokens != NOTHING].astype(np.int32):
            logits, state = self._call(token.reshape(1, 1), state)
        return logits, state

    def _call(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        feed = dict(zip(self._inputs, (tokens, *state), strict=True))
        logits, *after = self._session.run(self._outputs, feed)
        return logits, tuple(after)

    def end_profile(self) -> str:
        """Return the file that onnxruntime wrote its profile to; only of a graph opened with `profile`."""
        return str(self._session.end_profiling())

    def _explain(self, tokens: Ids, state: State) -> RnnEdgeError:
        """Say what a step wants and what it got; looked at only after it failed."""
        wanted = [f"{TOKENS} int64 (batch, time) below the vocabulary's size"]
        wanted += [f"{port.name} {port.dtype} {port.shape}".replace("'", "") for port in self._ports]
        given: list[NDArray[Any]] = [tokens, *state]
        found = [f"{array.dtype} {array.shape}" for array in given]
        return TextError(f"the step graph wants {', '.join(wanted)}; it got {', '.join(found)}")


def _columns(tokens: Ids) -> Iterator[Ids]:
    """Yield the columns that some row has a token in, and the last."""
    for time in range(tokens.shape[1]):
        column = np.ascontiguousarray(tokens[:, time : time + 1])
        if time == tokens.shape[1] - 1 or (column != NOTHING).any():
            yield column
