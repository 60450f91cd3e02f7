"""A language model: tokens in, scores of the next token out. Also the decoder of networks that have no attention."""

from __future__ import annotations

from torch import Tensor, nn

from rnn_edge.modules.dropout import Dropout
from rnn_edge.modules.stack import Stack, State
from rnn_edge.spec import DecoderSpec

__all__ = ["LanguageModel"]


class LanguageModel(nn.Module):
    """Embedding, recurrent stack, output layer.

    With tied weights the embedding is also the output matrix; where it is narrower or wider than the stack's output, a
    linear map without bias, the bridge, stands between them.
    """

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.written_vocab_size, spec.embedding_size)
        self.stack = Stack(spec, spec.embedding_size)
        self.dropout = Dropout(spec.dropout)
        self.bridge = nn.Linear(spec.output_size, spec.embedding_size, bias=False) if spec.has_bridge else None
        width = spec.embedding_size if spec.tied else spec.output_size
        self.output = nn.Linear(width, spec.written_vocab_size)
        if spec.tied:
            # An embedding starts with variance 1, an output matrix must start small: the output's start serves both.
            self.embedding.weight = self.output.weight

    def start(self, batch: int) -> State:
        """Return the state before the first token: zeros, float32 (layers, batch, width) each."""
        return self.stack.start(batch)

    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a stretch of every row.

        tokens   int64 (batch, time)
        state    as `start` gives it
        returns  logits float32 (batch, time, vocab), and the state after the last token
        """
        x = self.dropout(self.embedding(tokens), "input")  # (batch, time, embedding)
        y, state = self.stack(x, state)  # (batch, time, output)
        y = self.dropout(y, "output")
        if self.bridge is not None:
            y = self.bridge(y)  # (batch, time, embedding)
        logits: Tensor = self.output(y)  # (batch, time, vocab)
        return logits, state
