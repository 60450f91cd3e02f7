"""The graph that finds the most probable tokens against numpy, and the file it comes in."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from rnn_edge.errors import BundleError
from rnn_edge.runtimes.scores import best, log_softmax
from rnn_edge.runtimes.top_k import Scores

ROOT = Path(__file__).resolve().parents[2]


def test_the_files_are_what_the_tool_writes():
    """If this fails: python tools/small_graphs.py"""
    spec = importlib.util.spec_from_file_location("small_graphs", ROOT / "tools" / "small_graphs.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    files = {path.name: path.read_bytes() for path in (ROOT / "rnn_edge" / "runtimes").glob("*.onnx")}
    assert files == {name: tool.graph(name) for name in tool.GRAPHS}


@pytest.mark.parametrize("seed", range(50))
def test_it_finds_what_numpy_finds(seed):
    generator = np.random.default_rng(seed)
    batch, vocab_size, k = generator.integers(1, (7, 300, 20)).tolist()
    logits = generator.normal(scale=4, size=(batch, vocab_size)).astype(np.float32)
    if seed % 2:
        logits = np.round(logits)  # so that many are equal
    tokens, log_probs = Scores(logits).top(k)
    assert tokens == [best(row, k).tolist() for row in logits]
    np.testing.assert_allclose(log_probs, np.take_along_axis(log_softmax(logits), np.array(tokens), 1), atol=1e-5)
    alone = [Scores(row[None]).top(k) for row in logits]
    assert alone == [([found], [scores]) for found, scores in zip(tokens, log_probs, strict=True)]


def test_what_was_found_is_kept_and_not_changed_by_what_comes_to_lie_in_its_place():
    logits, finders = np.array([[3.0, 2.0, 1.0]], np.float32), {}
    before, ((tokens,), _) = Scores(logits, finders), Scores(logits, finders).top(2)
    kept = before.top(2)
    logits[...] = logits[:, ::-1]
    assert (tokens, before.top(1)) == ([0, 1], kept)
    assert Scores(logits, finders).top(2)[0] == [[2, 1]]
    assert Scores(logits, finders).top(3)[0] == [[2, 1, 0]]


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(BundleError, match="not numbers"):
        Scores(np.array([[0.0, 1.0], [np.nan, 0.0]], np.float32)).top(1)


def test_a_token_without_a_chance_has_no_log_prob():
    tokens, (log_probs,) = Scores(np.array([[0.0, -np.inf, 0.0]], np.float32)).top(3)
    assert tokens == [[0, 2, 1]]
    assert log_probs == [pytest.approx(np.log(0.5)), pytest.approx(np.log(0.5)), -np.inf]
