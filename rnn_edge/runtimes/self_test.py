"""Does this machine give what the bundle says it must? Runs golden.json on open graphs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rnn_edge.bundle import GOLDEN, Bundle
from rnn_edge.errors import BundleError
from rnn_edge.runtimes.arrays import State
from rnn_edge.runtimes.decode_graph import DecodeGraph
from rnn_edge.runtimes.names import NOISE
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.whole_graph import WholeGraph

__all__ = ["self_test"]


def self_test(bundle: Bundle, graphs: Mapping[str, StepGraph | WholeGraph | DecodeGraph]) -> float:
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
        if isinstance(graph, DecodeGraph):
            for case in golden.get("searches", ()):  # bundles that were exported before they were tested have none
                distances += _of_search(bundle, case, graph)
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
    yield from _of_states(case, state[: graph.moving])


def _of_search(bundle: Bundle, case: Mapping[str, Any], graph: DecodeGraph) -> Iterator[float]:
    """Yield how far log-probs, for each token, and states are off; the tokens must be the same."""
    given = dict(case["inputs"])
    inputs, noise = _input(given, graph.reads), given.pop(NOISE, None)
    options = replace(graph.options, **{name: value for name, value in given.items() if name != graph.reads})
    found = graph.run(inputs, options, noise=None if noise is None else np.array(noise, np.float64))
    sequences = found.tokens(0)
    if [list(tokens) for tokens in sequences] != case["sequences"]:
        raise BundleError(
            f"bundle {bundle.path} finds other tokens here than where it was made, in the graph that searches; "
            "update onnxruntime, or export it again"
        )
    for log_prob, expected, tokens in zip(found.log_prob[0], case["log_prob"], sequences, strict=False):
        yield abs(float(log_prob) - expected) / len(tokens)
    yield from _of_states(case, found.state)


def _of_states(case: Mapping[str, Any], state: State) -> Iterator[float]:
    for part, expected in zip(state, case["states"], strict=True):
        begin = part[-1, 0, : len(expected["last_layer_begins"])]
        yield float(np.abs(begin - expected["last_layer_begins"]).max())
