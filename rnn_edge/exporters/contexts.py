"""Context binaries: a graph compiled ahead of time for Qualcomm's NPU, as a phone would else do at every start."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rnn_edge.bundle import Graph
from rnn_edge.errors import ExportError
from rnn_edge.exporters.parity import distance
from rnn_edge.runtimes.providers import find, why_not
from rnn_edge.runtimes.sessions import compile_graph
from rnn_edge.runtimes.step_graph import StepGraph

__all__ = ["ARCHITECTURES", "QNN", "compile_context", "require_compiler"]

ARCHITECTURES: Mapping[str, str] = {"v68": "30", "v69": "36", "v73": "43", "v75": "57", "v79": "69", "v81": "87"}
"""Generations of the NPU, each with the number of a phone's chip that has it: Snapdragon 888, 8 Gen 1 to 3, 8 Elite,
8 Elite Gen 5."""

QNN = "qnn"
_STEPS = 8
_MOST = 0.1  # of a row's largest number; it computes floats in half precision, and what is miscompiled is far off


def require_compiler() -> None:
    """Raise ExportError unless this machine has what compiles contexts, which needs no NPU."""
    reason = why_not(find(QNN))
    if reason:
        raise ExportError(f"contexts are compiled by provider {QNN!r}, which {reason}")


def compile_context(content: bytes, graph: Graph, architecture: str) -> bytes:
    """Return a step graph's file with what the NPU of an architecture runs, after comparing some steps with the CPU.

    content  the ONNX file that is compiled, in `step` form and fixed
    graph    its entry in the manifest
    """
    compiled = compile_graph(content, provider=QNN, provider_options={"soc_model": ARCHITECTURES[architecture]})
    ports = graph.inputs[1:]
    error = _error(StepGraph(content, ports), StepGraph(compiled, ports, provider=QNN), int(graph.outputs[0].shape[1]))
    if not error <= _MOST:
        raise ExportError(
            f"compiled for {architecture}, this graph is {error:.1e} from what it gives on the CPU, and may be "
            f"{_MOST:g}: choose another precision, or leave the context out"
        )
    return compiled


def _error(exact: StepGraph, compiled: StepGraph, vocab_size: int) -> float:
    """Return how far the two are from each other in steps of random tokens, each with its own states."""
    state, other, worst = exact.start(1), compiled.start(1), 0.0
    for token in np.random.default_rng(0).integers(0, vocab_size, (_STEPS, 1, 1)):
        logits, state = exact.step(token, state)
        found, other = compiled.step(token, other)
        worst = max(
            worst, *(distance(mine, theirs) for mine, theirs in zip((found, *other), (logits, *state), strict=True))
        )
    return worst
