"""What a network is, as plain data: enough to rebuild it, in PyTorch or as a graph.

A spec travels unchanged from checkpoint to bundle to device. It knows sizes and choices; it must not know weights,
text or files.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rnn_edge.errors import SpecError

__all__ = ["Cell", "ModelSpec", "Nonlinearity", "Squash", "Task"]

Task = Literal["language-model"]
Cell = Literal["elman", "lstm", "gru"]
Nonlinearity = Literal["tanh", "relu"]
Squash = Literal["output", "state"]

_LARGEST_SIZE = 2**24  # keeps a hostile file from asking for terabytes
_MOST_LAYERS = 64


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything needed to rebuild a network; names are PyTorch's where PyTorch has one."""

    vocab_size: int
    embedding_size: int
    hidden_size: int
    task: Task = "language-model"
    cell: Cell = "lstm"
    nonlinearity: Nonlinearity = "tanh"  # of an Elman cell, or of a GRU's new state
    coupled_gates: bool = False  # LSTM whose forget gate is 1 - its input gate (CIFG, Greff et al. 2015)
    squash: Squash = "output"  # where an LSTM's last tanh sits: on what it gives, or in its cell state
    reset_after: bool = True  # GRU: reset after the matrix product, as PyTorch does, or before it (Cho et al. 2014)
    num_layers: int = 1
    proj_size: int = 0  # LSTM with projection (Sak et al. 2014); 0 means none
    tied: bool = False  # the embedding is also the output matrix (Press & Wolf 2017)
    dropout: float = 0.0  # on the embedding, between layers and before the output, in training

    def __post_init__(self) -> None:
        problems = [*self._wrong_words(), *self._wrong_sizes(), *self._wrong_pairs()]
        if problems:
            raise SpecError("this network cannot be built: " + "; ".join(problems))

    def _wrong_words(self) -> list[str]:
        allowed = {"task": Task, "cell": Cell, "nonlinearity": Nonlinearity, "squash": Squash}
        return [
            f"{name} must be one of {', '.join(get_args(words))}, got {getattr(self, name)!r}"
            for name, words in allowed.items()
            if getattr(self, name) not in get_args(words)
        ]

    def _wrong_sizes(self) -> list[str]:
        ranges = {
            "vocab_size": (1, _LARGEST_SIZE),
            "embedding_size": (1, _LARGEST_SIZE),
            "hidden_size": (1, _LARGEST_SIZE),
            "num_layers": (1, _MOST_LAYERS),
            "proj_size": (0, _LARGEST_SIZE),
        }
        problems = []
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                problems.append(f"{name} must be a whole number from {low} to {high}, got {value!r}")
        for name in ("tied", "coupled_gates", "reset_after"):
            if type(getattr(self, name)) is not bool:
                problems.append(f"{name} must be true or false, got {getattr(self, name)!r}")
        if not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout < 1:
            problems.append(f"dropout must be at least 0 and below 1, got {self.dropout!r}")
        return problems

    def _wrong_pairs(self) -> list[str]:
        problems = []
        if self.nonlinearity != "tanh" and self.cell == "lstm":
            problems.append(f"nonlinearity {self.nonlinearity!r} is for the elman and gru cells only")
        if not self.reset_after and self.cell != "gru":
            problems.append("reset_after is for the gru cell only")
        for name in ("proj_size", "coupled_gates", "squash"):
            if getattr(self, name) != getattr(type(self), name) and self.cell != "lstm":
                problems.append(f"{name} is for the lstm cell only")
        if type(self.proj_size) is type(self.hidden_size) is int and self.proj_size >= self.hidden_size > 0:
            problems.append(f"proj_size {self.proj_size} must be smaller than hidden_size {self.hidden_size}")
        return problems

    @property
    def output_size(self) -> int:
        """Width of what a layer gives: the projection's, or the hidden layer's."""
        return self.proj_size or self.hidden_size

    @property
    def state_sizes(self) -> dict[str, int]:
        """Name and width of each state: `h`, and `c` for an LSTM."""
        if self.cell == "lstm":
            return {"h": self.output_size, "c": self.hidden_size}
        return {"h": self.output_size}

    @property
    def is_standard(self) -> bool:
        """Whether the cell is one of `torch.nn`, which trains in fused kernels and whose weights load unchanged."""
        varied = self.coupled_gates or self.squash != "output" or not self.reset_after
        return not varied and (self.nonlinearity == "tanh" or self.cell == "elman")

    @property
    def num_gates(self) -> int:
        """How many matrices of its width a layer's input is multiplied by."""
        return {"elman": 1, "gru": 3, "lstm": 3 if self.coupled_gates else 4}[self.cell]

    @property
    def has_bridge(self) -> bool:
        """Whether a linear map takes the last layer's output to the width of a tied embedding."""
        return self.tied and self.output_size != self.embedding_size

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> ModelSpec:
        """Rebuild a spec from `to_dict`; refuse fields that are missing or unknown."""
        if not isinstance(values, dict):
            raise SpecError(f"a spec is a mapping of names to values, found {type(values).__name__}")
        fields = dataclasses.fields(cls)
        unknown = sorted(str(name) for name in values.keys() - {field.name for field in fields})
        missing = sorted(
            field.name for field in fields if field.default is dataclasses.MISSING and field.name not in values
        )
        if unknown or missing:
            raise SpecError(
                f"the spec lacks {missing or 'nothing'} and has unknown fields {unknown or 'none'}; "
                "it was written by another version of rnn-edge, or damaged"
            )
        return cls(**values)
