"""Where a bundle really runs, and where it runs fastest: both are measured, never guessed."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnn_edge.bundle import Bundle, Port
from rnn_edge.errors import ProviderError
from rnn_edge.runtimes.arrays import State
from rnn_edge.runtimes.providers import CPU, find, usable
from rnn_edge.runtimes.sessions import Place
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.whole_graph import WholeGraph

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AUTO", "Measured", "RanNode", "by_provider", "measure_providers", "placement", "unforeseen"]

AUTO = "auto"
_COPIES = {"MemcpyFromHost", "MemcpyToHost"}  # between devices; no graph has them
_WARM_UP_STEPS, _STEPS = 5, 20


@dataclass(frozen=True)
class RanNode:
    """A node that ran: what it computes and on which provider, by onnxruntime's full name.

    Providers that compile show several of the graph's nodes as one of their own.
    """

    name: str
    operator: str
    provider: str


@dataclass(frozen=True)
class Measured:
    """How long a provider takes for one token of one row, through all graphs; or why it does not run the bundle."""

    provider: str
    seconds: float
    problem: str = ""


def placement(bundle: Bundle, **place: Unpack[Place]) -> list[RanNode]:
    """Read one token, and return each node that ran of the graphs that read it, from onnxruntime's own profile."""
    with tempfile.TemporaryDirectory() as folder:
        profiled: Place = {**place, "profile": str(Path(folder) / "profile")}
        graphs = _open(bundle, **profiled)
        _read_one_token(bundle, graphs)
        profiles = [Path(graph.end_profile()).read_text(encoding="utf-8") for graph in graphs.values()]
    return [node for profile in profiles for node in _nodes(json.loads(profile))]


def by_provider(nodes: Sequence[RanNode]) -> dict[str, dict[str, int]]:
    """Return how many nodes of each operator ran on each provider."""
    counts: dict[str, Counter[str]] = {}
    for node in nodes:
        counts.setdefault(node.provider, Counter())[node.operator] += 1
    return {provider: dict(sorted(operators.items())) for provider, operators in counts.items()}


def unforeseen(bundle: Bundle, provider: str, ran: Sequence[RanNode]) -> str:
    """Say how what ran differs from what the export foretold; empty where it does not, or nothing was foretold.

    Operators are compared, not their numbers: onnxruntime makes one node of several, and providers that compile make
    one of all.
    """
    target, step = find(provider), bundle.manifest.graphs.get("step")
    if step is None or step.placement is None or target.name != bundle.manifest.target:
        return ""
    here = {node.operator for node in ran if node.provider == target.full_name}
    elsewhere = {node.operator for node in ran if node.provider != target.full_name} - _COPIES
    if here and elsewhere == step.placement.elsewhere.keys():
        return ""
    left = f"all but {', '.join(sorted(elsewhere))}" if elsewhere else "everything"
    expected = f"all but {', '.join(step.placement.elsewhere)}" if step.placement.elsewhere else "everything"
    return f"{target.name} ran {left if here else 'nothing'}, and the export foretold {expected}"


def measure_providers(bundle: Bundle, *, threads: int = 1) -> list[Measured]:
    """Run a bundle on every provider that can be used here; fastest first, those that cannot run it last."""
    measured = [_measure(bundle, provider.name, threads) for provider in usable()]
    return sorted(measured, key=lambda each: each.seconds)


def _measure(bundle: Bundle, provider: str, threads: int) -> Measured:
    try:
        return Measured(provider, _time(bundle, _open(bundle, provider=provider, threads=threads)))
    except ProviderError as error:
        if provider == CPU.name:
            raise
        return Measured(provider, float("inf"), str(error))


def _time(bundle: Bundle, graphs: Mapping[str, StepGraph | WholeGraph]) -> float:
    """Return the median of what a token of one row takes, in seconds."""
    times = []
    for _ in range(_WARM_UP_STEPS + _STEPS):
        begin = perf_counter()
        _read_one_token(bundle, graphs)
        times.append(perf_counter() - begin)
    return median(times[_WARM_UP_STEPS:])


def _open(bundle: Bundle, **place: Unpack[Place]) -> dict[str, StepGraph | WholeGraph]:
    """Open a bundle's graphs by role: first what reads texts or vectors, last what goes on from there step by step.

    One that searches by itself is not among them: it does what these two do.
    """
    graphs: dict[str, StepGraph | WholeGraph] = {}
    if bundle.manifest.reader:
        graphs[bundle.manifest.reader] = WholeGraph.from_bundle(bundle, bundle.manifest.reader, **place)
    if "step" in bundle.manifest.graphs:
        graphs["step"] = StepGraph.from_bundle(bundle, **place)
    return graphs


def _read_one_token(bundle: Bundle, graphs: Mapping[str, StepGraph | WholeGraph]) -> None:
    """Read the first token of the vocabulary, or a vector of zeros, with all graphs of a bundle."""
    state: State | None = None
    for role, graph in graphs.items():
        if isinstance(graph, StepGraph):
            graph.step(np.array([[0]]), graph.start(1) if state is None else state)
        else:
            state = graph.run(*map(_zeros, bundle.manifest.graphs[role].inputs))


def _zeros(port: Port) -> NDArray[Any]:
    """Return zeros for an input, with every size that is chosen at each call 1."""
    return np.zeros([1 if isinstance(size, str) else size for size in port.shape], port.dtype)


def _nodes(events: Sequence[dict[str, Any]]) -> list[RanNode]:
    """Return the nodes of a profile; a Scan's own nodes run once a token, and are told once."""
    found: dict[RanNode, None] = {}
    for event in events:
        told = event.get("args", {})
        if event.get("cat") == "Node" and "provider" in told:
            found[RanNode(event["name"].removesuffix("_kernel_time"), told["op_name"], told["provider"])] = None
    return list(found)
