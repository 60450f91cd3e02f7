"""Does this machine give what the bundle says it must? Runs golden.json on open graphs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rnn_edge.bundle import GOLDEN, Bundle
from rnn_edge.errors import BundleError
from rnn_edge.runtimes.arrays import State
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.whole_graph import WholeGraph

__all__ = ["self_test"]


def self_test(bundle: Bundle, graphs: Mapping[str, StepGraph | WholeGraph]) -> float:
    """Return how far any number is from the bundle's golden vectors; raise BundleError when that is too far.

    graphs  all of the bundle's, by role
    """
    golden = json.loads(bundle.files[GOLDEN])
    distances: list[float] = []
    starts: list[State | None] = [None] * len(golden.get("cases", ()))
    for graph in graphs.values():
        if isinstance(graph, WholeGraph):
            starts = []
            for text in golden["texts"]:
                outputs = graph.run(*(_input(text["inputs"], name) for name in graph.inputs))
                starts.append(outputs)
                distances += _of_text(text, dict(zip(graph.outputs, outputs, strict=True)))
    for graph in graphs.values():
        if isinstance(graph, StepGraph):
            for case, start in zip(golden["cases"], starts, strict=True):
                distances += _of_steps(case, graph, start)
    worst = float(np.max(distances))
    if not worst <= golden["tolerance"]:  # so that not a number is too far
        raise BundleError(
            f"bundle {bundle.path} gives other numbers here than where it was made: {worst:.1e} off, "
            f"allowed {golden['tolerance']:g}; update onnxruntime, or export it in another precision"
        )
    return worst


def _input(inputs: Mapping[str, Any], name: str) -> np.ndarray[Any, Any]:
    given = np.array(inputs[name])
    return given if given.dtype == np.int64 else given.astype(np.float32)


def _of_text(text: Mapping[str, Any], outputs: Mapping[str, np.ndarray[Any, Any]]) -> Iterator[float]:
    """Yield how far each output of a whole text is off; whole numbers must be the same."""
    for name, expected in text["outputs"].items():
        begin = outputs[name].ravel()[: len(expected["begins"])]
        yield float(np.abs(begin.astype(np.float64) - expected["begins"]).max())


def _of_steps(case: Mapping[str, Any], graph: StepGraph, start: State | None) -> Iterator[float]:
    """Yield how far the logits and each state are off."""
    logits, state = graph.step(np.array([case["tokens"]]), graph.start(1) if start is None else start)
    yield float(np.abs(logits[0, case["best_tokens"]] - case["best_logits"]).max())
    for part, expected in zip(state[: graph.moving], case["states"], strict=True):
        begin = part[-1, 0, : len(expected["last_layer_begins"])]
        yield float(np.abs(begin - expected["last_layer_begins"]).max())
