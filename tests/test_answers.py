"""Each network's answer to a text: a line to read, or one JSON object."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from runtimes.fakes import RememberingModel, RememberingPair, RowReader, scores_after

from rnn_edge.answers import answer, invite
from rnn_edge.errors import TextError
from rnn_edge.runtimes import Classifier, Describer, Embedder, GenerateOptions, LanguageModel, Tagger, Translator
from rnn_edge.text import Tokenizer

LETTERS = Tokenizer.characters(["</s>", "a", "b", "c"])
WORDS = Tokenizer.whitespace(["</s>", "<unk>", "the", "cat"])

# After </s>, after </s> a, ...: both the language model and the decoders say "ab", or else "b".
FOLLOWING = {(0,): {1: 0.6, 2: 0.3}, (0, 1): {2: 0.9}, (0, 1, 2): {0: 0.9}, (0, 2): {0: 0.9}}


PAIR = RememberingPair(scores_after(4, FOLLOWING))
MODELS = {
    "complete": LanguageModel(RememberingModel(scores_after(4, FOLLOWING)), LETTERS),
    "translate": Translator(PAIR, PAIR, LETTERS, LETTERS),
    "describe": Describer(PAIR, PAIR, LETTERS, 2),
    "classify": Classifier(RowReader(lambda row: np.float32([len(row), 2])), LETTERS, ["long", "short"]),
    "embed": Embedder(RowReader(lambda row: np.float32([len(row), 0.1])), LETTERS, 2),
    "tag": Tagger(
        RowReader(
            lambda row: np.array(row) % 2,
            lambda row: 20 * np.eye(2, dtype=np.float32)[np.array(row) % 2],
            lambda row: np.float32(-0.125),
        ),
        WORDS,
        ["DET", "NOUN"],
    ),
}


def answers(task: str, *texts: str, as_json: bool, **choices) -> list:
    of_each = list(answer(MODELS[task], texts, GenerateOptions(**choices), as_json=as_json))
    assert len(of_each) == len(texts)
    lines = [line for lines in of_each for line in lines]
    assert all("\n" not in line for line in lines)
    return [json.loads(line) for line in lines] if as_json else lines


@pytest.mark.parametrize(("task", "texts", "lines"), [
    ("complete", ["", "a"], ["ab", "ab"]),
    ("translate", ["c", "", "c"], ["ab", "", "ab"]),
    ("describe", ["[1, 2.5]"], ["ab"]),
    ("classify", ["abc", "a"], ["long", "short"]),
    ("embed", ["abc", "a"], ["[3.0, 0.1]", "[1.0, 0.1]"]),
    ("tag", ["the cat", "", "cat dog"], ["the/DET cat/NOUN", "", "cat/NOUN dog/NOUN"]),
])  # fmt: skip
def test_a_line_a_text(task, texts, lines):
    assert answers(task, *texts, as_json=False) == lines
    assert answers(task, as_json=False) == []


def test_what_writes_gives_a_line_for_each_that_it_found():
    both = {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 4}
    for task, text in (("complete", ""), ("translate", "c"), ("describe", "[0, 0]")):
        assert answers(task, text, text, as_json=False, **both) == ["ab", "b"] * 2


def test_json_tells_everything():
    written = {"text": "ab", "log_prob": round(math.log(0.6 * 0.9 * 0.9), 4), "finish_reason": "end"}
    assert answers("complete", "", as_json=True) == [{"prompt": "", "completions": [written]}]
    assert answers("translate", "c", as_json=True) == [{"source": "c", "translations": [written]}]
    assert answers("describe", "[1, 2]", as_json=True) == [{"descriptions": [written]}]
    (found,) = answers("classify", "abc", as_json=True)
    assert found["text"] == "abc"
    assert [each["label"] for each in found["labels"]] == ["long", "short"]
    assert found["labels"][0]["probability"] == pytest.approx(math.e / (math.e + 1), abs=1e-6)
    assert answers("embed", "ab", as_json=True) == [{"text": "ab", "vector": [2.0, 0.1]}]
    assert answers("tag", "the cat", as_json=True) == [
        {"words": ["the", "cat"], "labels": ["DET", "NOUN"], "log_prob": -0.125, "probabilities": [1.0, 1.0]}
    ]


@pytest.mark.parametrize("text", ["", "1, 2", "[1]", "[1, true]", '[1, "2"]', "{}", "[" * 99999, "[1, NaN]"])
def test_what_is_no_vector_is_refused(text):
    with pytest.raises(TextError, match=r"2 numbers|finite numbers"):
        answers("describe", text, as_json=False)


@pytest.mark.parametrize(("task", "first", "second"), [("classify", "long", "short"), ("complete", "abc", "ab")])
def test_texts_before_one_that_cannot_be_read_are_answered(task, first, second):
    found = answer(MODELS[task], ["abc", "a", "x", "b"], GenerateOptions(max_new_tokens=1), as_json=False)
    assert next(found)[0].startswith(first)
    assert next(found) == [second]
    with pytest.raises(TextError, match="does not know 'x'"):
        next(found)


def test_a_prompt_asks_for_what_the_network_reads():
    assert invite(MODELS["complete"]) == "Type the beginning of a line and press Enter; Ctrl-D ends."
    assert invite(MODELS["tag"], ", or else,") == "Type a sentence to tag, or else, and press Enter; Ctrl-D ends."
    assert len({invite(model) for model in MODELS.values()}) == len(MODELS)
