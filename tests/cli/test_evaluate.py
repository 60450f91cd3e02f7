"""`rnn-edge eval`: the figures, and what it cannot type with."""

from __future__ import annotations

import json
from pathlib import Path

from cli.calling import call, refused
from helpers import export_network


def test_eval_counts_what_suggestions_save(files):
    Path("text.txt").write_text("the cat sat on the mat\nthe end\n")
    text = call("eval", "model.rnn", "text.txt").stdout
    assert "typed 8 words: keystroke savings" in text
    found = json.loads(call("eval", "model.rnn", "text.txt", "--lines", "--max-words", "3", "--json").stdout)
    assert (found["words"], found["characters"]) == (3, 11)
    assert call("eval", "model.rnn").exit_code == 2
    assert "No such file" in refused("eval", "model.rnn", "nowhere.txt")
    assert call("eval", "text.txt").exit_code == 0  # by the built-in model
    export_network(Path("translate.rnn"), "translate")
    assert "language model, and translate.rnn is a translator" in refused("eval", "translate.rnn", "text.txt")
