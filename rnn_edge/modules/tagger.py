"""A tagger: words in, a label for each out; alone, each after the one before it, or all of them together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnn_edge.modules.crf import CRF
from rnn_edge.modules.dropout import Dropout
from rnn_edge.modules.encoder import NOTHING, Encoder, lengths_of
from rnn_edge.spec import TaggerSpec

__all__ = ["Tagger"]


class Tagger(nn.Module):
    """Word vectors, with what their letters say where it reads them, through recurrent layers to labels.

    independent  each label from its place alone
    feedback     from its place and the label before it: scores = W tanh(y + E[previous]) + b, chosen one by one
    crf          all labels of a row together (Lample et al. 2016)
    """

    def __init__(self, spec: TaggerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.vocab_size, spec.embedding_size)
        self.characters = None
        if spec.character_vocab_size:
            self.character_embedding = nn.Embedding(spec.character_vocab_size, spec.character_embedding_size)
            self.characters = Encoder(spec.characters, spec.character_embedding_size, bidirectional=True)
        self.dropout = Dropout(spec.dropout)
        self.encoder = Encoder(spec, spec.input_size, bidirectional=spec.bidirectional)
        self.output = nn.Linear(spec.read_size, len(spec.labels))
        self.crf = CRF(len(spec.labels)) if spec.decoder == "crf" else None
        # What the label before says; the last row stands for the beginning.
        self.previous = nn.Embedding(len(spec.labels) + 1, spec.read_size) if spec.decoder == "feedback" else None

    def forward(self, tokens: Tensor, characters: Tensor | None = None) -> Tensor:
        """Return what the layers give at each word, float32 (batch, time, directions × output).

        tokens      int64 (batch, time), at least one a row, filled with -1 on the right
        characters  int64 (batch, time, letters), of each word, filled likewise; where the spec has characters
        """
        x = self.embedding(tokens.clamp(min=0))  # (batch, time, embedding)
        if self.characters is not None:
            assert characters is not None
            x = torch.cat([x, self._spell(characters, tokens != NOTHING)], dim=-1)
        encoded = self.encoder(self.dropout(x, "input"), lengths_of(tokens))
        y: Tensor = self.dropout(encoded.outputs, "output")
        return y

    def log_prob(self, y: Tensor, labels: Tensor) -> Tensor:
        """Return the log-probability of each row's labels, float32 (batch,).

        y       as `forward` gives it
        labels  int64 (batch, time), -1 in padding
        """
        present = labels != NOTHING
        if self.crf is not None:
            return self.crf.log_prob(self.output(y), labels, present)
        log_probs = self._scores(y, labels).log_softmax(dim=-1)  # (batch, time, labels)
        chosen = log_probs.gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0]
        return (chosen * present).sum(dim=1)

    def decode(self, y: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return each word's label, int64 (batch, time), -1 in padding, and its scores, float32 (batch, time, labels).

        With feedback the scores are those after the labels chosen before; with a CRF they are the emissions.
        """
        if self.crf is not None:
            emissions = self.output(y)
            return self.crf.decode(emissions, present), emissions
        if self.previous is None:
            scores = self.output(y)
        else:
            before = y.new_full((len(y),), len(self.spec.labels), dtype=torch.int64)
            columns = []
            for now in y.unbind(1):
                columns.append(self.output(torch.tanh(now + self.previous(before))))
                before = columns[-1].argmax(dim=-1)
            scores = torch.stack(columns, dim=1)
        return scores.argmax(dim=-1).masked_fill(~present, NOTHING), scores

    def _scores(self, y: Tensor, labels: Tensor) -> Tensor:
        """Return each place's scores when the labels before it are known."""
        if self.previous is not None:
            first = labels.new_full((len(labels), 1), len(self.spec.labels))
            y = torch.tanh(y + self.previous(torch.cat([first, labels[:, :-1]], dim=1).clamp(min=0)))
        scores: Tensor = self.output(y)
        return scores

    def _spell(self, characters: Tensor, present: Tensor) -> Tensor:
        """Return what each word's letters say, float32 (batch, time, 2 × width): equal words are read once."""
        assert self.characters is not None
        words, places = torch.unique(characters[present], dim=0, return_inverse=True)
        x = self.dropout(self.character_embedding(words.clamp(min=0)), "letters")  # (words, letters, embedding)
        vectors: Tensor = self.characters(x, lengths_of(words)).state[0][-1]  # (words, 2 × width)
        spelled = vectors.new_zeros(*present.shape, vectors.shape[-1])
        spelled[present] = vectors[places]
        return spelled
