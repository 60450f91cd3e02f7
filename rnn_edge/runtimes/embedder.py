"""A text in, a vector out that can be compared with others. What `rnn_edge.load` returns for a sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnn_edge.runtimes.arrays import Floats
from rnn_edge.runtimes.reading import WholeModel, as_texts, encode, in_batches, pad
from rnn_edge.text import Tokenizer

__all__ = ["Embedder"]


class Embedder:
    """Turns texts into vectors. Immutable and without state: threads may share it.

    width  how many numbers a vector has
    """

    def __init__(self, model: WholeModel, tokenizer: Tokenizer, width: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self.width = width

    def embed(self, text: str | Sequence[str]) -> Floats:
        """Return the vector of a text, float32 (width,), or of several, float32 (batch, width)."""
        rows = [encode(self._tokenizer, text) for text in as_texts(text)]
        found = in_batches(rows, [(len(row),) for row in rows], lambda group: self._model.run(pad(group))[0])
        vectors = np.array(found, np.float32).reshape(-1, self.width)
        return vectors[0] if isinstance(text, str) else vectors

    def similarity(self, one: str | Sequence[str] | Floats, other: str | Sequence[str] | Floats) -> Floats:
        """Return cosines, of each of one with each of the other: from -1 to 1, which means the same direction.

        one, other  texts, or vectors that `embed` gave
        returns     float32 (ones, others), without the axis of what is a single text or vector
        """
        cosines: Floats = self._directions(one) @ self._directions(other).T
        return cosines

    def _directions(self, of: str | Sequence[str] | Floats) -> Floats:
        """Return vectors of length 1; zeros stay zeros, and so are like nothing."""
        vectors = of if isinstance(of, np.ndarray) else self.embed(of)
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        directions: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        return directions
