"""Steps on an accelerator, in whose memory states and scores stay: tokens go there, and only the best come back.

The states take turns in two places there, as those of `bound_steps.py` do here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from rnn_edge.errors import ProviderError, RnnEdgeError
from rnn_edge.runtimes.arrays import Floats, Ids, State, reorder
from rnn_edge.runtimes.decoding import Position, Steps, join
from rnn_edge.runtimes.names import LOGITS, TOKENS, next_state_name
from rnn_edge.runtimes.providers import import_onnxruntime
from rnn_edge.runtimes.sessions import UNRECORDED, Place, numbered, open_session
from rnn_edge.runtimes.top_k import TOP_K, Scores, find_once

if TYPE_CHECKING:
    import onnxruntime
    from typing_extensions import Unpack

    Session: TypeAlias = onnxruntime.InferenceSession
    Value: TypeAlias = onnxruntime.OrtValue

__all__ = ["DeviceSteps", "Helpers", "Resident"]

_TAKE_ROWS = Path(__file__).with_name("take_rows.onnx")
_DEVICE = "gpu"  # what onnxruntime calls the memory of whatever accelerator a session runs on


class Helpers:
    """The two small graphs on the same provider; where it does not have their operators, the host does their work."""

    def __init__(self, **place: Unpack[Place]) -> None:
        self.top_k = _opened(TOP_K, place)
        self.take_rows = _opened(_TAKE_ROWS, place)


def _opened(path: Path, place: Place) -> Session | None:
    try:
        return open_session(path.read_bytes(), **place)
    except ProviderError:
        return None


class _ResidentScores(Scores):
    """Scores that lie in an accelerator's memory."""

    def __init__(self, values: Value, session: Session | None) -> None:
        super().__init__(np.empty((0, 0), np.float32))
        self._values, self._session = values, session

    @property
    def logits(self) -> Floats:
        fetched: Floats = self._values.numpy()
        return fetched

    def _find(self, k: int) -> tuple[Ids, Floats]:
        if self._session is None:
            return find_once(self.logits, k)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("logits", self._values)
        binding.bind_cpu_input("k", np.array([min(k, self._values.shape()[1])], np.int64))
        for name in ("tokens", "log_probs"):
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        tokens, log_probs = binding.copy_outputs_to_cpu()
        return tokens, log_probs


@dataclass(frozen=True, slots=True, eq=False)
class Resident:
    """Where states and scores lie, on the device."""

    states: list[Value]
    logits: Value


class DeviceSteps(Steps):
    """Implements `Steps` for a graph whose inputs are tokens and states, and all of whose states move."""

    def __init__(
        self,
        session: Session,
        names: Sequence[str],
        explain: Callable[[Exception, Ids, State], RnnEdgeError],
        helpers: Helpers,
        position: Position,
    ) -> None:
        """Begin at a position.

        names    of the states, in their order
        explain  says why a run failed
        """
        self._session, self._names, self._explain, self._helpers = session, names, explain, helpers
        self._here: Position | Resident = position  # a position lies in the host's memory, until the next step
        self._other: Resident | None = None  # to write to next

    @property
    def position(self) -> Position:
        """Fetch where the rows stand."""
        if isinstance(self._here, Position):
            return self._here
        return Position(self._here.logits.numpy(), tuple(value.numpy() for value in self._here.states))

    @property
    def scores(self) -> Scores:
        """Return what the rows expect next, which stays on the device."""
        if isinstance(self._here, Position):
            return Scores(self._here.logits)
        return _ResidentScores(self._here.logits, self._helpers.top_k)

    @property
    def _rows_here(self) -> int:
        logits = self._here.logits
        return len(logits) if isinstance(logits, np.ndarray) else int(logits.shape()[0])

    def join(self, position: Position) -> None:
        """Put the rows of a position under those that are here."""
        self._here, self._other = join([self.position, position]), None

    def go_on(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Read a token each in some rows, in their order; a row may come twice, or not at all."""
        column = np.array(tokens, np.int64)[:, None]
        way = self._session.io_binding()
        way.bind_cpu_input(TOKENS, column)
        if isinstance(self._here, Position):
            for name, part in zip(self._names, reorder(self._here.state, rows), strict=True):
                way.bind_cpu_input(name, part)
        else:
            unchanged = list(rows) == list(range(self._rows_here))
            for name, value in zip(self._names, self._here.states, strict=True):
                way.bind_ortvalue_input(name, value if unchanged else self._taken(value, rows))
        outputs = [LOGITS, *map(next_state_name, self._names)]
        if self._other is not None and self._other.logits.shape()[0] == len(rows):
            for name, value in zip(outputs, (self._other.logits, *self._other.states), strict=True):
                way.bind_ortvalue_output(name, value)
        else:
            for name in outputs:
                way.bind_output(name, _DEVICE)
        try:
            self._session.run_with_iobinding(way, numbered(UNRECORDED))
        except Exception as error:  # onnxruntime has a dozen unrelated classes for this
            raise self._explain(error, column, self.position.state) from error
        logits, *states = way.get_outputs()
        self._other = None if isinstance(self._here, Position) else self._here
        self._here = Resident(states, logits)

    def _taken(self, state: Value, rows: Sequence[int]) -> Value:
        """Return some rows of a state, (layers, batch, width)."""
        if self._helpers.take_rows is None:
            taken = np.take(state.numpy(), rows, axis=1)
            return import_onnxruntime().OrtValue.ortvalue_from_numpy(taken)
        way = self._helpers.take_rows.io_binding()
        way.bind_ortvalue_input("state", state)
        way.bind_cpu_input("rows", np.array(rows, np.int64))
        way.bind_output("taken", _DEVICE)
        self._helpers.take_rows.run_with_iobinding(way)
        value: Value = way.get_outputs()[0]
        return value
