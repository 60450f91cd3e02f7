"""Run bundles with numpy, onnxruntime and tokenizers alone: no PyTorch, no onnx."""

from rnn_edge.runtimes.language_model import Completion, LanguageModel, Score
from rnn_edge.runtimes.lexicon import Lexicon
from rnn_edge.runtimes.load import load
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.session import Session
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.suggesting import Suggestion, SuggestOptions

__all__ = [
    "Completion",
    "GenerateOptions",
    "LanguageModel",
    "Lexicon",
    "Score",
    "Session",
    "StepGraph",
    "SuggestOptions",
    "Suggestion",
    "load",
]
