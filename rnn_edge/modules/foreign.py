"""Weights from other frameworks as `torch.nn` has them: its names, its shapes, its order of gates.

It knows how others store a layer of an Elman network, an LSTM or a GRU. It knows nothing of their files: what wrote
them reads them best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rnn_edge.errors import CheckpointError
from rnn_edge.spec import Cell

__all__ = ["Convention", "import_weights"]

Convention = Literal["torch", "onnx", "tensorflow", "keras", "dynet"]
Array: TypeAlias = NDArray[np.float32]


def import_weights(
    convention: Convention,
    cell: Cell,
    layers: Sequence[Sequence[ArrayLike | Tensor]],
    *,
    reset_after: bool = True,
    opposite_z: bool | None = None,
    forget_bias: float | None = None,
) -> dict[str, Tensor]:
    """Return `weight_ih_l0`, … for the `load_state_dict` of `torch.nn.RNN`, `LSTM`, `GRU` or a `Stack`'s `rnn`.

    layers       for each layer its arrays, of any float type, in the order given below
    reset_after  where a GRU resets: after the matrix product, as `torch.nn` does, or before; the network's spec must
                 say the same
    opposite_z   whether a GRU's z is the share of the new state, h' = z∘n + (1−z)∘h, where in PyTorch it is that of the
                 old one; none means as in the convention
    forget_bias  what an LSTM adds to its forget gate whenever it runs, beyond its bias; none means as in the convention
    returns      float32, of one direction: the other's names end in `_reverse`; a bias that is not given is zero

    Everywhere i, f, o, r and z are σ(W x + U h + b), each with its own W, U and b. The conventions, with the order of
    their gates:

    torch       weight_ih, weight_hh, bias_ih, bias_hh. LSTM i, f, g, o: c' = f∘c + i∘g; h' = o∘tanh(c').
                GRU r, z, n: n = tanh(W x + b + r∘(U h + b')); h' = (1−z)∘n + z∘h. (torch.nn.LSTM, torch.nn.GRU)
    onnx        W, R, B of one direction. LSTM i, o, f, c. GRU z, r, h: as in torch where linear_before_reset is 1;
                where it is 0, the default, h = tanh(W x + b + U (r∘h) + b'). (operators RNN, LSTM, GRU)
    tensorflow  kernel and bias: [x, h] kernel + bias. LSTM i, j, f, o: f = σ(… + forget_bias), which is 1 by default.
                GRU r, u, c: gates/kernel, gates/bias, candidate/kernel, candidate/bias;
                c = tanh([x, r∘h] kernel + bias); h' = u∘h + (1−u)∘c. (tf.nn.rnn_cell, rnn_cell_impl.py)
    keras       kernel, recurrent_kernel and bias, as `layer.get_weights()` gives them: x kernel + h recurrent_kernel +
                bias. LSTM i, f, c, o, its forget bias within the bias. GRU z, r, h: as in torch with a bias of two rows
                where reset_after is True, the default; else h = tanh(W x + b + U (r∘h)). (keras/src/layers/rnn)
    dynet       Wx, Wh and b. LSTM i, f, o, g: f = σ(… + 1). GRU z, r, h, three arrays each:
                h = tanh(W x + U (r∘h) + b), and z is opposite. (dynet/rnn.cc, lstm.cc, gru.cc)
    """
    _check_options(convention, cell, reset_after=reset_after, opposite_z=opposite_z, forget_bias=forget_bias)
    layout = _LAYOUTS[convention][cell]
    turn_z = layout.opposite_z if opposite_z is None else opposite_z
    added = layout.forget_bias if forget_bias is None else forget_bias
    weights: dict[str, Tensor] = {}
    for index, given in enumerate(layers):
        parts = _read(layout, [_array(each) for each in given], f"layer {index} of {convention}'s {cell}")
        _check_reset(layout, parts, reset_after=reset_after)
        rows, hidden = parts.u.shape
        for name, part in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), parts, strict=True):
            array = np.zeros(rows, np.float32) if part is None else part
            weights[f"{name}_l{index}"] = torch.from_numpy(_arrange(array, layout.gates, _TORCH[cell], turn_z=turn_z))
        if added:
            weights[f"bias_ih_l{index}"][hidden : 2 * hidden] += added
    _check_widths(weights)
    return weights


class _Parts(NamedTuple):
    """One layer, gate below gate, in the convention's order."""

    w: Array  # (gates × hidden, inputs)
    u: Array  # (gates × hidden, hidden)
    b: Array | None  # (gates × hidden,)
    b_state: Array | None  # (gates × hidden,)


@dataclass(frozen=True)
class _Layout:
    """How a convention stores a cell."""

    gates: str  # their order, by PyTorch's letters
    arrays: str  # what a layer is given as, for messages; N· is the number of gates
    counts: tuple[int, ...]  # how many arrays that is
    unpack: Callable[[list[Array]], _Parts]  # raises ValueError for shapes that cannot be split or joined
    forget_bias: float = 0.0
    opposite_z: bool = False
    reset_after: bool | None = None  # none: it could be either


def _plain(arrays: list[Array]) -> _Parts:
    """Input matrix, state matrix, and up to two biases."""
    w, u, *biases = arrays
    both: list[Array | None] = [*biases, *[None] * (2 - len(biases))]
    b, b_state = both
    return _Parts(w, u, b, b_state)


def _onnx(arrays: list[Array]) -> _Parts:
    w, u, *biases = arrays
    return _plain([w, u, *(half for both in biases for half in np.split(both, 2))])


def _tensorflow(gates: int, arrays: list[Array]) -> _Parts:
    kernel, b = arrays
    inputs = len(kernel) - len(b) // gates
    return _Parts(kernel[:inputs].T, kernel[inputs:].T, b, None)


def _tensorflow_gru(arrays: list[Array]) -> _Parts:
    gate_kernel, gate_bias, new_kernel, new_bias = arrays
    return _tensorflow(3, [np.concatenate([gate_kernel, new_kernel], axis=1), np.concatenate([gate_bias, new_bias])])


def _keras(arrays: list[Array]) -> _Parts:
    kernel, recurrent_kernel, *biases = arrays
    return _plain([kernel.T, recurrent_kernel.T, *biases])


def _keras_gru(arrays: list[Array]) -> _Parts:
    kernel, recurrent_kernel, *biases = arrays
    return _keras([kernel, recurrent_kernel, *(row for bias in biases for row in np.atleast_2d(bias))])


def _dynet_gru(arrays: list[Array]) -> _Parts:
    z, r, new = arrays[:3], arrays[3:6], arrays[6:]
    return _plain([np.concatenate(each) for each in zip(z, r, new, strict=True)])


_TORCH: dict[Cell, str] = {"elman": "n", "lstm": "ifgo", "gru": "rzn"}
_TORCH_ARRAYS = "weight_ih (N·hidden, inputs), weight_hh (N·hidden, hidden), and bias_ih, bias_hh (N·hidden,) or none"
_ONNX_ARRAYS = "W (N·hidden, inputs), R (N·hidden, hidden), and B (2·N·hidden,) or none, of one direction"
_TENSORFLOW_ARRAYS = "kernel (inputs + hidden, N·hidden) and bias (N·hidden,)"
_TENSORFLOW_GRU_ARRAYS = (
    "gates/kernel (inputs + hidden, 2·hidden), gates/bias (2·hidden,), "
    "candidate/kernel (inputs + hidden, hidden) and candidate/bias (hidden,)"
)
_KERAS_ARRAYS = "kernel (inputs, N·hidden), recurrent_kernel (hidden, N·hidden), and bias (N·hidden,) or none"
_KERAS_GRU_ARRAYS = (
    "kernel (inputs, 3·hidden), recurrent_kernel (hidden, 3·hidden), and bias (2, 3·hidden), (3·hidden,) or none"
)
_DYNET_ARRAYS = "Wx (N·hidden, inputs), Wh (N·hidden, hidden) and b (N·hidden,)"
_DYNET_GRU_ARRAYS = "(hidden, inputs), (hidden, hidden) and (hidden,) three times, for z, r and h"

_LAYOUTS: dict[Convention, dict[Cell, _Layout]] = {
    "torch": {cell: _Layout(gates, _TORCH_ARRAYS, (2, 4), _plain) for cell, gates in _TORCH.items()},
    "onnx": {
        "elman": _Layout("n", _ONNX_ARRAYS, (2, 3), _onnx),
        "lstm": _Layout("iofg", _ONNX_ARRAYS, (2, 3), _onnx),
        "gru": _Layout("zrn", _ONNX_ARRAYS, (2, 3), _onnx),
    },
    "tensorflow": {
        "elman": _Layout("n", _TENSORFLOW_ARRAYS, (2,), partial(_tensorflow, 1)),
        "lstm": _Layout("igfo", _TENSORFLOW_ARRAYS, (2,), partial(_tensorflow, 4), forget_bias=1.0),
        "gru": _Layout("rzn", _TENSORFLOW_GRU_ARRAYS, (4,), _tensorflow_gru, reset_after=False),
    },
    "keras": {
        "elman": _Layout("n", _KERAS_ARRAYS, (2, 3), _keras),
        "lstm": _Layout("ifgo", _KERAS_ARRAYS, (2, 3), _keras),
        "gru": _Layout("zrn", _KERAS_GRU_ARRAYS, (2, 3), _keras_gru),
    },
    "dynet": {
        "elman": _Layout("n", _DYNET_ARRAYS, (3,), _plain),
        "lstm": _Layout("ifog", _DYNET_ARRAYS, (3,), _plain, forget_bias=1.0),
        "gru": _Layout("zrn", _DYNET_GRU_ARRAYS, (9,), _dynet_gru, opposite_z=True, reset_after=False),
    },
}


def _read(layout: _Layout, arrays: list[Array], where: str) -> _Parts:
    """Bring one layer's arrays into one form, or say what they should have been."""
    gates = len(layout.gates)
    try:
        parts = layout.unpack(arrays) if len(arrays) in layout.counts else None
    except ValueError:
        parts = None
    if parts is None or not _fit(parts, gates):
        wanted = layout.arrays.replace("N·", f"{gates}·" if gates > 1 else "")
        found = ", ".join(str(array.shape) for array in arrays) or "nothing"
        raise CheckpointError(f"{where} should be {wanted}; found {found}")
    return parts


def _fit(parts: _Parts, gates: int) -> bool:
    """Tell whether the shapes belong together."""
    rows, hidden = len(parts.u), parts.u.shape[-1]
    return (
        parts.w.ndim == parts.u.ndim == 2
        and len(parts.w) == rows == gates * hidden
        and parts.w.size > 0
        and all(bias is None or bias.shape == (rows,) for bias in (parts.b, parts.b_state))
    )


def _arrange(part: Array, order: str, wanted: str, *, turn_z: bool) -> Array:
    """Return a matrix or a bias with its gates in the wanted order; σ(−a) = 1 − σ(a) turns z around."""
    blocks = dict(zip(order, np.split(part, len(order)), strict=True))
    if turn_z:
        blocks["z"] = -blocks["z"]
    return np.concatenate([blocks[gate] for gate in wanted])


def _array(value: ArrayLike | Tensor) -> Array:
    if isinstance(value, Tensor):
        value = value.detach().float().cpu().numpy()
    return np.array(value, np.float32, ndmin=1)


def _check_options(
    convention: Convention, cell: Cell, *, reset_after: bool, opposite_z: bool | None, forget_bias: float | None
) -> None:
    given = {"convention": (convention, get_args(Convention)), "cell": (cell, get_args(Cell))}
    problems = [
        f"{name} must be one of {', '.join(allowed)}, got {value!r}"
        for name, (value, allowed) in given.items()
        if value not in allowed
    ]
    if cell != "gru" and (opposite_z or not reset_after):
        problems.append("opposite_z and reset_after are for the gru cell only")
    if cell != "lstm" and forget_bias:
        problems.append("forget_bias is for the lstm cell only")
    if problems:
        raise CheckpointError("these weights cannot be imported: " + "; ".join(problems))


def _check_reset(layout: _Layout, parts: _Parts, *, reset_after: bool) -> None:
    """Refuse a GRU that would load without a word and compute something else."""
    found = layout.reset_after
    if layout.unpack is _keras_gru and parts.b is not None:
        found = parts.b_state is not None
    if found not in (None, reset_after):
        raise CheckpointError(
            f"these weights are of a gru that resets {'after' if found else 'before'} the matrix product: "
            f"give reset_after={found}, here and in the network's spec"
        )


def _check_widths(weights: dict[str, Tensor]) -> None:
    widths = [tensor.shape[1] for name, tensor in weights.items() if name.startswith("weight_hh")]
    if not widths:
        raise CheckpointError("there are no layers to import: give the arrays of at least one")
    if len(set(widths)) > 1:
        raise CheckpointError(
            f"the layers of a stack are all of one width, and these have {', '.join(map(str, widths))} hidden units"
        )
