"""What a network that writes can learn from besides the words it is told: its own words, and what they are worth.

Pure functions of tensors, and the networks that learn beside the one that is trained. Nothing here knows tokenizers,
files or how a step is made; what a text is worth is told from outside (`rewards.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from rnn_edge.errors import TrainingError
from rnn_edge.modules import State
from rnn_edge.spec import DecoderSpec, LanguageModelSpec, ModelSpec, TranslatorSpec
from rnn_edge.training.lesson import Moment
from rnn_edge.training.options import Objective, SamplingSchedule, TrainOptions

__all__ = [
    "Discriminator",
    "Read",
    "Unrolled",
    "companion",
    "draw",
    "expected_risk",
    "learnt_baseline",
    "professor_forcing",
    "read_as_told",
    "reinforce",
    "scheduled_sampling",
    "teacher_share",
    "told_first",
    "unroll",
]

Read: TypeAlias = Callable[[Tensor, State], tuple[Tensor, State]]
"""Reads tokens, int64 (batch, time), on from a state: logits, float32 (batch, time, vocab), and the state after."""

Follow: TypeAlias = Callable[[int, Tensor], Tensor]
"""From how many tokens were read before and the scores after this one, (batch, vocab), to the next, (batch,)."""

_K = 20.0  # of the inverse sigmoid: how long it stays near 1 before it falls
_SURE, _UNSURE = 0.99, 0.75  # accuracies beyond which a discriminator rests, and below which it is not listened to

_OBJECTIVES: dict[type[ModelSpec], tuple[Objective, ...]] = {
    LanguageModelSpec: ("scheduled-sampling", "professor-forcing"),
    TranslatorSpec: ("scheduled-sampling", "professor-forcing", "minimum-risk", "mixer"),
}


def companion(spec: ModelSpec, options: TrainOptions) -> nn.Module:
    """Return what learns beside the network and is not part of it: a discriminator, a baseline, or nothing."""
    objective, offered = options.objective, _OBJECTIVES.get(type(spec), ())
    if objective not in ("maximum-likelihood", *offered):
        others = ", ".join(["maximum-likelihood", *offered])
        raise TrainingError(f"objective {objective} is not for a {spec.task} network: choose one of {others}")
    if isinstance(spec, DecoderSpec) and objective == "professor-forcing":
        return Discriminator(spec.output_size)
    if isinstance(spec, DecoderSpec) and objective == "mixer" and options.baseline == "learned":
        return nn.Linear(spec.output_size, 1)
    return nn.Identity()  # has no weights


def read_as_told(
    read: Read, inputs: Tensor, state: State, lengths: Tensor, moment: Moment, options: TrainOptions
) -> tuple[Tensor, State, Tensor | float]:
    """Read a batch as the objective has it: the true tokens, some of them, or these and as many of the network's own.

    inputs   int64 (batch, time), the true ones, of which the first `lengths`, int64 (batch,), count
    returns  logits float32 (batch, time, vocab), the state after, and what is added to their cross-entropy
    """
    if options.objective == "scheduled-sampling":
        share = teacher_share(options.sampling_schedule, options.teacher_share, moment.share)
        return *scheduled_sampling(read, inputs, state, share=share), 0.0
    if options.objective == "professor-forcing":
        return professor_forcing(read, inputs, state, lengths, moment.companion)
    return *read(inputs, state), 0.0


@dataclass(frozen=True)
class Unrolled:
    """A token read, and what follows it.

    logits  float32 (batch, vocab)
    tokens  int64 (batch,), what was chosen to follow
    state   after the token read, from which the scores come
    """

    logits: Tensor
    tokens: Tensor
    state: State

    @property
    def h(self) -> Tensor:
        """Return the last layer's output, float32 (batch, output)."""
        return self.state[0][-1]

    @property
    def log_prob(self) -> Tensor:
        """Return the log-prob of the tokens that follow, float32 (batch,)."""
        return -F.cross_entropy(self.logits, self.tokens, reduction="none")


def unroll(read: Read, first: Tensor, state: State, follow: Follow) -> Iterator[Unrolled]:
    """Read `first`, int64 (batch,), and then what `follow` chooses, token by token; the caller decides when to stop."""
    tokens, time = first, 0
    while True:
        logits, state = read(tokens[:, None], state)
        tokens = follow(time, logits[:, -1])
        yield Unrolled(logits[:, -1], tokens, state)
        time += 1


def draw(logits: Tensor) -> Tensor:
    """Return tokens drawn from their distribution, int64 (batch,)."""
    return torch.multinomial(logits.detach().softmax(dim=-1), 1)[:, 0]


def teacher_share(schedule: SamplingSchedule, end: float, share: float) -> float:
    """Return ε, the probability of reading the true token, when this share of the run lies behind.

    linear           ε = max(ε_end, k - c i)
    exponential      ε = kⁱ
    inverse-sigmoid  ε = k / (k + exp(i / k))

    (Bengio et al. 2015, section 2.4.) Steps i are measured so that ε comes to `end` as the run does.
    """
    if schedule == "linear":
        return 1 - (1 - end) * share
    if schedule == "exponential":
        return float(end**share)
    return _K / (_K + math.exp(share * math.log(_K * (1 - end) / end)))


def scheduled_sampling(read: Read, inputs: Tensor, state: State, *, share: float) -> tuple[Tensor, State]:
    """Read true tokens with probability `share` each, and otherwise one drawn from what was foretold in its place.

    No gradient runs through what is drawn (Bengio et al. 2015, section 2.4).

    inputs   int64 (batch, time), the true ones; the first is always read
    returns  logits float32 (batch, time, vocab), and the state after
    """

    def follow(time: int, logits: Tensor) -> Tensor:
        told = torch.rand(len(logits)) < share
        return torch.where(told, inputs[:, (time + 1) % inputs.shape[1]], draw(logits))

    steps = _take(inputs.shape[1], unroll(read, inputs[:, 0], state, follow))
    return torch.stack([step.logits for step in steps], dim=1), steps[-1].state


def _take(count: int, steps: Iterator[Unrolled]) -> list[Unrolled]:
    return [step for _, step in zip(range(count), steps, strict=False)]


class Discriminator(nn.Module):
    """Tells states that came of true tokens from those that came of the network's own (Goyal et al. 2016).

    A GRU in both directions over the last layer's states, and a layer of rectifiers on where both end.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.hidden = nn.Linear(2 * width, width)
        self.output = nn.Linear(width, 1)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return the logit of "told the truth", float32 (batch,), of states, float32 (batch, time, width)."""
        packed = pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
        _, last = self.rnn(packed)  # (directions, batch, width)
        logits: Tensor = self.output(F.relu(self.hidden(torch.cat([last[0], last[1]], dim=-1))))
        return logits[:, 0]


def professor_forcing(
    read: Read, inputs: Tensor, state: State, lengths: Tensor, judge: nn.Module
) -> tuple[Tensor, State, Tensor]:
    """Read the true tokens, write as many freely, and let a discriminator tell the states of both apart.

    It learns        C_d = E[-log D(b_true)] + E[-log(1 - D(b_free))]
    the network to   C_f = E[-log D(b_free)], through the states and not through what was drawn

    where b are the last layer's states (Goyal et al. 2016, section 3). The discriminator rests while its accuracy is
    above 99 %, and the network does not listen to it while that is below 75 %.

    inputs   int64 (batch, time), of which the first `lengths`, int64 (batch,), count
    judge    a `Discriminator`
    returns  logits of the true reading, the state after it, and C_d + C_f: each has gradients for its learner only
    """
    time = inputs.shape[1]
    told = _take(time, unroll(read, inputs[:, 0], state, lambda step, _: inputs[:, (step + 1) % time]))
    free = _take(time, unroll(read, inputs[:, 0], state, lambda _, logits: draw(logits)))
    b_true, b_free = (torch.stack([step.h for step in steps], dim=1) for steps in (told, free))
    seems = judge(torch.cat([b_true, b_free]).detach(), lengths.repeat(2))
    is_true = torch.cat([torch.ones(len(inputs)), torch.zeros(len(inputs))])
    accuracy = ((seems > 0) == (is_true > 0)).double().mean().item()
    c_d = F.binary_cross_entropy_with_logits(seems, is_true) * 2  # both means, not their mean
    fixed = {name: weight.detach() for name, weight in judge.named_parameters()}
    c_f = -F.logsigmoid(functional_call(judge, fixed, (b_free, lengths))).mean()
    penalty = c_d * float(accuracy <= _SURE) + c_f * float(accuracy >= _UNSURE)
    return torch.stack([step.logits for step in told], dim=1), told[-1].state, penalty


def expected_risk(log_probs: Tensor, risks: Tensor, *, sharpness: float) -> Tensor:
    """Return the mean over sources of Σ_y Q(y) Δ(y), with Q(y) = P(y)^α / Σ_y' P(y')^α over a source's candidates.

    (Shen et al. 2016, section 3.)

    log_probs  float32 (sources, candidates), log P(y); -inf where a source has fewer
    risks      float32 (sources, candidates), Δ(y)
    sharpness  α
    """
    q = (sharpness * log_probs).softmax(dim=-1)
    return (q * risks).sum(dim=-1).mean()


def reinforce(log_probs: Tensor, rewards: Tensor, baselines: Tensor, drawn: Tensor) -> Tensor:
    """Return -Σ (r - b_t) log P(w_t) over tokens that were drawn; its gradient's mean is that of the expected reward.

    (Williams 1992; Ranzato et al. 2016, section 3.) Neither r nor b_t has a gradient here.

    log_probs  float32 (batch, time)
    rewards    float32 (batch,), of whole texts
    baselines  float32 (batch, time), or anything that broadcasts to it; b_t must not depend on w_t or what follows
    drawn      bool (batch, time)
    """
    gains = (rewards[:, None] - baselines).detach()
    return -(gains * log_probs * drawn).sum()


def learnt_baseline(network: nn.Module, states: Tensor, rewards: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Foretell the reward from each state: return the baselines, (batch, time), and their summed squared error.

    The error teaches the baseline alone (Ranzato et al. 2016, section 3).

    network  linear, from a state to a number
    states   float32 (batch, time, output)
    """
    foretold = network(states.detach())[..., 0]  # (batch, time)
    return foretold, ((foretold - rewards[:, None]).square() * drawn).sum()


def told_first(longest: int, delta: int, share: float) -> int:
    """Return how many tokens of each target MIXER tells before the network writes on, at this share of a run.

    All of them at first, then `delta` fewer at each stage, none at the last; all stages are of the same length.
    """
    stages = -(-longest // delta) + 1
    return max(0, longest - delta * min(stages - 1, int(share * stages)))
