"""Ship recurrent networks trained in PyTorch as small ONNX graphs, and run them anywhere.

    model = rnn_edge.load("model.rnn")          # numpy, onnxruntime and tokenizers are enough
    rnn_edge.export("model.pt", "model.rnn")    # needs rnn-edge[export]

Importing this loads none of them: each name is fetched when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rnn_edge.errors import (
    BundleError,
    CheckpointError,
    ExportError,
    OptionsError,
    ProviderError,
    RnnEdgeError,
    SpecError,
    TextError,
    TrainingError,
)

if TYPE_CHECKING:
    from rnn_edge.exporters import export as export
    from rnn_edge.runtimes import GenerateOptions as GenerateOptions
    from rnn_edge.runtimes import load as load

__all__ = [
    "BundleError",
    "CheckpointError",
    "ExportError",
    "GenerateOptions",
    "OptionsError",
    "ProviderError",
    "RnnEdgeError",
    "SpecError",
    "TextError",
    "TrainingError",
    "export",
    "load",
]

_HOMES = {
    "GenerateOptions": "rnn_edge.runtimes",
    "export": "rnn_edge.exporters",
    "load": "rnn_edge.runtimes",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
