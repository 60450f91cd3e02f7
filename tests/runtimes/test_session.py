"""A session gives, whatever was typed, deleted, undone, forked or saved, what a fresh one gives."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_bundle
from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import RememberingModel, random_scores
from runtimes.test_language_model import KINDS, any_options, kinds, model_of, tokenizer_of, typing, without_end

from rnn_edge.errors import SessionError, TextError
from rnn_edge.runtimes.language_model import LanguageModel
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.session import Session


@given(kinds, st.lists(st.one_of(typing, st.just("fork")), max_size=6), any_options)
def test_a_session_says_what_a_fresh_one_says(kind, keys, options):
    """After any typing and forking; and it has read each settled token once."""
    model = model_of(kind)
    session, text = model.session(), ""
    for key in keys:
        if key == "fork":
            other, session = session, session.fork()
            other.type("the numbers 1 ")
            continue
        session.type(key)
        text += key
    assert session.text == text
    assert session.complete(options) == model_of(kind).complete(text, options)
    if options.num_return_sequences == 1:
        assert list(session.stream(options)) == list(model_of(kind).stream(text, options))


@given(kinds, st.lists(typing, max_size=8))
def test_a_session_reads_each_settled_token_once(kind, keys):
    model = model_of(kind)
    session = model.session()
    for key in keys:
        session.type(key)
        session.fork()
    tokens, _ = tokenizer_of(kind).encode_typing("".join(keys))
    assert model._model.tokens_read == 1 + len(tokens)


def test_white_space_that_is_divided_later_is_read_as_it_was_trained():
    """Two line ends are one piece until a letter follows, then two; the pieces have different tokens."""
    tokenizer = tokenizer_of("bpe")
    assert tokenizer.encode("a\n\n") != tokenizer.encode("a\n\nb")[:-1]
    session = model_of("bpe").session("a\n\n")
    session.type("b ")
    assert session.complete() == model_of("bpe").complete("a\n\nb ")


@pytest.mark.parametrize("kind", KINDS)
def test_accepting_a_completion_types_it(kind):
    model = model_of(kind)
    session = model.session("the nu")
    (completion,) = session.complete(GenerateOptions(max_new_tokens=3))
    session.accept(completion)
    assert "the nu" + completion.text == session.text
    assert session.complete() == model.complete(session.text)


@pytest.mark.parametrize("wrong", ["\ud800", b"bytes", None, 5])
def test_a_wrong_text_leaves_a_session_as_it_was(wrong):
    session = model_of("bpe").session("the nu")
    before = session.complete()
    with pytest.raises(TextError):
        session.type(wrong)
    assert ("the nu", before) == (session.text, session.complete())


def test_a_stream_goes_on_from_where_its_session_was():
    """A keystroke in between changes the session, not the stream."""
    session = model_of("bpe").session("the nu")
    stream = session.stream()
    first = next(stream)
    session.type("xyz ")
    assert model_of("bpe").complete("the nu")[0].text == first + "".join(stream)


@given(st.lists(st.text("abc", max_size=4), max_size=4))
def test_a_session_without_end_token_starts_with_its_first_word(keys):
    tokenizer = without_end(tokenizer_of("bpe"))
    model = LanguageModel(RememberingModel(random_scores(tokenizer.vocab_size, 0)), tokenizer)
    session = model.session()
    for key in keys:
        session.type(key)
    if session.text:
        assert session.complete() == model.complete(session.text)
    else:
        with pytest.raises(TextError, match="no end token"):
            session.complete()


# Going back


def test_backspace_deletes_and_undo_takes_back():
    session = model_of("bpe").session("the ")
    session.type("numb")
    session.backspace()
    session.backspace(2)
    assert session.text == "the n"
    assert [session.undo() for _ in range(4)] == [True, True, True, False]
    assert session.text == "the "


@pytest.mark.parametrize("count", [0, -1, 4, 1.0, True, None, "1"])
def test_more_than_there_is_cannot_be_deleted(count):
    session = model_of("bpe").session("cat")
    with pytest.raises(TextError, match="there are 3 characters to delete"):
        session.backspace(count)
    assert session.text == "cat"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_read_again_where_a_recent_state_stood(kind):
    model = model_of(kind)
    session = model.session()
    for letter in "the numbers cat 12":
        session.type(letter)
    read = model._model.tokens_read
    for _ in range(18):
        session.backspace()
    while session.undo():
        pass
    assert model._model.tokens_read == read


def test_beyond_recent_states_the_text_is_read_again():
    model = model_of("characters")
    session = model.session()
    for _ in range(200):
        session.type("a")
    read = model._model.tokens_read
    while session.undo():
        assert session.complete() == model.complete(session.text)
    assert session.text == ""
    assert model._model.tokens_read > read


def settled(model: LanguageModel, session: Session) -> tuple[list[int], str]:
    """Return the tokens that a session's state has read, and its pending word."""
    position = session._typed.position
    if position is None:
        return [], session._typed.pending
    (history,) = model._model.histories(position.state)
    assert position.logits.tolist() == [model._model._scores(history)]
    return list(history), session._typed.pending


def operate(model: LanguageModel, seed: int, count: int) -> int:
    """Do random things to sessions that share a model, and compare each time with reading the text anew."""
    dice = random.Random(seed)
    keys = ["t", "he", " n", "u", "mb", "é", " ", "\n", "1", "numbers", ", ", "名"]
    for operation in range(count):
        if operation % 1000 == 0:
            session, expected, others = model.session(), ("", None), []  # each text, and what was there before
        text, before = expected
        action = dice.random()
        if action < 0.5 and len(text) < 40:
            key = dice.choice(keys)
            session.type(key)
            expected = (text + key, expected)
        elif action < 0.75 and text:
            deleted = min(dice.choice([1, 1, 1, 2, 5, 60]), len(text))
            session.backspace(deleted)
            expected = (text[: len(text) - deleted], expected)
        elif action < 0.92:
            assert session.undo() == (before is not None)
            expected = before or expected
        elif action < 0.95:
            others = [*others[-5:], (session.fork(), expected)]
        elif action < 0.98 and others:
            session, expected = dice.choice(others)
            session = session.fork()
        else:
            session = model.load_session(session.save())
        assert expected[0] == session.text
        assert settled(model, session) == model._settle(session.text)
    return count


@pytest.mark.parametrize("count", [10_000, pytest.param(350_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_done_a_session_stands_where_a_fresh_one_does(kind, count):
    operate(model_of(kind), seed=0, count=count)


def test_threads_share_a_model_each_with_its_sessions():
    model = model_of("bpe")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda seed: operate(model, seed, 300), range(8))) == [300] * 8


# Saving


def test_a_saved_session_goes_on_in_another_process_with_the_same_bits():
    tiny_bundle(Path("model.rnn"), kind="bpe")
    import rnn_edge

    session = rnn_edge.load("model.rnn").session("the cat sat")
    session.type(" on th")
    Path("saved").write_bytes(session.save())
    session.undo()
    session.type(" on the m")
    code = (
        "import rnn_edge, sys; session = rnn_edge.load('model.rnn').load_session(open('saved', 'rb').read());"
        "session.undo(); session.type(' on the m'); sys.stdout.buffer.write(session.save())"
    )
    assert session.save() == subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout


def test_a_session_of_another_model_is_refused():
    tiny_bundle(Path("model.rnn"), kind="bpe")
    tiny_bundle(Path("other.rnn"), kind="bpe", seed=1)
    import rnn_edge

    saved = rnn_edge.load("model.rnn").session("the cat").save()
    with pytest.raises(SessionError, match="it is of another model"):
        rnn_edge.load("other.rnn").load_session(saved)


def with_header(saved: bytes, **changes) -> bytes:
    """A saved session as somebody would forge it, with a hash that fits."""
    start = saved.index(b"\n") + 9
    end = start + int.from_bytes(saved[start - 8 : start], "little")
    header = json.dumps({**json.loads(saved[start:end]), **changes}).encode()
    content = saved[: start - 8] + len(header).to_bytes(8, "little") + header + saved[end:-32]
    return content + hashlib.sha256(content).digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"text": 5},
        {"text": None},
        {"text": "\ud800"},
        {"text": ""},
        {"edits": 5},
        {"edits": [5]},
        {"edits": [[1]]},
        {"edits": [[100, ""]]},
        {"edits": [[-1, ""]]},
        {"edits": [[True, ""]]},
        {"edits": [[1, 5]]},
        {"edits": [[1, ""], [2, ""]]},
        {"edits": [[[[]]]]},
    ],
    ids=str,
)
def test_a_forged_header_is_refused(changes):
    model = without_end_model()
    saved = model.session("the cat 12").save()
    assert model.load_session(with_header(saved)).text == "the cat 12"
    with pytest.raises(SessionError, match="cannot be used"):
        model.load_session(with_header(saved, **changes))


def without_end_model() -> LanguageModel:
    tokenizer = without_end(tokenizer_of("bpe"))
    return LanguageModel(RememberingModel(random_scores(tokenizer.vocab_size, 0)), tokenizer)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_refused(number):
    model = model_of("bpe")
    saved = model.session("the cat").save()[:-32]
    saved = saved[:-4] + np.float32(number).tobytes()
    with pytest.raises(SessionError, match="not finite"):
        model.load_session(saved + hashlib.sha256(saved).digest())


@given(st.binary(max_size=60), st.integers(0, 2000), st.integers(0, 2000), st.booleans())
def test_damaged_bytes_are_refused(inserted, first, last, signed):
    """Cut, replaced or made up, with a hash that fits or not."""
    model = model_of("bpe")
    saved = model.session("the cat").save()
    damaged = saved[:first] + inserted + saved[last:]
    if signed:
        damaged = damaged[:-32] + hashlib.sha256(damaged[:-32]).digest()
        with suppress(SessionError):  # and nothing else
            model.load_session(damaged)
    elif damaged != saved:
        with pytest.raises(SessionError):
            model.load_session(damaged)


@pytest.mark.parametrize("wrong", [None, "text", 5, b"", b"rnn-edge session\n"])
def test_what_is_no_saved_session_is_refused(wrong):
    with pytest.raises(SessionError):
        model_of("bpe").load_session(wrong)
