"""A text's vector, and a classifier on top of it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from rnn_edge.modules.dropout import Dropout
from rnn_edge.modules.encoder import Encoder, lengths_of, pool
from rnn_edge.spec import ClassifierSpec, SentenceEncoderSpec

__all__ = ["Classifier", "SentenceEncoder", "sentence_encoder_of"]


class SentenceEncoder(nn.Module):
    """Embedding, recurrent layers, and one vector of all that they gave."""

    def __init__(self, spec: SentenceEncoderSpec | ClassifierSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.vocab_size, spec.embedding_size)
        self.encoder = Encoder(spec, spec.embedding_size, bidirectional=spec.bidirectional)
        self.dropout = Dropout(spec.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return each text's vector, float32 (batch, directions × output).

        tokens  int64 (batch, time), at least one a row, filled with -1 on the right
        """
        x = self.dropout(self.embedding(tokens.clamp(min=0)), "input")  # (batch, time, embedding)
        return pool(self.encoder(x, lengths_of(tokens)), self.spec.pooling)


def sentence_encoder_of(classifier: Classifier) -> SentenceEncoder:
    """Return the part of a classifier that gives a text's vector, with the same weights."""
    names = {field.name for field in dataclasses.fields(SentenceEncoderSpec)} - {"task"}
    spec = SentenceEncoderSpec(**{name: getattr(classifier.spec, name) for name in names})
    with torch.device("meta"):
        encoder = SentenceEncoder(spec)
    encoder.load_state_dict(classifier.sentence.state_dict(), assign=True)
    return encoder.train(classifier.training)


class Classifier(nn.Module):
    """A sentence encoder with a feed-forward net on top."""

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__()
        self.spec = spec
        self.sentence = SentenceEncoder(spec)
        self.dropout = Dropout(spec.dropout)
        self.head = nn.Linear(spec.read_size, spec.head_size) if spec.head_size else None
        self.output = nn.Linear(spec.head_size or spec.read_size, len(spec.labels))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return each label's score, float32 (batch, labels); tokens as in `SentenceEncoder`."""
        y = self.dropout(self.sentence(tokens), "sentence")
        if self.head is not None:
            y = self.dropout(self.head(y).relu(), "head")
        logits: Tensor = self.output(y)
        return logits
