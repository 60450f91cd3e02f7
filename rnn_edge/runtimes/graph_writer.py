"""Texts in, texts out, by a bundle's graph that searches by itself: the host only encodes and spells.

What no graph does is the host's business in `completing.py`: the word being typed, stop strings, and all rules about
what is said.
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from rnn_edge.bundle import Bundle
from rnn_edge.errors import OptionsError, TextError
from rnn_edge.runtimes.arrays import NOTHING, Floats, Ids
from rnn_edge.runtimes.completing import Completion
from rnn_edge.runtimes.decode_graph import Decoded, DecodeGraph
from rnn_edge.runtimes.decoding import ROWS_AT_ONCE
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.reading import as_texts, encode, in_batches, pad
from rnn_edge.runtimes.sessions import Place
from rnn_edge.runtimes.translator import check_vectors
from rnn_edge.spec import DescriberSpec
from rnn_edge.text import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["GraphWriter"]

_USUAL_LENGTHS = {"language-model": 20}
_USUAL_LENGTH = 200  # of what ends by itself
_NOTHING = Completion("", (), 0.0, 0.0, "end")


class GraphWriter:
    """Completes, translates or describes, whatever the bundle is for. Immutable: threads may share it.

    task         what the bundle is for: `language-model`, `translate` or `describe`
    options      what the graph was exported with; others may be added
    vector_size  of what a describer reads, else 0
    """

    def __init__(
        self, graph: DecodeGraph, task: str, source: Tokenizer, target: Tokenizer, *, vector_size: int = 0
    ) -> None:
        self._graph = graph
        self._source = source
        self._target = target
        self.task = task
        self.options = graph.options
        self.vector_size = vector_size

    @classmethod
    def from_bundle(cls, bundle: Bundle, **place: Unpack[Place]) -> GraphWriter:
        """Open the graph in the role `decode` of a bundle; `place` is what `open_session` takes."""
        spec = bundle.manifest.spec
        return cls(
            DecodeGraph.from_bundle(bundle, **place),
            spec.task,
            bundle.tokenizer,
            bundle.target_tokenizer or bundle.tokenizer,
            vector_size=spec.vector_size if isinstance(spec, DescriberSpec) else 0,
        )

    def write(self, texts: str | Sequence[str], options: GenerateOptions | None = None) -> list[list[Completion]]:
        """Return completions, or translations, of each text, best first; each has the tokens that it has alone.

        A text is completed from behind its last token as typed. Of a blank source nothing is written.
        """
        if self.task == "describe":
            raise OptionsError("this graph describes vectors, and reads no texts: call describe")
        completes = self.task == "language-model"
        texts = as_texts(texts)
        read = [text for text in texts if completes or text.strip()]
        rows = [self._begin(text) if completes else encode(self._source, text, with_end=True) for text in read]
        search = partial(self._search_tokens, options=self._whole(options))
        found = iter(in_batches(rows, [(len(row),) for row in rows], search, rows_at_once=self._rows_at_once))
        return [next(found) if completes or text.strip() else [_NOTHING] for text in texts]

    def describe(self, vectors: ArrayLike, options: GenerateOptions | None = None) -> list[list[Completion]]:
        """Return descriptions of each vector, float32 (batch, vector), best first; with the tokens it has alone."""
        if self.task != "describe":
            raise OptionsError("this graph reads texts, and describes no vectors: call write")
        checked, options = check_vectors(vectors, self.vector_size), self._whole(options)
        groups = (checked[first : first + self._rows_at_once] for first in range(0, len(checked), self._rows_at_once))
        return [found for group in groups for found in self._search(group, options)]

    @property
    def _rows_at_once(self) -> int:
        return max(1, ROWS_AT_ONCE // self.options.num_beams)

    def _begin(self, text: str) -> list[int]:
        """Return the tokens that a text is completed from, behind the end token where there is one."""
        end = self._source.end_id
        tokens = [*([] if end is None else [end]), *self._source.encode(text)]
        if not tokens:
            raise TextError("this model has no end token to start from: give it some text to go on")
        return tokens

    def _whole(self, options: GenerateOptions | None) -> GenerateOptions:
        """Return options that say how long a text may be, and refuse those that are not the graph's."""
        options = self.options if options is None else options
        self._graph.check(options)
        if options.max_new_tokens is not None:
            return options
        return replace(options, max_new_tokens=_USUAL_LENGTHS.get(self.task, _USUAL_LENGTH))

    def _search_tokens(self, rows: Sequence[Sequence[int]], *, options: GenerateOptions) -> list[list[Completion]]:
        filled = pad(rows)
        if self.task == "language-model":  # its newest tokens stand in the last column
            filled = np.stack([np.roll(tokens, (tokens == NOTHING).sum()) for tokens in filled])
        return self._search(filled, options)

    def _search(self, inputs: Ids | Floats, options: GenerateOptions) -> list[list[Completion]]:
        noise = None
        if options.do_sample:  # the same for every text, as on the host
            assert options.max_new_tokens is not None
            noise = np.random.default_rng((options.seed, 0)).random((1, options.max_new_tokens)).repeat(len(inputs), 0)
        found = self._graph.run(inputs, options, noise=noise)
        return [self._completions(found, row, options) for row in range(len(inputs))]

    def _completions(self, found: Decoded, row: int, options: GenerateOptions) -> list[Completion]:
        """Return what was found for a row; of one text in several spellings, the best."""
        distinct: dict[str, Completion] = {}
        for tokens, log_prob in zip(found.tokens(row), found.log_prob[row].tolist(), strict=False):
            ended = tokens[-1] == self._target.end_id
            text = self._text(tokens[:-1] if ended else tokens)
            score = log_prob / len(tokens) ** options.length_penalty
            distinct.setdefault(text, Completion(text, tokens, log_prob, score, "end" if ended else "length"))
        return list(distinct.values())

    def _text(self, tokens: Sequence[int]) -> str:
        said = b"".join(self._target.token_bytes[token] for token in tokens)
        text = utf_8_decode(said, "replace")[0]  # leaves out the beginning of a character
        return text.removeprefix(" ") if self._target.kind == "whitespace" else text
