"""Read a text token by token, and keep all there is to see: states, what was expected, and where a beam would go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from rnn_edge.bundle import Bundle
from rnn_edge.errors import BundleError, TextError
from rnn_edge.inspection.gates import Gate, read_gates
from rnn_edge.inspection.properties import PROPERTIES, after_each, explained
from rnn_edge.runtimes.arrays import Doubles, Floats, Ids, State
from rnn_edge.runtimes.beams import beam_search
from rnn_edge.runtimes.decoding import Path, Position, Rules, StepModel, step
from rnn_edge.runtimes.paths import rank
from rnn_edge.runtimes.scores import best, log_softmax
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.spec import LanguageModelSpec
from rnn_edge.text import Tokenizer

__all__ = ["Beam", "Inspection", "Reading", "inspect"]

_MOST_TOKENS = 4000  # more would make a page that no browser likes
_GUESSES = 5  # shown after each token
_RANKED = 12  # cells listed for each property


@dataclass(frozen=True)
class Reading:
    """How well one cell tells a property: the share of its variance that a line explains, r²."""

    cell: int
    explained: float


@dataclass(frozen=True)
class Beam:
    """A token that a beam held, how probable it was after the one before, and the tokens that it went on with."""

    text: str
    probability: float
    is_best: bool = False  # part of the best ended path
    children: list[Beam] = field(default_factory=list)


@dataclass(frozen=True)
class Inspection:
    """A text as a network reads it.

    pieces    what each token read adds to the text; the first, an end token, nothing
    names     of all cells: state, layer and number
    cells     float32 (tokens, cells), after each token; between -1 and 1, the cell state of an LSTM by its tanh
    guesses   after each token the most probable ones, each with its probability
    told      float64 (tokens,), the probability that each token had before it came; not a number for the first
    readings  for each property that the text varies in, the cells that tell it best
    beams     how the text may go on, by beam search
    gates     of each layer; where there are none to be seen, `no_gates` says why
    """

    pieces: tuple[str, ...]
    names: tuple[str, ...]
    cells: Floats
    guesses: tuple[tuple[tuple[str, float], ...], ...]
    told: Doubles
    readings: Mapping[str, tuple[Reading, ...]]
    beams: tuple[Beam, ...]
    gates: tuple[Gate, ...]
    no_gates: str

    @property
    def text(self) -> str:
        """Return the text."""
        return "".join(self.pieces)


def inspect(bundle: Bundle, text: str, *, num_beams: int = 4, max_new_tokens: int = 8) -> Inspection:
    """Read a text with a bundle's language model."""
    if not isinstance(bundle.manifest.spec, LanguageModelSpec):
        raise BundleError(
            f"{bundle.path} holds a network of task {bundle.manifest.spec.task}: only language models can be inspected"
        )
    tokens = _tokens(bundle.tokenizer, text)
    model = StepGraph.from_bundle(bundle)
    states, logits = zip(*_steps(model, tokens), strict=True)
    log_probs = log_softmax(np.stack(logits))  # (tokens, vocab)
    pieces = _pieces(bundle.tokenizer, tokens)
    cells = np.stack([_flat(state) for state in states])
    last = Position(logits[-1][None], states[-1])
    rules = Rules(
        token_bytes=bundle.tokenizer.token_bytes,
        end_id=bundle.tokenizer.end_id,
        unknown_id=bundle.tokenizer.unknown_id,
        max_new_tokens=max_new_tokens,
    )
    gates, no_gates = _gates(bundle, tokens)
    return Inspection(
        pieces=pieces,
        names=_names(bundle, states[0]),
        cells=cells,
        guesses=tuple(_guesses(row, bundle.tokenizer) for row in log_probs),
        told=np.array([np.nan, *np.exp(log_probs[np.arange(len(tokens) - 1), tokens[1:]])]),
        readings=_readings(pieces, cells),
        beams=_beams(model, last, rules, bundle.tokenizer, num_beams=num_beams),
        gates=gates,
        no_gates=no_gates,
    )


def _gates(bundle: Bundle, tokens: list[int]) -> tuple[tuple[Gate, ...], str]:
    try:
        return read_gates(bundle, tokens), ""
    except BundleError as error:
        return (), str(error)


def _tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    tokens = [*([] if tokenizer.end_id is None else [tokenizer.end_id]), *tokenizer.encode(text)]
    if not text or len(tokens) > _MOST_TOKENS:
        raise TextError(f"a text to inspect has from 1 to {_MOST_TOKENS} tokens, and this one {len(tokens)}: cut it")
    return tokens


def _steps(model: StepModel, tokens: list[int]) -> Iterator[tuple[State, Floats]]:
    """Yield the state after each token, and the scores of what follows it, float32 (vocab,)."""
    state = model.start(1)
    for token in tokens:
        position = step(model, [token], state)
        state = position.state
        yield state, position.logits[0]


def _flat(state: State) -> Floats:
    """Return all values of a row's state side by side; a cell state by its tanh, as it leaves the cell."""
    parts = [state[0], *(np.tanh(part) for part in state[1:])]
    flat: Floats = np.concatenate([part.ravel() for part in parts])
    return flat


def _names(bundle: Bundle, state: State) -> tuple[str, ...]:
    ports = bundle.manifest.graphs["step"].inputs[1:]
    return tuple(
        f"{port.name}, layer {layer + 1}, cell {cell + 1}"
        for port, part in zip(ports, state, strict=True)
        for layer in range(part.shape[0])
        for cell in range(part.shape[2])
    )


def _pieces(tokenizer: Tokenizer, tokens: list[int]) -> tuple[str, ...]:
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in tokens]
    pieces[-1] += stream.finish()
    return tuple(pieces)


def _guesses(log_probs: Doubles, tokenizer: Tokenizer) -> tuple[tuple[str, float], ...]:
    return tuple((_shown(tokenizer, token), float(np.exp(log_probs[token]))) for token in best(log_probs, _GUESSES))


def _shown(tokenizer: Tokenizer, token: int) -> str:
    if token == tokenizer.end_id:
        return "</s>"
    if token == tokenizer.unknown_id:
        return "<unk>"
    return tokenizer.token_bytes[token].decode("utf-8", "replace")


def _readings(pieces: tuple[str, ...], cells: Floats) -> dict[str, tuple[Reading, ...]]:
    text, found = "".join(pieces), {}
    for name, values_of in PROPERTIES.items():
        shares = explained(cells, after_each(pieces, values_of(text)))
        if shares is not None:
            found[name] = tuple(Reading(int(cell), float(shares[cell])) for cell in best(shares, _RANKED))
    return found


class _Watched:
    """A step model that remembers the scores after every path it reads; a path travels with its row, in the state."""

    def __init__(self, model: StepModel) -> None:
        self._model = model
        self.log_probs: dict[tuple[int, ...], Doubles] = {}

    def start(self, batch: int) -> State:
        return (*self._model.start(batch), np.zeros((0, batch, 1), np.float32))

    def watch(self, position: Position) -> Position:
        """Begin at a position of one row, with nothing read yet."""
        self.log_probs[()] = log_softmax(position.logits)[0]
        return Position(position.logits, (*position.state, np.zeros((0, 1, 1), np.float32)))

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        *inner, read = state
        logits, after = self._model.step(tokens, tuple(inner))
        paths = np.concatenate([read, tokens.T[..., None].astype(np.float32)])  # (tokens read, rows, 1)
        for path, log_probs in zip(paths[..., 0].T.astype(int).tolist(), log_softmax(logits), strict=True):
            self.log_probs[tuple(path)] = log_probs
        return logits, (*after, paths)


def _beams(
    model: StepModel, position: Position, rules: Rules, tokenizer: Tokenizer, *, num_beams: int
) -> tuple[Beam, ...]:
    """Return every path that a beam held, as a tree; the paths that ended hang from it too."""
    watched = _Watched(model)
    (ended,) = beam_search(watched, [[Path()]], watched.watch(position), rules, num_beams=num_beams)
    held = {*watched.log_probs, *(path.tokens for path in ended)} - {()}
    winner = rank(ended, 0.0)[0].tokens

    def below(prefix: tuple[int, ...]) -> list[Beam]:
        paths = [path for path in held if path[:-1] == prefix]
        paths.sort(key=lambda path: (-watched.log_probs[prefix][path[-1]], path))
        return [
            Beam(
                text=_shown(tokenizer, path[-1]),
                probability=float(np.exp(watched.log_probs[prefix][path[-1]])),
                is_best=path == winner[: len(path)],
                children=below(path),
            )
            for path in paths
        ]

    return tuple(below(()))
