"""The whole path as a user types it: train, export, verify, run, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

TEXT = "the cat sat on the mat. the dog sat on the log. the cow sat in the barn.\n" * 60


def rnn_edge(*arguments: str, text: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "rnn_edge", *arguments], input=text, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("cell", "tokenizer"), [("elman", "characters"), ("lstm", "words"), ("gru", "bpe")])
def test_a_text_becomes_a_model_that_continues_it(cell, tokenizer):
    Path("corpus.txt").write_text(TEXT)
    rnn_edge(
        "train", "corpus.txt", "-o", "model.pt", "--cell", cell, "--tokenizer", tokenizer, "--vocab-size", "290",
        "--hidden-size", "48", "--embedding-size", "24", "--num-layers", "1", "--batch-size", "8", "--bptt", "16",
        "--epochs", "14", "--dropout", "0", "--threads", "1",
    )  # fmt: skip
    rnn_edge("export", "model.pt")
    assert "worst error" in rnn_edge("verify", "model.pt", "model.rnn")
    assert rnn_edge("run", "model.rnn", "--max-new-tokens", "9", text="the cat sat on th\n").startswith(
        "the cat sat on the "
    )
    found = json.loads(
        rnn_edge("run", "model.rnn", "--json", "--num-return", "2", "--max-new-tokens", "9", "the dog s")
    )
    assert found["completions"][0]["text"].startswith("at on the")
