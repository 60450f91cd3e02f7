"""A step graph in an ONNX Runtime session: tokens and a state in, logits and the next state out.

It knows the contract of docs/bundle-format.md and nothing of text. It keeps no state, so any number of sessions and
threads may share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_edge.bundle import Bundle, Graph, Port
from rnn_edge.errors import BundleError, RnnEdgeError, TextError
from rnn_edge.runtimes.arrays import Floats, Ids, State
from rnn_edge.runtimes.names import ATTENTION, LOGITS, TOKENS, next_state_name
from rnn_edge.runtimes.providers import open_session

__all__ = ["StepGraph"]


class StepGraph:
    """Runs one step graph; implements `StepModel`.

    A state that the graph does not give back, such as an encoder's memory, stays what it is.
    """

    def __init__(self, content: bytes, state_ports: Sequence[Port], *, provider: str = "cpu", threads: int = 1) -> None:
        self._session = open_session(content, provider=provider, threads=threads)
        self._ports = tuple(state_ports)
        self._names = [port.name for port in self._ports]
        found = [port.name for port in self._session.get_inputs()]
        given = [port.name for port in self._session.get_outputs()]
        self._moving = [name for name in self._names if next_state_name(name) in given]
        self._outputs = [LOGITS, *map(next_state_name, self._moving)]
        self.has_attention = ATTENTION in given
        self.moving = len(self._moving)  # how many parts of the state, its first ones, a step changes
        if found != [TOKENS, *self._names] or not self._moving or set(given) - {ATTENTION} != set(self._outputs):
            raise BundleError(
                f"this is not a step graph: wanted the inputs {', '.join([TOKENS, *self._names])}, "
                f"found {', '.join(found)}"
            )

    @classmethod
    def from_bundle(cls, bundle: Bundle, *, provider: str = "cpu", threads: int = 1) -> StepGraph:
        """Open the graph in the role `step` of a bundle."""
        graph: Graph | None = bundle.manifest.graphs.get("step")
        if graph is None:
            raise BundleError(f"bundle {bundle.path} has no step graph")
        return cls(bundle.files[graph.file], graph.inputs[1:], provider=provider, threads=threads)

    def start(self, batch: int) -> State:
        """Return the state before the first token: zeros, float32 (layers, batch, width) each."""
        sizes = [[batch if isinstance(size, str) else size for size in port.shape] for port in self._ports]
        return tuple(np.zeros(shape, np.float32) for shape in sizes)

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Read a stretch of every row.

        tokens   int64 (batch, time), time at least 1; -1 means "nothing here" and leaves the row's state as it is
        state    as `start`, or an encoder, gives it
        returns  logits float32 (batch, vocab) of what follows each row's last token, and the state after it
        """
        logits, *after = self._run(self._outputs, tokens, state)
        return logits, self._after(state, after)

    def look(self, tokens: Ids, state: State) -> tuple[Floats, State, Floats]:
        """Read as `step` does; return also where the last token looked, float32 (batch, source), rows that sum to 1."""
        logits, weights, *after = self._run([LOGITS, ATTENTION, *self._outputs[1:]], tokens, state)
        return logits, self._after(state, after), weights

    def _after(self, before: State, moved: Sequence[Floats]) -> State:
        if len(moved) == len(before):
            return tuple(moved)
        news = dict(zip(self._moving, moved, strict=True))
        return tuple(news.get(name, old) for name, old in zip(self._names, before, strict=True))

    def _run(self, outputs: Sequence[str], tokens: Ids, state: State) -> list[Floats]:
        feed = dict(zip([TOKENS, *self._names], (tokens, *state), strict=True))
        try:
            found: list[Floats] = self._session.run(outputs, feed)
        except Exception as error:  # onnxruntime has a dozen unrelated classes for this
            raise self._explain(tokens, state) from error
        return found

    def _explain(self, tokens: Ids, state: State) -> RnnEdgeError:
        """Say what a step wants and what it got; looked at only after it failed."""
        wanted = [f"{TOKENS} int64 (batch, time) below the vocabulary's size"]
        wanted += [f"{port.name} {port.dtype} {port.shape}".replace("'", "") for port in self._ports]
        given: list[NDArray[Any]] = [tokens, *state]
        found = [f"{array.dtype} {array.shape}" for array in given]
        return TextError(f"the step graph wants {', '.join(wanted)}; it got {', '.join(found)}")
