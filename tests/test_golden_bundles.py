"""Bundles of every format that was ever released keep giving what they gave. Needs no PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import rnn_edge
from rnn_edge.bundle import FORMAT, Bundle
from rnn_edge.runtimes import StepGraph

BUNDLES = Path(__file__).parent / "data"

TEXTS = {1: ("the cat", ", end end end end end", -15.111056187355164)}


def test_every_format_is_kept():
    assert sorted(TEXTS) == list(range(1, FORMAT + 1))


@pytest.mark.parametrize("number", TEXTS)
def test_an_old_bundle_gives_the_same_text(number):
    prompt, text, log_prob = TEXTS[number]
    model = rnn_edge.load(BUNDLES / f"format-{number}.rnn")
    found = model.complete(prompt, rnn_edge.GenerateOptions(max_new_tokens=6, num_beams=3))[0]
    assert found.text == text
    assert found.log_prob == pytest.approx(log_prob, abs=1e-3)


@pytest.mark.parametrize("number", TEXTS)
def test_an_old_bundle_passes_its_own_golden_file(number):
    """As an app in another language would check it: from golden.json and the graph alone."""
    path = BUNDLES / f"format-{number}.rnn"
    golden, graph = json.loads((path / "golden.json").read_text()), StepGraph.from_bundle(Bundle.read(path))
    for case in golden["cases"]:
        logits, state = graph.step(np.array([case["tokens"]]), graph.start(1))
        assert [list(part.shape) for part in state] == [expected["shape"] for expected in case["states"]]
        for token in case["greedy"]:
            assert int(logits[0].argmax()) == token
            logits, state = graph.step(np.array([[token]]), state)
