"""A text gives in any batch, whoever joins and leaves it, what it gives alone; and memory does not grow."""

from __future__ import annotations

from itertools import count, islice
from pathlib import Path

import pytest
from helpers import tiny_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import RememberingModel
from runtimes.test_language_model import any_options, character_model, kinds, model_of, typing

import rnn_edge
from rnn_edge.errors import OptionsError, TextError
from rnn_edge.runtimes.batching import advance_walks
from rnn_edge.runtimes.language_model import LanguageModel
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.text import Tokenizer

diverse = st.just(GenerateOptions(num_beams=4, num_beam_groups=2, diversity_penalty=0.5, max_new_tokens=3))


@given(kinds, st.lists(typing, max_size=12), st.one_of(any_options, diverse), st.integers(1, 5))
def test_texts_come_in_order_as_each_alone(kind, texts, options, batch_size):
    model = model_of(kind)
    found = list(model.complete_many(iter(texts), options, batch_size=batch_size))
    assert found == [(text, model.complete(text, options)) for text in texts]


@pytest.mark.parametrize(
    "options",
    [
        GenerateOptions(max_new_tokens=5),
        GenerateOptions(max_new_tokens=5, num_beams=4, num_return_sequences=2),
        GenerateOptions(max_new_tokens=5, do_sample=True, num_return_sequences=3, temperature=1.5, seed=7),
    ],
    ids=["greedy", "beams", "samples"],
)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_graph_gives_the_same_bits_in_batches_of_any_size(options, precision):
    """Log-probs too: a draw is the same however many draw beside it."""
    pytest.importorskip("torch")
    from rnn_edge.exporters import ExportOptions, export

    judged = ExportOptions(precision=precision, max_loss=10.0, eval_text="the cat sat on the mat " * 50)
    export(tiny_checkpoint("bpe"), Path("model.rnn"), judged)
    model = rnn_edge.load("model.rnn")
    texts = ["the c", "the cat sat on", "", "on the mat, ", "it"] * 3
    alone = [(text, model.complete(text, options)) for text in texts]
    for batch_size in (1, 2, 7, 64):
        assert alone == list(model.complete_many(texts, options, batch_size=batch_size))


def test_who_has_finished_is_replaced_at_once(monkeypatch):
    """Texts end at different times, and yet every token is chosen for a full batch, until no texts are left."""
    crews: list[int] = []

    def watched(walks, *arguments, **options):
        crews.append(len(walks))
        return advance_walks(walks, *arguments, **options)

    monkeypatch.setattr("rnn_edge.runtimes.completing.advance_walks", watched)
    network = RememberingModel(lambda history: [float(len(history) % 2 == 0 and len(history) > 9), *[0.5] * 260])
    model = LanguageModel(network, Tokenizer.train("characters", ["abc"]))
    texts = ["a" * (1 + 3 * number % 8) for number in range(40)]
    found = list(model.complete_many(texts, GenerateOptions(max_new_tokens=20), batch_size=4))
    assert len({len(completions[0].tokens) for _, completions in found}) > 3
    assert crews == sorted(crews, reverse=True)
    assert crews.count(4) > len(crews) * 0.9


def test_texts_are_asked_for_as_there_is_room():
    """So that files of any length stream: at most a few batches are waiting for one that takes long."""
    model = character_model({"a": {"a": 0.9}, "b": {"$": 0.9}})
    asked = count()
    texts = ("a" if next(asked) == 0 else "b" for _ in range(10_000))
    results = model.complete_many(texts, GenerateOptions(max_new_tokens=500), batch_size=4)
    assert next(results)[0] == "a"
    assert next(asked) <= 8 * 4 + 1
    assert sum(1 for _ in islice(results, 100)) == 100


def test_one_at_a_time_none_is_asked_for_before_the_last_is_told():
    model = model_of("bpe")
    asked: list[str] = []
    texts = (asked.append(text) or text for text in ["the", "cat", "12"])
    for number, _ in enumerate(model.complete_many(texts, batch_size=1), start=1):
        assert len(asked) == number


def test_what_came_before_a_failure_is_told_first():
    results = model_of("bpe").complete_many(["the", "cat", "\ud800", "12"], batch_size=16)
    assert [next(results)[0], next(results)[0]] == ["the", "cat"]
    with pytest.raises(TextError):
        next(results)


@pytest.mark.parametrize("batch_size", [0, -1, 10_001, 1.0, True, None])
def test_a_wrong_batch_size_is_refused(batch_size):
    with pytest.raises(OptionsError, match="batch_size must be"):
        next(model_of("bpe").complete_many(["a"], batch_size=batch_size))


def test_no_texts_give_nothing():
    assert list(model_of("bpe").complete_many([])) == []
