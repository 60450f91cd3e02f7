"""What is timed: five networks as they stand in the literature and in phones, with random weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.cells import gates_to_state
from rnn_edge.modules import LanguageModel
from rnn_edge.spec import LanguageModelSpec

__all__ = ["WORKLOADS", "PlainStep", "Workload"]


_RANK = 64  # of an output matrix


@dataclass(frozen=True)
class Workload:
    """A network, and what it stands for."""

    name: str
    about: str
    spec: LanguageModelSpec

    def model(self) -> LanguageModel:
        """Return the network; the same weights every time.

        An output matrix of its own is given a low rank: of one without any, no preview could be made.
        """
        torch.manual_seed(0)
        model = LanguageModel(self.spec).eval()
        if not self.spec.tied:
            weight = model.output.weight.data
            down, up = torch.randn(len(weight), _RANK), torch.randn(_RANK, weight.shape[1])
            weight.copy_(down @ up * (weight.std() / _RANK**0.5))
        return model

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Return inputs and outputs of the matrices that a step multiplies by."""
        spec, sizes = self.spec, []
        for layer in range(spec.num_layers):
            gates = spec.num_gates * spec.hidden_size
            sizes += [(spec.output_size if layer else spec.embedding_size, gates), (spec.output_size, gates)]
            sizes += [(spec.hidden_size, spec.proj_size)] if spec.proj_size else []
        return [*sizes, (spec.output_size, spec.vocab_size)]


def _workload(name: str, about: str, **sizes: object) -> Workload:
    return Workload(name, about, LanguageModelSpec(**sizes))  # type: ignore[arg-type]


WORKLOADS = {
    each.name: each
    for each in (
        _workload(
            "keyboard",
            "LSTM 96→670, projected to 96, 10,000 words tied to the projection",
            vocab_size=10_000,
            embedding_size=96,
            hidden_size=670,
            proj_size=96,
            tied=True,
            cell="lstm",
        ),
        _workload(
            "keyboard-wide",
            "LSTM 96→670, 10,000 words",
            vocab_size=10_000,
            embedding_size=96,
            hidden_size=670,
            cell="lstm",
        ),
        _workload(
            "ptb-medium",
            "LSTM 2×650, 10,000 words (Zaremba et al. 2014)",
            vocab_size=10_000,
            embedding_size=650,
            hidden_size=650,
            num_layers=2,
            cell="lstm",
        ),
        _workload(
            "character", "GRU 64→512, 100 characters", vocab_size=100, embedding_size=64, hidden_size=512, cell="gru"
        ),
        _workload(
            "elman",
            "tanh network 512→512, 10,000 words",
            vocab_size=10_000,
            embedding_size=512,
            hidden_size=512,
            cell="elman",
        ),
    )
}


class PlainStep(nn.Module):
    """One token of every row in matrix products and elementwise operations, which every converter understands.

    It shares the weights of a language model of a standard cell. States are (batch, width), layer by layer: h, and c
    behind it for an LSTM.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.cell, self.layers = model.spec.cell, model.spec.num_layers
        self.embedding, self.output = model.embedding, model.output
        self.inputs, self.states, self.projections = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        rnn = model.stack.rnn
        for layer in range(self.layers):
            self.inputs.append(_linear(getattr(rnn, f"weight_ih_l{layer}"), getattr(rnn, f"bias_ih_l{layer}")))
            self.states.append(_linear(getattr(rnn, f"weight_hh_l{layer}"), getattr(rnn, f"bias_hh_l{layer}")))
            if model.spec.proj_size:
                self.projections.append(_linear(getattr(rnn, f"weight_hr_l{layer}"), None))

    def forward(self, tokens: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return logits (batch, vocab), then the state."""
        x, per_layer = self.embedding(tokens), len(state) // self.layers
        after: list[torch.Tensor] = []
        for layer in range(self.layers):
            h, *c = state[layer * per_layer : (layer + 1) * per_layer]
            x, *c = gates_to_state(self.cell, self.inputs[layer](x), self.states[layer](h), (h, *c), torch)
            x = self.projections[layer](x) if self.projections else x
            after += [x, *c]
        return self.output(x), *after


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight)
    if bias is not None:
        linear.bias = nn.Parameter(bias)
    return linear
