"""A published model gives the completions that an exact search in float64 recorded."""

from __future__ import annotations

import json
from pathlib import Path

from helpers import darwin_checkpoint, shared
from runtimes.fakes import about

from rnn_edge.bundle import Bundle
from rnn_edge.runtimes.beams import beam_search
from rnn_edge.runtimes.decoding import Path as Tokens
from rnn_edge.runtimes.decoding import Rules, read
from rnn_edge.runtimes.step_graph import StepGraph


def test_the_recorded_most_probable_words_of_darwin():
    """Ten of each prefix, in order: the word and the character that ends it, with its log-prob."""
    recorded = json.loads(shared("models/ml5_charrnn/darwin/exact_word_completions.json").read_text())
    checkpoint = darwin_checkpoint()
    from rnn_edge.exporters import export

    export(checkpoint, Path("darwin.rnn"))
    graph = StepGraph.from_bundle(Bundle.read(Path("darwin.rnn")))
    token_bytes = checkpoint.tokenizer.token_bytes
    stops = tuple(token_bytes[token] for token in recorded["stop_ids"])
    rules = Rules(token_bytes=token_bytes, end_id=None, unknown_id=None, max_new_tokens=25, stops=stops)
    for case in recorded["cases"]:
        position = read(graph, [checkpoint.tokenizer.encode(case["prefix"])])
        (found,) = beam_search(graph, [[Tokens()]], position, rules, num_beams=100)
        assert [text for text, _ in case["nbest"]] == [checkpoint.tokenizer.decode(each.tokens) for each in found[:10]]
        assert [log_prob for _, log_prob in case["nbest"]] == about([each.log_prob for each in found[:10]])
