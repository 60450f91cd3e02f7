"""Which tokens say what, found by their bytes."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence

import numpy as np

from rnn_edge.runtimes.arrays import Ids
from rnn_edge.text import Tokenizer

__all__ = ["TokenTable"]

_BEGINNING = 16  # bytes


class TokenTable:
    """The tokens by their bytes. Immutable.

    left_out  tokens that stand for no bytes, or for any
    joinable  whether a word may be made of several tokens
    """

    def __init__(self, token_bytes: Sequence[bytes], *, left_out: Collection[int | None], joinable: bool) -> None:
        self.token_bytes = token_bytes
        self._ids = _in_order(token_bytes, left_out)
        self._longest = max(map(len, token_bytes), default=0) if joinable else 0

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
        said = self.token_bytes
        first = bisect_left(self._ids, typed, key=said.__getitem__)
        last = bisect_right(self._ids, typed, lo=first, key=lambda token: said[token][: len(typed)])
        return np.sort(np.array(self._ids[first:last], np.int64))

    def within(self, typed: bytes) -> list[int]:
        """Return the tokens that say only the beginning of what was typed."""
        said = self.token_bytes.__getitem__
        found: list[int] = []
        first = 0
        for length in range(1, min(len(typed) - 1, self._longest) + 1):
            first = bisect_left(self._ids, typed[:length], lo=first, key=said)
            while first < len(self._ids) and said(self._ids[first]) == typed[:length]:
                found.append(self._ids[first])
                first += 1
        return found


def _in_order(said: Sequence[bytes], left_out: Collection[int | None]) -> array[int]:
    """Return the tokens in the order of what they say, but for those left out.

    Python would keep the memory of ten thousand objects, so only tokens that begin alike are compared as such.
    """
    begins = np.fromiter(said, f"S{_BEGINNING}", len(said))
    ids = np.argsort(begins, kind="stable").astype(np.uintc)
    begins = begins[ids]
    edges = np.flatnonzero(np.concatenate([[True], begins[1:] != begins[:-1], [True]]))
    for run in np.flatnonzero(np.diff(edges) > 1):
        alike = slice(edges[run], edges[run + 1])
        ids[alike] = sorted(ids[alike], key=said.__getitem__)
    unwanted = [token for token in left_out if token is not None]
    return array("I", ids[~np.isin(ids, unwanted)].tobytes())
