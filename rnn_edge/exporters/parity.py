"""Does the exported graph say what PyTorch says? The one place that runs both.

PyTorch reads whole rows, one at a time, from a random state; the graph must give the same numbers whichever way it
reads the same rows: at once, in pieces, token by token, padded, or with idle rows beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rnn_edge.errors import ExportError
from rnn_edge.modules import LanguageModel
from rnn_edge.runtimes.arrays import Floats, Ids, State
from rnn_edge.runtimes.decoding import Path, Position, Rules, StepModel, beam_search
from rnn_edge.runtimes.step_graph import StepGraph

__all__ = ["Check", "Parity", "TorchSteps", "measure_parity"]

STEPS = 256
PADDED_LENGTHS = (1, 60, 250)  # a short row too: a long one forgets what its padding did
ROWS = len(PADDED_LENGTHS)
NEW_TOKENS = 32
_SEED = 20240229


@dataclass(frozen=True)
class Check:
    """One way of reading, and how far its numbers are from PyTorch's."""

    name: str
    compared: int  # numbers, or texts
    max_error: float  # absolute up to 1, and relative beyond: an LSTM's cell may count to hundreds
    passed: bool


@dataclass(frozen=True)
class Parity:
    """Everything that was compared."""

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
                f"the graph disagrees with PyTorch by more than {self.atol:g}: {', '.join(failed)}; "
                "export again with --atol if that is good enough"
            )


class TorchSteps:
    """A PyTorch language model behind the runtime's seam, so that both sides run the same decoder."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def start(self, batch: int) -> State:
        """Return the state before the first token."""
        return tuple(tensor.numpy() for tensor in self._model.start(batch))

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Read one row without padding, or one token of every row."""
        logits, after = self.read(tokens, state)
        return logits[:, -1], after

    def read(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Return the logits after every token, float32 (batch, time, vocab), and the state after the last."""
        with torch.inference_mode():
            logits, after = self._model(torch.from_numpy(tokens), tuple(map(torch.from_numpy, state)))
        return logits.numpy(), tuple(tensor.numpy() for tensor in after)


def measure_parity(model: LanguageModel, graph: StepGraph, *, atol: float = 1e-5) -> Parity:
    """Compare a graph with the network it came from.

    Reads random tokens from random states; batch and length occur nowhere in the export. Deterministic.
    """
    random = np.random.default_rng(_SEED)
    reference = TorchSteps(model.eval())
    tokens = random.integers(0, model.spec.vocab_size, (ROWS, STEPS))
    state = tuple(random.uniform(-0.9, 0.9, part.shape).astype(np.float32) for part in graph.start(ROWS))
    expected = [reference.read(tokens[row : row + 1], _row(state, row)) for row in range(ROWS)]
    logits = np.concatenate([each[0] for each in expected])  # (rows, steps, vocab)
    after = _join([each[1] for each in expected])

    checks = [
        _numbers("whole", [graph.step(tokens, state)], [(logits[:, -1], after)], atol),
        _chunks(graph, tokens, state, (logits, after), random, atol),
        _token_by_token(graph, reference, tokens, state, atol),
        _padded(graph, reference, tokens, state, atol),
        _idle(graph, tokens, state, logits, atol),
    ]
    if all(check.passed for check in checks):  # where the numbers differ, so may the texts
        checks += _texts(graph, reference, tokens, atol)
    return Parity(atol, tuple(checks))


def _chunks(
    graph: StepGraph,
    tokens: Ids,
    state: State,
    expected: tuple[Floats, State],
    random: np.random.Generator,
    atol: float,
) -> Check:
    """Read in pieces of random length; the logits after each piece must be PyTorch's."""
    cuts = np.sort(random.choice(np.arange(1, STEPS), size=7, replace=False))
    logits, after = expected
    found, wanted = [], []
    for piece in np.split(np.arange(STEPS), cuts):
        piece_logits, state = graph.step(np.ascontiguousarray(tokens[:, piece]), state)
        found.append((piece_logits, ()))
        wanted.append((logits[:, piece[-1]], ()))
    return _numbers("in pieces", [*found, (piece_logits, state)], [*wanted, (logits[:, -1], after)], atol)


def _token_by_token(graph: StepGraph, reference: TorchSteps, tokens: Ids, state: State, atol: float) -> Check:
    """Roll both out one token at a time, each from its own state; compare logits and states after every token."""
    found, wanted = list(_roll_out(graph, tokens, state)), list(_roll_out(reference, tokens, state))
    return _numbers("token by token", found, wanted, atol)


def _roll_out(model: StepModel, tokens: Ids, state: State) -> Iterator[tuple[Floats, State]]:
    for time in range(tokens.shape[1]):
        logits, state = model.step(np.ascontiguousarray(tokens[:, time : time + 1]), state)
        yield logits, state


def _padded(
    graph: StepGraph,
    reference: TorchSteps,
    tokens: Ids,
    state: State,
    atol: float,
) -> Check:
    """Pad rows of different lengths on the left; each must come out as PyTorch reads it alone."""
    padded = np.full((ROWS, max(PADDED_LENGTHS)), -1)
    wanted = []
    for row, length in enumerate(PADDED_LENGTHS):
        padded[row, -length:] = tokens[row, :length]
        wanted.append(reference.step(tokens[row : row + 1, :length], _row(state, row)))
    logits, after = graph.step(padded, state)
    found = [(logits[row : row + 1], _row(after, row)) for row in range(ROWS)]
    return _numbers("padded rows", found, wanted, atol)


def _idle(graph: StepGraph, tokens: Ids, state: State, logits: Floats, atol: float) -> Check:
    """Leave one row idle while the others read on: its state must not move by a bit, nor disturb theirs."""
    column = tokens[:, :1].copy()
    column[0] = -1
    found, after = graph.step(column, state)
    check = _numbers("idle rows", [(found[1:], ())], [(logits[1:, 0], ())], atol)
    still = all(np.array_equal(_row(after, 0)[part], _row(state, 0)[part]) for part in range(len(state)))
    return Check(check.name, check.compared, check.max_error, check.passed and still)


def _texts(graph: StepGraph, reference: TorchSteps, tokens: Ids, atol: float) -> Iterator[Check]:
    """Decode from short prompts on both sides: greedily, and with five beams and their scores."""
    for name, num_beams in (("greedy texts", 1), ("beam texts", 5)):
        prompts = [tokens[row : row + 1, : row + 2] for row in range(ROWS)]
        found = [path for prompt in prompts for path in _decode(graph, prompt, num_beams)]
        wanted = [path for prompt in prompts for path in _decode(reference, prompt, num_beams)]
        same = [path.tokens for path in found] == [path.tokens for path in wanted]
        worst = max(abs(ours.log_prob - theirs.log_prob) for ours, theirs in zip(found, wanted, strict=True))
        yield Check(name, len(found), worst, same and worst <= NEW_TOKENS * atol)


def _decode(model: StepModel, prompt: Ids, num_beams: int) -> list[Path]:
    """Return the most probable continuations of a prompt, int64 (1, time)."""
    logits, state = model.step(prompt, model.start(1))
    silent = [b""] * logits.shape[1]  # no text, so nothing but length ends a path
    rules = Rules(token_bytes=silent, end_id=None, unknown_id=None, max_new_tokens=NEW_TOKENS)
    return beam_search(model, [[Path()]], Position(logits, state), rules, num_beams=num_beams)[0]


def _numbers(name: str, found: list[tuple[Floats, State]], wanted: list[tuple[Floats, State]], atol: float) -> Check:
    compared, worst = 0, 0.0
    for (ours, our_state), (theirs, their_state) in zip(found, wanted, strict=True):
        for mine, other in zip((ours, *our_state), (theirs, *their_state), strict=True):
            compared += mine.size
            worst = max(worst, _distance(mine, other))
    return Check(name, compared, worst, worst <= atol)


def _distance(found: Floats, wanted: Floats) -> float:
    """Return the largest difference, as a share of numbers beyond 1; a NaN anywhere is infinitely far."""
    distance = float((np.abs(found - wanted) / np.maximum(np.abs(wanted), 1)).max())
    return distance if np.isfinite(distance) else float("inf")


def _row(state: State, row: int) -> State:
    return tuple(np.ascontiguousarray(part[:, row : row + 1]) for part in state)


def _join(states: list[State]) -> State:
    return tuple(np.concatenate(parts, axis=1) for parts in zip(*states, strict=True))
