"""The cells that `torch.nn` does not have, in its manner: same parameter names, same order of gates.

The input is multiplied for the whole stretch at once; only the recurrence runs token by token.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnn_edge.spec import ModelSpec

__all__ = ["VariedRNN"]

State = tuple[Tensor, ...]


class VariedRNN(nn.Module):
    """Layers of a varied LSTM or GRU.

    LSTM (gates i, f, g, o, or i, g, o where they are coupled) and GRU (r, z, n); formulas in docs/cells.md.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.num_gates * spec.hidden_size
        for layer in range(spec.num_layers):
            inputs = spec.output_size if layer else spec.embedding_size
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (width, inputs), "weight_hh": (width, spec.output_size)}
            shapes |= {"bias_ih": (width,), "bias_hh": (width,)}
            if spec.proj_size:
                shapes["weight_hr"] = (spec.proj_size, spec.hidden_size)
            for name, shape in shapes.items():
                parameter = torch.empty(shape).uniform_(-1, 1) / math.sqrt(spec.hidden_size)  # as torch.nn starts
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(parameter))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a stretch of every row; shapes as in `Stack.forward`."""
        after = []
        for layer in range(self.spec.num_layers):
            if layer and self.training:
                x = F.dropout(x, self.spec.dropout)
            x, last = self._layer(layer, x, tuple(part[layer] for part in state))
            after.append(last)
        return x, tuple(torch.stack(parts) for parts in zip(*after, strict=True))

    def _layer(self, layer: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        weight, bias = (getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "bias_ih"))
        gates = F.linear(x, weight, bias)  # (batch, time, gates × hidden)
        outputs = []
        for now in gates.unbind(1):
            state = self._gru(layer, now, *state) if self.spec.cell == "gru" else self._lstm(layer, now, *state)
            outputs.append(state[0])
        return torch.stack(outputs, dim=1), state

    def _gru(self, layer: int, gates: Tensor, h: Tensor) -> State:
        u, b = getattr(self, f"weight_hh_l{layer}"), getattr(self, f"bias_hh_l{layer}")
        squash = torch.relu if self.spec.nonlinearity == "relu" else torch.tanh
        x_reset, x_update, x_new = gates.chunk(3, dim=-1)
        if self.spec.reset_after:
            h_reset, h_update, h_new = F.linear(h, u, b).chunk(3, dim=-1)
            new = squash(x_new + torch.sigmoid(x_reset + h_reset) * h_new)
        else:
            hidden = self.spec.hidden_size
            h_reset, h_update = F.linear(h, u[: 2 * hidden], b[: 2 * hidden]).chunk(2, dim=-1)
            reset = torch.sigmoid(x_reset + h_reset)
            new = squash(x_new + F.linear(reset * h, u[2 * hidden :], b[2 * hidden :]))
        update = torch.sigmoid(x_update + h_update)
        return (new + update * (h - new),)

    def _lstm(self, layer: int, gates: Tensor, h: Tensor, c: Tensor) -> State:
        u, b = getattr(self, f"weight_hh_l{layer}"), getattr(self, f"bias_hh_l{layer}")
        write, *forget, new, read = (gates + F.linear(h, u, b)).chunk(self.spec.num_gates, dim=-1)
        write = torch.sigmoid(write)
        keep = 1 - write if self.spec.coupled_gates else torch.sigmoid(forget[0])
        c = keep * c + write * torch.tanh(new)
        if self.spec.squash == "state":
            c = torch.tanh(c)
        h = torch.sigmoid(read) * (c if self.spec.squash == "state" else torch.tanh(c))
        if self.spec.proj_size:
            h = F.linear(h, getattr(self, f"weight_hr_l{layer}"))
        return h, c
