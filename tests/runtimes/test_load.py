"""A bundle is opened as what it is for, and says what its network says in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import export_network, tiny_bundle
from runtimes.fakes import about

import rnn_edge
from rnn_edge.runtimes import (
    Classifier,
    Describer,
    Embedder,
    GenerateOptions,
    LanguageModel,
    Tagger,
    Translator,
)
from rnn_edge.runtimes.reading import pad

torch = pytest.importorskip("torch")

PATH = Path("model.rnn")
TEXTS = ["the cat", "", "a mat sat on the cat, the end", "x", "on it " * 20]

SHORT = GenerateOptions(max_new_tokens=6)
BEAMS = GenerateOptions(max_new_tokens=6, num_beams=3, num_return_sequences=2)
SAMPLES = GenerateOptions(max_new_tokens=6, do_sample=True, num_return_sequences=2)


def test_a_language_model_completes():
    tiny_bundle(PATH)
    assert isinstance(rnn_edge.load(PATH), LanguageModel)
    assert isinstance(rnn_edge.load(), LanguageModel)


TRANSLATORS = [
    {"attention": "none", "cell": "lstm", "num_layers": 2},
    {"attention": "none", "cell": "gru", "num_layers": 3, "bidirectional": True, "pyramidal": True},
    {"attention": "dot", "cell": "gru"},
    {"attention": "general", "cell": "lstm", "input_feeding": True, "tied": True},
    {"attention": "general", "cell": "lstm", "num_layers": 3, "bidirectional": True, "pyramidal": True},
    {"attention": "bahdanau", "cell": "gru", "bidirectional": True},
]


@pytest.mark.parametrize("changes", TRANSLATORS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_a_translator_says_what_pytorch_says_of_its_translations(changes):
    checkpoint = export_network(PATH, "translate", **changes)
    model = rnn_edge.load(PATH)
    assert isinstance(model, Translator)
    looks = changes["attention"] != "none"
    for options in (SHORT, BEAMS, SAMPLES):
        found = model.translate(TEXTS, options)
        assert found == [model.translate(text, options) for text in TEXTS]
        for text, translations in zip(TEXTS, model.translate(TEXTS, options, attention=looks), strict=True):
            if not text:
                continue  # no network is asked for its translation
            source = torch.tensor([[*checkpoint.tokenizer.encode(text), checkpoint.tokenizer.end_id]])
            for each in translations:
                read = torch.tensor([[checkpoint.target_tokenizer.start_id, *each.tokens[:-1]]])
                with torch.no_grad():
                    logits, _, weights = checkpoint.model.decode(read, *checkpoint.model.encode(source))
                log_probs = logits[0].log_softmax(-1)[range(len(each.tokens)), each.tokens]
                assert each.log_prob == pytest.approx(float(log_probs.sum()), abs=1e-4)
                if looks:
                    np.testing.assert_allclose(each.token_log_probs, log_probs, atol=1e-4)
                    np.testing.assert_allclose(each.attention.weights, weights[0], atol=1e-5)


def test_a_describer_describes():
    export_network(PATH, "describe", num_layers=2)
    model = rnn_edge.load(PATH)
    assert isinstance(model, Describer)
    vectors = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    for options in (SHORT, BEAMS, SAMPLES):
        found = model.describe(vectors, options)
        assert found == [model.describe(vectors[row : row + 1], options)[0] for row in range(4)]
        assert len({each.text for texts in found for each in texts}) > 1


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_a_classifier_and_a_sentence_encoder_say_what_pytorch_says(pooling):
    for task, kind in (("classify", Classifier), ("embed", Embedder)):
        checkpoint = export_network(PATH, task, pooling=pooling, bidirectional=True)
        model = rnn_edge.load(PATH)
        assert isinstance(model, kind)
        rows = [checkpoint.tokenizer.encode(text) or [checkpoint.tokenizer.end_id] for text in TEXTS]
        with torch.no_grad():
            expected = checkpoint.model(torch.tensor(pad(rows))).numpy()
        read = model.scores if task == "classify" else model.embed
        np.testing.assert_allclose(read(TEXTS), expected, atol=1e-5)
        assert np.array_equal(read(TEXTS), np.concatenate([read([text]) for text in TEXTS]))


@pytest.mark.parametrize("letters", [False, True])
@pytest.mark.parametrize("decoder", ["independent", "feedback", "crf"])
def test_a_tagger_says_what_pytorch_says(decoder, letters):
    checkpoint = export_network(PATH, "tag", decoder=decoder, letters=letters, bidirectional=True)
    model = rnn_edge.load(PATH)
    assert isinstance(model, Tagger)
    for text, found in zip(TEXTS, model.tag(TEXTS), strict=True):
        alone = model.tag(text)
        assert (found.words, found.labels, found.probabilities) == (alone.words, alone.labels, alone.probabilities)
        assert found.log_prob == about(alone.log_prob)
        if not found.words:
            continue
        tokens = torch.tensor([checkpoint.tokenizer.encode(text)])
        spelled = [checkpoint.character_tokenizer.encode(word) for word in found.words] if letters else None
        with torch.no_grad():
            y = checkpoint.model(tokens, torch.tensor(pad(spelled))[None] if spelled else None)
            labels, _ = checkpoint.model.decode(y, tokens >= 0)
            log_prob = float(checkpoint.model.log_prob(y, labels))
        assert list(found.labels) == [model.labels[label] for label in labels[0]]
        assert found.log_prob == pytest.approx(log_prob, abs=1e-4)
        if decoder != "crf":
            assert np.log(found.probabilities).sum() == about(found.log_prob)


def test_every_graph_is_opened_once_where_it_is_asked_to(monkeypatch):
    export_network(PATH, "translate")
    asked = []
    opened = rnn_edge.runtimes.sessions.open_session

    def open_session(content, *, recorded=False, **choices):
        asked.append(choices)
        return opened(content, recorded=recorded, **choices)

    for module in ("step_graph", "whole_graph"):
        monkeypatch.setattr(f"rnn_edge.runtimes.{module}.open_session", open_session)
    place = {"provider": "cpu", "threads": 2, "provider_options": {}, "allow_fallback": True}
    rnn_edge.load(PATH, self_test=True, **place)
    assert asked == [place] * 2


def test_the_self_test_reaches_every_task():
    for task in ("translate", "describe", "classify", "embed", "tag"):
        export_network(PATH, task)
        rnn_edge.load(PATH, self_test=True)
