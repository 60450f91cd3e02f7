"""What a model says of texts, as lines to print: text, or a JSON object for each.

It knows what the runtime's models return, and nothing of terminals.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from rnn_edge.errors import TextError
from rnn_edge.runtimes import (
    Classifier,
    Completion,
    Describer,
    Embedder,
    GenerateOptions,
    GraphWriter,
    LanguageModel,
    Model,
    Tagger,
    Translation,
    Translator,
)

__all__ = ["Answers", "answer", "ask", "invite"]

Answers: TypeAlias = Iterator[tuple[list[str], dict[str, Any]]]
"""Of each text, the lines that a reader wants, and all there is to know, as plain values."""

_WANTED: dict[type, str] = {
    LanguageModel: "the beginning of a line",
    Translator: "a text to translate",
    Describer: "a vector, as a JSON list of numbers,",
    Classifier: "a text to classify",
    Embedder: "a text to embed",
    Tagger: "a sentence to tag",
    GraphWriter: "what to search from",
}


def invite(model: Model | GraphWriter, accepts: str = "") -> str:
    """Return what a prompt asks for, and how it helps with that."""
    return f"Type {_WANTED[type(model)]}{accepts} and press Enter; Ctrl-D ends."


def answer(
    model: Model | GraphWriter,
    texts: Sequence[str],
    options: GenerateOptions,
    *,
    as_json: bool,
    batch_size: int = 16,
    score: bool = False,
) -> Iterator[list[str]]:
    """Yield what to print of each text in turn: its lines, or one JSON object. The arguments are those of `ask`."""
    for lines, values in ask(model, texts, options, batch_size=batch_size, score=score):
        yield [json.dumps(values, ensure_ascii=False)] if as_json else lines


def ask(
    model: Model | GraphWriter,
    texts: Sequence[str],
    options: GenerateOptions,
    *,
    batch_size: int = 16,
    score: bool = False,
) -> Answers:
    """Yield what a model says of each text in turn; where one cannot be read, those before it are answered first.

    options     of those that write: language models, translators and describers
    batch_size  of language models: texts that are completed together
    score       a language model tells how probable texts are, instead of completing them
    """
    if isinstance(model, LanguageModel) and not score:
        yield from _complete(model, texts, options, batch_size)
        return
    try:
        answers = list(_ask_together(model, texts, options))
    except TextError:
        if len(texts) == 1:
            raise
        for text in texts:
            yield from _ask_together(model, [text], options)
        raise
    yield from answers


def _ask_together(model: Model | GraphWriter, texts: Sequence[str], options: GenerateOptions) -> Answers:
    match model:
        case LanguageModel():
            return _score(model, texts)
        case Translator():
            return _translate(model, texts, options)
        case Describer():
            return _describe(model, texts, options)
        case Classifier():
            return _classify(model, texts)
        case Embedder():
            return _embed(model, texts)
        case Tagger():
            return _tag(model, texts)
        case GraphWriter():
            return _write_in_graph(model, texts, options)


def _score(model: LanguageModel, texts: Sequence[str]) -> Answers:
    for text, found in zip(texts, model.score(texts), strict=True):
        values = {
            "text": text,
            "log_prob": round(found.log_prob, 4),
            "perplexity": round(found.perplexity, 4),
            "bits_per_character": round(found.bits_per_character, 6),
        }
        yield [f"{found.perplexity:.4f}"], values


def _complete(model: LanguageModel, texts: Sequence[str], options: GenerateOptions, batch_size: int) -> Answers:
    for text, found in model.complete_many(texts, options, batch_size=batch_size):
        yield [text + each.text for each in found], {"prompt": text, "completions": _written(found)}


def _translate(model: Translator, texts: Sequence[str], options: GenerateOptions) -> Answers:
    for text, found in zip(texts, model.translate(texts, options), strict=True):
        yield [each.text for each in found], {"source": text, "translations": _written(found)}


def _describe(model: Describer, texts: Sequence[str], options: GenerateOptions) -> Answers:
    for found in model.describe([_vector(text, model.vector_size) for text in texts], options):
        yield [each.text for each in found], {"descriptions": _written(found)}


def _write_in_graph(model: GraphWriter, texts: Sequence[str], options: GenerateOptions) -> Answers:
    if model.task == "describe":
        for found in model.describe([_vector(text, model.vector_size) for text in texts], options):
            yield [each.text for each in found], {"descriptions": _written(found)}
        return
    asked, told = ("prompt", "completions") if model.task == "language-model" else ("source", "translations")
    for text, found in zip(texts, model.write(texts, options), strict=True):
        before = text if model.task == "language-model" else ""
        yield [before + each.text for each in found], {asked: text, told: _written(found)}


def _classify(model: Classifier, texts: Sequence[str]) -> Answers:
    for text, found in zip(texts, model.classify(texts), strict=True):
        labels = [{"label": each.label, "probability": round(each.probability, 6)} for each in found]
        yield [found[0].label], {"text": text, "labels": labels}


def _embed(model: Embedder, texts: Sequence[str]) -> Answers:
    for text, vector in zip(texts, model.embed(texts), strict=True):
        numbers = [float(str(number)) for number in vector]  # as few digits as tell float32 numbers apart
        yield [json.dumps(numbers)], {"text": text, "vector": numbers}


def _tag(model: Tagger, texts: Sequence[str]) -> Answers:
    for found in model.tag(texts):
        line = " ".join(f"{word}/{label}" for word, label in zip(found.words, found.labels, strict=True))
        values = {"words": found.words, "labels": found.labels, "log_prob": round(found.log_prob, 4)}
        if found.probabilities is not None:
            values["probabilities"] = [round(probability, 6) for probability in found.probabilities]
        yield [line], values


def _written(found: Sequence[Completion] | Sequence[Translation]) -> list[dict[str, Any]]:
    return [
        {"text": each.text, "log_prob": round(each.log_prob, 4), "finish_reason": each.finish_reason} for each in found
    ]


def _vector(text: str, size: int) -> list[float]:
    """Read a vector from JSON."""
    try:
        numbers = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TextError(f"{text!r:.80} is not JSON ({error}); give a vector as a list of {size} numbers") from error
    if (
        not isinstance(numbers, list)
        or len(numbers) != size
        or not all(type(number) in (int, float) for number in numbers)
    ):
        raise TextError(f"a vector is a list of {size} numbers in JSON, got {text!r:.80}")
    return numbers
