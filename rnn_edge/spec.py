"""What a network is, as plain data: enough to rebuild it, in PyTorch or as a graph.

A spec travels unchanged from checkpoint to bundle to device. It knows sizes and choices; it must not know weights,
text or files.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rnn_edge.errors import SpecError

__all__ = ["Cell", "ModelSpec", "Nonlinearity", "Task"]

Task = Literal["language-model"]
Cell = Literal["elman", "lstm", "gru"]
Nonlinearity = Literal["tanh", "relu"]

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
    nonlinearity: Nonlinearity = "tanh"  # of an Elman cell
    num_layers: int = 1
    proj_size: int = 0  # LSTM with projection (Sak et al. 2014); 0 means none
    tied: bool = False  # the embedding is also the output matrix (Press & Wolf 2017)
    dropout: float = 0.0  # on the embedding, between layers and before the output, in training

    def __post_init__(self) -> None:
        problems = [*self._wrong_words(), *self._wrong_sizes(), *self._wrong_pairs()]
        if problems:
            raise SpecError("this network cannot be built: " + "; ".join(problems))

    def _wrong_words(self) -> list[str]:
        allowed = {"task": Task, "cell": Cell, "nonlinearity": Nonlinearity}
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
        if type(self.tied) is not bool:
            problems.append(f"tied must be true or false, got {self.tied!r}")
        if not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout < 1:
            problems.append(f"dropout must be at least 0 and below 1, got {self.dropout!r}")
        return problems

    def _wrong_pairs(self) -> list[str]:
        problems = []
        if self.nonlinearity != "tanh" and self.cell != "elman":
            problems.append(f"nonlinearity {self.nonlinearity!r} is for the elman cell only")
        if self.proj_size and self.cell != "lstm":
            problems.append("proj_size is for the lstm cell only")
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
