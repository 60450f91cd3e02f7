"""The recurrences once more, for arrays of any library: what PyTorch's plain step and numpy compute."""

from __future__ import annotations

from typing import Any

__all__ = ["gates_to_state"]


def gates_to_state(cell: str, x: Any, h: Any, state: tuple[Any, ...], library: Any) -> tuple[Any, ...]:
    """Return the state after one token, from the gates' parts by the input and by the state; both with their biases."""
    sigmoid, tanh = getattr(library, "sigmoid", None) or _sigmoid(library), library.tanh
    if cell == "elman":
        return (tanh(x + h),)
    size = x.shape[-1] // (3 if cell == "gru" else 4)
    part = [slice(gate * size, (gate + 1) * size) for gate in range(4)]
    if cell == "gru":
        reset, update = sigmoid(x[:, part[0]] + h[:, part[0]]), sigmoid(x[:, part[1]] + h[:, part[1]])
        new = tanh(x[:, part[2]] + reset * h[:, part[2]])
        return ((1 - update) * new + update * state[0],)
    total = x + h
    kept, written = sigmoid(total[:, part[1]]) * state[1], sigmoid(total[:, part[0]]) * tanh(total[:, part[2]])
    return sigmoid(total[:, part[3]]) * tanh(kept + written), kept + written


def _sigmoid(library: Any) -> Any:
    return lambda x: 1 / (1 + library.exp(-x))
