"""`rnn-edge export` and `verify`: the figures that they print, and nothing left of what fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.calling import call, refused
from helpers import some_checkpoint


def test_export_prints_parity_and_the_bundle(files):
    result = call("export", "model.pt", "-o", "out.rnn")
    assert result.exit_code == 0, result.output
    assert "token by token" in result.stdout
    assert "compared with PyTorch: worst error" in result.stdout
    assert "out.rnn: " in result.stdout
    assert call("export", "model.pt").exit_code == 0  # over the bundle that is there
    assert call("verify", "model.pt", "out.rnn").exit_code == 0


def test_export_writes_a_graph_that_searches(files):
    result = call("export", "model.pt", "-o", "out.rnn", "--decode", "beam", "--beam-size", "3", "--num-return", "2")
    assert result.exit_code == 0, result.output
    assert "beam graph" in result.stdout
    assert Path("out.rnn/decode.onnx").exists()
    assert "beam graph" in call("verify", "model.pt", "out.rnn").stdout
    assert "num_beams: 3" in call("info", "out.rnn").stdout


def test_export_tells_what_a_preview_finds(files):
    Path("text").write_text("the cat sat on the mat\n" * 20)
    given = ("--preview", "int8", "--candidates", "16", "--eval", "text")
    result = call("export", "model.pt", "-o", "out.rnn", *given)
    assert result.exit_code == 0, result.output
    assert "preview: finds 100.00% of the best token" in result.stdout
    assert "candidates: 16" in call("info", "out.rnn").stdout
    assert "recall_at_1: 1" in call("info", "out.rnn").stdout


@pytest.mark.parametrize(("task", "printed"), [
    ("translate", ["encoder padded", "token by token", "same texts"]),
    ("tag", ["texts padded", "log-probs", "over 212 labels; right "]),
    ("embed", ["texts padded", "rounding: not judged"]),
])  # fmt: skip
def test_every_task_is_exported_verified_and_described(task, printed):
    from rnn_edge.modules import save_checkpoint

    save_checkpoint(some_checkpoint(task), Path("model.pt"))
    result = call("export", "model.pt", "--precision", "int8", "--max-loss", "900%")
    assert result.exit_code == 0, result.output
    assert all(words in result.stdout for words in printed), result.stdout
    assert call("verify", "model.pt", "model.rnn").exit_code == 0
    facts = json.loads(call("info", "model.rnn", "--json").stdout)
    assert facts["spec"]["task"] == task
    assert call("info", "model.rnn").exit_code == 0


def test_export_that_fails_parity_leaves_nothing(files):
    assert "disagrees with PyTorch" in refused("export", "model.pt", "-o", "out.rnn", "--atol", "1e-12")
    assert not Path("out.rnn").exists()


def test_verify_fails_with_the_figures(files):
    result = call("verify", "model.pt", "model.rnn", "--atol", "1e-12")
    assert result.exit_code == 1
    assert "DIFFERENT" in result.stdout
    assert "disagrees with PyTorch" in result.stderr


@pytest.mark.parametrize(("arguments", "words"), [
    (["export", "nowhere.pt"], "cannot read nowhere.pt"),
    (["export", "model.rnn"], "cannot read model.rnn"),
    (["export", "model.pt", "-o", "no/such/place"], "there is no directory"),
    (["export", "model.pt", "--narrowing"], "narrowing is for decode='beam' only"),
    (["export", "model.pt", "--early-stopping", "never"], "early_stopping is for decode='beam' only"),
    (["export", "model.pt", "--opset", "3"], "opset must be from 17 to 26"),
    (["export", "model.pt", "--atol", "nan"], "atol must be a positive number"),
    (["verify", "model.pt", "nowhere"], "nowhere is not a bundle"),
])  # fmt: skip
def test_what_cannot_be_done_is_one_sentence(files, arguments, words):
    assert words in refused(*arguments)
