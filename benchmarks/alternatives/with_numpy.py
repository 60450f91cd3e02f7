"""numpy alone: the formulas of the papers on arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.alternatives.base import Alternative, Parts, Runner, Source
from benchmarks.cells import gates_to_state
from rnn_edge.runtimes.arrays import Floats, Ids


class _Numpy(Runner):
    """The formulas of the papers on arrays."""

    def __init__(self, path: Path) -> None:
        saved = np.load(path)
        self._embedding, self._output, self._bias = saved["embedding"], saved["output"], saved["bias"]
        self._layers: list[list[Floats]] = []
        while (layer := len(self._layers)) < int(saved["layers"]):
            names = ("input", "state", "projection", "input_bias", "state_bias")
            self._layers.append([saved.get(f"{name}{layer}") for name in names])
        self._cell, self._sizes = str(saved["cell"]), saved["sizes"].tolist()

    def start(self, batch: int) -> Parts:
        return tuple(np.zeros((batch, size), np.float32) for size in self._sizes)

    def step(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        x, per_layer, after = self._embedding[tokens], len(state) // len(self._layers), []
        for layer, (w, u, projection, b, b_state) in enumerate(self._layers):
            before = state[layer * per_layer : (layer + 1) * per_layer]
            x, *c = gates_to_state(self._cell, x @ w + b, before[0] @ u + b_state, before, np)
            x = x if projection is None else x @ projection
            after += [x, *c]
        return x @ self._output + self._bias, tuple(after)


def _convert_numpy(source: Source) -> Path:
    model = source.workload.model().requires_grad_(False)
    spec, rnn, path = model.spec, model.stack.rnn, source.file("npz")
    arrays = {"embedding": model.embedding.weight, "output": model.output.weight.T, "bias": model.output.bias}
    for layer in range(spec.num_layers):
        arrays[f"input{layer}"] = getattr(rnn, f"weight_ih_l{layer}").T
        arrays[f"state{layer}"] = getattr(rnn, f"weight_hh_l{layer}").T
        arrays[f"input_bias{layer}"] = getattr(rnn, f"bias_ih_l{layer}")
        arrays[f"state_bias{layer}"] = getattr(rnn, f"bias_hh_l{layer}")
        if spec.proj_size:
            arrays[f"projection{layer}"] = getattr(rnn, f"weight_hr_l{layer}").T
    facts = {"layers": spec.num_layers, "cell": spec.cell, "sizes": source.state_sizes()}
    np.savez(path, **{name: np.ascontiguousarray(array) for name, array in arrays.items()}, **facts)
    return path


NUMPY = Alternative("numpy", ("numpy",), ("numpy",), ("fp32",), _convert_numpy, _Numpy)
