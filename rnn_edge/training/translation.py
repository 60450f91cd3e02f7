"""A translator's lesson: pairs of texts, learnt by teacher forcing, judged by loss, BLEU and chrF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sacrebleu
import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_edge.modules import Checkpoint, Network, State, Translator
from rnn_edge.modules.encoder import NOTHING
from rnn_edge.spec import TranslatorSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training.examples import Batches, Examples, pad
from rnn_edge.training.lesson import Moment, as_when_it_runs
from rnn_edge.training.objectives import read_as_told, told_first
from rnn_edge.training.options import TrainOptions
from rnn_edge.training.rewards import Pupil, minimum_risk, mixer, sentence_bleu

__all__ = ["Translated", "TranslationLesson", "write_greedily"]

_ROWS_AT_ONCE = 64
_KEPT_PAIRS = 500  # held-out pairs that a model.pt carries, for its exports to be judged by


@dataclass(frozen=True, kw_only=True)
class Translated:
    """What was measured on pairs."""

    loss: float  # natural log, mean over target tokens
    top1: float  # share of target tokens that were the first guess, all before them known
    tokens: int
    pairs: int
    bleu: float | None = None  # of greedy translations, by sacrebleu; None where only the loss was looked at
    chrf: float | None = None
    exact: float | None = None  # share of greedy translations that are the reference
    judged_by: Literal["loss", "bleu"] = "loss"  # what the best model is best at

    @property
    def criterion(self) -> float:
        """Return the loss, or what BLEU lacks to 100."""
        return self.loss if self.judged_by == "loss" or self.bleu is None else 100 - self.bleu

    @property
    def perplexity(self) -> float:
        """Return among how many equally likely tokens the network hesitates."""
        return math.exp(min(self.loss, 700))

    def in_short(self) -> str:
        """Return the one figure that shows progress."""
        bleu = "" if self.bleu is None else f"  BLEU {self.bleu:.2f}"
        return f"perplexity {self.perplexity:.2f}{bleu}"

    def describe(self) -> str:
        """Return all figures in one line."""
        return (
            f"held-out pairs: perplexity {self.perplexity:.2f}, top-1 {self.top1:.1%} of {self.tokens:,} tokens; "
            f"greedy BLEU {self.bleu:.2f}, chrF {self.chrf:.2f}, same as the reference {self.exact:.1%} "
            f"of {self.pairs:,}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for a checkpoint or JSON."""
        return {"perplexity": self.perplexity, **vars(self)}


class TranslationLesson:
    """Sources that end with the end token; targets that begin with the start token and end with the end token."""

    def __init__(
        self, spec: TranslatorSpec, source: Tokenizer, target: Tokenizer, examples: Examples, options: TrainOptions
    ) -> None:
        self.spec = spec
        self._source, self._target, self._options = source, target, options
        self.examples = examples
        self._train = [self._ids(*pair) for pair in examples.train]
        self._held_out = [self._ids(*pair) for pair in examples.held_out]
        lengths = [(len(source), len(target)) for source, target in self._train]
        self._longest = max(written for _, written in lengths) - 1
        by_the_text = options.objective == "minimum-risk"  # and not a mean over target tokens
        units = [1 if by_the_text else written - 1 for _, written in lengths]
        self._batches = Batches(lengths, units, batch_size=options.batch_size, seed=options.seed)
        self._pay = sentence_bleu(target, options.bleu_smoothing)
        self._judged_by: Literal["loss", "bleu"] = "bleu" if options.objective in ("minimum-risk", "mixer") else "loss"
        self.steps_per_epoch = len(self._batches)
        self.tokens_per_step = sum(len(target) - 1 for _, target in self._train) / len(self._batches)
        self.fingerprint: dict[str, Any] = {
            "tokenizer": source.to_json() + target.to_json(),
            "corpus": examples.fingerprint(),
        }
        self.facts = examples.facts

    def start(self, model: Network) -> State:  # noqa: ARG002  # pairs do not depend on one another
        """Return nothing."""
        return ()

    def loss(self, model: Network, moment: Moment, state: State) -> tuple[Tensor, State]:
        """Learn from pairs by the objective."""
        assert isinstance(model, Translator)
        assert self._target.end_id is not None
        pairs = self._tensors([self._train[index] for index in self._batches[moment.step]])
        pupil = Pupil(model, *pairs, end=self._target.end_id, pay=self._pay)
        return self._loss(pupil, moment) * self._batches.weight(moment.step), state

    def _loss(self, pupil: Pupil, moment: Moment) -> Tensor:
        options = self._options
        if options.objective == "minimum-risk":
            return minimum_risk(pupil, candidates=options.candidates, sharpness=options.sharpness)
        if options.objective == "mixer":
            told = told_first(self._longest, options.mixer_delta, moment.share)
            return mixer(pupil, moment.companion, options, told=told)
        read, start = pupil.encode()
        lengths = (pupil.wanted != NOTHING).sum(dim=1)
        inputs = pupil.targets[:, :-1].clamp(min=0)
        logits, _, penalty = read_as_told(read, inputs, start, lengths, moment, options)
        wanted, smoothing = pupil.wanted.flatten(), options.label_smoothing
        return F.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=NOTHING, label_smoothing=smoothing) + penalty

    def look(self, model: Network) -> Translated:
        """Measure the loss; translations too, where they are what is learnt from."""
        return self.judge(model) if self._judged_by == "bleu" else self._measure(model)

    def judge(self, model: Network) -> Translated:
        """Measure the loss, and translations."""
        assert isinstance(model, Translator)
        found = self._measure(model)
        written = self.write(model)
        references = [target for _, target in self.examples.held_out]
        same = sum(map(str.__eq__, written, references))
        return Translated(
            loss=found.loss,
            top1=found.top1,
            tokens=found.tokens,
            pairs=found.pairs,
            bleu=sacrebleu.corpus_bleu(written, [references]).score,
            chrf=sacrebleu.corpus_chrf(written, [references]).score,
            exact=same / len(references),
            judged_by=self._judged_by,
        )

    def write(self, model: Translator) -> list[str]:
        """Return the held-out sources' greedy translations."""
        return [text for batch in self._in_batches() for text in self._write(model, batch)]

    def checkpoint(self, model: Network, history: dict[str, Any]) -> Checkpoint:
        """Return what is saved, with some held-out pairs."""
        source, target = self._tensors(self._held_out[:_KEPT_PAIRS])
        held_out = {"source": source, "target": target}
        return Checkpoint(model, self._source, history, held_out, target_tokenizer=self._target)

    def _ids(self, source: str, target: str) -> tuple[list[int], list[int]]:
        assert self._source.end_id is not None
        assert self._target.start_id is not None
        assert self._target.end_id is not None
        ended = [*self._source.encode(source), self._source.end_id]
        return ended, [self._target.start_id, *self._target.encode(target), self._target.end_id]

    def _tensors(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
        """Return sources and targets, int64 (pairs, time), filled with -1."""
        return pad([source for source, _ in pairs]), pad([target for _, target in pairs])

    def _in_batches(self) -> list[list[tuple[list[int], list[int]]]]:
        return [self._held_out[first : first + _ROWS_AT_ONCE] for first in range(0, len(self._held_out), _ROWS_AT_ONCE)]

    def _measure(self, model: Network) -> Translated:
        loss, right, tokens = 0.0, 0, 0
        with as_when_it_runs(model):
            for batch in self._in_batches():
                sources, targets = self._tensors(batch)
                logits, wanted = model(sources, targets[:, :-1].clamp(min=0)), targets[:, 1:]
                loss += F.cross_entropy(
                    logits.flatten(0, 1), wanted.flatten(), ignore_index=NOTHING, reduction="sum"
                ).item()
                right += int((logits.argmax(dim=-1) == wanted).sum())
                tokens += int((wanted != NOTHING).sum())
        return Translated(loss=loss / tokens, top1=right / tokens, tokens=tokens, pairs=len(self._held_out))

    def _write(self, model: Translator, batch: Sequence[tuple[list[int], list[int]]]) -> list[str]:
        sources, targets = self._tensors(batch)
        assert self._target.start_id is not None
        assert self._target.end_id is not None
        rows = write_greedily(
            model,
            sources,
            start=self._target.start_id,
            end=self._target.end_id,
            longest=2 * max(sources.shape[1], targets.shape[1]),
        )
        return [self._target.decode(row) for row in rows]


def write_greedily(model: Translator, sources: Tensor, *, start: int, end: int, longest: int) -> list[list[int]]:
    """Return the most probable next token again and again, until the end token or `longest` tokens.

    sources  int64 (batch, time), filled with -1
    """
    columns: list[Tensor] = []
    with as_when_it_runs(model):
        state, memory = model.encode(sources)
        tokens = sources.new_full((len(sources), 1), start)
        ended = torch.zeros(len(sources), dtype=torch.bool)
        while len(columns) < longest and not ended.all():
            logits, state, _ = model.decode(tokens, state, memory)
            tokens = logits[:, -1].argmax(dim=-1, keepdim=True)  # (batch, 1)
            columns.append(tokens)
            ended |= tokens[:, 0] == end
    rows = torch.cat(columns, dim=1).tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]
