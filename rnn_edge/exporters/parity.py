"""Do the exported graphs say what PyTorch says? The one place that runs both.

PyTorch reads whole rows, one at a time. A step graph must give the same numbers whichever way it reads the same rows:
at once, in pieces, token by token, padded, or with idle rows beside them, from a random state, or from the one that its
encoder gives. A graph that reads whole texts must give them in padded batches too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rnn_edge.bundle import Search
from rnn_edge.errors import ExportError
from rnn_edge.exporters.examples import Arrays, random_rows, side_by_side
from rnn_edge.exporters.opened import Opened
from rnn_edge.exporters.quality import continue_tokens
from rnn_edge.exporters.searches import begin_to_write, search_on_host
from rnn_edge.exporters.torch_side import TorchReader, TorchSteps
from rnn_edge.modules import AttentiveDecoder, Describer, LanguageModel, Network, Translator
from rnn_edge.runtimes.arrays import Floats, Ids, State, join_states
from rnn_edge.runtimes.decode_graph import DecodeGraph
from rnn_edge.runtimes.decoding import Path, StepModel
from rnn_edge.runtimes.names import LABELS, LOG_PROB, LOGITS, VECTORS
from rnn_edge.runtimes.whole_graph import WholeGraph
from rnn_edge.spec import DecoderSpec, ModelSpec, TranslatorSpec

__all__ = [
    "Check",
    "Parity",
    "Reader",
    "Reference",
    "References",
    "RowByRow",
    "distance",
    "measure",
    "measure_parity",
    "measure_single_steps",
    "measure_two_stages",
    "own_rounding",
]

STEPS = 256
PADDED_LENGTHS = (1, 60, 250)  # a short row too: a long one forgets what its padding did
ROWS = len(PADDED_LENGTHS)
NEW_TOKENS = 16
TEXT_LENGTHS = (1, 2, 7, 31, 64)  # of whole texts
SOURCE_LENGTHS = (9, 1, 40)  # one for each row of a decoder
SEARCHED_LENGTHS = (5, 1, 12)  # of what a graph that searches by itself reads
LOG_PROB_ATOL = 1e-5  # ONNX Runtime's logarithm differs by a last bit from place to place
_SEED = 20240229


@dataclass(frozen=True)
class Check:
    """One way of reading, and how far its numbers are from PyTorch's."""

    name: str
    compared: int  # numbers, or texts
    max_error: (
        float  # of a logit, a state or a token's log-prob; as a share of its row's largest where that is beyond 1
    )
    passed: bool


@dataclass(frozen=True)
class Parity:
    """Everything that was compared."""

    compared_with: str
    atol: float
    checks: tuple[Check, ...]

    @property
    def max_error(self) -> float:
        """The largest difference of any logit or state."""
        return max(check.max_error for check in self.checks)

    @property
    def passed(self) -> bool:
        """Whether every check held."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a manifest."""
        return {
            "compared_with": self.compared_with,
            "atol": self.atol,
            "max_error": self.max_error,
            "passed": self.passed,
            "checks": [vars(check) for check in self.checks],
        }

    def require(self) -> None:
        """Raise unless every check held."""
        failed = [f"{check.name} ({check.max_error:.1e})" for check in self.checks if not check.passed]
        if failed:
            raise ExportError(
                f"the graph disagrees with {self.compared_with} by more than {self.atol:g}: {', '.join(failed)}; "
                "export again with --atol if that is good enough"
            )


class Reference(StepModel, Protocol):
    """What a step graph must agree with."""

    def read(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Return the logits after every token, float32 (batch, time, vocab), and the state after the last."""


class Reader(Protocol):
    """What a graph that reads whole texts must agree with."""

    def run(self, *arrays: NDArray[Any]) -> Arrays:
        """Return all outputs of a single row without padding."""


class RowByRow:
    """The graph itself, one row and one token at a time: what a rounded graph must equal however else it reads."""

    def __init__(self, graph: StepModel) -> None:
        self._graph = graph

    def start(self, batch: int) -> State:
        """Return the state before the first token."""
        return self._graph.start(batch)

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Read each row alone, token by token."""
        logits, after = self.read(tokens, state)
        return logits[:, -1], after

    def read(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Return the logits after every token, float32 (batch, time, vocab), and the state after the last."""
        rows = []
        for row in range(len(tokens)):
            steps = list(_roll_out(self._graph, tokens[row : row + 1], _row(state, row)))
            rows.append((np.stack([logits for logits, _ in steps], axis=1), steps[-1][1]))
        return np.concatenate([logits for logits, _ in rows]), join_states([after for _, after in rows])


@dataclass(frozen=True)
class References:
    """What a network's graphs must agree with, as far as it has them."""

    compared_with: str
    atol: float
    reader: Reader | None
    steps: Reference | None

    @classmethod
    def in_torch(cls, network: Network, compared_with: str, atol: float) -> References:
        """Compare with PyTorch."""
        reader = None if isinstance(network, LanguageModel) else TorchReader(network)
        decoder = network.decoder if isinstance(network, Translator | Describer) else network
        steps = TorchSteps(decoder) if isinstance(decoder, LanguageModel | AttentiveDecoder) else None
        return cls(compared_with, atol, reader, steps)

    @classmethod
    def of_itself(cls, graphs: Opened, compared_with: str) -> References:
        """Compare with the same graphs, reading row by row and token by token: bit for bit."""
        return cls(compared_with, 0.0, graphs.reader, RowByRow(graphs.step) if graphs.step else None)


@dataclass(frozen=True)
class _Start:
    """Where the rows of a decoder start.

    together  as the graph gets it: all rows side by side
    alone     as the reference gets it: each row by itself
    moving    how many parts of a state change; what follows, a memory, stays
    """

    together: State
    alone: Sequence[State]
    moving: int


def measure(references: References, graphs: Opened, spec: ModelSpec, search: Search | None = None) -> Parity:
    """Compare a network's graphs with what they must agree with.

    Reads random texts; batch and length occur nowhere in the export. Deterministic.

    search  what the graph that searches by itself should do, if there is one
    """
    parity = _measure(references, graphs, spec)
    if search is None or graphs.decode is None or not parity.passed:
        return parity
    return replace(parity, checks=(*parity.checks, _searched(graphs, graphs.decode, spec, search, references.atol)))


def measure_two_stages(references: References, graphs: Opened, spec: ModelSpec, search: Search | None = None) -> Parity:
    """Compare a network that scores its tokens in two stages with what its exact scores must agree with.

    What is not a candidate has no exact score. So the graphs must equal themselves to the bit, however they read; and,
    reading row by row and token by token, they must agree with PyTorch in the state and on all candidates.
    """
    name = f"{references.compared_with} where scores are exact, and itself in all"
    itself = measure(References.of_itself(graphs, name), graphs, spec, search)
    return Parity(name, references.atol, (*_candidates(references, graphs, spec), *itself.checks))


def _candidates(references: References, graphs: Opened, spec: ModelSpec) -> Iterator[Check]:
    assert references.steps is not None
    assert graphs.step is not None
    assert graphs.scored is not None
    assert isinstance(spec, DecoderSpec)
    random = np.random.default_rng(_SEED)
    if references.reader is None or graphs.reader is None:
        ours = theirs = _random_starts(graphs.step, random)
    else:
        sources = random_rows(spec, SOURCE_LENGTHS, random)
        theirs, ours = ([reader.run(*row) for row in sources] for reader in (references.reader, graphs.reader))
        yield _outputs("encoder alone", ours, theirs, graphs.reader.outputs, references.atol)
    tokens, graph = random.integers(0, spec.written_vocab_size, (ROWS, STEPS)), graphs.scored()
    compared, worst = 0, 0.0
    for row, (state, start) in enumerate(zip(ours, theirs, strict=True)):
        wanted, after = references.steps.read(tokens[row : row + 1], start)
        for time, expected in enumerate(wanted[0]):
            logits, candidates, state = graph.step(tokens[row : row + 1, time : time + 1], state)
            found = expected.copy()
            found[candidates[0]] = logits[0, candidates[0]]
            compared, worst = compared + candidates.size, max(worst, distance(found, expected))
        for mine, other in zip(state[: graphs.step.moving], after[: graphs.step.moving], strict=True):
            compared, worst = compared + mine.size, max(worst, distance(mine, other))
    yield Check("candidates", compared, worst, worst <= references.atol)


def _measure(references: References, graphs: Opened, spec: ModelSpec) -> Parity:
    if references.reader is None or graphs.reader is None:
        assert references.steps is not None
        assert graphs.step is not None
        return measure_parity(
            references.steps,
            graphs.step,
            vocab_size=spec.vocab_size,
            atol=references.atol,
            compared_with=references.compared_with,
        )
    random = np.random.default_rng(_SEED)
    rows = random_rows(spec, TEXT_LENGTHS, random)
    name = "texts" if graphs.step is None else "encoder"
    checks = list(_whole_texts(references.reader, graphs.reader, rows, name, references.atol))
    if references.steps is not None and graphs.step is not None and all(check.passed for check in checks):
        assert isinstance(spec, DecoderSpec)
        start = _encoded(references.reader, graphs.reader, random_rows(spec, SOURCE_LENGTHS, random), spec)
        tokens = random.integers(0, spec.written_vocab_size, (ROWS, STEPS))
        checks += _Steps(references.steps, graphs.step, tokens, start, references.atol).checks(random, start)
    return Parity(references.compared_with, references.atol, tuple(checks))


def own_rounding(network: Network) -> float:
    """Return how far PyTorch's float32 is from its own float64, over the rows that graphs are compared on.

    Some networks amplify the last bit of a number: nothing that computes in float32 can be nearer to them than this.
    """
    spec, random = network.spec, np.random.default_rng(_SEED)
    ours = References.in_torch(network, "", 0)
    exact = References.in_torch(deepcopy(network).double(), "", 0)
    pairs: list[tuple[Arrays, Arrays]] = []
    starts: list[tuple[Arrays, Arrays]] = []
    if ours.reader is not None and exact.reader is not None:
        rows, sources = random_rows(spec, TEXT_LENGTHS, random), random_rows(spec, SOURCE_LENGTHS, random)
        pairs += [(ours.reader.run(*row), exact.reader.run(*_doubled(row))) for row in rows]
        starts += [(ours.reader.run(*row), exact.reader.run(*_doubled(row))) for row in sources]
    if ours.steps is not None and exact.steps is not None:
        assert isinstance(spec, DecoderSpec)
        tokens = random.integers(0, spec.written_vocab_size, (ROWS, STEPS))
        starts = starts or [(start, _doubled(start)) for start in _random_starts(ours.steps, random)]
        for row, (start, exact_start) in enumerate(starts):
            logits, state = ours.steps.read(tokens[row : row + 1], start)
            exact_logits, exact_state = exact.steps.read(tokens[row : row + 1], exact_start)
            pairs.append(((logits, *state), (exact_logits, *exact_state)))
    return max(distance(mine, other.astype(mine.dtype)) for pair in pairs for mine, other in zip(*pair, strict=True))


def _doubled(arrays: Arrays) -> Arrays:
    """Return numbers in float64; whole numbers and truth values as they are."""
    return tuple(array.astype(np.float64) if array.dtype == np.float32 else array for array in arrays)


def measure_parity(
    reference: Reference, graph: StepModel, *, vocab_size: int, atol: float = 1e-5, compared_with: str = "PyTorch"
) -> Parity:
    """Compare the step graph of a language model with what it must agree with, from random states."""
    random = np.random.default_rng(_SEED)
    tokens = random.integers(0, vocab_size, (ROWS, STEPS))
    alone = _random_starts(graph, random)
    start = _Start(join_states(alone), alone, len(alone[0]))
    return Parity(compared_with, atol, tuple(_Steps(reference, graph, tokens, start, atol).checks(random, None)))


def measure_single_steps(reference: StepModel, graph: StepModel, *, atol: float, compared_with: str) -> Parity:
    """Compare a calibrated step graph, on texts that the reference draws, each step from the reference's own state.

    The ranges of its activations hold for texts, not for random tokens and states; and what rounding does to a state
    over many steps says more of the network than of the graph: held-out text judges that.
    """
    random = np.random.default_rng(_SEED)
    tokens, state = np.zeros((ROWS, 1), np.int64), reference.start(ROWS)
    compared, worst = 0, 0.0
    for _ in range(STEPS):
        logits, after = reference.step(tokens, state)
        found, moved = graph.step(tokens, state)
        for mine, other in zip((found, *moved), (logits, *after), strict=True):
            compared += mine.size
            worst = max(worst, distance(mine, other))
        draws = logits + random.gumbel(size=logits.shape)  # the largest is drawn as softmax says
        tokens, state = draws.argmax(axis=-1)[:, np.newaxis], after
    return Parity(compared_with, atol, (Check("single steps", compared, worst, worst <= atol),))


def _random_starts(model: StepModel, random: np.random.Generator) -> list[State]:
    """Return a random state for each row."""
    state = tuple(random.uniform(-0.9, 0.9, part.shape).astype(np.float32) for part in model.start(ROWS))
    return [_row(state, row) for row in range(ROWS)]


def _searched(graphs: Opened, decode: DecodeGraph, spec: ModelSpec, search: Search, atol: float) -> Check:
    """Let the graph search, and the host with the step graph: the same tokens, and log-probs to float32's digits."""
    assert graphs.step is not None
    random = np.random.default_rng(_SEED)
    rows = random_rows(spec, SEARCHED_LENGTHS, random)
    seeds, noise = range(len(rows)), None
    if search.strategy == "sample":
        noise = np.stack([np.random.default_rng(seed).random(NEW_TOKENS) for seed in seeds])
    (inputs,) = side_by_side(rows)
    options = replace(decode.options, max_new_tokens=NEW_TOKENS)
    found = decode.run(inputs, options, noise=noise)
    starts = [graphs.reader.run(*row) if graphs.reader else None for row in rows]
    worst, same = 0.0, True
    for row, ((prompt,), state) in enumerate(zip(rows, starts, strict=True)):
        position = begin_to_write(graphs.step, search, prompt.tolist(), state)
        (wanted,) = search_on_host(graphs.step, position, search, options, seeds[row : row + 1])
        same = same and found.tokens(row) == [path.tokens for path in wanted]
        for path, log_prob in zip(wanted, found.log_prob[row].tolist(), strict=False):
            worst = max(worst, abs(path.log_prob - log_prob) / len(path.tokens))
    return Check(f"{search.strategy} graph", len(rows), worst, same and worst <= max(atol, LOG_PROB_ATOL))


def _whole_texts(reader: Reader, graph: WholeGraph, rows: list[Arrays], name: str, atol: float) -> Iterator[Check]:
    """Read each row alone, unless that is what it is compared with, and all rows in one padded batch."""
    wanted = [reader.run(*row) for row in rows]
    together = graph.run(*side_by_side(rows))
    in_batch = [_alone(together, graph.outputs, row, wanted[row]) for row in range(len(rows))]
    found = {f"{name} padded": in_batch}
    if reader is not graph:
        found = {f"{name} alone": [graph.run(*row) for row in rows], **found}
    for kind, outputs in found.items():
        yield _outputs(kind, outputs, wanted, graph.outputs, atol)
    if LOG_PROB in graph.outputs:
        yield _outputs("log-probs", in_batch, wanted, graph.outputs, max(atol, LOG_PROB_ATOL), only=LOG_PROB)


def _alone(outputs: Arrays, names: Sequence[str], row: int, like: Arrays) -> Arrays:
    """Return one row of a batch's outputs, as long as it is alone."""
    found = []
    for name, array, alone in zip(names, outputs, like, strict=True):
        axis = 0 if name in (LOGITS, LABELS, VECTORS, LOG_PROB) else 1  # a decoder's state has its batch on axis 1
        found.append(array.take([row], axis)[tuple(map(slice, alone.shape))])
    return tuple(found)


def _outputs(
    name: str, found: list[Arrays], wanted: list[Arrays], names: Sequence[str], atol: float, *, only: str = ""
) -> Check:
    """Compare outputs row by row; whole numbers must be the same."""
    compared, worst = 0, 0.0
    for ours, theirs in zip(found, wanted, strict=True):
        for output, mine, other in zip(names, ours, theirs, strict=True):
            if (output == LOG_PROB) == bool(only):
                compared += mine.size
                worst = max(worst, distance(mine, other))
    return Check(name, compared, worst, worst <= atol)


def _encoded(reader: Reader, graph: WholeGraph, rows: list[Arrays], spec: DecoderSpec) -> _Start:
    """Return where the decoders of a batch of sources start."""
    alone = [reader.run(*row) for row in rows]
    carries_readout = isinstance(spec, TranslatorSpec) and spec.carries_readout
    return _Start(graph.run(*side_by_side(rows)), alone, len(spec.state_sizes) + carries_readout)


@dataclass(frozen=True)
class _Steps:
    """The ways of reading a target.

    tokens  int64 (rows, steps)
    """

    reference: Reference
    graph: StepModel
    tokens: Ids
    start: _Start
    atol: float

    def checks(self, random: np.random.Generator, text_start: _Start | None) -> list[Check]:
        """Read in every way, and write texts: from the given start, or from zero states."""
        expected = [self.reference.read(self._tokens(row), alone) for row, alone in enumerate(self.start.alone)]
        logits = np.concatenate([each[0] for each in expected])  # (rows, steps, vocab)
        after = join_states([each[1][: self.start.moving] for each in expected])
        checks = [
            self._numbers("whole", [self.graph.step(self.tokens, self.start.together)], [(logits[:, -1], after)]),
            self._in_pieces(logits, after, random),
            self._token_by_token(logits, after),
            self._padded(),
            self._idle(logits),
        ]
        if all(check.passed for check in checks):  # where the numbers differ, so may the texts
            checks += self._texts(text_start)
        return checks

    def _tokens(self, row: int) -> Ids:
        return self.tokens[row : row + 1]

    def _in_pieces(self, logits: Floats, after: State, random: np.random.Generator) -> Check:
        """Read in pieces of random length; the logits after each piece must be the reference's."""
        cuts = np.sort(random.choice(np.arange(1, STEPS), size=7, replace=False))
        state = self.start.together
        found: list[tuple[Floats, State]] = []
        wanted: list[tuple[Floats, State]] = []
        for piece in np.split(np.arange(STEPS), cuts):
            piece_logits, state = self.graph.step(np.ascontiguousarray(self.tokens[:, piece]), state)
            found.append((piece_logits, ()))
            wanted.append((logits[:, piece[-1]], ()))
        return self._numbers("in pieces", [*found, (piece_logits, state)], [*wanted, (logits[:, -1], after)])

    def _token_by_token(self, logits: Floats, after: State) -> Check:
        """Roll out one token at a time, each from the graph's own state; compare the logits after every one."""
        steps = list(_roll_out(self.graph, self.tokens, self.start.together))
        found = [*((each, ()) for each, _ in steps), steps[-1]]
        wanted = [*((logits[:, time], ()) for time in range(STEPS)), (logits[:, -1], after)]
        return self._numbers("token by token", found, wanted)

    def _padded(self) -> Check:
        """Pad rows of different lengths on the left; each must come out as the reference reads it alone."""
        padded = np.full((ROWS, max(PADDED_LENGTHS)), -1)
        wanted = []
        for row, length in enumerate(PADDED_LENGTHS):
            padded[row, -length:] = self.tokens[row, :length]
            wanted.append(self.reference.step(self._tokens(row)[:, :length], self.start.alone[row]))
        logits, after = self.graph.step(padded, self.start.together)
        found = [(logits[row : row + 1], _row(after, row)) for row in range(ROWS)]
        return self._numbers("padded rows", found, wanted)

    def _idle(self, logits: Floats) -> Check:
        """Leave one row idle while the others read on: its state must not move by a bit, nor disturb theirs."""
        column = self.tokens[:, :1].copy()
        column[0] = -1
        found, after = self.graph.step(column, self.start.together)
        check = self._numbers("idle rows", [(found[1:], ())], [(logits[1:, 0], ())])
        still = all(map(np.array_equal, _row(after, 0), _row(self.start.together, 0)))
        return Check(check.name, check.compared, check.max_error, check.passed and still)

    def _texts(self, start: _Start | None) -> Iterator[Check]:
        """Decode from short prompts on both sides: greedily, and with five beams and their scores."""
        for name, num_beams in (("greedy texts", 1), ("beam texts", 5)):
            found: list[Path] = []
            wanted: list[Path] = []
            for row in range(ROWS):
                ours = None if start is None else _row(start.together, row)
                theirs = None if start is None else start.alone[row]
                for model, state, paths in ((self.graph, ours, found), (self.reference, theirs, wanted)):
                    prompt = self._tokens(row)[:, : row + 2]
                    paths += continue_tokens(model, prompt, state, num_beams=num_beams, new_tokens=NEW_TOKENS)
            same = [path.tokens for path in found] == [path.tokens for path in wanted]
            worst = max(abs(ours.log_prob - theirs.log_prob) for ours, theirs in zip(found, wanted, strict=True))
            yield Check(name, len(found), worst / NEW_TOKENS, same and worst <= NEW_TOKENS * self.atol)  # a token

    def _numbers(self, name: str, found: list[tuple[Floats, State]], wanted: list[tuple[Floats, State]]) -> Check:
        compared, worst = 0, 0.0
        for (ours, our_state), (theirs, their_state) in zip(found, wanted, strict=True):
            our_parts, their_parts = our_state[: self.start.moving], their_state[: self.start.moving]
            for mine, other in zip((ours, *our_parts), (theirs, *their_parts), strict=True):
                compared += mine.size
                worst = max(worst, distance(mine, other))
        return Check(name, compared, worst, worst <= self.atol)


def _roll_out(model: StepModel, tokens: Ids, state: State) -> Iterator[tuple[Floats, State]]:
    for time in range(tokens.shape[1]):
        logits, state = model.step(np.ascontiguousarray(tokens[:, time : time + 1]), state)
        yield logits, state


def distance(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the largest difference of any row, as a share of the row's largest number where that is beyond 1.

    A NaN anywhere is infinitely far, and so are other whole numbers.
    """
    if wanted.dtype != np.float32:
        return 0.0 if np.array_equal(found, wanted) else float("inf")
    size = np.maximum(np.abs(wanted).max(axis=-1), 1)
    largest = float((np.abs(found - wanted).max(axis=-1) / size).max())
    return largest if np.isfinite(largest) else float("inf")


def _row(state: State, row: int) -> State:
    return tuple(np.ascontiguousarray(part[:, row : row + 1]) for part in state)
