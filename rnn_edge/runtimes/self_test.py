"""Does this machine give what the bundle says it must? Runs golden.json on an open graph."""

from __future__ import annotations

import json

import numpy as np

from rnn_edge.bundle import GOLDEN, Bundle
from rnn_edge.errors import BundleError
from rnn_edge.runtimes.decoding import StepModel

__all__ = ["self_test"]


def self_test(bundle: Bundle, graph: StepModel) -> float:
    """Return how far any number is from the bundle's golden vectors; raise BundleError when that is too far."""
    golden = json.loads(bundle.files[GOLDEN])
    distances = []
    for case in golden["cases"]:
        logits, state = graph.step(np.array([case["tokens"]]), graph.start(1))
        distances.append(np.abs(logits[0, case["best_tokens"]] - case["best_logits"]).max())
        for part, expected in zip(state, case["states"], strict=True):
            begin = part[-1, 0, : len(expected["last_layer_begins"])]
            distances.append(np.abs(begin - expected["last_layer_begins"]).max())
    worst = float(np.max(distances))
    if not worst <= golden["tolerance"]:  # so that not a number is too far
        raise BundleError(
            f"bundle {bundle.path} gives other numbers here than where it was made: {worst:.1e} off, "
            f"allowed {golden['tolerance']:g}; update onnxruntime, or export it in another precision"
        )
    return worst
