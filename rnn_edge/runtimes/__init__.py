"""Run bundles with numpy, onnxruntime and tokenizers alone: no PyTorch, no onnx."""

from rnn_edge.runtimes.classifier import Classifier, Label
from rnn_edge.runtimes.decode_graph import Decoded, DecodeGraph
from rnn_edge.runtimes.embedder import Embedder
from rnn_edge.runtimes.graph_writer import GraphWriter
from rnn_edge.runtimes.language_model import Completion, LanguageModel, Score
from rnn_edge.runtimes.lexicon import Lexicon
from rnn_edge.runtimes.load import BUILT_IN, Model, load
from rnn_edge.runtimes.measuring import AUTO, Measured, RanNode, by_provider, measure_providers, placement, unforeseen
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.session import Session
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.suggesting import Suggestion, SuggestOptions
from rnn_edge.runtimes.tagger import Span, Tagger, Tagging
from rnn_edge.runtimes.translator import Attention, Describer, Translation, Translator

__all__ = [
    "AUTO",
    "BUILT_IN",
    "Attention",
    "Classifier",
    "Completion",
    "DecodeGraph",
    "Decoded",
    "Describer",
    "Embedder",
    "GenerateOptions",
    "GraphWriter",
    "Label",
    "LanguageModel",
    "Lexicon",
    "Measured",
    "Model",
    "RanNode",
    "Score",
    "Session",
    "Span",
    "StepGraph",
    "SuggestOptions",
    "Suggestion",
    "Tagger",
    "Tagging",
    "Translation",
    "Translator",
    "by_provider",
    "load",
    "measure_providers",
    "placement",
    "unforeseen",
]
