"""Ship recurrent networks trained in PyTorch as small ONNX graphs, and run them anywhere.

    model = rnn_edge.load("model.rnn")          # numpy, onnxruntime and tokenizers are enough
    rnn_edge.export("model.pt", "model.rnn")    # needs rnn-edge[export]

Importing this loads none of them: each name is fetched when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnn_edge.errors import (
    BundleError,
    CheckpointError,
    CorpusError,
    ExportError,
    OptionsError,
    PackageError,
    ProviderError,
    ProviderWarning,
    RnnEdgeError,
    SessionError,
    SpecError,
    TextError,
    TrainingError,
)
from rnn_edge.lazy import lazy_names

if TYPE_CHECKING:
    from rnn_edge.exporters import export as export
    from rnn_edge.runtimes import GenerateOptions as GenerateOptions
    from rnn_edge.runtimes import Lexicon as Lexicon
    from rnn_edge.runtimes import SuggestOptions as SuggestOptions
    from rnn_edge.runtimes import load as load

__all__ = [
    "BundleError",
    "CheckpointError",
    "CorpusError",
    "ExportError",
    "GenerateOptions",
    "Lexicon",
    "OptionsError",
    "PackageError",
    "ProviderError",
    "ProviderWarning",
    "RnnEdgeError",
    "SessionError",
    "SpecError",
    "SuggestOptions",
    "TextError",
    "TrainingError",
    "export",
    "load",
]

_HOMES = {
    "GenerateOptions": "rnn_edge.runtimes",
    "Lexicon": "rnn_edge.runtimes",
    "SuggestOptions": "rnn_edge.runtimes",
    "export": "rnn_edge.exporters",
    "load": "rnn_edge.runtimes",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
