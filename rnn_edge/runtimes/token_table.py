"""Which tokens say what, found by their bytes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence

import numpy as np

from rnn_edge.runtimes.arrays import Ids
from rnn_edge.text import Tokenizer

__all__ = ["TokenTable"]


class TokenTable:
    """The tokens by their bytes. Immutable.

    left_out  tokens that stand for no bytes, or for any
    joinable  whether a word may be made of several tokens
    """

    def __init__(self, token_bytes: Sequence[bytes], *, left_out: Collection[int | None], joinable: bool) -> None:
        self.token_bytes = token_bytes
        spoken = [token for token in range(len(token_bytes)) if token not in left_out]
        spoken.sort(key=token_bytes.__getitem__)
        self._sorted = [token_bytes[token] for token in spoken]
        self._ids = np.array(spoken, dtype=np.int64)
        self._longest = max(map(len, self._sorted), default=0) if joinable else 0

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> TokenTable:
        """Return the tokens that a text can be made of."""
        return cls(
            tokenizer.token_bytes,
            left_out={tokenizer.end_id, tokenizer.unknown_id},
            joinable=tokenizer.kind != "words",
        )

    def starting_with(self, typed: bytes) -> Ids:
        """Return the tokens that say what was typed, and perhaps more; in order of ids."""
        first = bisect_left(self._sorted, typed)
        last = bisect_right(self._sorted, typed, lo=first, key=lambda said: said[: len(typed)])
        return np.sort(self._ids[first:last])

    def within(self, typed: bytes) -> list[int]:
        """Return the tokens that say only the beginning of what was typed."""
        found: list[int] = []
        first = 0
        for length in range(1, min(len(typed) - 1, self._longest) + 1):
            first = bisect_left(self._sorted, typed[:length], lo=first)
            last = bisect_right(self._sorted, typed[:length], lo=first)
            found += self._ids[first:last].tolist()
        return found
