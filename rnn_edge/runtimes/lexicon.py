"""Words and how often each was used; found by how they begin. Plain data."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Lexicon"]


class Lexicon:
    """A set of words. Immutable: `with_word` returns another."""

    def __init__(self, words: Iterable[str] | Mapping[str, int]) -> None:
        counts = dict(words) if isinstance(words, Mapping) else dict.fromkeys(words, 1)
        self._counts = {word: times for word, times in counts.items() if word and times > 0}
        self._sorted = sorted(self._counts)

    def __len__(self) -> int:
        return len(self._sorted)

    def with_word(self, word: str, times: int = 1) -> Lexicon:
        """Return the words with this one, or with its count raised."""
        return Lexicon({**self._counts, word: self._counts.get(word, 0) + times})

    def has(self, word: str) -> bool:
        """Tell whether a word is in; one that is written large also counts as its small form."""
        return word in self._counts or word.lower() in self._counts

    def has_prefix(self, prefix: str) -> bool:
        """Tell whether any word begins like this; what is written large also counts as its small form."""
        return any(next(self.starting_with(each), None) is not None for each in (prefix, prefix.lower()))

    def starting_with(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the words that begin with a prefix, with their counts, in alphabetical order."""
        for index in range(bisect_left(self._sorted, prefix), len(self._sorted)):
            word = self._sorted[index]
            if not word.startswith(prefix):
                return
            yield word, self._counts[word]

    def count_of(self, prefix: str) -> int:
        """Return how often all words with a prefix were used together."""
        return sum(times for _, times in self.starting_with(prefix))
