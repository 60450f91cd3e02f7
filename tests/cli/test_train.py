"""`rnn-edge train` as people type it: a corpus in, a model and three lines out, a sentence for whatever is wrong."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli.calling import call
from click.testing import Result

pytest.importorskip("torch")

from rnn_edge.cli import main
from rnn_edge.cli.train import _first_interrupt
from rnn_edge.modules import load_checkpoint
from rnn_edge.training.run import resume_path

SMALL = shlex.split("--vocab-size 300 --embedding-size 8 --hidden-size 12 --batch-size 4 --bptt 8 --threads 1")
QUICK = [*SMALL, "--epochs", "2", "--eval-interval", "10"]
TEXT = "the cat sat on the mat, and the dog on the log\n" * 30


def invoke(*arguments) -> Result:
    return call("train", *arguments)


def sentence(*arguments, exit_code=1) -> str:
    """Return the one line that a command fails with, after making sure that it is no traceback."""
    result = invoke(*arguments)
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert isinstance(result.exception, SystemExit)
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture(autouse=True)
def _corpus():
    Path("corpus.txt").write_text(TEXT)


def test_results_go_to_standard_output_and_progress_to_standard_error():
    result = invoke("corpus.txt", "-o", "model.pt", *QUICK)
    figures, saved, following = result.stdout.splitlines()
    assert figures.startswith("held-out text: perplexity ")
    assert "bits per character, top-1 " in figures
    assert saved.startswith("saved model.pt after ")
    assert following == "next: rnn-edge export model.pt"
    assert result.stderr.startswith("step 10/")
    assert "tokens/s" in result.stderr
    assert load_checkpoint(Path("model.pt")).history["corpus"] == {
        "files": 1,
        "bytes": len(TEXT),
        "names": ["corpus.txt"],
    }


def test_json_is_one_object():
    result = invoke("corpus.txt", "-o", "model.pt", *QUICK, "--json")
    found = json.loads(result.stdout)
    assert found["output"] == "model.pt"
    assert found["perplexity"] > 1
    assert found["stopped_by"] == "epochs"
    assert found == {**found, **load_checkpoint(Path("model.pt")).history["held_out"]}


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow
@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        (["--cell", "gru", "--num-layers", "2", "--untied"], {"cell": "gru", "num_layers": 2, "tied": False}),
        (["--cell", "elman", "--nonlinearity", "relu"], {"cell": "elman", "nonlinearity": "relu", "tied": True}),
        (["--proj-size", "6", "--dropout", "0.5"], {"cell": "lstm", "proj_size": 6, "dropout": 0.5}),
        (["--tokenizer", "words"], {"hidden_size": 12, "embedding_size": 8}),
    ],
)
def test_the_network_is_the_one_that_was_asked_for(choices, expected):
    assert invoke("corpus.txt", "-o", "model.pt", *QUICK, *choices).exit_code == 0
    spec = load_checkpoint(Path("model.pt")).model.spec.to_dict()
    assert spec == {**spec, **expected}


def test_held_out_files_and_lines_are_read():
    Path("judge.txt").write_text("the cat\n\nthe dog\n")
    options = ["--held-out", "judge.txt", "--lines", "--tokenizer", "characters", "--json"]
    found = json.loads(invoke("corpus.txt", "-o", "model.pt", *QUICK, *options).stdout)
    assert (found["characters"], found["tokens"]) == (14, 15)  # the end token between two lines counts


@pytest.mark.parametrize(
    ("choices", "problem"),
    [
        (["--epochs", "0"], "epochs must be a whole number from 1"),
        (["--epochs", "-3"], "epochs must be a whole number from 1"),
        (["--batch-size", "0"], "batch_size must be"),
        (["--bptt", "-1"], "bptt must be"),
        (["--learning-rate", "nan"], "learning_rate must be a number above 0, got nan"),
        (["--learning-rate", "-1"], "learning_rate must be a number above 0"),
        (["--weight-decay", "inf"], "weight_decay must be"),
        (["--clip-norm", "0"], "clip_norm must be"),
        (["--max-minutes", "0"], "max_minutes must be"),
        (["--threads", "0"], "threads must be"),
        (["--seed", "-1"], "seed must be"),
        (["--hidden-size", "0"], "hidden_size must be a whole number from 1"),
        (["--hidden-size", "99999999999"], "hidden_size must be"),
        (["--hidden-size", "9999999"], "parameters and training takes up to 268,435,456: choose smaller sizes"),
        (["--dropout", "1"], "dropout must be at least 0 and below 1"),
        (["--dropout", "nan"], "dropout must be"),
        (["--proj-size", "12"], "proj_size 12 must be smaller than hidden_size 12"),
        (["--cell", "gru", "--proj-size", "6"], "proj_size is for the lstm cell only"),
        (["--cell", "lstm", "--nonlinearity", "relu"], "nonlinearity 'relu' is for the elman and gru cells only"),
        (["--vocab-size", "100"], "a vocabulary of bpe needs at least 257 tokens, got 100"),
        (["--epochs", "0", "--bptt", "0"], "epochs must be a whole number from 1 to 2147483647, got 0; bptt must"),
        (["--resume"], "there is nothing to resume: model.pt.resume does not exist"),
    ],
)
def test_absurd_values_are_refused_in_a_sentence(choices, problem):
    assert problem in sentence("corpus.txt", "-o", "model.pt", *SMALL, *choices)
    assert not Path("model.pt").exists()


@pytest.mark.parametrize("choices", [["--vocab-size", "0"], ["--vocab-size", "1" + "0" * 30], ["--cell", "cnn"], []])
def test_what_the_command_line_cannot_mean_is_a_usage_error(choices):
    where = ["-o", "model.pt"] if choices else []
    assert sentence("corpus.txt", *where, *choices, exit_code=2).startswith("Error: ")


def test_a_huge_vocabulary_is_filled_as_far_as_the_text_goes():
    choices = ["--vocab-size", "10000000"]
    assert invoke("corpus.txt", "-o", "model.pt", *QUICK, *choices).exit_code == 0
    assert load_checkpoint(Path("model.pt")).model.spec.vocab_size < 400


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "bad.txt is empty: name a file with text"),
        (b"caf\xe9", "bad.txt is not UTF-8: unexpected end of data at byte 3; convert it"),
        (b"x", "the corpus is a single character, too little to learn from"),
    ],
)
def test_a_corpus_that_is_no_text_is_refused(content, problem):
    Path("bad.txt").write_bytes(content)
    assert problem in sentence("bad.txt", "-o", "model.pt")


def test_a_missing_corpus_is_refused():
    assert "cannot read nowhere.txt: No such file" in sentence("nowhere.txt", "-o", "model.pt")


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("nowhere/model.pt", "there is no directory nowhere; create it"),
        ("corpus.txt", "it is part of the corpus"),
        (".", "it is a directory; name a file"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_corpus_is_read(output, problem, monkeypatch):
    monkeypatch.setattr("rnn_edge.training.data.read_corpus", lambda *_, **__: pytest.fail("work began"))
    assert problem in sentence("corpus.txt", "-o", output)
    assert Path("corpus.txt").read_text() == TEXT


def test_a_corpus_shorter_than_one_batch_is_trained_on():
    Path("short.txt").write_text("hello\nyou\n")
    result = invoke("short.txt", "-o", "model.pt", "--epochs", "1", "--hidden-size", "8")
    assert result.exit_code == 0, result.output


def test_a_loss_that_is_no_number_is_told_in_a_sentence():
    choices = ["--learning-rate", "1e36", "--clip-norm", "1e30", "--warmup", "0"]
    told = sentence("corpus.txt", "-o", "model.pt", *SMALL, *choices)
    assert "lower the learning rate (now 1e+36) or the clip norm (now 1e+30)" in told


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to one process")
def test_ctrl_c_saves_and_the_same_command_with_resume_ends_as_if_never_stopped():
    """Interrupted in the middle of an interval, without losing a step of it."""
    assert invoke("corpus.txt", "-o", "straight.pt", *QUICK, "--epochs", "30").exit_code == 0
    command = ["corpus.txt", "-o", "model.pt", *QUICK, "--epochs", "30"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rnn_edge", "train", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, told = process.communicate()
    assert process.returncode == 130
    assert output == ""
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith("stopped after step ")
    assert told.splitlines()[-1].endswith("the same command with --resume goes on")
    assert resume_path(Path("model.pt")).exists()
    assert invoke(*command, "--resume").exit_code == 0
    assert weights_in("model.pt") == weights_in("straight.pt")


def weights_in(path: str) -> list[float]:
    model = load_checkpoint(Path(path)).model
    return [value for tensor in model.state_dict().values() for value in tensor.flatten().tolist()]


def test_a_second_ctrl_c_interrupts_at_once():
    with _first_interrupt() as interrupted:
        signal.raise_signal(signal.SIGINT)
        assert interrupted.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_background_job_that_ignores_ctrl_c_goes_on_ignoring_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _first_interrupt() as interrupted:
            signal.raise_signal(signal.SIGINT)
            assert not interrupted.is_set()
    finally:
        signal.signal(signal.SIGINT, before)


def test_help_has_an_example_and_every_option_says_what_it_is():
    assert "rnn-edge train corpus.txt -o model.pt\n" in invoke("--help").stdout
    command = main.commands["train"]
    assert all(option.help for option in command.params if isinstance(option, click.Option))
