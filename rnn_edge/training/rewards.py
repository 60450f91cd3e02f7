"""Objectives of translators that are paid by the sentence: minimum risk training and MIXER, both for BLEU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor, nn
from torch.nn import functional as F

from rnn_edge.modules import State, Translator
from rnn_edge.modules.attention import Memory
from rnn_edge.modules.encoder import NOTHING
from rnn_edge.text import Tokenizer
from rnn_edge.training.examples import pad
from rnn_edge.training.lesson import as_when_it_runs
from rnn_edge.training.objectives import Read, Unrolled, draw, expected_risk, learnt_baseline, reinforce, unroll
from rnn_edge.training.options import BleuSmoothing, TrainOptions

__all__ = ["Payment", "Pupil", "minimum_risk", "mixer", "sentence_bleu", "text_log_probs"]

Payment: TypeAlias = Callable[[Sequence[int], Sequence[int]], float]
"""What tokens that were written are worth where others were wanted; neither has the end token."""

_SLACK = 5  # tokens that a text may be longer than the longest target of its batch


def sentence_bleu(tokenizer: Tokenizer, smoothing: BleuSmoothing) -> Payment:
    """Return sacrebleu's sentence BLEU, from 0 to 1, over the orders of n-grams that a text is long enough for."""
    metric = BLEU(smooth_method=smoothing, effective_order=True)

    def reward(written: Sequence[int], wanted: Sequence[int]) -> float:
        return metric.sentence_score(tokenizer.decode(written), [tokenizer.decode(wanted)]).score / 100

    return reward


@dataclass(frozen=True)
class Pupil:
    """A translator with a batch before it.

    sources  int64 (batch, time), filled with -1
    targets  the same, with the start token before and the end token behind each
    """

    model: Translator
    sources: Tensor
    targets: Tensor
    end: int
    pay: Payment

    @property
    def wanted(self) -> Tensor:
        """Return what is to be written, int64 (batch, time), the end token included."""
        return self.targets[:, 1:]

    @property
    def most(self) -> int:
        """Return how many tokens it may write."""
        return self.wanted.shape[1] + _SLACK

    def encode(self, rows: Tensor | None = None) -> tuple[Read, State]:
        """Return how its decoder reads, and from which state; of some rows of the batch only, or all."""
        state, memory = self.model.encode(self.sources)
        if rows is not None:
            state = tuple(part[:, rows] for part in state)
            memory = memory and Memory(memory.values[rows], memory.keys[rows], memory.present[rows])

        def read(tokens: Tensor, state: State) -> tuple[Tensor, State]:
            logits, after, _ = self.model.decode(tokens, state, memory)
            return logits, after

        return read, state

    def rewards(self, written: Tensor) -> Tensor:
        """Return what each row of int64 (batch, time) is worth, float32 (batch,)."""
        pairs = zip(written.tolist(), self.wanted.tolist(), strict=True)
        return torch.tensor([self.pay(self.text(row), self.text(wanted)) for row, wanted in pairs])

    def text(self, row: Sequence[int]) -> list[int]:
        """Return the tokens before the first end token, or -1."""
        ends = [place for place, token in enumerate(row) if token in (self.end, NOTHING)]
        return list(row[: ends[0]] if ends else row)

    def write(
        self, read: Read, first: Tensor, state: State, choose: Callable[[Tensor], Tensor], going: Tensor
    ) -> Iterator[tuple[Unrolled, Tensor]]:
        """Write until every row has ended: yield each step, and its tokens, -1 in rows that had ended before.

        first  int64 (batch,), the token before
        going  bool (batch,), False in rows that write nothing
        """
        for step in unroll(read, first, state, lambda _, logits: choose(logits)):
            yield step, step.tokens.masked_fill(~going, NOTHING)
            going = going & (step.tokens != self.end)
            if not going.any():
                return


def minimum_risk(pupil: Pupil, *, candidates: int, sharpness: float) -> Tensor:
    """Return the expected negative reward over candidates drawn for each source, and its target."""
    texts = _candidates(pupil, candidates)
    owners = torch.tensor([owner for owner, rows in enumerate(texts) for _ in rows])
    places = torch.tensor([place for rows in texts for place in range(len(rows))])
    log_probs = text_log_probs(pupil, pad([row for rows in texts for row in rows]), owners)
    risks = [-pupil.pay(pupil.text(row), pupil.text(rows[0])) for rows in texts for row in rows]
    shape = len(texts), max(map(len, texts))
    return expected_risk(
        log_probs.new_full(shape, -torch.inf).index_put((owners, places), log_probs),
        log_probs.new_zeros(shape).index_put((owners, places), log_probs.new_tensor(risks)),
        sharpness=sharpness,
    )


def _candidates(pupil: Pupil, count: int) -> list[list[tuple[int, ...]]]:
    """Return each source's candidates, each once, its target first; with their end tokens, where they have ended."""
    owners = torch.arange(len(pupil.sources)).repeat_interleave(count)
    with as_when_it_runs(pupil.model):
        read, state = pupil.encode(owners)
        steps = pupil.write(read, pupil.targets[owners, 0], state, draw, torch.ones_like(owners, dtype=torch.bool))
        drawn = torch.stack([tokens for _, tokens in islice(steps, pupil.most)], dim=1)
    rows = [tuple(token for token in row if token != NOTHING) for row in [*pupil.wanted.tolist(), *drawn.tolist()]]
    targets, drawn_rows = rows[: len(pupil.wanted)], rows[len(pupil.wanted) :]
    return [
        list(dict.fromkeys([target, *drawn_rows[number * count : (number + 1) * count]]))
        for number, target in enumerate(targets)
    ]


def text_log_probs(pupil: Pupil, texts: Tensor, owners: Tensor) -> Tensor:
    """Return the log-prob of each text, float32 (texts,).

    texts   int64 (texts, time), filled with -1
    owners  int64 (texts,), the row of the batch that each belongs to
    """
    read, state = pupil.encode(owners)
    logits, _ = read(torch.cat([pupil.targets[owners, :1], texts[:, :-1].clamp(min=0)], dim=1), state)
    return -F.cross_entropy(logits.transpose(1, 2), texts, ignore_index=NOTHING, reduction="none").sum(dim=1)


def mixer(pupil: Pupil, baseline: nn.Module, options: TrainOptions, *, told: int) -> Tensor:
    """Return cross-entropy for the first `told` tokens of each target, and REINFORCE for what is written on from there.

    Both are means over target tokens. The baseline foretells the reward from the state, linearly (Ranzato et al. 2016),
    or is what the most probable continuation is worth (self-critical: Rennie et al. 2017).
    """
    lengths = (pupil.wanted != NOTHING).sum(dim=1)
    inputs = pupil.targets[:, :-1].clamp(min=0)
    told = min(told, inputs.shape[1])
    read, state = pupil.encode()
    loss = state[0].new_zeros(())
    if told:
        logits, state = read(inputs[:, :told], state)
        wanted, smoothing = pupil.wanted[:, :told], options.label_smoothing
        loss = F.cross_entropy(
            logits.transpose(1, 2), wanted, ignore_index=NOTHING, reduction="sum", label_smoothing=smoothing
        )
    going = lengths > told
    if not going.any():
        return loss / lengths.sum()
    writing = islice(pupil.write(read, inputs[:, told], state, draw, going), pupil.most - told)
    steps, columns = zip(*writing, strict=True)
    written = torch.stack(columns, dim=1)  # (batch, time)
    drawn = written != NOTHING
    rewards = pupil.rewards(torch.cat([pupil.wanted[:, :told], written], dim=1))
    if options.baseline == "learned":
        foretold, error = learnt_baseline(baseline, torch.stack([step.h for step in steps], dim=1), rewards, drawn)
        loss = loss + error
    else:
        foretold = _most_probable(pupil, told, going)[:, None]
    log_probs = torch.stack([step.log_prob for step in steps], dim=1)
    return (loss + reinforce(log_probs, rewards, foretold, drawn)) / lengths.sum()


def _most_probable(pupil: Pupil, told: int, going: Tensor) -> Tensor:
    """Return what the most probable continuations of the first `told` tokens are worth, float32 (batch,)."""
    inputs = pupil.targets[:, :-1].clamp(min=0)
    with as_when_it_runs(pupil.model):
        read, state = pupil.encode()
        if told:
            _, state = read(inputs[:, :told], state)
        steps = pupil.write(read, inputs[:, told], state, lambda logits: logits.argmax(dim=-1), going)
        written = torch.stack([tokens for _, tokens in islice(steps, pupil.most - told)], dim=1)
    return pupil.rewards(torch.cat([pupil.wanted[:, :told], written], dim=1))
