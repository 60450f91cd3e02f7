"""golden.json: a few inputs with what the graph must give, so that an app in any language can test itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_edge.bundle import Precision
from rnn_edge.exporters.examples import Arrays, random_rows
from rnn_edge.exporters.opened import Opened
from rnn_edge.exporters.searches import begin_to_write, search_on_host
from rnn_edge.runtimes.arrays import Floats, Ids, State
from rnn_edge.runtimes.decode_graph import DecodeGraph
from rnn_edge.runtimes.decoding import StepModel
from rnn_edge.runtimes.names import (
    LABELS,
    LENGTH_PENALTY,
    LOG_PROB,
    MAX_NEW_TOKENS,
    MIN_P,
    NOISE,
    TEMPERATURE,
    TOP_K,
    TOP_P,
)
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.whole_graph import WholeGraph
from rnn_edge.spec import DecoderSpec, ModelSpec

__all__ = ["golden_json"]

CASES, LENGTH, LISTED, CONTINUED = 3, 12, 8, 16
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "int8": 5e-2, "int4": 2e-1}
"""Across processors and versions of onnxruntime: a last bit may tip the rounding of an activation."""
_TRIED, _NUDGES = 6, 3
_DRAWS: dict[str, Any] = {TEMPERATURE: 0.8, TOP_K: 20, TOP_P: 0.95, MIN_P: 0.01}


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
    if graphs.decode is not None:
        golden["searches"] = list(islice(_searches(graphs, spec, golden["tolerance"], random), CASES))
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
        "states": _states(state[: graph.moving]),
    }
    greedy = []
    for _ in range(CONTINUED):
        greedy.append(int(logits[0].argmax()))
        logits, state = graph.step(np.array([greedy[-1:]]), state)
    return {**case, "greedy": greedy}


def _states(state: State) -> list[dict[str, Any]]:
    return [{"shape": list(part.shape), "last_layer_begins": _rounded(part[-1, 0, :LISTED])} for part in state]


def _searches(
    graphs: Opened, spec: ModelSpec, tolerance: float, random: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Yield what the graph that searches gives of random inputs, where a nudge of every score changes no token of it.

    The longer searches come first; of a network that wavers at every token there may be none.
    """
    assert graphs.decode is not None
    for most in (8, 4, 2, 1):
        for length in range(1, _TRIED + 1):
            ((inputs,),) = random_rows(spec, [length], random)
            seed = int(random.integers(2**32))
            case = _search(graphs.decode, inputs, most, seed)
            nudged = (_nudged(graphs, inputs, most, seed, tolerance, nudge) for nudge in range(_NUDGES))
            if all(case["sequences"] == each for each in nudged):
                yield case


def _options(graph: DecodeGraph, most: int) -> GenerateOptions:
    draws = _DRAWS if graph.options.do_sample else {}
    return replace(graph.options, max_new_tokens=most, **draws)


def _search(graph: DecodeGraph, inputs: Ids | Floats, most: int, seed: int) -> dict[str, Any]:
    options, noise = _options(graph, most), None
    given: dict[str, Any] = {graph.reads: inputs.tolist()}
    if options.do_sample:
        noise = np.random.default_rng(seed).random((1, most))
        given |= {**_DRAWS, NOISE: noise.tolist()}
    else:
        given[MAX_NEW_TOKENS] = most
    if graph.search.strategy == "beam":
        given[LENGTH_PENALTY] = options.length_penalty
    found = graph.run(inputs, options, noise=noise)
    sequences = [list(tokens) for tokens in found.tokens(0)]
    return {
        "inputs": given,
        "sequences": sequences,
        "log_prob": _rounded(found.log_prob[0, : len(sequences)]),
        "states": _states(found.state),
    }


class _Nudged:
    """A network whose scores are off by up to a tolerance, at random."""

    def __init__(self, model: StepModel, tolerance: float, random: np.random.Generator) -> None:
        self._model, self._tolerance, self._random = model, tolerance, random
        self.start = model.start

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        logits, state = self._model.step(tokens, state)
        nudges = self._random.uniform(-self._tolerance, self._tolerance, logits.shape)
        return logits + nudges.astype(np.float32), state


def _nudged(
    graphs: Opened, inputs: Ids | Floats, most: int, seed: int, tolerance: float, nudge: int
) -> list[list[int]]:
    """Return what the host finds when scores are a little off."""
    assert graphs.decode is not None
    assert graphs.step is not None
    model = _Nudged(graphs.step, tolerance, np.random.default_rng(nudge))
    search = graphs.decode.search
    start = graphs.reader.run(inputs) if graphs.reader else None
    position = begin_to_write(model, search, inputs.tolist(), start)
    (paths,) = search_on_host(model, position, search, _options(graphs.decode, most), [seed])
    return [list(path.tokens) for path in paths]


def _rounded(values: NDArray[Any] | Floats) -> list[float]:
    return [round(float(value), 6) for value in values]
