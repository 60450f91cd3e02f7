"""What rounding costs, on real examples: the gate that a smaller graph must pass.

Both graphs read the same held-out examples, and their predictions are compared one by one: of each next token, each
target token after the true ones before it, each text's label, or each word's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_edge.errors import ExportError
from rnn_edge.exporters.opened import Opened
from rnn_edge.runtimes.arrays import NOTHING, Floats, Ids, State
from rnn_edge.runtimes.beams import beam_search
from rnn_edge.runtimes.decoding import Path, Position, Rules, StepModel
from rnn_edge.runtimes.names import LABELS, LOGITS
from rnn_edge.runtimes.whole_graph import WholeGraph

__all__ = ["MOST_TOKENS", "Quality", "Recall", "compare", "compare_labels", "compare_texts", "judge", "recall"]

MOST_TOKENS = 16_384  # enough for a perplexity to a fraction of a percent between graphs that read the same
ROWS = 64
MOST_ROWS = 2048  # of labelled texts, or pairs of texts
PROMPTS, PROMPT_LENGTH, NEW_TOKENS = 12, 16, 24
BEST = 20  # tokens, whose log-probs are compared


@dataclass(frozen=True)
class Quality:
    """How rounded graphs predict held-out examples, beside the graphs they were rounded from."""

    tokens: int  # how many predictions were compared
    perplexity_before: float  # of the right answers
    perplexity_after: float
    accuracy_before: float  # share of right answers
    accuracy_after: float
    top1_agreement: float  # share of predictions with the same first choice
    kl_divergence: float  # of the rounded from the true distribution, nats a prediction
    same_greedy_texts: float | None = None  # share of short texts that are the same to the last token
    same_beam_texts: float | None = None

    @property
    def loss(self) -> float:
        """Return by what share the perplexity grew; below 0, it fell."""
        return self.perplexity_after / self.perplexity_before - 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a manifest."""
        return {**asdict(self), "loss": self.loss}


@dataclass(frozen=True)
class Recall:
    """How scores in two stages tell the most probable tokens, beside exact scores of the same network."""

    tokens: int  # how many predictions were compared
    recall_at_1: float  # share of the exact best that are the best
    recall_at_3: float
    recall_at_20: float
    log_prob_error_median: float  # of the exact 20 best, nats
    log_prob_error_p99: float

    @property
    def lost(self) -> float:
        """Return the largest share of the exact best that are missing."""
        return 1 - min(self.recall_at_1, self.recall_at_3, self.recall_at_20)


@dataclass(frozen=True)
class _Predictions:
    """Some of one graph's predictions.

    logits   float32 (n, choices)
    chosen   int64 (n,), what it would say
    targets  int64 (n,), what is right
    """

    logits: Floats
    chosen: Ids
    targets: Ids


def judge(before: Opened, after: Opened, held_out: Mapping[str, NDArray[Any]]) -> Quality:
    """Let both networks predict held-out examples, which `Checkpoint.held_out` describes."""
    if before.reader is not None and after.reader is not None:
        if before.step is not None and after.step is not None:
            return compare_texts(before, after, held_out["source"], held_out["target"])
        return compare_labels(before.reader, after.reader, held_out)
    assert before.step is not None
    assert after.step is not None
    return compare(before.step, after.step, held_out["tokens"])


def compare(before: StepModel, after: StepModel, tokens: Ids) -> Quality:
    """Let both language models predict each of the tokens, int64 (tokens,), from those before it.

    Raises ExportError when there are too few to tell anything.
    """
    inputs, targets = _side_by_side(tokens)
    rows = len(inputs)
    prompts = [np.ascontiguousarray(inputs[row : row + 1, :PROMPT_LENGTH]) for row in range(min(rows, PROMPTS))]
    return _differences(
        _next_tokens(before, inputs, targets, before.start(rows)),
        _next_tokens(after, inputs, targets, after.start(rows)),
        same_greedy_texts=_same_texts(before, after, prompts, num_beams=1),
        same_beam_texts=_same_texts(before, after, prompts, num_beams=5),
    )


def _side_by_side(tokens: Ids) -> tuple[Ids, Ids]:
    """Return a text in rows, int64 (rows, length), and the token after each."""
    tokens = tokens[: MOST_TOKENS + 1]
    if len(tokens) < 2 * PROMPT_LENGTH:
        raise ExportError(
            f"{len(tokens)} tokens of held-out text are too few to judge by: give at least {2 * PROMPT_LENGTH}"
        )
    rows = min(ROWS, (len(tokens) - 1) // PROMPT_LENGTH)
    length = (len(tokens) - 1) // rows
    return tokens[: rows * length].reshape(rows, length), tokens[1 : rows * length + 1].reshape(rows, length)


def recall(exact: Opened, previewed: Opened, held_out: Mapping[str, NDArray[Any]]) -> Recall:
    """Let a network that writes predict held-out examples, with exact scores and with scores in two stages."""
    found, errors = [], []
    for ours, theirs in zip(_predictions(exact, held_out), _predictions(previewed, held_out), strict=True):
        order, other_order = _best(ours.logits), _best(theirs.logits)
        found.append([_shared(order[:, :best], other_order[:, :best]) for best in (1, 3, BEST)])
        log_probs, others = _log_softmax(ours.logits), _log_softmax(theirs.logits)
        errors.append(np.abs(np.take_along_axis(others - log_probs, order, axis=1)).ravel())
    shares = np.concatenate(found, axis=1)  # (3, predictions)
    at_1, at_3, at_20 = shares.mean(axis=1).tolist()
    median, p99 = np.quantile(np.concatenate(errors), (0.5, 0.99)).tolist()
    return Recall(shares.shape[1], at_1, at_3, at_20, median, p99)


def _best(logits: Floats) -> Ids:
    """Return each row's most probable tokens, int64 (rows, at most 20), best first."""
    count = min(BEST, logits.shape[1])
    chosen = np.argpartition(logits, -count, axis=1)[:, -count:]
    order = np.argsort(-np.take_along_axis(logits, chosen, axis=1), axis=1)
    return np.take_along_axis(chosen, order, axis=1)


def _shared(some: Ids, others: Ids) -> NDArray[np.float64]:
    """Return the share of each row's tokens, int64 (rows, n), that are in the other's row too."""
    shares: NDArray[np.float64] = (some[:, :, None] == others[:, None, :]).any(axis=2).mean(axis=1)
    return shares


def _predictions(model: Opened, held_out: Mapping[str, NDArray[Any]]) -> Iterator[_Predictions]:
    """Yield what a network that writes predicts."""
    assert model.step is not None
    if model.reader is not None:
        return _written(model, held_out["source"][:MOST_ROWS], held_out["target"][:MOST_ROWS])
    inputs, targets = _side_by_side(held_out["tokens"])
    return _next_tokens(model.step, inputs, targets, model.step.start(len(inputs)))


def compare_texts(before: Opened, after: Opened, source: Ids, target: Ids) -> Quality:
    """Let both networks predict each target token from its source and the true tokens before it.

    source  int64 (n, time), -1 behind a row's end
    target  int64 (n, written), from the token that starts a text to the one that ends it
    """
    _require_some(source)
    source, target = source[:MOST_ROWS], target[:MOST_ROWS]
    begins = [
        [_encode(model, source[row : row + 1])[1] for row in range(len(source))[:PROMPTS]] for model in (before, after)
    ]
    starts = [target[row : row + 1, :1] for row in range(len(begins[0]))]
    steps = [_encode(model, source[:1])[0] for model in (before, after)]
    same = [_same_texts(steps[0], steps[1], starts, begins[0], begins[1], num_beams=num_beams) for num_beams in (1, 5)]
    return _differences(
        _written(before, source, target),
        _written(after, source, target),
        same_greedy_texts=same[0],
        same_beam_texts=same[1],
    )


def compare_labels(before: WholeGraph, after: WholeGraph, held_out: Mapping[str, NDArray[Any]]) -> Quality:
    """Let both networks label texts, or each of their words.

    held_out  the graph's inputs by name, and `labels`, int64 (n,) or (n, time), -1 behind a row's end
    """
    _require_some(held_out[LABELS])
    return _differences(_labelled(before, held_out), _labelled(after, held_out))


def _require_some(examples: NDArray[Any]) -> None:
    if not len(examples):
        raise ExportError("the checkpoint holds no held-out examples to judge rounding by: train it again with some")


def _next_tokens(model: StepModel, inputs: Ids, targets: Ids, state: State) -> Iterator[_Predictions]:
    """Read column by column; targets have -1 where nothing is to be predicted."""
    for time in range(inputs.shape[1]):
        logits, state = model.step(np.ascontiguousarray(inputs[:, time : time + 1]), state)
        yield _where_asked(logits, logits.argmax(axis=-1), targets[:, time])


def _written(model: Opened, source: Ids, target: Ids) -> Iterator[_Predictions]:
    for first in range(0, len(source), ROWS):
        rows = slice(first, first + ROWS)
        step, state = _encode(model, source[rows])
        wanted = target[rows, 1:]
        inputs = np.where(wanted == NOTHING, NOTHING, target[rows, :-1])
        yield from _next_tokens(step, inputs, wanted, state)


def _encode(model: Opened, source: Ids) -> tuple[StepModel, State]:
    """Return a network's decoder, and the state it starts from."""
    assert model.reader is not None
    assert model.step is not None
    longest = int((source != NOTHING).sum(axis=1).max())
    return model.step, model.reader.run(np.ascontiguousarray(source[:, :longest]))


def _labelled(graph: WholeGraph, held_out: Mapping[str, NDArray[Any]]) -> Iterator[_Predictions]:
    inputs, labels = [held_out[name][:MOST_ROWS] for name in graph.inputs], held_out[LABELS][:MOST_ROWS]
    for first in range(0, len(labels), ROWS):
        rows = slice(first, first + ROWS)
        outputs = dict(zip(graph.outputs, graph.run(*(array[rows] for array in inputs)), strict=True))
        logits = outputs[LOGITS]
        yield _where_asked(logits, outputs.get(LABELS, logits.argmax(axis=-1)), labels[rows])


def _where_asked(logits: Floats, chosen: Ids, targets: Ids) -> _Predictions:
    asked = targets != NOTHING
    return _Predictions(logits[asked], chosen[asked], targets[asked])


def _differences(
    before: Iterable[_Predictions],
    after: Iterable[_Predictions],
    *,
    same_greedy_texts: float | None = None,
    same_beam_texts: float | None = None,
) -> Quality:
    """Compare two networks' predictions of the same things."""
    sums, count = np.zeros(6), 0
    for ours, theirs in zip(before, after, strict=True):
        rows, targets = np.arange(len(ours.targets)), ours.targets
        log_probs, others = _log_softmax(ours.logits), _log_softmax(theirs.logits)
        sums += [
            -log_probs[rows, targets].sum(),
            -others[rows, targets].sum(),
            (ours.chosen == targets).sum(),
            (theirs.chosen == targets).sum(),
            (ours.chosen == theirs.chosen).sum(),
            (np.exp(log_probs) * (log_probs - others)).sum(),
        ]
        count += len(targets)
    negative_before, negative_after, right_before, right_after, agreed, divergence = (sums / count).tolist()
    return Quality(
        tokens=count,
        perplexity_before=math.exp(negative_before),
        perplexity_after=math.exp(min(negative_after, 700)),
        accuracy_before=right_before,
        accuracy_after=right_after,
        top1_agreement=agreed,
        kl_divergence=divergence,
        same_greedy_texts=same_greedy_texts,
        same_beam_texts=same_beam_texts,
    )


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probs: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probs


def _same_texts(
    before: StepModel,
    after: StepModel,
    prompts: list[Ids],
    before_states: list[State] | None = None,
    after_states: list[State] | None = None,
    *,
    num_beams: int,
) -> float:
    """Return the share of prompts whose most probable continuation is the same."""
    nothing = [None] * len(prompts)
    same = [
        continue_tokens(before, prompt, ours, num_beams=num_beams)[0].tokens
        == continue_tokens(after, prompt, theirs, num_beams=num_beams)[0].tokens
        for prompt, ours, theirs in zip(prompts, before_states or nothing, after_states or nothing, strict=True)
    ]
    return sum(same) / len(same)


def continue_tokens(
    model: StepModel, prompt: Ids, state: State | None = None, *, num_beams: int, new_tokens: int = NEW_TOKENS
) -> list[Path]:
    """Return the most probable continuations of a prompt, int64 (1, time), best first; nothing but length ends one."""
    logits, state = model.step(prompt, model.start(1) if state is None else state)
    silent = [b""] * logits.shape[1]
    rules = Rules(token_bytes=silent, end_id=None, unknown_id=None, max_new_tokens=new_tokens)
    return beam_search(model, [[Path()]], Position(logits, state), rules, num_beams=num_beams)[0]
