"""How open each cell's gates are while a bundle's step graph reads a text.

A gate is no output of the graph, so it is made one of a copy in memory; the file stays what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnn_edge.bundle import Bundle
from rnn_edge.errors import BundleError
from rnn_edge.runtimes.arrays import Floats
from rnn_edge.runtimes.names import TOKENS
from rnn_edge.runtimes.sessions import open_session
from rnn_edge.spec import StackSpec

__all__ = ["CLOSED", "OPEN", "Gate", "read_gates"]

CLOSED, OPEN = 0.1, 0.9
"""Below the one a gate is saturated to the left, and above the other to the right (Karpathy et al. 2015)."""


@dataclass(frozen=True, eq=False)
class Gate:
    """One kind of gate in one layer.

    name    input, forget or output of an LSTM, reset or update of a GRU
    layer   counted from 1
    values  float32 (tokens, cells), between 0 and 1, as each token is read
    """

    name: str
    layer: int
    values: Floats

    @property
    def often_closed(self) -> Floats:
        """Return how often each cell's gate is below 0.1, float32 (cells,), as a share of the tokens."""
        return _share(self.values < CLOSED)

    @property
    def often_open(self) -> Floats:
        """Return how often each cell's gate is above 0.9, float32 (cells,), as a share of the tokens."""
        return _share(self.values > OPEN)


def read_gates(bundle: Bundle, tokens: Sequence[int]) -> tuple[Gate, ...]:
    """Return the gates of a language model's layers, while it reads a row of tokens."""
    names = _names(bundle.manifest.spec)
    graph = bundle.manifest.graphs["step"]
    if not names:
        raise BundleError(f"{bundle.path} is an Elman network, and that has no gates")
    if graph.form != "scan":
        raise BundleError(f"the gates of a graph in {graph.form} form are out of sight: export it with --target cpu")
    if not graph.file.endswith(".onnx"):
        raise BundleError(f"the gates of {graph.file} are out of sight: export it with --format onnx")
    try:
        from rnn_edge.inspection.exposed import with_gates
    except ImportError as error:
        raise BundleError(f"gates are made visible with the onnx package ({error}): pip install onnx") from error
    content, outputs = with_gates(bundle.files[graph.file], names)
    states = {port.name: np.zeros((int(port.shape[0]), 1, int(port.shape[2])), np.float32) for port in graph.inputs[1:]}
    found = open_session(content).run(outputs, {TOKENS: np.array([tokens], np.int64), **states})
    layers = len(outputs) // len(names)
    kinds = [(name, layer + 1) for layer in range(layers) for name in names]
    return tuple(Gate(name, layer, values[:, 0]) for (name, layer), values in zip(kinds, found, strict=True))


def _names(spec: StackSpec) -> tuple[str, ...]:
    """Return what a cell's sigmoids are, in their order."""
    if spec.cell == "lstm":
        return ("input", "output") if spec.coupled_gates else ("input", "forget", "output")
    return ("reset", "update") if spec.cell == "gru" else ()


def _share(of: NDArray[np.bool_]) -> Floats:
    share: Floats = of.mean(axis=0, dtype=np.float32)
    return share
