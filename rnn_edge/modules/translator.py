"""Encoder and decoder: a text, or a vector, in; a text out, token by token.

Sutskever et al. 2014 and Cho et al. 2014; with attention, Bahdanau et al. 2015 and Luong et al. 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnn_edge.modules.attention import Attention, Memory
from rnn_edge.modules.dropout import Dropout
from rnn_edge.modules.encoder import Encoder, lengths_of
from rnn_edge.modules.language_model import LanguageModel
from rnn_edge.modules.stack import Stack, State
from rnn_edge.spec import DescriberSpec, TranslatorSpec

__all__ = ["AttentiveDecoder", "Describer", "Translator"]


class AttentiveDecoder(nn.Module):
    """A language model that looks at a memory with each token it reads.

    readout = tanh(W [context; h] + b), logits = output(readout)   (Luong et al. 2015, eq. 5)

    dot, general   looks with the h that the token led to
    bahdanau       looks with the h before the token, and reads what it saw together with it
    input feeding  reads the last readout together with the token
    """

    def __init__(self, spec: TranslatorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.target_vocab_size, spec.embedding_size)
        looks_first = spec.attention == "bahdanau"
        fed = (spec.read_size if looks_first else 0) + (spec.readout_size if spec.input_feeding else 0)
        self.stack = Stack(spec, spec.embedding_size + fed)
        self.attention = Attention(spec)
        self.readout = nn.Linear(spec.read_size + spec.output_size, spec.readout_size)
        self.dropout = Dropout(spec.dropout)
        self.output = nn.Linear(spec.readout_size, spec.target_vocab_size)
        if spec.tied:
            self.embedding.weight = self.output.weight

    def forward(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        """Read a stretch of every row.

        tokens   int64 (batch, time)
        state    `(h,)` or `(h, c)`, float32 (layers, batch, width), and where a step needs it the readout before,
                 float32 (1, batch, readout)
        returns  logits float32 (batch, time, vocab), the state after, and where it looked, (batch, time, source)
        """
        x = self.dropout(self.embedding(tokens), "input")  # (batch, time, embedding)
        if self.spec.carries_readout:
            readouts, state, weights = self._step_by_step(x, state, memory)
        else:
            y, state = self.stack(x, state)
            contexts, weights = self.attention(y, memory)
            readouts = self._read_out(contexts, y)
        return self.output(self.dropout(readouts, "readout")), state, weights

    def _step_by_step(self, x: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        *recurrent, last = state
        state, readout = tuple(recurrent), last.transpose(0, 1)  # (batch, 1, readout)
        looks_first = self.spec.attention == "bahdanau"
        readouts, looks = [], []
        for time in range(x.shape[1]):
            now = x[:, time : time + 1]  # (batch, 1, embedding)
            if looks_first:
                context, weights = self.attention(state[0][-1][:, None], memory)
                now = torch.cat([now, context], dim=-1)
            if self.spec.input_feeding:
                now = torch.cat([now, readout], dim=-1)
            y, state = self.stack(now, state)
            if not looks_first:
                context, weights = self.attention(y, memory)
            readout = self._read_out(context, y)
            readouts.append(readout)
            looks.append(weights)
        return torch.cat(readouts, dim=1), (*state, readout.transpose(0, 1)), torch.cat(looks, dim=1)

    def _read_out(self, contexts: Tensor, y: Tensor) -> Tensor:
        readouts: Tensor = torch.tanh(self.readout(torch.cat([contexts, self.dropout(y, "output")], dim=-1)))
        return readouts


class Translator(nn.Module):
    """An encoder, and a decoder that starts from its last state.

    Where the encoder reads in both directions its state is too wide: h₀ = tanh(W [forwards; backwards] + b).
    """

    def __init__(self, spec: TranslatorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.vocab_size, spec.embedding_size)
        self.dropout = Dropout(spec.dropout)
        self.encoder = Encoder(spec, spec.embedding_size, bidirectional=spec.bidirectional, pyramidal=spec.pyramidal)
        self.bridges = nn.ModuleList(
            nn.Linear(2 * size, size) for size in (spec.state_sizes.values() if spec.bidirectional else ())
        )
        self.decoder = LanguageModel(spec) if spec.attention == "none" else AttentiveDecoder(spec)

    def encode(self, tokens: Tensor) -> tuple[State, Memory | None]:
        """Return the decoder's first state, and its memory where it looks at one.

        tokens  int64 (batch, time), at least one a row, filled with -1 on the right
        """
        x = self.dropout(self.embedding(tokens.clamp(min=0)), "source")  # (batch, time, embedding)
        encoded = self.encoder(x, lengths_of(tokens))
        state = encoded.state
        if self.bridges:
            state = tuple(torch.tanh(bridge(part)) for bridge, part in zip(self.bridges, state, strict=True))
        if not isinstance(self.decoder, AttentiveDecoder):
            return state, None
        if self.spec.carries_readout:
            state = (*state, x.new_zeros(1, len(x), self.spec.readout_size))
        return state, self.decoder.attention.remember(encoded.outputs, encoded.present)

    def decode(self, tokens: Tensor, state: State, memory: Memory | None) -> tuple[Tensor, State, Tensor | None]:
        """Read a stretch of every target row: logits, state after and attention weights of `AttentiveDecoder`."""
        if memory is None:
            return *self.decoder(tokens, state), None
        return self.decoder(tokens, state, memory)  # type: ignore[no-any-return]

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the scores of what follows each target token when all before it are known (teacher forcing).

        source   int64 (batch, time), filled with -1 on the right
        target   int64 (batch, written)
        returns  logits float32 (batch, written, vocab)
        """
        return self.decode(target, *self.encode(source))[0]


class Describer(nn.Module):
    """A decoder whose first state is a linear map of a vector, squashed: h₀ = tanh(W v + b) in every layer."""

    def __init__(self, spec: DescriberSpec) -> None:
        super().__init__()
        self.spec = spec
        self.bridges = nn.ModuleList(
            nn.Linear(spec.vector_size, spec.num_layers * size) for size in spec.state_sizes.values()
        )
        self.decoder = LanguageModel(spec)

    def encode(self, vectors: Tensor) -> State:
        """Return the decoder's first state of vectors, float32 (batch, vector)."""
        layers = (len(vectors), self.spec.num_layers, -1)
        return tuple(torch.tanh(bridge(vectors)).view(layers).transpose(0, 1) for bridge in self.bridges)

    def forward(self, vectors: Tensor, target: Tensor) -> Tensor:
        """Return the scores of what follows each target token, float32 (batch, written, vocab)."""
        logits: Tensor = self.decoder(target, self.encode(vectors))[0]
        return logits
