"""Training: files of text in, the best model.pt out, and a run that survives interruption.

Importing this loads no PyTorch: each name is fetched when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnn_edge.lazy import lazy_names
from rnn_edge.training.options import TrainOptions
from rnn_edge.training.report import Finished, Progress

if TYPE_CHECKING:
    from rnn_edge.training.data import Corpus as Corpus
    from rnn_edge.training.data import read_corpus as read_corpus
    from rnn_edge.training.evaluation import Evaluation as Evaluation
    from rnn_edge.training.evaluation import evaluate as evaluate
    from rnn_edge.training.language import LanguageLesson as LanguageLesson
    from rnn_edge.training.loop import check_output as check_output
    from rnn_edge.training.loop import train as train
    from rnn_edge.training.tasks import make_lesson as make_lesson

__all__ = [
    "Corpus",
    "Evaluation",
    "Finished",
    "LanguageLesson",
    "Progress",
    "TrainOptions",
    "check_output",
    "evaluate",
    "make_lesson",
    "read_corpus",
    "train",
]

_HOMES = {
    "Corpus": "rnn_edge.training.data",
    "read_corpus": "rnn_edge.training.data",
    "Evaluation": "rnn_edge.training.evaluation",
    "evaluate": "rnn_edge.training.evaluation",
    "LanguageLesson": "rnn_edge.training.language",
    "check_output": "rnn_edge.training.loop",
    "make_lesson": "rnn_edge.training.tasks",
    "train": "rnn_edge.training.loop",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
