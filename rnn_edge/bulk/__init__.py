"""What a network says of a whole corpus, by many workers: files in, files out, and nothing done twice.

Importing this loads no onnxruntime: each name is fetched when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnn_edge.bulk.options import BulkOptions
from rnn_edge.lazy import lazy_names

if TYPE_CHECKING:
    from rnn_edge.bulk.run import Progress as Progress
    from rnn_edge.bulk.run import answer_corpus as answer_corpus

__all__ = ["BulkOptions", "Progress", "answer_corpus"]

_HOMES = {"Progress": "rnn_edge.bulk.run", "answer_corpus": "rnn_edge.bulk.run"}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
