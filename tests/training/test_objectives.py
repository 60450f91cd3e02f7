"""What each objective adds up to, by hand, by enumeration, and by numerical gradients."""

from __future__ import annotations

import math
from itertools import islice, product

import pytest
import torch
from torch import nn

from rnn_edge.errors import TrainingError
from rnn_edge.modules import LanguageModel
from rnn_edge.spec import ClassifierSpec, LanguageModelSpec
from rnn_edge.training.objectives import (
    Discriminator,
    companion,
    draw,
    expected_risk,
    learnt_baseline,
    professor_forcing,
    reinforce,
    scheduled_sampling,
    teacher_share,
    told_first,
    unroll,
)
from rnn_edge.training.options import TrainOptions

VOCAB = 3
SPEC = LanguageModelSpec(vocab_size=VOCAB, embedding_size=3, hidden_size=4, cell="gru")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LanguageModel(SPEC).double()


@pytest.mark.parametrize("schedule", ["linear", "exponential", "inverse-sigmoid"])
def test_a_schedule_falls_from_the_truth_to_its_end(schedule):
    shares = [teacher_share(schedule, 0.3, share / 10) for share in range(11)]
    assert shares == sorted(shares, reverse=True)
    assert 0.95 < shares[0] <= 1
    assert shares[-1] == pytest.approx(0.3)


def test_schedules_have_the_shapes_of_the_paper():
    """Half-way: a line is in the middle, k**i at the root of its end, and the sigmoid above the line."""
    assert teacher_share("linear", 0.25, 0.5) == pytest.approx(0.625)
    assert teacher_share("exponential", 0.25, 0.5) == pytest.approx(0.5)
    k, steps = 20.0, 100
    rate = math.log(k * 3) * k / steps  # so that i / k comes to log(k (1 - 0.25) / 0.25) after all steps
    assert teacher_share("inverse-sigmoid", 0.25, 0.5) == pytest.approx(k / (k + math.exp(rate * 50 / k)))


def test_scheduled_sampling_that_reads_the_truth_only_is_teacher_forcing(model):
    inputs = torch.randint(VOCAB, (5, 7))
    expected, expected_state = model(inputs, model.start(5))
    logits, state = scheduled_sampling(model, inputs, model.start(5), share=1.0)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(state, expected_state)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_scheduled_sampling_reads_the_truth_as_often_as_told(share):
    """A model that foretells token 1 for certain, where the truth is 0: what was read can be counted."""
    seen = []

    def read(tokens, state):
        seen.append(tokens)
        return torch.tensor([-1e9, 0.0]).expand(len(tokens), 1, 2), state

    torch.manual_seed(0)
    scheduled_sampling(read, torch.zeros(400, 11, dtype=torch.int64), (), share=share)
    read_tokens = torch.cat(seen, dim=1)
    assert not read_tokens[:, 0].any()
    assert (read_tokens[:, 1:] == 0).double().mean().item() == pytest.approx(share, abs=0.02)


def test_drawn_tokens_have_the_frequencies_of_their_distribution():
    torch.manual_seed(0)
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(20_000, 3)
    assert torch.bincount(draw(logits)).div(20_000).tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.015)


def test_expected_risk_by_hand():
    """With α = 1/2, P = 0.81 and 0.01 become Q = 0.9 and 0.1; what a source lacks counts nothing."""
    log_probs = torch.tensor([[0.81, 0.01, 0.0], [0.2, 0.2, 0.2]]).log()
    risks = torch.tensor([[-1.0, 0.0, 0.0], [-0.3, -0.6, 0.0]])
    assert expected_risk(log_probs, risks, sharpness=0.5).item() == pytest.approx((-0.9 - 0.3) / 2)


def every_text(length):
    return torch.tensor(list(product(range(VOCAB), repeat=length)))


def log_probs_of(model, texts):
    inputs = torch.cat([torch.zeros(len(texts), 1, dtype=torch.int64), texts[:, :-1]], dim=1)
    log_probs = model(inputs, model.start(len(texts)))[0].log_softmax(dim=-1)
    return log_probs.gather(2, texts[..., None])[..., 0]  # (texts, time)


REWARDS = torch.rand(VOCAB**3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def numerical_gradient(model, value):
    """Central differences in every weight."""
    gradient = []
    with torch.no_grad():
        for weight in model.parameters():
            for place in range(weight.numel()):
                flat = weight.view(-1)
                before, found = flat[place].item(), []
                for step in (1e-5, -1e-5):
                    flat[place] = before + step
                    found.append(value().item())
                flat[place] = before
                gradient.append((found[0] - found[1]) / 2e-5)
    return torch.tensor(gradient, dtype=torch.float64)


def gradient_of(model, loss):
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


def test_with_all_texts_as_candidates_and_no_sharpening_the_risk_is_the_expected_one(model):
    """Value and gradient: Σ_y P(y) Δ(y) over all 27 texts, by differences in the weights."""
    texts = every_text(3)

    def exact():
        return (log_probs_of(model, texts).sum(dim=1).exp() * -REWARDS).sum()

    risk = expected_risk(log_probs_of(model, texts).sum(dim=1)[None], -REWARDS[None], sharpness=1.0)
    torch.testing.assert_close(risk, exact())
    torch.testing.assert_close(gradient_of(model, risk), numerical_gradient(model, exact), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_reinforce_has_on_the_mean_the_gradient_of_the_expected_reward(model, baseline):
    """Σ_y P(y) ∇loss(y) over all 27 texts is -∇ Σ_y P(y) r(y), whatever the baseline."""
    texts = every_text(3)
    log_probs = log_probs_of(model, texts)
    probs = log_probs.sum(dim=1).exp().detach()
    baselines = torch.tensor([[baseline, 2 * baseline, -baseline]], dtype=torch.float64)
    drawn = torch.ones(1, 3, dtype=torch.bool)
    losses = [reinforce(log_probs[[row]], REWARDS[[row]], baselines, drawn) for row in range(len(texts))]
    found = gradient_of(model, (torch.stack(losses) * probs).sum())

    def expected_cost():
        return -(log_probs_of(model, texts).sum(dim=1).exp() * REWARDS).sum()

    torch.testing.assert_close(found, numerical_gradient(model, expected_cost), atol=1e-7, rtol=1e-5)


def test_reinforce_counts_only_what_was_drawn():
    log_probs = torch.tensor([[-1.0, -2.0, -4.0]])
    drawn = torch.tensor([[False, True, True]])
    assert reinforce(log_probs, torch.tensor([0.5]), torch.tensor([[9.0, 0.25, 1.0]]), drawn).item() == -(
        0.25 * -2 + -0.5 * -4
    )


def test_a_baseline_learns_the_mean_reward_and_leaves_the_network_alone():
    states = torch.randn(64, 2, 3, requires_grad=True)
    rewards = torch.rand(64)
    network = nn.Linear(3, 1)
    drawn = torch.ones(64, 2, dtype=torch.bool)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        foretold, error = learnt_baseline(network, states, rewards, drawn)
        (error / 128).backward()
        optimizer.step()
    assert states.grad is None
    assert foretold.mean().item() == pytest.approx(rewards.mean().item(), abs=0.02)


@pytest.mark.parametrize(("share", "told"), [(0, 7), (0.24, 7), (0.25, 4), (0.5, 1), (0.75, 0), (1, 0)])
def test_mixer_tells_less_at_every_stage(share, told):
    """Targets of up to 7 tokens, 3 fewer a stage: four stages."""
    assert told_first(7, 3, share) == told


def test_unrolling_reads_what_was_chosen(model):
    steps = list(islice(unroll(model, torch.tensor([0]), model.start(1), lambda time, _: torch.tensor([time % 3])), 4))
    logits, state = model(torch.tensor([[0, 0, 1, 2]]), model.start(1))
    torch.testing.assert_close(torch.stack([step.logits for step in steps], dim=1), logits)
    torch.testing.assert_close(steps[-1].state, state)
    assert steps[1].log_prob.item() == pytest.approx(logits[0, 1].log_softmax(dim=-1)[1].item())


def forced(model, judge, time=4, batch=8):
    inputs = torch.randint(VOCAB, (batch, time))
    return inputs, professor_forcing(model, inputs, model.start(batch), torch.full((batch,), time), judge)


def test_professor_forcing_reads_the_truth(model):
    inputs, (logits, state, _) = forced(model, Discriminator(4).double())
    expected, expected_state = model(inputs, model.start(8))
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(state, expected_state)


class Scripted(nn.Module):
    """A discriminator of one weight that says the mean of the states, times it, plus what is known of the truth."""

    def __init__(self, certainty):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()).double())
        self.certainty = certainty

    def forward(self, states, lengths):
        sign = torch.ones(len(states)).double()
        if len(states) > 8:  # both kinds, the true ones first
            sign[8:] = -1
        else:
            sign *= -1
        return states.mean(dim=(1, 2)) * 1e-3 * self.weight + sign * self.certainty


def test_a_discriminator_that_knows_all_rests_and_teaches_the_network(model):
    judge = Scripted(5.0)
    _, (_, _, penalty) = forced(model, judge)
    penalty.backward()
    assert judge.weight.grad.item() == 0
    assert any(weight.grad.abs().sum() > 0 for weight in model.stack.parameters())


def test_a_discriminator_that_knows_nothing_learns_and_is_not_listened_to(model):
    judge = Scripted(-5.0)
    _, (_, _, penalty) = forced(model, judge)
    penalty.backward()
    assert judge.weight.grad.item() != 0
    assert all(weight.grad is None or not weight.grad.any() for weight in model.stack.parameters())


def test_a_discriminator_learns_to_tell_states_apart_and_ignores_what_lies_behind_an_end():
    torch.manual_seed(0)
    judge = Discriminator(3)
    lengths = torch.tensor([2, 4, 3, 4])
    states = torch.randn(4, 4, 3)
    changed = states.clone()
    changed[0, 2:] = 9
    torch.testing.assert_close(judge(states, lengths), judge(changed, lengths))
    is_true = torch.tensor([1.0, 0.0, 0.0, 1.0])
    optimizer = torch.optim.Adam(judge.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(judge(states, lengths), is_true).backward()
        optimizer.step()
    assert ((judge(states, lengths) > 0) == (is_true > 0)).all()


def test_an_objective_that_a_network_cannot_have_is_refused():
    spec = ClassifierSpec(vocab_size=5, embedding_size=2, hidden_size=2, labels=("a", "b"))
    with pytest.raises(
        TrainingError, match=r"objective mixer is not for a classif.*: choose one of maximum-likelihood"
    ):
        companion(spec, TrainOptions(objective="mixer"))
    with pytest.raises(TrainingError, match="choose one of maximum-likelihood, scheduled-sampling, professor-forcing"):
        companion(SPEC, TrainOptions(objective="minimum-risk"))
