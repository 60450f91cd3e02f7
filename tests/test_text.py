"""Text survives the round trip through tokens, and never comes out in half characters."""

from __future__ import annotations

import json

import pytest
from helpers import shared
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_edge.errors import TextError
from rnn_edge.text import END, TokenBytes, Tokenizer

CORPUS = ["the cat sat on the mat\n  for i in range(10): pass\r\n", "naïve café, 日本語 👩‍👩‍👧 don't </s> stop"]
TOKENIZERS = {kind: Tokenizer.train(kind, CORPUS, vocab_size=400) for kind in ("characters", "words", "bpe")}
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
every_kind = pytest.mark.parametrize("kind", TOKENIZERS)
open_kind = pytest.mark.parametrize("kind", ["characters", "bpe"])


@open_kind
@given(text=any_text)
@settings(max_examples=200)
def test_any_text_survives_the_round_trip(kind, text):
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@open_kind
def test_the_big_list_of_naughty_strings_survives(kind):
    tokenizer = TOKENIZERS[kind]
    for text in json.loads(shared("utf8/blns.json").read_text(encoding="utf-8")):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@open_kind
@pytest.mark.parametrize("name", ["fi_tdt_dev", "tang300_zh", "th_pud"])
def test_other_scripts_survive(kind, name):
    text = shared(f"utf8/{name}.txt").read_bytes().decode()
    assert TOKENIZERS[kind].decode(TOKENIZERS[kind].encode(text)) == text


def test_words_survive_with_their_white_space_and_others_become_unknown():
    tokenizer = TOKENIZERS["words"]
    for known in CORPUS:
        assert tokenizer.decode(tokenizer.encode(known)) == known
    assert tokenizer.decode(tokenizer.encode("the dog sat")) == "the<unk> sat"
    assert tokenizer.encode(" xyzzy") == [tokenizer.unknown_id]


@every_kind
@given(text=any_text)
def test_a_stream_gives_the_same_text_in_whole_characters(kind, text):
    """What is pushed out is always valid text, and adds up to decode()."""
    tokenizer = TOKENIZERS[kind]
    stream = tokenizer.stream()
    ids = tokenizer.encode(text)
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.finish() == tokenizer.decode(ids)
    if kind != "words":
        assert "�" not in "".join(pieces) or "�" in text


def test_a_character_comes_out_with_its_last_byte():
    tokenizer = TOKENIZERS["characters"]
    stream = tokenizer.stream()
    assert [stream.push(token) for token in tokenizer.encode("é€😀x"[1:])] == ["", "", "€", "", "", "", "😀", "x"]


@open_kind
@given(ids=st.lists(st.integers(0, 256), max_size=20))
def test_any_tokens_decode_the_same_whole_or_streamed(kind, ids):
    """A model may emit broken UTF-8; it becomes U+FFFD and never an error."""
    tokenizer = TOKENIZERS[kind]
    stream = tokenizer.stream()
    assert "".join(map(stream.push, ids)) + stream.finish() == tokenizer.decode(ids)


@every_kind
@given(text=any_text)
def test_our_bytes_agree_with_the_library_decoder(kind, text):
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer._backend.decode(ids, skip_special_tokens=False)


@every_kind
def test_an_end_token_that_somebody_types_is_plain_text(kind):
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.end_id not in tokenizer.encode(f"a {END} b")
    assert tokenizer.decode([tokenizer.end_id]) == ""


@every_kind
def test_json_gives_back_the_same_tokenizer(kind):
    tokenizer = TOKENIZERS[kind]
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.to_json() == tokenizer.to_json()
    assert (again.kind, again.vocab_size, again.end_id, again.unknown_id, [*again.token_bytes]) == (
        tokenizer.kind, tokenizer.vocab_size, tokenizer.end_id, tokenizer.unknown_id, [*tokenizer.token_bytes],
    )  # fmt: skip
    assert again.encode(CORPUS[1]) == tokenizer.encode(CORPUS[1])


@given(st.lists(st.binary(max_size=3)))
def test_bytes_in_one_piece_are_those_that_were_given(tokens):
    found = TokenBytes(tokens)
    assert [*found] == [found[token] for token in range(len(found))] == tokens
    with pytest.raises(IndexError):
        found[len(tokens)]


@every_kind
def test_training_twice_gives_the_same_vocabulary(kind):
    assert Tokenizer.train(kind, CORPUS, vocab_size=400).to_json() == TOKENIZERS[kind].to_json()


@every_kind
@given(text=any_text, more=any_text)
@settings(max_examples=200)
def test_typing_on_leaves_the_settled_tokens_as_they_are(kind, text, more):
    """The heart of a session: what is settled is read once and never again."""
    tokenizer = TOKENIZERS[kind]
    settled, pending = tokenizer.encode_typing(text)
    assert text.endswith(pending)
    assert settled + tokenizer.encode(pending) == tokenizer.encode(text)
    assert tokenizer.encode(text + more)[: len(settled)] == settled
    again, still_pending = tokenizer.encode_typing(pending + more)
    assert settled + again + tokenizer.encode(still_pending) == tokenizer.encode(text + more)


def test_foreign_characters_keep_their_order_and_refuse_strangers():
    tokenizer = Tokenizer.characters(["b", "a", " "])
    assert tokenizer.encode("ab ") == [1, 0, 2]
    assert tokenizer.end_id is None
    with pytest.raises(TextError, match="does not know 'x', 'é'"):
        tokenizer.encode("ab éx")


@every_kind
def test_half_a_surrogate_pair_is_refused(kind):
    with pytest.raises(TextError, match="not valid Unicode"):
        TOKENIZERS[kind].encode("a\ud800")
    with pytest.raises(TextError, match="not valid Unicode"):
        Tokenizer.train(kind, ["a\ud800"])


@pytest.mark.parametrize(
    ("kind", "size", "word"), [("bpe", 10, "at least 257"), ("words", 2, "at least 3"), ("syllables", 9, "one of")]
)
def test_absurd_vocabularies_are_refused(kind, size, word):
    with pytest.raises(TextError, match=word):
        Tokenizer.train(kind, CORPUS, vocab_size=size)


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_no_text_teaches_no_vocabulary(kind):
    with pytest.raises(TextError, match="no text"):
        Tokenizer.train(kind, [""])


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"model": 3, "decoder": null}', '{"model": {"type": "Unigram"}}']
)
def test_a_damaged_tokenizer_is_refused(text):
    with pytest.raises(TextError):
        Tokenizer.from_json(text)


def test_another_kind_of_tokenizer_is_refused_by_name():
    import tokenizers

    other = tokenizers.Tokenizer(tokenizers.models.Unigram())
    other.decoder = tokenizers.decoders.Metaspace()
    with pytest.raises(TextError, match="Unigram model with a Metaspace decoder"):
        Tokenizer.from_json(other.to_str())


def test_the_last_word_between_blanks_is_pending_with_the_blank_that_its_tokens_begin_with():
    tokenizer = Tokenizer.whitespace(["</s>", "<unk>", "the", "cat"])
    assert tokenizer.encode_typing("the  ca") == ([2], " ca")
    assert tokenizer.encode_typing("the cat ") == ([2, 3], " ")
    assert tokenizer.encode_typing(" ") == ([], " ")
    assert tokenizer.encode_typing("ca") == ([], " ca")
    assert tokenizer.encode_typing("") == ([], "")


def test_words_between_blanks_survive_but_for_the_blanks():
    tokenizer = Tokenizer.train("whitespace", CORPUS)
    assert tokenizer.decode(tokenizer.encode("  the cat\tsat ")) == "the cat sat"
    assert tokenizer.encode("the </s>") == [*tokenizer.encode("the"), tokenizer.unknown_id]
    assert Tokenizer.from_json(tokenizer.to_json()).kind == "whitespace"
