"""What a step costs in things that can be counted, which are the same on a busy machine: nodes and calls.

python -m benchmarks.counts > tests/data/counts.json    # the most that tests/test_counts.py allows
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch

from rnn_edge.bundle import Bundle
from rnn_edge.exporters import ExportOptions, export
from rnn_edge.modules import Checkpoint, LanguageModel
from rnn_edge.runtimes import GenerateOptions, StepGraph, load
from rnn_edge.spec import LanguageModelSpec
from rnn_edge.text import Tokenizer

__all__ = ["FORMS", "calls_of", "counts", "write_bundle"]

CELLS = {
    "elman": {},
    "gru": {},
    "lstm": {},
    "lstm, projected and tied": {"cell": "lstm", "proj_size": 32, "tied": True},
}
FORMS = [(cell, precision) for cell in CELLS for precision in ("fp32", "int8", "int4")]
_TEXT = "the cat sat on the mat, and the end of it\n" * 9


def write_bundle(cell: str, precision: Any, path: Path) -> Path:
    """Export a network of one layer with random weights."""
    tokenizer = Tokenizer.train("characters", [_TEXT])
    sizes: dict[str, Any] = {"cell": cell, "embedding_size": 32, "hidden_size": 128, **CELLS[cell]}
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelSpec(vocab_size=tokenizer.vocab_size, **sizes)).eval()
    return export(
        Checkpoint(model, tokenizer), path, ExportOptions(precision=precision, eval_text=_TEXT, max_loss=10)
    ).path


def counts(path: Path) -> dict[str, Any]:
    """Return a bundle's nodes by operator, bodies of loops included, and the calls of Python that it takes.

    A step's calls are those of `StepGraph.step`; a beam's, those of completing with beams, for each token.
    """
    bundle, tokens = Bundle.read(path), np.ones((1, 1), np.int64)
    graph, model = StepGraph.from_bundle(bundle), load(path)
    state = graph.start(1)
    beam = GenerateOptions(num_beams=5, max_new_tokens=20, length_penalty=0.0)
    nodes = Counter(_operators(onnx.load_from_string(bundle.files[bundle.manifest.graphs["step"].file]).graph))
    return {
        "nodes": dict(sorted(nodes.items())),
        "calls of a step": calls_of(lambda: graph.step(tokens, state)),
        "calls of a beam": calls_of(lambda: model.complete("the c", beam)) // beam.max_new_tokens,
    }


def calls_of(task: Callable[[], object]) -> int:
    """Return how many functions a task calls, in Python or in C."""
    task()  # what happens only once
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        task()
    finally:
        sys.setprofile(None)
    return calls


def _operators(graph: onnx.GraphProto) -> list[str]:
    found = []
    for node in graph.node:
        found.append(node.op_type)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _operators(attribute.g)
    return found


def main() -> None:
    """Print everything as JSON."""
    found: dict[str, Any] = {}
    for cell, precision in FORMS:
        with TemporaryDirectory() as directory:
            path = write_bundle(cell, precision, Path(directory) / "model.rnn")
            found[f"{cell}, {precision}"] = counts(path)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
