"""Other people's weights in our encoder–decoder: g2p_en's give its own pronunciations, from the bundle."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import g2p_en_checkpoint, shared

from rnn_edge.bundle import Bundle
from rnn_edge.cli import main
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.whole_graph import WholeGraph

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads(shared("models/g2p_en/golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    from rnn_edge.exporters import export

    checkpoint = g2p_en_checkpoint()
    path = tmp_path_factory.mktemp("g2p") / "g2p.rnn"
    export(checkpoint, path)
    return Bundle.read(path)


def test_words_are_pronounced_as_by_g2p_en(golden, bundle):
    words = "\n".join(case["word"] for case in golden["cases"])
    result = CliRunner().invoke(main, ["run", str(bundle.path), "--max-new-tokens", "20"], input=words)
    assert result.stdout.splitlines() == [" ".join(case["phonemes"]) for case in golden["cases"]]


def test_logits_and_states_are_g2p_ens(golden, bundle):
    encoder, decoder = WholeGraph.from_bundle(bundle, "encoder"), StepGraph.from_bundle(bundle)
    recorded = np.load(shared("models/g2p_en/golden_steps.npz"))
    phonemes = {case["word"]: case["phonemes"] for case in golden["cases"]}
    for number, word in enumerate(golden["step_words"]):
        state = encoder.run(np.array([[*bundle.tokenizer.encode(word), bundle.tokenizer.end_id]]))
        np.testing.assert_allclose(state[0][0, 0], recorded[f"{number}.enc_last"], atol=1e-4)
        read = [bundle.target_tokenizer.start_id, *bundle.target_tokenizer.encode(" ".join(phonemes[word]))]
        steps = zip(read, recorded[f"{number}.logits"], recorded[f"{number}.hidden"], strict=True)
        for token, logits, hidden in steps:
            found, state = decoder.step(np.array([[token]]), state)
            np.testing.assert_allclose(found[0], logits, atol=1e-4)
            np.testing.assert_allclose(state[0][0, 0], hidden, atol=1e-4)
