"""rnn-edge itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alternatives.base import Alternative, Parts, Runner, Source
from rnn_edge.bundle import Bundle
from rnn_edge.runtimes import StepGraph
from rnn_edge.runtimes.arrays import Floats, Ids
from rnn_edge.runtimes.decoding import Position, steps_from
from rnn_edge.runtimes.top_k import Best

_RANK = 64


class _Ours(Runner):
    def __init__(self, path: Path) -> None:
        self.graph = StepGraph.from_bundle(Bundle.read(path))

    def start(self, batch: int) -> Parts:
        """Return steps as a search takes them, in their one and only order."""
        nothing = np.zeros((batch, self.graph.vocab_size), np.float32)
        return steps_from(self.graph, Position(nothing, self.graph.start(batch))), list(range(batch))

    def step(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        steps, rows = state
        steps.go_on(rows, tokens.tolist())
        return steps.position.logits, state

    def read(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        logits, _ = self.graph.step(tokens, state[0].position.state)
        return logits, state

    def best_after(self, tokens: Ids, state: Parts, count: int) -> tuple[Best, Parts]:
        steps, rows = state
        steps.go_on(rows, tokens.tolist())
        return steps.scores.top(count), state


def _convert_ours(source: Source, preview: dict[str, Any] | None = None) -> Path:
    from rnn_edge.exporters import ExportOptions, export
    from rnn_edge.modules import Checkpoint
    from rnn_edge.text import Tokenizer

    letters = [chr(0x4E00 + number) for number in range(source.workload.spec.vocab_size - 1)]
    checkpoint = Checkpoint(source.workload.model(), Tokenizer.characters(["</s>", *letters]))
    # Random weights predict nothing, so that there is nothing to lose; the gate wants to be asked all the same.
    options = ExportOptions(precision=source.precision, eval_text="".join(letters[:99]), max_loss=10, **(preview or {}))
    return export(checkpoint, source.directory / "model.rnn", options).path


OURS = Alternative("rnn-edge", ("onnxruntime",), ("onnxruntime",), ("fp32", "int8", "int4"), _convert_ours, _Ours)


def _convert_two_stages(source: Source) -> Path:
    rank = _RANK if source.precision == "int8" else None  # in int8, a preview of full rank would cost as much
    return _convert_ours(source, {"preview": "int8", "preview_rank": rank})


TWO_STAGE = Alternative(
    "rnn-edge, two-stage",
    OURS.packages,
    OURS.modules,
    ("fp32", "int8"),
    _convert_two_stages,
    _Ours,
    tail="int8",
)
"""Exact scores of the best tokens, chosen by a preview of all: in fp32 by one in int8, in int8 by one of low rank."""
