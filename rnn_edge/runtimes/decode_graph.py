"""A whole search in one call of ONNX Runtime: a prompt, a source or a vector in; finished sequences out.

It knows the contract of docs/bundle-format.md and nothing of text. It keeps no state; threads may share one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_edge.bundle import Bundle, Graph
from rnn_edge.errors import BundleError, OptionsError
from rnn_edge.runtimes.arrays import NOTHING, Doubles, Floats, Ids, State
from rnn_edge.runtimes.names import LENGTH_PENALTY, MAX_NEW_TOKENS, NOISE, TEMPERATURE, next_state_name
from rnn_edge.runtimes.sessions import Place
from rnn_edge.runtimes.whole_graph import WholeGraph

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DecodeGraph", "Decoded"]


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a search found for each row, best first.

    sequences  int64 (batch, returned, written), -1 behind a sequence's end; `written` is how many steps the graph took
    log_prob   float64 (batch, returned), of all tokens together, as the model gives it; -inf where nothing was found
    scores     float64 (batch, returned), what a beam is ranked by, log_prob / tokens**length_penalty; else log_prob
    state      before each sequence's last token, each float32 (layers, batch × returned, width)
    """

    sequences: Ids
    log_prob: Doubles
    scores: Doubles
    state: State

    def tokens(self, row: int) -> list[tuple[int, ...]]:
        """Return the sequences that were found for a row."""
        found = self.sequences[row][self.log_prob[row] > -np.inf]
        return [tuple(sequence[sequence != NOTHING].tolist()) for sequence in found]


class DecodeGraph:
    """Runs the graph in the role `decode` of a bundle."""

    def __init__(self, content: bytes, description: Graph, **place: Unpack[Place]) -> None:
        if description.search is None:
            raise BundleError("this is not a graph that searches: its manifest does not say how")
        self.search = description.search
        self._graph = WholeGraph(content, description, **place)
        self._states = [port for port in description.inputs if next_state_name(port.name) in self._graph.outputs]

    @classmethod
    def from_bundle(cls, bundle: Bundle, **place: Unpack[Place]) -> DecodeGraph:
        """Open the graph in the role `decode` of a bundle; `place` is what `open_session` takes."""
        graph = bundle.manifest.graphs.get("decode")
        if graph is None:
            raise BundleError(
                f"bundle {bundle.path} has no graph that searches by itself: export it with --decode greedy, sample "
                "or beam"
            )
        return cls(bundle.files[graph.file], graph, **place)

    def run(
        self,
        inputs: Ids | Floats,
        state: State | None = None,
        *,
        max_new_tokens: int = 20,
        length_penalty: float = 1.0,
        temperature: float = 1.0,
        noise: Doubles | None = None,
    ) -> Decoded:
        """Search from each row.

        inputs          tokens int64 (batch, time), filled with -1 where a row has none: a source on the right, a prompt
                        at best on the left; or vectors float32 (batch, vector)
        state           where a language model reads on from, float32 (layers, batch, width) each; zeros if not given
        max_new_tokens  at most; of a sample, as many as there is noise for
        length_penalty  of a beam
        temperature     of a sample, and
        noise           what it draws by, float64 (batch, max_new_tokens), from 0 up to but not 1; needed
        """
        self._check(len(inputs), max_new_tokens, noise)
        given: dict[str, Any] = {
            self._graph.inputs[0]: inputs,
            MAX_NEW_TOKENS: np.array(max_new_tokens, np.int64),
            LENGTH_PENALTY: np.array(length_penalty, np.float64),
            TEMPERATURE: np.array(temperature, np.float64),
            NOISE: noise,
        }
        state = self._start(len(inputs)) if state is None else state
        given |= {port.name: part for port, part in zip(self._states, state, strict=True)}
        sequences, log_prob, *rest = self._graph.run(*(given[name] for name in self._graph.inputs))
        if not np.isfinite(log_prob[:, 0]).all():  # each row has at least one sequence
            raise BundleError(
                "the network gives scores that are not numbers: its weights are damaged, or too large for their "
                "precision; check it with rnn-edge verify, or export it with --precision fp32"
            )
        scores = rest.pop(0) if self.search.strategy == "beam" else log_prob
        return Decoded(sequences, log_prob, scores, tuple(rest))

    def _start(self, batch: int) -> State:
        shapes = ([batch if isinstance(size, str) else size for size in port.shape] for port in self._states)
        return tuple(np.zeros(shape, np.float32) for shape in shapes)

    def _check(self, batch: int, max_new_tokens: int, noise: Doubles | None) -> None:
        if max_new_tokens < 1:
            raise OptionsError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        strategy = self.search.strategy
        if strategy != "sample" and noise is not None:
            raise OptionsError(f"noise is for a graph that samples, and this one is {strategy}: leave it out")
        if strategy == "sample" and (noise is None or not _is_noise(noise, batch)):
            raise OptionsError(
                f"this graph samples: give it noise, float64 ({batch}, max_new_tokens), each from 0 up to but not 1"
            )


def _is_noise(noise: Doubles, batch: int) -> bool:
    fits = noise.ndim == 2 and noise.shape[0] == batch and noise.size > 0
    return fits and bool(((noise >= 0) & (noise < 1)).all())
