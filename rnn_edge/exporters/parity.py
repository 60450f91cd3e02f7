"""Does the exported graph say what PyTorch says? The one place that runs both.

PyTorch reads whole rows, one at a time, from a random state; the graph must give the same numbers whichever way it
reads the same rows: at once, in pieces, token by token, padded, or with idle rows beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from rnn_edge.errors import ExportError
from rnn_edge.exporters.quality import continue_tokens
from rnn_edge.modules import LanguageModel
from rnn_edge.runtimes.arrays import Floats, Ids, State, join_states
from rnn_edge.runtimes.decoding import StepModel

__all__ = ["Check", "Parity", "Reference", "RowByRow", "TorchSteps", "measure_parity"]

STEPS = 256
PADDED_LENGTHS = (1, 60, 250)  # a short row too: a long one forgets what its padding did
ROWS = len(PADDED_LENGTHS)
NEW_TOKENS = 16
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
    """What a graph must agree with."""

    def read(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Return the logits after every token, float32 (batch, time, vocab), and the state after the last."""


class TorchSteps:
    """A PyTorch language model behind the runtime's seam, so that both sides run the same decoder."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model.eval()

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


def measure_parity(
    reference: Reference, graph: StepModel, *, vocab_size: int, atol: float = 1e-5, compared_with: str = "PyTorch"
) -> Parity:
    """Compare a graph with what it must agree with.

    Reads random tokens from random states; batch and length occur nowhere in the export. Deterministic.
    """
    random = np.random.default_rng(_SEED)
    tokens = random.integers(0, vocab_size, (ROWS, STEPS))
    state = tuple(random.uniform(-0.9, 0.9, part.shape).astype(np.float32) for part in graph.start(ROWS))
    expected = [reference.read(tokens[row : row + 1], _row(state, row)) for row in range(ROWS)]
    logits = np.concatenate([each[0] for each in expected])  # (rows, steps, vocab)
    after = join_states([each[1] for each in expected])

    checks = [
        _numbers("whole", [graph.step(tokens, state)], [(logits[:, -1], after)], atol),
        _chunks(graph, tokens, state, (logits, after), random, atol),
        _token_by_token(graph, tokens, state, (logits, after), atol),
        _padded(graph, reference, tokens, state, atol),
        _idle(graph, tokens, state, logits, atol),
    ]
    if all(check.passed for check in checks):  # where the numbers differ, so may the texts
        checks += _texts(graph, reference, tokens, atol)
    return Parity(compared_with, atol, tuple(checks))


def _chunks(
    graph: StepModel,
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


def _token_by_token(graph: StepModel, tokens: Ids, state: State, expected: tuple[Floats, State], atol: float) -> Check:
    """Roll out one token at a time, each from the graph's own state; compare the logits after every one."""
    logits, after = expected
    steps = list(_roll_out(graph, tokens, state))
    found = [*((each, ()) for each, _ in steps), steps[-1]]
    wanted = [*((logits[:, time], ()) for time in range(STEPS)), (logits[:, -1], after)]
    return _numbers("token by token", found, wanted, atol)


def _roll_out(model: StepModel, tokens: Ids, state: State) -> Iterator[tuple[Floats, State]]:
    for time in range(tokens.shape[1]):
        logits, state = model.step(np.ascontiguousarray(tokens[:, time : time + 1]), state)
        yield logits, state


def _padded(
    graph: StepModel,
    reference: Reference,
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


def _idle(graph: StepModel, tokens: Ids, state: State, logits: Floats, atol: float) -> Check:
    """Leave one row idle while the others read on: its state must not move by a bit, nor disturb theirs."""
    column = tokens[:, :1].copy()
    column[0] = -1
    found, after = graph.step(column, state)
    check = _numbers("idle rows", [(found[1:], ())], [(logits[1:, 0], ())], atol)
    still = all(map(np.array_equal, _row(after, 0), _row(state, 0)))
    return Check(check.name, check.compared, check.max_error, check.passed and still)


def _texts(graph: StepModel, reference: Reference, tokens: Ids, atol: float) -> Iterator[Check]:
    """Decode from short prompts on both sides: greedily, and with five beams and their scores."""
    for name, num_beams in (("greedy texts", 1), ("beam texts", 5)):
        prompts = [tokens[row : row + 1, : row + 2] for row in range(ROWS)]
        found, wanted = (
            [
                path
                for prompt in prompts
                for path in continue_tokens(model, prompt, num_beams=num_beams, new_tokens=NEW_TOKENS)
            ]
            for model in (graph, reference)
        )
        same = [path.tokens for path in found] == [path.tokens for path in wanted]
        worst = max(abs(ours.log_prob - theirs.log_prob) for ours, theirs in zip(found, wanted, strict=True))
        yield Check(name, len(found), worst / NEW_TOKENS, same and worst <= NEW_TOKENS * atol)  # a token


def _numbers(name: str, found: list[tuple[Floats, State]], wanted: list[tuple[Floats, State]], atol: float) -> Check:
    compared, worst = 0, 0.0
    for (ours, our_state), (theirs, their_state) in zip(found, wanted, strict=True):
        for mine, other in zip((ours, *our_state), (theirs, *their_state), strict=True):
            compared += mine.size
            worst = max(worst, _distance(mine, other))
    return Check(name, compared, worst, worst <= atol)


def _distance(found: Floats, wanted: Floats) -> float:
    """Return the largest difference of any row, as a share of the row's largest number where that is beyond 1.

    A NaN anywhere is infinitely far.
    """
    size = np.maximum(np.abs(wanted).max(axis=-1), 1)
    distance = float((np.abs(found - wanted).max(axis=-1) / size).max())
    return distance if np.isfinite(distance) else float("inf")


def _row(state: State, row: int) -> State:
    return tuple(np.ascontiguousarray(part[:, row : row + 1]) for part in state)
