"""Texts that are never to be said, whatever tokens would spell them. Knows the bytes of tokens and numpy alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnn_edge.runtimes.arrays import Ids
from rnn_edge.runtimes.token_table import TokenTable

__all__ = ["BadWords"]


class BadWords:
    """Finds the tokens that would finish a bad word. Immutable.

    words  bytes, each at least one
    """

    def __init__(self, token_bytes: Sequence[bytes], words: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._words = words
        self._reach = max(map(len, words)) - 1  # bytes before a token that matter to it
        self._table = TokenTable(token_bytes, left_out=(), joinable=False)
        whole = [token for token, said in enumerate(token_bytes) if any(word in said for word in words)]
        self._whole = np.array(whole, dtype=np.int64)

    def after(self, tokens: Sequence[int]) -> Ids:
        """Return the tokens that finish a bad word behind others, or say one whole; some perhaps twice."""
        tail = self.tail(tokens)
        begun = (
            self._table.starting_with(word[length:])
            for word in self._words
            for length in range(1, len(word))
            if tail.endswith(word[:length])
        )
        return np.concatenate([self._whole, *begun])

    def tail(self, tokens: Sequence[int]) -> bytes:
        """Return the last bytes of some tokens: those that a bad word may begin with."""
        tail = b""
        for token in reversed(tokens):
            if len(tail) >= self._reach:
                break
            tail = self._token_bytes[token] + tail
        return tail

    def ends_in(self, before: bytes, said: bytes) -> bool:
        """Tell whether a bad word ends in what is said, wherever before that it begins."""
        return any(word in before[max(0, len(before) - len(word) + 1) :] + said for word in self._words)
