"""A whole search in one call of ONNX Runtime: a prompt, a source or a vector in; finished sequences out.

It knows the contract of docs/bundle-format.md and nothing of text. It keeps no state; threads may share one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_edge.bundle import Bundle, Graph
from rnn_edge.errors import BundleError, OptionsError
from rnn_edge.runtimes.arrays import NOTHING, Doubles, Floats, Ids, State
from rnn_edge.runtimes.names import (
    LENGTH_PENALTY,
    MAX_NEW_TOKENS,
    MIN_P,
    NOISE,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    next_state_name,
)
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.scores import require_numbers
from rnn_edge.runtimes.sessions import Place
from rnn_edge.runtimes.whole_graph import WholeGraph

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DecodeGraph", "Decoded"]

_USUAL_LENGTH = 20
_INPUTS = {
    MAX_NEW_TOKENS: np.int64,
    LENGTH_PENALTY: np.float64,
    TEMPERATURE: np.float64,
    TOP_K: np.int64,
    TOP_P: np.float64,
    MIN_P: np.float64,
}
"""Options that are inputs of graphs, some of every strategy; called as they are."""
_FIXED = ("do_sample", "num_beams", "num_return_sequences", "narrowing", "early_stopping")
"""Options that a graph was exported with."""


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
    """Runs the graph in the role `decode` of a bundle.

    search   what is fixed in it
    options  the same as options of decoding, with the others at their defaults
    reads    the name of what it searches from, `tokens` or `vectors`
    """

    def __init__(self, content: bytes, description: Graph, **place: Unpack[Place]) -> None:
        if description.search is None:
            raise BundleError("this is not a graph that searches: its manifest does not say how")
        self.search = description.search
        fixed = {**asdict(self.search), "do_sample": self.search.strategy == "sample"}
        self.options = GenerateOptions(**{name: fixed[name] for name in _FIXED})
        self._graph = WholeGraph(content, description, **place)
        self.reads = self._graph.inputs[0]
        self._given = [(name, dtype) for name, dtype in _INPUTS.items() if name in self._graph.inputs]
        self._checked: GenerateOptions | None = None  # those of the last run, which need not be checked again
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
        options: GenerateOptions | None = None,
        state: State | None = None,
        *,
        noise: Doubles | None = None,
    ) -> Decoded:
        """Search from each row.

        inputs   tokens int64 (batch, time), filled with -1 where a row has none, a source on the right, a prompt at
                 best on the left; or vectors float32 (batch, vector)
        options  those that the graph was exported with, and of the others max_new_tokens, 20 if not given; of a beam
                 length_penalty; of a sample temperature, top_k, top_p and min_p
        state    where a language model reads on from, float32 (layers, batch, width) each; zeros if not given
        noise    what a sample draws by, float64 (batch, max_new_tokens), from 0 up to but not 1
        """
        options = self.options if options is None else options
        if options is not self._checked:
            self.check(options)
            self._checked = options
        self._check_noise(noise, len(inputs), options.max_new_tokens)
        longest = {MAX_NEW_TOKENS: options.max_new_tokens or _USUAL_LENGTH}
        given: dict[str, Any] = {self.reads: inputs, NOISE: noise}
        given |= {name: np.array(longest.get(name, getattr(options, name)), dtype) for name, dtype in self._given}
        state = self._start(len(inputs)) if state is None else state
        given |= {port.name: part for port, part in zip(self._states, state, strict=True)}
        sequences, log_prob, *rest = self._graph.run(*(given[name] for name in self._graph.inputs))
        require_numbers(log_prob[:, 0].tolist())  # each row has at least one sequence
        scores = rest.pop(0) if self.search.strategy == "beam" else log_prob
        return Decoded(sequences, log_prob, scores, tuple(rest))

    def _start(self, batch: int) -> State:
        shapes = ([batch if isinstance(size, str) else size for size in port.shape] for port in self._states)
        return tuple(np.zeros(shape, np.float32) for shape in shapes)

    def check(self, options: GenerateOptions) -> None:
        """Refuse options that the graph does not search by."""
        fixed = {name: getattr(self.options, name) for name in _FIXED}
        if other := [f"{name}={value}" for name, value in fixed.items() if getattr(options, name) != value]:
            raise OptionsError(f"this graph was exported to search with {', '.join(other)}: ask for that")
        hosts = [
            f"{field.name}={value!r:.80}"
            for field in fields(options)
            if field.name not in (*_INPUTS, *_FIXED, "seed")
            and (value := getattr(options, field.name)) != field.default
        ]
        if hosts:
            raise OptionsError(f"no graph searches with {', '.join(hosts)}: leave it out, or let the host search")

    def _check_noise(self, noise: Doubles | None, batch: int, most: int | None) -> None:
        strategy = self.search.strategy
        if strategy != "sample" and noise is not None:
            raise OptionsError(f"noise is for a graph that samples, and this one is {strategy}: leave it out")
        if strategy == "sample" and (noise is None or not _is_noise(noise, batch, most)):
            raise OptionsError(
                f"this graph samples: give it noise, float64 ({batch}, max_new_tokens), each from 0 up to but not 1"
            )


def _is_noise(noise: Doubles, batch: int, most: int | None) -> bool:
    fits = noise.ndim == 2 and noise.shape[0] == batch and noise.size > 0 and most in (None, noise.shape[1])
    return fits and bool(((noise >= 0) & (noise < 1)).all())
