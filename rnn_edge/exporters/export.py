"""From a checkpoint to a bundle: build the graph, open it, compare it with PyTorch, describe it, write it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from rnn_edge.bundle import GOLDEN, GRAPH, TOKENIZER, Bundle, Graph, Manifest, check_destination
from rnn_edge.errors import ExportError
from rnn_edge.exporters.golden import golden_json
from rnn_edge.exporters.graphs import OLDEST_OPSET, describe_graph, step_graph
from rnn_edge.exporters.parity import Parity, measure_parity
from rnn_edge.modules import Checkpoint, load_checkpoint
from rnn_edge.runtimes.step_graph import StepGraph

__all__ = ["ATOL", "Exported", "Precision", "Target", "export", "verify"]

Precision = Literal["fp32"]
Target = Literal["cpu"]

ATOL = 1e-5
"""How far a logit or a state in float32 may be from PyTorch's."""


@dataclass(frozen=True)
class Exported:
    """What an export left, and how it compares with PyTorch."""

    path: Path
    bytes: int
    parity: Parity


def export(
    checkpoint: str | Path | Checkpoint,
    output: str | Path,
    *,
    opset: int = OLDEST_OPSET,
    atol: float = ATOL,
) -> Exported:
    """Turn a checkpoint into a bundle at `output`.

    When its graph disagrees with PyTorch by more than `atol`, raise ExportError and leave nothing behind.
    """
    _check_atol(atol)
    output = Path(output)
    check_destination(output)
    source = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(Path(checkpoint))
    model = step_graph(source.model, opset=opset)
    content = model.SerializeToString(deterministic=True)
    graph = describe_graph(model, GRAPH)
    running = StepGraph(content, graph.inputs[1:])
    parity = measure_parity(source.model, running, atol=atol)
    parity.require()
    files = {
        GRAPH: content,
        TOKENIZER: source.tokenizer.to_json().encode(),
        GOLDEN: golden_json(running, source.model.spec).encode(),
    }
    Bundle.write(output, _manifest(source, graph, parity), files)
    return Exported(output, sum(map(len, files.values())), parity)


def verify(checkpoint: str | Path, bundle: str | Path, *, atol: float = ATOL) -> Parity:
    """Compare a bundle with the checkpoint it should have come from; see `Parity.require`."""
    _check_atol(atol)
    source, found = load_checkpoint(Path(checkpoint)), Bundle.read(Path(bundle))
    if source.model.spec != found.manifest.spec:
        raise ExportError(
            f"{bundle} was not exported from {checkpoint}: the bundle holds {found.manifest.spec}, "
            f"the checkpoint {source.model.spec}"
        )
    if source.tokenizer.to_json() != found.tokenizer.to_json():
        raise ExportError(f"{bundle} was not exported from {checkpoint}: their vocabularies differ")
    return measure_parity(source.model, StepGraph.from_bundle(found), atol=atol)


def _check_atol(atol: float) -> None:
    if not 0 < atol < float("inf"):
        raise ExportError(f"atol must be a positive number, got {atol}")


def _manifest(source: Checkpoint, graph: Graph, parity: Parity) -> Manifest:
    return Manifest(
        spec=source.model.spec,
        precision="fp32",
        target="cpu",
        graphs={"step": graph},
        parity=parity.to_dict(),
        history=source.history,
        versions={name: version(name) for name in ("rnn-edge", "torch", "onnx", "onnxscript", "onnxruntime")},
    )
