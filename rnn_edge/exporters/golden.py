"""golden.json: a few inputs with what the graph must give, so that an app in any language can test itself."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from rnn_edge.bundle import Precision
from rnn_edge.runtimes.arrays import Floats
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.spec import LanguageModelSpec

__all__ = ["golden_json"]

CASES, LENGTH, LISTED, CONTINUED = 3, 12, 8, 16
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "int8": 5e-2, "int4": 2e-1}
"""Across processors and versions of onnxruntime: a last bit may tip the rounding of an activation."""


def golden_json(graph: StepGraph, spec: LanguageModelSpec, precision: Precision) -> str:
    """Return what the graph gives for a few random rows from zero states: best logits, some states, a greedy text."""
    random = np.random.default_rng(0)
    cases = [_case(graph, random.integers(0, spec.vocab_size, LENGTH - row).tolist()) for row in range(CASES)]
    return json.dumps({"tolerance": TOLERANCES[precision], "cases": cases}, indent=1) + "\n"


def _case(graph: StepGraph, tokens: list[int]) -> dict[str, Any]:
    logits, state = graph.step(np.array([tokens]), graph.start(1))
    best = np.argsort(-logits[0], kind="stable")[:LISTED]
    case = {
        "tokens": tokens,
        "best_tokens": best.tolist(),
        "best_logits": _rounded(logits[0, best]),
        "states": [{"shape": list(part.shape), "last_layer_begins": _rounded(part[-1, 0, :LISTED])} for part in state],
    }
    greedy = []
    for _ in range(CONTINUED):
        greedy.append(int(logits[0].argmax()))
        logits, state = graph.step(np.array([greedy[-1:]]), state)
    return {**case, "greedy": greedy}


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 6) for value in values]
