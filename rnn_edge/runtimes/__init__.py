"""Run bundles with numpy, onnxruntime and tokenizers alone: no PyTorch, no onnx."""

from rnn_edge.runtimes.classifier import Classifier, Label
from rnn_edge.runtimes.decode_graph import Decoded, DecodeGraph
from rnn_edge.runtimes.embedder import Embedder
from rnn_edge.runtimes.language_model import Completion, LanguageModel, Score, Session
from rnn_edge.runtimes.load import Model, load
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.tagger import Span, Tagger, Tagging
from rnn_edge.runtimes.translator import Attention, Describer, Translation, Translator

__all__ = [
    "Attention",
    "Classifier",
    "Completion",
    "DecodeGraph",
    "Decoded",
    "Describer",
    "Embedder",
    "GenerateOptions",
    "Label",
    "LanguageModel",
    "Model",
    "Score",
    "Session",
    "Span",
    "StepGraph",
    "Tagger",
    "Tagging",
    "Translation",
    "Translator",
    "load",
]
