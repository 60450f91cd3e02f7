"""Minimum risk training and MIXER on translators small enough to enumerate, and what a sentence is worth."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import nn

from rnn_edge.modules import build
from rnn_edge.modules.encoder import NOTHING
from rnn_edge.spec import TranslatorSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training.options import TrainOptions
from rnn_edge.training.rewards import Pupil, minimum_risk, mixer, sentence_bleu, text_log_probs

END = 0
VOCAB = 3
ATTENTIONS = ["none", "general"]


def share_of_ones(written, wanted):
    """What a text is worth: its share of ones, and a little for its length."""
    return sum(token == 1 for token in written) / 4 + 0.05 * len(written)


def pupil(attention="general", *, targets=((2, 1, 1, END), (2, 2, END, NOTHING)), dropout=0.0, pay=share_of_ones):
    torch.manual_seed(0)
    spec = TranslatorSpec(
        vocab_size=4, target_vocab_size=VOCAB, embedding_size=3, hidden_size=4, attention=attention, dropout=dropout
    )
    sources = torch.tensor([[1, 2, 3], [3, 1, NOTHING]])[: len(targets)]
    return Pupil(build(spec), sources, torch.tensor(targets), end=END, pay=pay)


def probability(one, row, text):
    """Multiply the steps of one text, read by itself."""
    source = one.sources[row : row + 1, : int((one.sources[row] != NOTHING).sum())]
    inputs = torch.tensor([[2, *text[:-1]]])
    probs = one.model(source, inputs).softmax(dim=-1)[0]
    return math.prod(probs[time, token].item() for time, token in enumerate(text))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_texts_of_any_length_and_source_have_the_log_probs_they_have_alone(attention):
    one = pupil(attention)
    texts = [[1, 2, END], [END], [1, END], [2, 2, 2]]
    owners = [0, 0, 1, 1]
    padded = torch.tensor([[*text, *[NOTHING] * (3 - len(text))] for text in texts])
    found = text_log_probs(one, padded, torch.tensor(owners)).exp().tolist()
    assert found == pytest.approx([probability(one, *pair) for pair in zip(owners, texts, strict=True)], rel=1e-4)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_minimum_risk_by_enumeration(attention, monkeypatch):
    """With every text of up to two tokens as candidates, it is Σ P^α Δ / Σ P^α, worked out text by text."""
    one = pupil(attention)
    texts = [(END,), *product((1, 2), (END,)), *product((1, 2), repeat=2)]
    monkeypatch.setattr("rnn_edge.training.rewards._candidates", lambda *_: [texts, texts[:3]])
    expected = 0.0
    for row, its_texts in enumerate([texts, texts[:3]]):
        weights = [probability(one, row, text) ** 0.5 for text in its_texts]
        risks = [-share_of_ones([token for token in text if token != END], ()) for text in its_texts]
        expected += sum(w * r for w, r in zip(weights, risks, strict=True)) / sum(weights) / 2
    assert minimum_risk(one, candidates=9, sharpness=0.5).item() == pytest.approx(expected, rel=1e-4)


def test_candidates_are_drawn_without_dropout_each_once_and_with_the_target(monkeypatch):
    from rnn_edge.training import rewards

    torch.manual_seed(1)
    one = pupil(dropout=0.9)
    one.model.train()
    found = rewards._candidates(one, 200)
    assert one.model.training
    assert found[0][0] == (1, 1, END)
    assert found[1][0] == (2, END)
    for texts in found:
        assert len(texts) == len(set(texts)) > 20
        assert all(END not in text[:-1] and len(text) <= one.most for text in texts)
    one.model.eval()
    likely = [text for text in [(END,), *product((1, 2), (END,))] if probability(one, 0, text) > 0.03]
    assert likely
    assert set(likely) <= set(found[0])


def learn(steps, loss, model, *others):
    weights = [weight for each in (model, *others) for weight in each.parameters()]
    optimizer = torch.optim.Adam(weights, lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def mean_worth(one, draws=64):
    from rnn_edge.training import rewards

    found = rewards._candidates(one, draws)
    return sum(sum(one.pay(one.text(text), ()) for text in texts) / len(texts) for texts in found) / len(found)


def test_minimum_risk_makes_texts_worth_more():
    one = pupil()
    before = mean_worth(one)
    learn(60, lambda: minimum_risk(one, candidates=20, sharpness=0.5), one.model)
    assert mean_worth(one) > before + 0.15


@pytest.mark.parametrize("baseline", ["learned", "self-critical"])
def test_mixer_that_tells_nothing_makes_texts_worth_more(baseline):
    one = pupil()
    before = mean_worth(one)
    options, network = TrainOptions(objective="mixer", baseline=baseline), nn.Linear(4, 1)
    learn(150, lambda: mixer(one, network, options, told=0), one.model, network)
    assert mean_worth(one) > before + 0.15


def test_mixer_that_tells_all_is_cross_entropy():
    one = pupil()
    options = TrainOptions(objective="mixer")
    logits = one.model(one.sources, one.targets[:, :-1].clamp(min=0))
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), one.wanted.flatten(), ignore_index=NOTHING)
    assert mixer(one, nn.Linear(4, 1), options, told=99).item() == pytest.approx(expected.item(), rel=1e-5)


def test_mixer_writes_on_from_what_was_told(monkeypatch):
    """With one token told, what is paid for begins with it; a target of that length has nothing left to write."""
    paid = []

    def pay(written, wanted):
        paid.append((tuple(written), tuple(wanted)))
        return 0.5

    one = pupil(targets=((2, 1, 1, END), (2, END, NOTHING, NOTHING)), pay=pay)
    mixer(one, nn.Linear(4, 1), TrainOptions(objective="mixer"), told=1)
    assert paid[0][0][0] == 1
    assert paid[0][1] == (1, 1)
    assert paid[1] == ((), ())


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_mixer_has_on_the_mean_the_gradient_of_the_expected_reward(attention, monkeypatch):
    """Over every text of at most two tokens, each forced and weighted by its probability; baselines as they come."""
    from rnn_edge.training import rewards

    monkeypatch.setattr(rewards, "_SLACK", 0)
    one = pupil(attention, targets=((2, 1, END),))
    one.model.double()
    network = nn.Linear(4, 1).double()
    texts = [(END,), *((first, second) for first in (1, 2) for second in range(VOCAB))]
    weights = list(one.model.parameters())

    def log_prob(text):
        return text_log_probs(one, torch.tensor([text]), torch.tensor([0]))[0]

    found = [torch.zeros_like(weight) for weight in weights]
    for text in texts:
        left = list(text)
        monkeypatch.setattr(rewards, "draw", lambda logits, left=left: torch.tensor([left.pop(0)]))
        loss = mixer(one, network, TrainOptions(objective="mixer"), told=0) * 2  # the mean over two target tokens
        parts = torch.autograd.grad(loss, weights, allow_unused=True)
        for total, part in zip(found, parts, strict=True):
            total += log_prob(text).exp().detach() * (0 if part is None else part)
    cost = -sum(log_prob(text).exp() * share_of_ones([t for t in text if t != END], ()) for text in texts)
    expected = torch.autograd.grad(cost, weights, allow_unused=True)
    for total, part in zip(found, expected, strict=True):
        torch.testing.assert_close(total, torch.zeros_like(total) if part is None else part, atol=1e-6, rtol=1e-4)


def test_sentence_bleu_is_that_of_lin_and_och():
    """Unigrams 3/4, bigrams (1 + 1)/(3 + 1), trigrams 1/(2 + 1), 4-grams 1/(1 + 1), as long as the reference."""
    tokenizer = Tokenizer.whitespace(["<s>", "</s>", "<unk>", "a", "b", "c", "d", "x"])
    written, wanted = tokenizer.encode("a b x d"), tokenizer.encode("a b c d")
    pay = sentence_bleu(tokenizer, "add-k")
    assert pay(written, wanted) == pytest.approx((3 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** 0.25)
    assert pay(wanted, wanted) == pytest.approx(1)
    assert pay([], wanted) == 0
