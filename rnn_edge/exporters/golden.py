"""golden.json: a few inputs with what the graph must give, so that an app in any language can test itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_edge.bundle import Precision
from rnn_edge.exporters.examples import Arrays, random_rows
from rnn_edge.exporters.opened import Opened
from rnn_edge.runtimes.arrays import Floats, State
from rnn_edge.runtimes.names import LABELS, LOG_PROB
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.whole_graph import WholeGraph
from rnn_edge.spec import DecoderSpec, ModelSpec

__all__ = ["golden_json"]

CASES, LENGTH, LISTED, CONTINUED = 3, 12, 8, 16
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "int8": 5e-2, "int4": 2e-1}
"""Across processors and versions of onnxruntime: a last bit may tip the rounding of an activation."""


def golden_json(graphs: Opened, spec: ModelSpec, precision: Precision) -> str:
    """Return what the graphs give for a few random rows: of whole texts, and of what is written from there."""
    random = np.random.default_rng(0)
    lengths = [LENGTH - row for row in range(CASES)]
    golden: dict[str, Any] = {"tolerance": TOLERANCES[precision]}
    starts: list[State | None] = [None] * CASES
    if graphs.reader is not None:
        rows = random_rows(spec, lengths, random)
        outputs = [graphs.reader.run(*row) for row in rows]
        left_out = (LABELS, LOG_PROB) if precision in ("int8", "int4") else ()  # a last bit may tip a label
        golden["texts"] = [_text(graphs.reader, *both, left_out) for both in zip(rows, outputs, strict=True)]
        starts = [*outputs]
    if graphs.step is not None:
        assert isinstance(spec, DecoderSpec)
        golden["cases"] = [
            _case(graphs.step, random.integers(0, spec.written_vocab_size, length).tolist(), start)
            for length, start in zip(lengths, starts, strict=True)
        ]
    return json.dumps(golden, indent=1) + "\n"


def _text(graph: WholeGraph, inputs: Arrays, outputs: Arrays, left_out: Sequence[str]) -> dict[str, Any]:
    named = zip(graph.outputs, outputs, strict=True)
    return {
        "inputs": {name: array.tolist() for name, array in zip(graph.inputs, inputs, strict=True)},
        "outputs": {
            name: {"shape": list(array.shape), "begins": _rounded(array.ravel()[:LISTED])}
            for name, array in named
            if name not in left_out
        },
    }


def _case(graph: StepGraph, tokens: list[int], start: State | None) -> dict[str, Any]:
    logits, state = graph.step(np.array([tokens]), graph.start(1) if start is None else start)
    best = np.argsort(-logits[0], kind="stable")[:LISTED]
    case = {
        "tokens": tokens,
        "best_tokens": best.tolist(),
        "best_logits": _rounded(logits[0, best]),
        "states": [
            {"shape": list(part.shape), "last_layer_begins": _rounded(part[-1, 0, :LISTED])}
            for part in state[: graph.moving]
        ],
    }
    greedy = []
    for _ in range(CONTINUED):
        greedy.append(int(logits[0].argmax()))
        logits, state = graph.step(np.array([greedy[-1:]]), state)
    return {**case, "greedy": greedy}


def _rounded(values: NDArray[Any] | Floats) -> list[float]:
    return [round(float(value), 6) for value in values]
