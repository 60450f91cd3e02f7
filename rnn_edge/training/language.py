"""A language model's lesson: truncated back-propagation through contiguous text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_edge.errors import TrainingError
from rnn_edge.modules import Checkpoint, LanguageModel, Network, State
from rnn_edge.modules.stack import detach
from rnn_edge.spec import LanguageModelSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training.data import Corpus, Rows, describe_files, token_rows, token_stream
from rnn_edge.training.evaluation import Evaluation, evaluate, evaluate_rows
from rnn_edge.training.lesson import Moment
from rnn_edge.training.objectives import read_as_told
from rnn_edge.training.options import TrainOptions
from rnn_edge.training.workers import workers

__all__ = ["LanguageLesson"]

_LOOK_ROWS = 16  # a look reads the held-out text in so many places at once,
_LOOK_WINDOWS = 8  # and at most so many windows in each, which keeps it short on a large corpus
_KEPT_TOKENS = 2**14 + 1  # of held-out text that a model.pt carries, for its exports to be judged by


class LanguageLesson:
    """Rows of text that are read side by side, window by window, with the state carried over."""

    def __init__(self, spec: LanguageModelSpec, tokenizer: Tokenizer, corpus: Corpus, options: TrainOptions) -> None:
        if spec.vocab_size != tokenizer.vocab_size:
            raise TrainingError(
                f"the tokenizer has {tokenizer.vocab_size} tokens and the network {spec.vocab_size}: make them equal"
            )
        shortest = options.bptt  # rows of less would save no time
        self.spec = spec
        self._tokenizer, self._corpus = tokenizer, corpus
        self._options = options
        self._rows = _own_rows(token_stream(tokenizer, corpus.train), options.batch_size, shortest)
        self._windows = self._rows.windows(options.bptt)
        self._held_out = token_stream(tokenizer, corpus.held_out)
        self._held_out_rows = token_rows(self._held_out, batch=_LOOK_ROWS, shortest=shortest)
        self.steps_per_epoch = len(self._windows)
        self.tokens_per_step = workers().count * self._rows.inputs.numel() / len(self._windows)
        self.fingerprint: dict[str, Any] = {"tokenizer": tokenizer.to_json(), "corpus": corpus.fingerprint()}
        self.facts = describe_files(corpus.files)

    def start(self, model: Network) -> State:
        """Return zeros."""
        assert isinstance(model, LanguageModel)
        return model.start(self._rows.batch)

    def loss(self, model: Network, moment: Moment, state: State) -> tuple[Tensor, State]:
        """Read the next window of every row."""
        inputs, targets = self._windows[moment.step % len(self._windows)]  # (batch, time)
        lengths = torch.full((len(inputs),), inputs.shape[1])
        logits, after, penalty = read_as_told(model, inputs, state, lengths, moment, self._options)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()) + penalty, detach(after)

    def look(self, model: Network) -> Evaluation:
        """Measure the beginning of some stretches of held-out text."""
        assert isinstance(model, LanguageModel)
        characters_per_token = sum(map(len, self._corpus.held_out)) / (len(self._held_out) - 1)
        return evaluate_rows(
            model, self._held_out_rows, characters_per_token=characters_per_token, max_windows=_LOOK_WINDOWS
        )

    def judge(self, model: Network) -> Evaluation:
        """Measure all held-out text from the first to the last token."""
        assert isinstance(model, LanguageModel)
        return evaluate(model, self._tokenizer, self._corpus.held_out)

    def checkpoint(self, model: Network, history: dict[str, Any]) -> Checkpoint:
        """Return what is saved, with the beginning of the held-out text."""
        kept = self._held_out[:_KEPT_TOKENS].clone()  # a slice would be saved with all that it is a slice of
        return Checkpoint(model, self._tokenizer, history, held_out={"tokens": kept})


def _own_rows(stream: Tensor, batch: int, shortest: int) -> Rows:
    """Return this worker's rows: of all that there are, as many as every other has."""
    us = workers()
    rows = token_rows(stream, batch=batch * us.count, shortest=shortest)
    if us.count == 1:
        return rows
    if rows.batch < us.count:
        raise TrainingError(f"the text makes {rows.batch} rows, too few for {us.count} workers: add text")
    rows = token_rows(stream, batch=rows.batch - rows.batch % us.count, shortest=shortest)
    own = slice(us.rank * rows.batch // us.count, (us.rank + 1) * rows.batch // us.count)
    return Rows(rows.inputs[own], rows.targets[own])
