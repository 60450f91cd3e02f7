"""Another project's trained encoder-decoder fits into ours."""

from __future__ import annotations

import json

import numpy as np
import torch
from helpers import g2p_en_checkpoint, shared

from rnn_edge.training.translation import write_greedily


def test_g2p_en_gives_its_recorded_logits_and_states():
    checkpoint = g2p_en_checkpoint()
    golden = json.loads(shared("models/g2p_en/golden.json").read_text())
    steps = np.load(shared("models/g2p_en/golden_steps.npz"))
    tokenizer, target = checkpoint.tokenizer, checkpoint.target_tokenizer
    phonemes = {case["word"]: case["phonemes"] for case in golden["cases"]}
    for number, word in enumerate(golden["step_words"]):
        source = torch.tensor([[*tokenizer.encode(word), tokenizer.end_id]])
        state, memory = checkpoint.model.encode(source)
        torch.testing.assert_close(state[0][0, 0], torch.from_numpy(steps[f"{number}.enc_last"]), rtol=0, atol=1e-5)
        written = [target.start_id, *target.encode(" ".join(phonemes[word]))]
        logits, _, _ = checkpoint.model.decode(torch.tensor([written]), state, memory)
        recorded = torch.from_numpy(steps[f"{number}.logits"])
        torch.testing.assert_close(logits[0, : len(recorded)], recorded, rtol=0, atol=1e-4)


def test_g2p_en_gives_its_recorded_pronunciations():
    checkpoint = g2p_en_checkpoint()
    cases = json.loads(shared("models/g2p_en/golden.json").read_text())["cases"]
    tokenizer, target = checkpoint.tokenizer, checkpoint.target_tokenizer
    sources = [torch.tensor([*tokenizer.encode(case["word"]), tokenizer.end_id]) for case in cases]
    batch = torch.nn.utils.rnn.pad_sequence(sources, batch_first=True, padding_value=-1)
    found = write_greedily(checkpoint.model, batch, start=target.start_id, end=target.end_id, longest=20)
    assert [target.decode(row) for row in found] == [" ".join(case["phonemes"]) for case in cases]
