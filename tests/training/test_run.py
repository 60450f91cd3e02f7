"""A run that was saved and restored is the same run; one made of other things is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rnn_edge.errors import CheckpointError, TrainingError
from rnn_edge.modules.checkpoint import write_tensors
from rnn_edge.spec import LanguageModelSpec
from rnn_edge.training.options import TrainOptions
from rnn_edge.training.run import restore_run, resume_path, save_run, start_run

OUTPUT = Path("model.pt")
SPEC = LanguageModelSpec(vocab_size=5, embedding_size=3, hidden_size=4, tied=True)
MADE_OF = {"hidden_size": 4, "learning_rate": 0.1, "corpus": "abc"}


def weights_of(run) -> list[float]:
    return torch.cat([weight.flatten() for weight in run.model.parameters()]).tolist()


def test_the_seed_decides_the_first_weights():
    same = [weights_of(start_run(SPEC, TrainOptions(seed=seed))) for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


def test_starting_a_run_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    start_run(SPEC, TrainOptions())
    assert torch.rand(1) == expected


def test_a_run_draws_its_own_random_numbers():
    """What the caller draws in between changes nothing, and the caller's numbers do not change either."""
    run = start_run(SPEC, TrainOptions())
    again = start_run(SPEC, TrainOptions())
    torch.manual_seed(7)
    with run.own_random_numbers():
        first = torch.rand(2)
    callers = torch.rand(2)
    with run.own_random_numbers():
        second = torch.rand(2)
    with again.own_random_numbers():
        assert torch.equal(torch.cat([first, second]), torch.rand(4))
    torch.manual_seed(7)
    assert torch.equal(callers, torch.rand(2))


def test_a_restored_run_is_the_one_that_was_saved():
    run = start_run(SPEC, TrainOptions())
    run.step, run.seconds, run.best_criterion, run.looks_without_gain = 3, 4.5, 1.25, 2
    run.state = (torch.rand(1, 2, 4), torch.rand(1, 2, 4))
    run.best_weights = {"output.bias": torch.ones(5)}
    save_run(run, OUTPUT, fingerprint=MADE_OF)

    other = start_run(SPEC, TrainOptions(seed=1))
    restore_run(other, OUTPUT, fingerprint=MADE_OF)
    assert weights_of(other) == weights_of(run)
    assert (other.step, other.seconds, other.best_criterion, other.looks_without_gain) == (3, 4.5, 1.25, 2)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(other.state, run.state, strict=True))
    assert torch.equal(other.random, run.random)
    assert torch.equal(other.best_weights["output.bias"], torch.ones(5))


def test_nothing_to_resume_is_told():
    with pytest.raises(TrainingError, match=r"nothing to resume: model.pt.resume does not exist.*leave out --resume"):
        restore_run(start_run(SPEC, TrainOptions()), OUTPUT, fingerprint=MADE_OF)


def test_every_difference_from_the_saved_run_is_told():
    run = start_run(SPEC, TrainOptions())
    save_run(run, OUTPUT, fingerprint=MADE_OF)
    with pytest.raises(TrainingError) as caught:
        restore_run(run, OUTPUT, fingerprint={"hidden_size": 4, "learning_rate": 0.2, "corpus": "abd"})
    assert "the corpus is another one; learning_rate was 0.1 and is now 0.2." in str(caught.value)


def test_another_kind_of_file_is_not_resumed():
    write_tensors(resume_path(OUTPUT), {"rnn_edge_checkpoint": 1})
    with pytest.raises(CheckpointError, match="not a resume file of this rnn-edge"):
        restore_run(start_run(SPEC, TrainOptions()), OUTPUT, fingerprint=MADE_OF)


def test_a_network_too_large_to_train_is_refused_before_it_is_made():
    spec = LanguageModelSpec(vocab_size=2**24, embedding_size=2**20, hidden_size=2**20)
    with pytest.raises(TrainingError, match="parameters and training takes up to 268,435,456: choose smaller"):
        start_run(spec, TrainOptions())


def test_a_run_that_began_before_there_was_a_choice_goes_on_with_the_usual_one():
    """An older resume file knows nothing of objectives, workers, or what learns beside the network."""
    run = start_run(SPEC, TrainOptions())
    save_run(run, OUTPUT, fingerprint={"hidden_size": 4, "epochs": 10})
    content = torch.load(resume_path(OUTPUT), weights_only=True)
    older = {name: value for name, value in content.items() if name not in ("companion", "recent", "curve")}
    write_tensors(resume_path(OUTPUT), {**older, "random": content["random"][0]})
    wanted = {"hidden_size": 4, **TrainOptions().to_dict(), "workers": 1}
    restore_run(run, OUTPUT, fingerprint=wanted)
    with pytest.raises(TrainingError, match="objective was 'maximum-likelihood' and is now 'mixer'"):
        restore_run(run, OUTPUT, fingerprint={**wanted, "objective": "mixer"})
