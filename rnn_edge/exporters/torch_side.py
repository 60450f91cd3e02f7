"""PyTorch networks behind the runtime's seams: what graphs are compared with."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnn_edge.exporters.examples import Arrays
from rnn_edge.modules import AttentiveDecoder, Describer, LanguageModel, Memory, Network, Tagger, Translator
from rnn_edge.runtimes.arrays import Floats, Ids, State

__all__ = ["TorchReader", "TorchSteps"]


class TorchSteps:
    """A decoder, with the state in the graphs' form, so that both sides run the same search."""

    def __init__(self, model: LanguageModel | AttentiveDecoder) -> None:
        self._model = model.eval()

    def start(self, batch: int) -> State:
        """Return a language model's state before the first token."""
        return tuple(part.numpy() for part in self._model.stack.start(batch))

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Read one row without padding, or one token of every row."""
        logits, after = self.read(tokens, state)
        return logits[:, -1], after

    @torch.inference_mode()
    def read(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Return the logits after every token, float32 (batch, time, vocab), and the state after the last."""
        parts = tuple(map(torch.from_numpy, state))
        if isinstance(self._model, LanguageModel):
            logits, after = self._model(torch.from_numpy(tokens), parts)
            return logits.numpy(), tuple(part.numpy() for part in after)
        spec = self._model.spec
        moving = len(spec.state_sizes) + spec.carries_readout
        logits, after, _ = self._model(torch.from_numpy(tokens), parts[:moving], _memory(parts[moving:]))
        return logits.numpy(), (*(part.numpy() for part in after), *state[moving:])


class TorchReader:
    """A network that reads whole texts, one at a time, with its outputs in the graphs' form."""

    def __init__(self, model: Network) -> None:
        self._model = model.eval()

    @torch.inference_mode()
    def run(self, *arrays: NDArray[Any]) -> Arrays:
        """Return all outputs of a single row without padding."""
        inputs = tuple(map(torch.from_numpy, arrays))
        return tuple(np.ascontiguousarray(part.numpy()) for part in self._read(*inputs))

    def _read(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        model = self._model
        if isinstance(model, Describer):
            return model.encode(*inputs)
        if isinstance(model, Translator):
            state, memory = model.encode(*inputs)
            return state if memory is None else (*state, *_columns(memory))
        if isinstance(model, Tagger):
            y = model(*inputs)
            labels, scores = model.decode(y, inputs[0] >= 0)
            exact = deepcopy(model).double().log_prob(y.double(), labels)  # in float32 long sums lose digits
            return labels, scores, exact.float()
        return (model(*inputs),)


def _columns(memory: Memory) -> tuple[Tensor, ...]:
    """Return a memory as a decoder's graph takes it; for dot attention it is its own key."""
    values, keys = memory.values.transpose(0, 1), memory.keys.transpose(0, 1)
    mask = memory.present.transpose(0, 1)[..., None]
    return (values, mask) if memory.keys is memory.values else (values, keys, mask)


def _memory(parts: tuple[Tensor, ...]) -> Memory:
    values, keys, mask = parts[0], parts[-2], parts[-1]
    return Memory(values.transpose(0, 1), keys.transpose(0, 1), mask[..., 0].transpose(0, 1))
