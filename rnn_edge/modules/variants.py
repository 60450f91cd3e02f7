"""The cells that `torch.nn` does not have, in its manner: same parameter names, same order of gates.

The input is multiplied for the whole stretch at once; only the recurrence runs token by token.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnn_edge.spec import StackSpec

__all__ = ["VariedRNN"]

State = tuple[Tensor, ...]


class VariedRNN(nn.Module):
    """Layers of a varied LSTM or GRU.

    LSTM (gates i, f, g, o, or i, g, o where they are coupled) and GRU (r, z, n); formulas in docs/cells.md.
    """

    def __init__(self, spec: StackSpec, input_size: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.directions = ("", "_reverse") if bidirectional else ("",)
        width = spec.num_gates * spec.hidden_size
        for layer in range(spec.num_layers):
            inputs = spec.output_size * len(self.directions) if layer else input_size
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (width, inputs), "weight_hh": (width, spec.output_size)}
            shapes |= {"bias_ih": (width,), "bias_hh": (width,)}
            if spec.proj_size:
                shapes["weight_hr"] = (spec.proj_size, spec.hidden_size)
            for direction in self.directions:
                for name, shape in shapes.items():
                    parameter = torch.empty(shape).uniform_(-1, 1) / math.sqrt(spec.hidden_size)  # as torch.nn starts
                    self.register_parameter(f"{name}_l{layer}{direction}", nn.Parameter(parameter))

    def forward(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Read a stretch of every row; shapes as in `Stack.forward`."""
        present = None if lengths is None else torch.arange(x.shape[1])[:, None] < lengths  # (time, batch)
        after = []
        for layer in range(self.spec.num_layers):
            if layer and self.training:
                x = F.dropout(x, self.spec.dropout)
            outputs = []
            for number, direction in enumerate(self.directions):
                before = tuple(part[layer * len(self.directions) + number] for part in state)
                y, last = self._read(f"_l{layer}{direction}", x, before, present)
                outputs.append(y)
                after.append(last)
            x = torch.cat(outputs, dim=-1)
        return x, tuple(torch.stack(parts) for parts in zip(*after, strict=True))

    def _read(self, name: str, x: Tensor, state: State, present: Tensor | None) -> tuple[Tensor, State]:
        """Read in one direction: weights with `_reverse` in their name read from the end."""
        weights = {kind: getattr(self, f"{kind}{name}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        projection = getattr(self, f"weight_hr{name}", None)
        gates = F.linear(x, weights["weight_ih"], weights["bias_ih"]).unbind(1)  # each (batch, gates × hidden)
        backwards = name.endswith("_reverse")
        outputs = []
        for time in reversed(range(len(gates))) if backwards else range(len(gates)):
            u, b = weights["weight_hh"], weights["bias_hh"]
            if self.spec.cell == "gru":
                moved = self._gru(u, b, gates[time], *state)
            else:
                moved = self._lstm(u, b, projection, gates[time], *state)
            if present is not None:
                moved = tuple(torch.where(present[time][:, None], *both) for both in zip(moved, state, strict=True))
            state = moved
            outputs.append(state[0])
        return torch.stack(outputs[::-1] if backwards else outputs, dim=1), state

    def _gru(self, u: Tensor, b: Tensor, gates: Tensor, h: Tensor) -> State:
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

    def _lstm(self, u: Tensor, b: Tensor, projection: Tensor | None, gates: Tensor, h: Tensor, c: Tensor) -> State:
        write, *forget, new, read = (gates + F.linear(h, u, b)).chunk(self.spec.num_gates, dim=-1)
        write = torch.sigmoid(write)
        keep = 1 - write if self.spec.coupled_gates else torch.sigmoid(forget[0])
        c = keep * c + write * torch.tanh(new)
        if self.spec.squash == "state":
            c = torch.tanh(c)
        h = torch.sigmoid(read) * (c if self.spec.squash == "state" else torch.tanh(c))
        return (h if projection is None else F.linear(h, projection)), c
