"""Text to token ids and back: characters, words, byte-level BPE or white space, all in one tokenizer.json.

This is a thin layer over Hugging Face `tokenizers`. It adds what that library leaves open: every token's exact bytes,
so that text can be streamed without ever printing half a character; a refusal instead of silently dropped characters;
and where a text that is still being typed may change its tokens. It knows nothing of networks.
"""

from __future__ import annotations

import codecs
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, get_args

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from rnn_edge.errors import TextError

__all__ = ["END", "START", "UNKNOWN", "TextStream", "TokenBytes", "Tokenizer", "TokenizerKind", "check_sizes"]

TokenizerKind = Literal["characters", "words", "bpe", "whitespace"]

END = "</s>"  # ends a text, and stands before the first token of the next one, unless START does
START = "<s>"  # only in vocabularies of other projects
PAD = "<pad>"  # likewise; never read or written
UNKNOWN = "<unk>"  # a word outside the vocabulary

_SILENT = (END, START, PAD)

# A word, number or run of signs with the blank before it, or a run of white space. As in GPT-2 (Radford et al. 2019),
# less its English contractions: without them, typing on can only ever change the last piece.
_PIECE = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class TokenBytes(Sequence[bytes]):
    """What each token stands for, by its id. Immutable.

    It lies in one piece, with the places where tokens begin: an object for each would take four times the memory.
    """

    def __init__(self, tokens: Iterable[bytes]) -> None:
        joined, starts = bytearray(), array("I", [0])
        for said in tokens:
            joined += said
            starts.append(len(joined))
        self._joined, self._starts = bytes(joined), starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, token: int) -> bytes:  # type: ignore[override]  # ids alone, neither slices nor from the end
        return self._joined[self._starts[token] : self._starts[token + 1]]

    def __iter__(self) -> Iterator[bytes]:
        return (self._joined[start:end] for start, end in pairwise(self._starts))


class Tokenizer:
    """Turns text into token ids and back. Immutable; made by `train`, `characters` or `from_json`."""

    def __init__(self, backend: tokenizers.Tokenizer, kind: TokenizerKind) -> None:
        backend.encode_special_tokens = True  # a "</s>" that somebody types is four characters, not the end
        _keep_no_words(backend)
        self._backend = backend
        self.kind: TokenizerKind = kind
        self.vocab_size: int = backend.get_vocab_size()
        self.end_id: int | None = backend.token_to_id(END)
        self.start_id: int | None = backend.token_to_id(START) if kind != "bpe" else None
        if self.start_id is None:
            self.start_id = self.end_id
        self.unknown_id: int | None = backend.token_to_id(UNKNOWN) if kind != "bpe" else None
        self.token_bytes: Sequence[bytes] = TokenBytes(_bytes_of_tokens(backend, kind))
        self._covers_everything = self.unknown_id is not None or set(range(256)) <= {
            token[0] for token in self.token_bytes if len(token) == 1
        }

    @classmethod
    def train(cls, kind: TokenizerKind, texts: Iterable[str], *, vocab_size: int | None = None) -> Tokenizer:
        """Learn a vocabulary of at most `vocab_size` tokens from texts.

        characters  every character seen, and 256 bytes that spell all others; `vocab_size` drops the rarest
        words       the most frequent words, with the blank before them; all others become `<unk>`
        bpe         byte-level pairs (Sennrich et al. 2016); spells everything
        whitespace  the most frequent stretches between white space, which itself is not kept; others become `<unk>`
        """
        if kind not in get_args(TokenizerKind):
            raise TextError(f"tokenizer must be one of {', '.join(get_args(TokenizerKind))}, got {kind!r}")
        size = vocab_size if vocab_size is not None else {"characters": 1000}.get(kind, 4000)
        smallest = {"characters": 258, "words": 3, "bpe": 257, "whitespace": 3}[kind]
        if size < smallest:
            raise TextError(f"a vocabulary of {kind} needs at least {smallest} tokens, got {size}")
        checked = (_check_unicode(text) for text in texts)
        if kind == "characters":
            return cls._train_characters(checked, size)
        return cls._train_bpe(checked, size) if kind == "bpe" else cls._train_words(checked, size, kind)

    @classmethod
    def characters(cls, vocabulary: Sequence[str]) -> Tokenizer:
        """Take over another model's characters, in its order; `</s>`, `<s>`, `<unk>` and `<pad>` have their meaning."""
        single = [token for token in vocabulary if token not in (*_SILENT, UNKNOWN)]
        if len(set(vocabulary)) != len(vocabulary) or any(len(token) != 1 for token in single):
            raise TextError("a vocabulary of characters needs single characters, each once")
        return cls(_character_backend(list(vocabulary), byte_fallback=False), "characters")

    @classmethod
    def whitespace(cls, vocabulary: Sequence[str]) -> Tokenizer:
        """Take over another model's words, in its order; `</s>`, `<s>`, `<unk>` and `<pad>` have their meaning."""
        if len(set(vocabulary)) != len(vocabulary) or any(len(token.split()) != 1 for token in vocabulary):
            raise TextError("a vocabulary of words needs words without white space, each once")
        ids = {token: index for index, token in enumerate(vocabulary)}
        return cls(_word_backend("whitespace", ids), "whitespace")

    @classmethod
    def _train_characters(cls, texts: Iterable[str], size: int) -> Tokenizer:
        counts: dict[str, int] = {}
        for text in texts:
            for character in set(text):
                counts[character] = counts.get(character, 0) + text.count(character)
        _require(bool(counts), "no text to learn a vocabulary from")
        by_count = sorted(counts, key=lambda character: (-counts[character], character))
        spelled = [_byte_token(value) for value in range(256)]
        tokens = [END, *spelled, *sorted(by_count[: size - 257])]
        return cls(_character_backend(tokens, byte_fallback=True), "characters")

    @classmethod
    def _train_words(cls, texts: Iterable[str], size: int, kind: TokenizerKind) -> Tokenizer:
        backend = _word_backend(kind, {})
        if kind == "whitespace":  # a corpus may have the words </s> or <unk>, which are tokens already
            own = {*_SILENT, UNKNOWN}
            texts = (" ".join(word for word in text.split() if word not in own) for text in texts)
        backend.train_from_iterator(
            texts,
            trainers.WordLevelTrainer(vocab_size=size, special_tokens=[END, UNKNOWN], show_progress=False),
        )
        _require(backend.get_vocab_size() > 2, "no text to learn a vocabulary from")
        return cls(backend, kind)

    @classmethod
    def _train_bpe(cls, texts: Iterable[str], size: int) -> Tokenizer:
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PIECE), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        backend.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=size,
                special_tokens=[END],
                initial_alphabet=alphabet,
                show_progress=False,
            ),
        )
        return cls(backend, "bpe")

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Read back what `to_json` wrote."""
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # `tokenizers` raises bare Exception for a file it cannot read
            raise TextError(f"this is not a tokenizer.json that rnn-edge can read: {error}") from error
        return cls(backend, _kind_of(backend))

    def to_json(self) -> str:
        """Return the tokenizer.json: Hugging Face's format, the same bytes for the same vocabulary."""
        return str(self._backend.to_str())

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text; nothing is added at either end."""
        ids: list[int] = self._backend.encode(_check_unicode(text), add_special_tokens=False).ids
        self._check_known(ids, text)
        if self.kind != "whitespace" or self.unknown_id is None:
            return ids
        return [token if self.token_bytes[token] else self.unknown_id for token in ids]  # a "</s>" that was typed

    def _check_known(self, ids: list[int], text: str) -> None:
        """Refuse a text with characters that have no token: `tokenizers` drops them silently."""
        if not self._covers_everything and self.decode(ids) != text:
            known = set(b"".join(self.token_bytes).decode("utf-8", "ignore"))
            strangers = sorted(set(text) - known)
            raise TextError(
                f"this model does not know {', '.join(map(repr, strangers[:5]))}; it reads "
                f"{len(known)} characters and has no token for others: leave them out"
            )

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; the end token is empty, and broken UTF-8 becomes U+FFFD."""
        text = b"".join(self.token_bytes[token] for token in ids).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.kind == "whitespace" else text

    def encode_typing(self, text: str) -> tuple[list[int], str]:
        """Return the tokens of a text that is still being typed, and its pending last word or run of blanks.

        Whatever is typed next, these tokens stay; the pending part has none yet, since it may go on.
        """
        if self.kind == "characters" or not text:
            return self.encode(text), ""
        if self.kind == "whitespace":  # its tokens begin with a blank, typed or not
            settled, last = (text, "") if text[-1].isspace() else (text[: -len(text.split()[-1])], text.split()[-1])
            return self.encode(settled), f" {last}"
        encoding = self._backend.encode(_check_unicode(text), add_special_tokens=False)
        words = encoding.word_ids
        self._check_known(encoding.ids, text)
        first = words.index(words[-1])  # token of the last word
        return encoding.ids[:first], text[encoding.offsets[first][0] :]

    def stream(self) -> TextStream:
        """Return a decoder that takes tokens one at a time."""
        return TextStream(self.token_bytes)


class TextStream:
    """Decodes token by token; a character comes out when its last byte is in."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Return the text that this token completes; it may be empty."""
        return self._decoder.decode(self._token_bytes[token])

    def finish(self) -> str:
        """Return U+FFFD for a character left unfinished, or nothing."""
        return self._decoder.decode(b"", final=True)


def _word_backend(kind: TokenizerKind, vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    """One token a word: with the blank before it, or whatever stands between white space."""
    known = not vocabulary or UNKNOWN in vocabulary
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, **({"unk_token": UNKNOWN} if known else {})))
    if kind == "whitespace":
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return backend
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), "isolated")
    backend.decoder = decoders.Fuse()
    return backend


def _character_backend(tokens: list[str], *, byte_fallback: bool) -> tokenizers.Tokenizer:
    """One token a character: a BPE without merges, which is what knows how to fall back to bytes."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    unknown = {"unk_token": UNKNOWN} if UNKNOWN in vocabulary else {}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=byte_fallback, **unknown))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    if special := [token for token in (*_SILENT, UNKNOWN) if token in vocabulary]:
        backend.add_special_tokens(special)
    return backend


def _keep_no_words(backend: tokenizers.Tokenizer) -> None:
    """Do without the 10,000 words that a BPE would keep with their tokens: they take several times a small network."""
    resize = getattr(backend.model, "_resize_cache", None)
    if resize:  # a vocabulary of words keeps none
        resize(0)


def _kind_of(backend: tokenizers.Tokenizer) -> TokenizerKind:
    """Tell which of our four kinds it is by its parts, whose classes have the names that tokenizer.json gives them."""
    kinds: dict[tuple[str, str], TokenizerKind] = {
        ("BPE", "Sequence"): "characters",
        ("WordLevel", "Fuse"): "words",
        ("BPE", "ByteLevel"): "bpe",
        ("WordLevel", "no"): "whitespace",
    }
    found = type(backend.model).__name__, "no" if backend.decoder is None else type(backend.decoder).__name__
    if found not in kinds:
        raise TextError(
            f"rnn-edge reads tokenizers of characters, words, white space and byte-level BPE; "
            f"this one has a {found[0]} model with a {found[1]} decoder"
        )
    return kinds[found]


def _bytes_of_tokens(backend: tokenizers.Tokenizer, kind: TokenizerKind) -> Iterator[bytes]:
    """Yield what each token stands for, in order of ids; those that end, start or fill a text stand for nothing."""
    to_byte = _byte_alphabet() if kind == "bpe" else {}
    spelled = {_byte_token(value): bytes([value]) for value in range(256)} if kind == "characters" else {}
    for index in range(backend.get_vocab_size()):
        token = backend.id_to_token(index)
        if token is None:
            raise TextError(f"the vocabulary has no token {index}: ids must run from 0 without gaps")
        if token == END or (kind != "bpe" and token in _SILENT):
            yield b""
        elif kind == "whitespace":
            yield b" " + token.encode()
        elif kind == "bpe":
            yield bytes(to_byte[character] for character in token)
        else:
            yield spelled.get(token) or token.encode()


def _byte_alphabet() -> dict[str, int]:
    """Return which byte each character of byte-level BPE stands for (Radford et al. 2019, `bytes_to_unicode`)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + index): value for index, value in enumerate(others)}


def _byte_token(value: int) -> str:
    return f"<0x{value:02X}>"


def _check_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TextError(
            f"the text is not valid Unicode: {error.reason} at character {error.start + 1}; "
            "read it as UTF-8, or replace what cannot be read"
        ) from error
    return text


def check_sizes(
    wanted: tuple[int, int, int], tokenizer: Tokenizer | None, target: Tokenizer | None, characters: Tokenizer | None
) -> None:
    """Refuse vocabularies whose sizes are not those of a network; see `ModelSpec.vocab_sizes`."""
    names = ("tokenizer", "target tokenizer", "character tokenizer")
    for name, size, found in zip(names, wanted, (tokenizer, target, characters), strict=True):
        found_size = 0 if found is None else found.vocab_size
        if found_size != size:
            raise TextError(f"its {name} has {found_size} tokens and its network {size}: they do not belong together")


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise TextError(problem)
