"""Run bundles with numpy, onnxruntime and tokenizers alone: no PyTorch, no onnx."""

from rnn_edge.runtimes.language_model import Completion, LanguageModel, Score, Session
from rnn_edge.runtimes.load import BUILT_IN, load
from rnn_edge.runtimes.measuring import AUTO, Measured, RanNode, by_provider, measure_providers, placement
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.step_graph import StepGraph

__all__ = [
    "AUTO",
    "BUILT_IN",
    "Completion",
    "GenerateOptions",
    "LanguageModel",
    "Measured",
    "RanNode",
    "Score",
    "Session",
    "StepGraph",
    "by_provider",
    "load",
    "measure_providers",
    "placement",
]
