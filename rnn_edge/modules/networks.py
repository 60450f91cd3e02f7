"""Every network by the spec that describes it."""

from __future__ import annotations

from typing import TypeAlias

from rnn_edge.modules.classifier import Classifier, SentenceEncoder
from rnn_edge.modules.language_model import LanguageModel
from rnn_edge.modules.tagger import Tagger
from rnn_edge.modules.translator import Describer, Translator
from rnn_edge.spec import (
    ClassifierSpec,
    DecoderSpec,
    DescriberSpec,
    LanguageModelSpec,
    ModelSpec,
    SentenceEncoderSpec,
    TaggerSpec,
    TranslatorSpec,
)

__all__ = ["Network", "build", "tied_weights"]

Network: TypeAlias = LanguageModel | Translator | Describer | Classifier | SentenceEncoder | Tagger


def build(spec: ModelSpec) -> Network:
    """Return the network that a spec describes, with new weights."""
    if isinstance(spec, LanguageModelSpec):
        return LanguageModel(spec)
    if isinstance(spec, TranslatorSpec):
        return Translator(spec)
    if isinstance(spec, DescriberSpec):
        return Describer(spec)
    if isinstance(spec, ClassifierSpec):
        return Classifier(spec)
    if isinstance(spec, SentenceEncoderSpec):
        return SentenceEncoder(spec)
    assert isinstance(spec, TaggerSpec)
    return Tagger(spec)


def tied_weights(model: Network) -> dict[str, str]:
    """Return which of a network's weights are the same tensor under a second name: that name, and the first one."""
    if not isinstance(model.spec, DecoderSpec) or not model.spec.tied:
        return {}
    decoder = "" if isinstance(model, LanguageModel) else "decoder."
    return {f"{decoder}embedding.weight": f"{decoder}output.weight"}
