"""Whole runs with each objective: they learn, go on after a stop, and begin with another run's network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from rnn_edge.cli import main
from rnn_edge.modules import load_checkpoint
from rnn_edge.training import TrainOptions, make_lesson, train
from rnn_edge.training.run import resume_path

SMALL = {"tokenizer": "whitespace", "embedding_size": 8, "hidden_size": 10, "dropout": 0.2}
OBJECTIVES = {
    "scheduled-sampling": {"sampling_schedule": "linear", "teacher_share": 0.25},
    "minimum-risk": {"candidates": 4},
    "mixer": {"mixer_delta": 1},
    "professor-forcing": {},
}
CASES = [("translate", name) for name in OBJECTIVES] + [
    ("language-model", name) for name in ("scheduled-sampling", "professor-forcing")
]


@pytest.fixture(autouse=True)
def _examples():
    texts = [" ".join(letters) for letters in ("abc", "cab", "bca", "acb", "ab", "ba", "cb", "bbca", "aabc", "cc") * 4]
    Path("pairs.tsv").write_text("".join(f"{text}\t{text[::-1].upper()}\n" for text in texts))


def events(output, task, objective="maximum-likelihood", *, resume=False, begin=None, choices=SMALL, **changes):
    values = {"epochs": 4, "batch_size": 8, "bptt": 8, "eval_interval": 4, "threads": 1, "learning_rate": 0.02}
    options = TrainOptions(**{**values, "objective": objective, **OBJECTIVES.get(objective, {}), **changes})
    lesson = make_lesson(task, [Path("pairs.tsv")], choices=choices, options=options, begin=begin)
    return train(lesson, Path(output), options=options, resume=resume, begin=begin.model if begin else None)


def weights_in(path) -> bytes:
    return b"".join(part.numpy().tobytes() for part in load_checkpoint(Path(path)).model.state_dict().values())


@pytest.mark.parametrize(("task", "objective"), CASES)
def test_a_stopped_run_goes_on_bit_for_bit(task, objective):
    """What learns beside the network, and every token drawn, included."""
    *_, _ = events("straight.pt", task, objective)
    stopped = events("model.pt", task, objective)
    for _ in range(6):
        next(stopped)
    stopped.close()
    *_, _ = events("model.pt", task, objective, resume=True)
    assert weights_in("model.pt") == weights_in("straight.pt")


@pytest.mark.parametrize(("task", "objective"), [("language-model", "scheduled-sampling"), ("translate", "mixer")])
def test_a_stopped_run_goes_on_bit_for_bit_with_masks_that_last(task, objective):
    remedies = {"variational_dropout": True, "weight_dropout": 0.4}
    *_, _ = events("straight.pt", task, objective, **remedies)
    stopped = events("model.pt", task, objective, **remedies)
    for _ in range(6):
        next(stopped)
    stopped.close()
    *_, _ = events("model.pt", task, objective, resume=True, **remedies)
    assert weights_in("model.pt") == weights_in("straight.pt")
    *_, _ = events("plain.pt", task, objective)
    assert weights_in("plain.pt") != weights_in("straight.pt")


@pytest.mark.parametrize("objective", ["mixer", "professor-forcing"])
def test_what_learns_beside_the_network_learns_and_is_not_in_the_model(objective):
    run = events("model.pt", "translate", objective, mixer_delta=50 if objective == "mixer" else 2)
    for _ in range(18):
        next(run)
    run.close()
    kept = torch.load(resume_path(Path("model.pt")), weights_only=True)["companion"]
    early = events("early.pt", "translate", objective, mixer_delta=50 if objective == "mixer" else 2)
    next(early)
    early.close()
    first = torch.load(resume_path(Path("early.pt")), weights_only=True)["companion"]
    assert any(not torch.equal(kept[name], first[name]) for name in kept)
    assert not kept.keys() & load_checkpoint(Path("model.pt")).model.state_dict().keys()


def test_a_reward_objective_is_judged_by_bleu():
    looks = [event.held_out for event in events("model.pt", "translate", "minimum-risk") if event.held_out]
    assert all(look.criterion == 100 - look.bleu for look in looks)


def test_a_run_can_begin_with_another_runs_network():
    """With a learning rate of next to nothing, it stays that network."""
    *_, _ = events("first.pt", "translate", epochs=2)
    begin = load_checkpoint(Path("first.pt"))
    *_, _ = events("second.pt", "translate", "scheduled-sampling", begin=begin, choices={}, learning_rate=1e-9)
    first, second = (load_checkpoint(Path(name)) for name in ("first.pt", "second.pt"))
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    assert second.target_tokenizer.to_json() == first.target_tokenizer.to_json()


def invoke(*arguments):
    return CliRunner().invoke(main, ["train", "pairs.tsv", "--task", "translate", *arguments, "--threads", "1"])


def test_the_command_begins_with_a_checkpoint_and_its_network():
    sizes = ["--tokenizer", "whitespace", "--embedding-size", "8", "--hidden-size", "10", "--cell", "gru"]
    assert invoke("-o", "first.pt", "--epochs", "1", *sizes).exit_code == 0
    begin = ["-o", "second.pt", "--epochs", "1", "--init-from", "first.pt"]
    result = invoke(*begin, "--objective", "minimum-risk", "--candidates", "3", "--dropout", "0")
    assert result.exit_code == 0, result.output
    spec = load_checkpoint(Path("second.pt")).model.spec
    assert (spec.cell, spec.hidden_size, spec.dropout) == ("gru", 10, 0)
    refused = invoke(*begin, "--cell", "lstm")
    assert "the checkpoint that a run begins with decides cell: leave that out" in refused.output
    other = CliRunner().invoke(main, ["train", "pairs.tsv", "-o", "third.pt", "--init-from", "first.pt"])
    assert "task language-model cannot begin with a network of task translate" in other.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--candidates", "4"], "candidates is for the objective minimum-risk only"),
        (["--objective", "mixer", "--sharpness", "1"], "sharpness is for the objective minimum-risk only"),
        (["--objective", "minimum-risk", "--candidates", "1"], "candidates must be a whole number from 2"),
        (["--objective", "scheduled-sampling", "--teacher-share", "1"], "teacher_share must be below 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments, problem):
    assert problem in invoke("-o", "model.pt", *arguments).output


def test_an_objective_of_translators_is_not_for_other_tasks():
    result = CliRunner().invoke(main, ["train", "pairs.tsv", "-o", "model.pt", "--objective", "mixer"])
    assert "objective mixer is not for a language-model network" in result.output
