"""A line is followed key by key, and Tab takes the first suggestion."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtimes.test_language_model import character_model, model_of, sentence_model, typing

prompt_toolkit = pytest.importorskip("prompt_toolkit")

from prompt_toolkit.application import create_app_session  # noqa: E402
from prompt_toolkit.input import create_pipe_input  # noqa: E402
from prompt_toolkit.output import DummyOutput  # noqa: E402

from rnn_edge.interactive import Typist, line_reader  # noqa: E402


def typed(model, keys: str) -> str:
    with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
        keyboard.send_text(keys)
        return line_reader(model)()


def test_tab_accepts_the_first_suggestion():
    model = sentence_model("bpe", "the numbers cat")
    assert typed(model, "the nu\t\r") == "the numbers"
    assert typed(model, "th\t nu\t ca\t\r") == "the numbers cat"


def test_in_the_middle_of_a_line_nothing_is_accepted():
    left = "\x1b[D"
    assert typed(sentence_model("bpe", "the numbers cat"), f"the nu{left}\t\r") == "the nu"


def test_deleting_takes_suggestions_back():
    assert typed(sentence_model("bpe", "the numbers cat"), "the nux\x7f\t\r") == "the numbers"


def test_the_end_of_input_ends():
    with pytest.raises(EOFError):
        typed(model_of("bpe"), "\x04")


@settings(max_examples=10)
@given(st.lists(typing, max_size=4))
def test_suggestions_are_those_of_the_line(lines):
    """However it was edited; up to the places that are kept."""
    model = model_of("bpe")
    typist = Typist(model)
    for line in lines:
        suggestions = typist.suggestions(line)
        assert typist._session.text == line
        assert {each.text for each in model.suggest(line)[:1]} <= {each.text for each in suggestions}


def test_a_line_that_cannot_be_read_has_no_suggestions():
    typist = Typist(character_model({"a": {"b": 0.9}}, end=False))
    assert typist.suggestions("") == []
    assert typist.suggestions("q") == []
    assert typist.suggestions("a")[0].text
