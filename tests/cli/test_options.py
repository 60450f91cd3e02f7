"""Where a graph is to run, as every command is told it: options that are passed on, and no silent fallback."""

from __future__ import annotations

import pytest
from cli.calling import call

from rnn_edge.runtimes.providers import PROVIDERS, why_not

NO_CUDA = "provider 'cuda' is not in this build of onnxruntime"
needs_no_cuda = pytest.mark.skipif(not why_not(PROVIDERS["cuda"]), reason="this machine has CUDA")

pytestmark = pytest.mark.usefixtures("files")


@needs_no_cuda
@pytest.mark.parametrize("command", [("run", "model.rnn", "x"), ("placement", "model.rnn")])
def test_a_provider_that_is_missing_is_one_sentence_and_exit_code_1(command):
    done = call(*command, "--provider", "cuda")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {NO_CUDA}")
    assert len(done.stderr.splitlines()) == 1


@needs_no_cuda
def test_falling_back_is_told_on_standard_error():
    asked, plain = (call("run", "model.rnn", "the", *more) for more in (("--provider", "cuda", "--allow-fallback"), ()))
    assert asked.exit_code == 0
    assert asked.stdout == plain.stdout
    assert asked.stderr.startswith(f"Warning: {NO_CUDA}")
    assert asked.stderr.endswith("it runs on the CPU instead\n")


def test_options_reach_the_provider():
    assert "provider 'cpu' has no option a" in call("run", "model.rnn", "x", "--provider-option", "a=1=2").stderr
    wrong = call("run", "model.rnn", "x", "--provider-option", "a")
    assert (wrong.exit_code, "is not an option like device_id=0" in wrong.stderr) == (2, True)


def test_the_fastest_provider_is_named_on_standard_error():
    done = call("run", "model.rnn", "the", "--provider", "auto")
    assert done.exit_code == 0
    assert "µs a token" in done.stderr
    assert "the fastest here" in done.stderr
