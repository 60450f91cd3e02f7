"""A step graph that also tells which tokens it scored exactly, which only the parity check wants to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from rnn_edge.exporters.two_stage import CANDIDATES
from rnn_edge.runtimes.arrays import Floats, Ids, State
from rnn_edge.runtimes.names import LOGITS, next_state_name
from rnn_edge.runtimes.sessions import Place, open_session

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["CandidateSteps"]


class CandidateSteps:
    """Runs a graph that scores in two stages; the value that says which tokens were chosen is one of its outputs."""

    def __init__(self, content: bytes, **place: Unpack[Place]) -> None:
        proto = onnx.load_model_from_string(content)
        shape = ["batch", CANDIDATES]
        proto.graph.output.append(onnx.helper.make_tensor_value_info(CANDIDATES, onnx.TensorProto.INT64, shape))
        self._session = open_session(proto.SerializeToString(), **place)
        self._inputs = [port.name for port in self._session.get_inputs()]
        given = {port.name for port in self._session.get_outputs()}
        moving = [name for name in map(next_state_name, self._inputs[1:]) if name in given]
        self._outputs = [LOGITS, CANDIDATES, *moving]

    def step(self, tokens: Ids, state: State) -> tuple[Floats, Ids, State]:
        """Read a stretch; return the logits, the candidates, int64 (batch, candidates), and the state after it."""
        feed = dict(zip(self._inputs, (np.ascontiguousarray(tokens), *state), strict=True))
        logits, candidates, *after = self._session.run(self._outputs, feed)
        return logits, candidates, (*after, *state[len(after) :])
