"""A graph that searches writes what the host writes with the same options; each text as it would be alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers import export_network, tiny_network

import rnn_edge
from rnn_edge.bundle import Bundle
from rnn_edge.errors import OptionsError, TextError
from rnn_edge.runtimes import GraphWriter

pytest.importorskip("torch")
from rnn_edge.exporters import ExportOptions, export

PATH = Path("model.rnn")
VECTORS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
TEXTS = ["the cat", "on", "the mat sat on the cat and on", "é"]


def facts(several):
    return [
        [(each.text, each.tokens, pytest.approx(each.log_prob), pytest.approx(each.score), each.finish_reason)
         for each in found]
        for found in several
    ]  # fmt: skip


def writer_of(task: str, decode: str, **changes) -> GraphWriter:
    export_network(PATH, task, decode=decode, **changes)
    return GraphWriter.from_bundle(Bundle.read(PATH))


@pytest.mark.parametrize("decode", ["greedy", "sample", "beam"])
@pytest.mark.parametrize("task", ["language-model", "translate", "describe"])
def test_it_writes_what_the_host_writes(task, decode):
    writer = writer_of(task, decode)
    draws = {"seed": 5, "temperature": 1.5, "top_p": 0.9} if decode == "sample" else {}
    options = dataclasses.replace(writer.options, max_new_tokens=12, length_penalty=0.7, **draws)
    host = rnn_edge.load(PATH)
    if task == "describe":
        assert facts(host.describe(VECTORS, options)) == facts(writer.describe(VECTORS, options))
        return
    texts = [*TEXTS, "" if task == "language-model" else "  "]
    write = host.complete if task == "language-model" else host.translate
    assert facts(write(texts, options)) == facts(writer.write(texts, options))
    assert facts([writer.write([text], options)[0] for text in texts]) == facts(writer.write(texts, options))


@pytest.mark.parametrize(("task", "most"), [("language-model", 20), ("translate", 200)])
def test_a_completion_is_shorter_than_what_ends_by_itself(task, most):
    writer = writer_of(task, "greedy", seed=2)
    lengths = {len(found[0].tokens) for found in writer.write(TEXTS)}
    assert max(lengths) == most


def test_several_come_best_first_as_from_the_host():
    export(tiny_network("translate"), PATH, ExportOptions(decode="beam", num_beams=6, num_return_sequences=4))
    writer = GraphWriter.from_bundle(Bundle.read(PATH))
    assert (writer.options.num_beams, writer.options.num_return_sequences) == (6, 4)
    found = writer.write(TEXTS)
    assert [len(each) for each in found] == [4] * 4
    assert facts(rnn_edge.load(PATH).translate(TEXTS, writer.options)) == facts(found)


def test_what_it_cannot_read_is_refused():
    describer = writer_of("describe", "greedy")
    with pytest.raises(OptionsError, match="call describe"):
        describer.write(["a"])
    with pytest.raises(TextError, match="vectors must be"):
        describer.describe([[1.0, 2.0]])
    assert describer.describe([]) == []
    translator = writer_of("translate", "greedy")
    with pytest.raises(OptionsError, match="call write"):
        translator.describe(VECTORS)
    with pytest.raises(OptionsError, match="no graph searches with bad_words"):
        translator.write(["a"], rnn_edge.GenerateOptions(bad_words=("x",)))
    assert translator.write([]) == []
    assert translator.write("on") == translator.write(["on"])
