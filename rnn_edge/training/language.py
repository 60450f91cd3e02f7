"""A language model's lesson: truncated back-propagation through contiguous text."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from rnn_edge.errors import TrainingError
from rnn_edge.modules import Checkpoint, LanguageModel, Network, State
from rnn_edge.modules.stack import detach
from rnn_edge.spec import LanguageModelSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training.data import Corpus, describe_files, token_rows, token_stream
from rnn_edge.training.evaluation import Evaluation, evaluate, evaluate_rows
from rnn_edge.training.options import TrainOptions

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
        self._rows = token_rows(token_stream(tokenizer, corpus.train), batch=options.batch_size, shortest=shortest)
        self._windows = self._rows.windows(options.bptt)
        self._held_out = token_stream(tokenizer, corpus.held_out)
        self._held_out_rows = token_rows(self._held_out, batch=_LOOK_ROWS, shortest=shortest)
        self.steps_per_epoch = len(self._windows)
        self.tokens_per_step = self._rows.inputs.numel() / len(self._windows)
        self.fingerprint: dict[str, Any] = {"tokenizer": tokenizer.to_json(), "corpus": corpus.fingerprint()}
        self.facts = describe_files(corpus.files)

    def start(self, model: Network) -> State:
        """Return zeros."""
        assert isinstance(model, LanguageModel)
        return model.start(self._rows.batch)

    def loss(self, model: Network, step: int, state: State) -> tuple[Tensor, State]:
        """Read the next window of every row."""
        inputs, targets = self._windows[step % len(self._windows)]  # (batch, time)
        logits, after = model(inputs, state)  # (batch, time, vocab)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()), detach(after)

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
