"""A graph that reads whole texts, or vectors, in an ONNX Runtime session: an encoder, a classifier, a tagger.

It knows the contract of docs/bundle-format.md and nothing of text. It keeps no state; threads may share one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from rnn_edge.bundle import Bundle, Graph
from rnn_edge.errors import BundleError
from rnn_edge.runtimes.sessions import Place, open_session, why_it_failed

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["WholeGraph"]

Array = NDArray[Any]


class WholeGraph:
    """Runs one graph without state."""

    def __init__(self, content: bytes, description: Graph, **place: Unpack[Place]) -> None:
        self._session = open_session(content, **place)
        self._inputs = description.inputs
        self.inputs = tuple(port.name for port in description.inputs)
        self.outputs = tuple(port.name for port in description.outputs)
        wanted = [port.name for port in (*description.inputs, *description.outputs)]
        found = [port.name for port in (*self._session.get_inputs(), *self._session.get_outputs())]
        if found != wanted:
            raise BundleError(
                f"this is not the graph of its manifest: wanted the inputs and outputs {', '.join(wanted)}, "
                f"found {', '.join(found)}"
            )

    @classmethod
    def from_bundle(cls, bundle: Bundle, role: str, **place: Unpack[Place]) -> WholeGraph:
        """Open the graph in a role of a bundle: `model`, or `encoder`; `place` is what `open_session` takes."""
        graph = bundle.manifest.graphs.get(role)
        if graph is None:
            raise BundleError(f"bundle {bundle.path} has no graph in the role {role!r}")
        return cls(bundle.files[graph.file], graph, **place)

    def run(self, *arrays: Array) -> tuple[Array, ...]:
        """Return all outputs, in the order of the manifest; inputs in that order too."""
        try:
            feed = {port.name: array for port, array in zip(self._inputs, arrays, strict=True)}
            return tuple(self._session.run(None, feed))
        except Exception as error:  # onnxruntime has a dozen unrelated classes for this
            raise why_it_failed(error, ", ".join(map(str, self._inputs)), arrays) from error

    def end_profile(self) -> str:
        """Return the file that onnxruntime wrote its profile to; only of a graph opened with `profile`."""
        return str(self._session.end_profiling())
