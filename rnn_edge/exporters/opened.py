"""A network's graphs in sessions, by what they do."""

from __future__ import annotations

from dataclasses import dataclass

from rnn_edge.bundle import Bundle
from rnn_edge.exporters.graphs import Built, describe_graph
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.whole_graph import WholeGraph

__all__ = ["Opened"]


@dataclass(frozen=True)
class Opened:
    """The graphs of one network, ready to run: the one that reads whole texts, and the one that goes step by step."""

    reader: WholeGraph | None  # role `model` or `encoder`
    step: StepGraph | None

    @classmethod
    def from_built(cls, built: Built) -> Opened:
        """Open graphs that are not written yet."""
        reader = step = None
        for role, proto in built.protos.items():
            content, description = proto.SerializeToString(deterministic=True), describe_graph(role, proto)
            if role == "step":
                step = StepGraph(content, description.inputs[1:])
            else:
                reader = WholeGraph(content, description)
        return cls(reader, step)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Opened:
        """Open the graphs of a bundle."""
        roles = bundle.manifest.graphs
        reader = next((WholeGraph.from_bundle(bundle, role) for role in roles if role != "step"), None)
        return cls(reader, StepGraph.from_bundle(bundle) if "step" in roles else None)
