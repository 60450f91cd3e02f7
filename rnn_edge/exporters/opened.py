"""A network's graphs in sessions, by what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rnn_edge.bundle import Bundle, Graph
from rnn_edge.exporters.candidates import CandidateSteps
from rnn_edge.exporters.graphs import Built
from rnn_edge.runtimes.decode_graph import DecodeGraph
from rnn_edge.runtimes.sessions import Place
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.whole_graph import WholeGraph

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Opened"]


@dataclass(frozen=True)
class Opened:
    """The graphs of one network, ready to run: one reads whole texts, one goes step by step, one searches by itself.

    scored  opens the step graph once more, where it scores in two stages: with the tokens that it scored exactly
    """

    reader: WholeGraph | None  # role `model` or `encoder`
    step: StepGraph | None
    decode: DecodeGraph | None = None
    scored: Callable[[], CandidateSteps] | None = None

    @classmethod
    def from_built(cls, built: Built) -> Opened:
        """Open graphs as they were built."""
        graphs = built.describe()
        return cls.from_files(
            graphs, {graphs[role].file: proto.SerializeToString() for role, proto in built.protos.items()}
        )

    @classmethod
    def from_files(cls, graphs: Mapping[str, Graph], files: Mapping[str, bytes]) -> Opened:
        """Open graphs that are not written yet, by role, from the files they are in."""
        reader = step = decode = scored = None
        for role, description in graphs.items():
            content = files[description.file]
            if role == "step":
                step = StepGraph(content, description.inputs[1:])
                scored = partial(CandidateSteps, content)
            elif role == "decode":
                decode = DecodeGraph(content, description)
            else:
                reader = WholeGraph(content, description)
        return cls(reader, step, decode, scored)

    @classmethod
    def from_bundle(cls, bundle: Bundle, **place: Unpack[Place]) -> Opened:
        """Open the graphs of a bundle; `place` is what `open_session` takes."""
        roles = bundle.manifest.graphs
        reader = bundle.manifest.reader
        return cls(
            WholeGraph.from_bundle(bundle, reader, **place) if reader else None,
            StepGraph.from_bundle(bundle, **place) if "step" in roles else None,
            DecodeGraph.from_bundle(bundle, **place) if "decode" in roles else None,
            partial(CandidateSteps, bundle.files[roles["step"].file], **place) if "step" in roles else None,
        )
