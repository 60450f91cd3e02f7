"""Every network gives a row of a padded batch what it gives it alone, and its parts are what the papers say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from helpers import shared

from rnn_edge.modules import CRF, Classifier, Translator, build
from rnn_edge.modules.encoder import NOTHING, Encoder
from rnn_edge.spec import (
    ClassifierSpec,
    DescriberSpec,
    SentenceEncoderSpec,
    StackSpec,
    TaggerSpec,
    TranslatorSpec,
)

CELLS = [
    {"cell": "elman"}, {"cell": "lstm"}, {"cell": "gru"}, {"cell": "gru", "reset_after": False},
    {"cell": "lstm", "coupled_gates": True}, {"cell": "lstm", "proj_size": 5},
]  # fmt: skip
SIZES = {"vocab_size": 11, "embedding_size": 6, "hidden_size": 8}
LENGTHS = (5, 1, 9)

every_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(map(str, cell.values())))
both_directions = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])


pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow


@pytest.fixture(autouse=True)
def _random_but_repeatable():
    torch.manual_seed(3)


def padded(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=NOTHING)


def random_rows() -> list[torch.Tensor]:
    return [torch.randint(0, 11, (length,)) for length in LENGTHS]


@every_cell
@both_directions
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_a_padded_text_is_classified_as_it_is_alone(cell, bidirectional, pooling):
    spec = ClassifierSpec(
        **SIZES, **cell, bidirectional=bidirectional, pooling=pooling, labels=("a", "b"), num_layers=2
    )
    model, rows = build(spec).eval(), random_rows()
    alone = torch.cat([model(row[None]) for row in rows])
    torch.testing.assert_close(model(padded(rows)), alone)


def test_the_last_state_is_forwards_of_the_last_token_and_backwards_of_the_first():
    encoder = Encoder(StackSpec(hidden_size=4, cell="gru"), 3, bidirectional=True)
    x = torch.randn(1, 6, 3)
    encoded = encoder(x, torch.tensor([6]))
    forwards, backwards = encoded.outputs[0, -1, :4], encoded.outputs[0, 0, 4:]
    torch.testing.assert_close(encoded.state[0][-1, 0], torch.cat([forwards, backwards]))


@every_cell
@both_directions
def test_a_pyramid_reads_neighbours_as_one(cell, bidirectional):
    """Nine columns become five and then three, in a batch as alone."""
    encoder = Encoder(StackSpec(hidden_size=8, num_layers=3, **cell), 6, bidirectional=bidirectional, pyramidal=True)
    x = [torch.randn(1, length, 6) for length in LENGTHS]
    batch = torch.cat([torch.nn.functional.pad(each, (0, 0, 0, 9 - each.shape[1]), value=7.0) for each in x])
    together = encoder(batch, torch.tensor(LENGTHS))
    assert together.lengths.tolist() == [2, 1, 3]
    for row, each in enumerate(x):
        alone = encoder(each, torch.tensor([each.shape[1]]))
        torch.testing.assert_close(together.outputs[row, : alone.outputs.shape[1]], alone.outputs[0])
        for ours, theirs in zip(together.state, alone.state, strict=True):
            torch.testing.assert_close(ours[:, row], theirs[:, 0])


def test_the_second_layer_of_a_pyramid_sees_pairs():
    """Change one column, and only the pair that it is in changes before the recurrence spreads it."""
    encoder = Encoder(StackSpec(hidden_size=2, num_layers=2, cell="elman"), 2, pyramidal=True)
    assert encoder.stacks[1].input_size == 4
    assert encoder(torch.randn(1, 4, 2), torch.tensor([4])).outputs.shape == (1, 2, 2)


ATTENTIONS = [
    {"attention": kind, "input_feeding": feeding}
    for kind in ("none", "dot", "general", "bahdanau")
    for feeding in (False, True)
    if kind != "none" or not feeding
]


DIRECTED = [(each, False) for each in ATTENTIONS] + [(each, True) for each in ATTENTIONS if each["attention"] != "dot"]


@every_cell
@pytest.mark.parametrize(("attention", "bidirectional"), DIRECTED)
def test_a_padded_source_is_translated_as_it_is_alone(cell, attention, bidirectional):
    spec = TranslatorSpec(
        **SIZES, **cell, **attention, bidirectional=bidirectional, target_vocab_size=7, num_layers=2, tied=True
    )
    model, rows, target = build(spec).eval(), random_rows(), torch.randint(0, 7, (3, 4))
    alone = torch.cat([model(row[None], target[index : index + 1]) for index, row in enumerate(rows)])
    torch.testing.assert_close(model(padded(rows), target), alone)


@pytest.mark.parametrize("attention", ATTENTIONS, ids=lambda each: f"{each['attention']}-{each['input_feeding']}")
def test_a_decoder_goes_on_where_it_stopped(attention):
    """At once or token by token: the same scores, states and places looked at."""
    model = build(TranslatorSpec(**SIZES, **attention, target_vocab_size=7, num_layers=2)).eval()
    assert isinstance(model, Translator)
    state, memory = model.encode(padded(random_rows()))
    target = torch.randint(0, 7, (3, 5))
    at_once, end, _ = model.decode(target, state, memory)
    for time in range(5):
        logits, state, _ = model.decode(target[:, time : time + 1], state, memory)
        torch.testing.assert_close(logits[:, 0], at_once[:, time])
    for ours, theirs in zip(state, end, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["dot", "general", "bahdanau"])
def test_attention_is_its_formula(kind):
    """Scores by the paper's equation, one pair of vectors at a time; nothing is seen behind a row's end."""
    model = build(TranslatorSpec(**SIZES, attention=kind, target_vocab_size=7)).eval()
    attention = model.decoder.attention
    outputs, query = torch.randn(1, 4, 8), torch.randn(8)
    present = torch.tensor([[True, True, True, False]])
    context, weights = attention(query[None, None], attention.remember(outputs, present))

    def score(m):
        if kind == "dot":
            return query @ m
        if kind == "general":
            return query @ attention.key.weight @ m
        return attention.score @ torch.tanh(
            attention.query.weight @ query + attention.key.weight @ m + attention.key.bias
        )

    expected = torch.softmax(torch.stack([score(m) for m in outputs[0, :3]]), dim=0)
    torch.testing.assert_close(weights[0, 0], torch.cat([expected, torch.zeros(1)]))
    torch.testing.assert_close(context[0, 0], expected @ outputs[0, :3])


def test_a_vector_sets_the_first_state_of_every_layer():
    model = build(DescriberSpec(**SIZES, vector_size=5, num_layers=2)).eval()
    vectors = torch.randn(3, 5)
    h, c = model.encode(vectors)
    assert h.shape == c.shape == (2, 3, 8)
    expected = torch.tanh(model.bridges[0].weight[8:] @ vectors[1] + model.bridges[0].bias[8:])
    torch.testing.assert_close(h[1, 1], expected)
    assert model(vectors, torch.randint(0, 11, (3, 4))).shape == (3, 4, 11)


def test_a_sentence_encoder_gives_what_its_classifier_reads():
    classifier = build(ClassifierSpec(**SIZES, labels=("a", "b"), bidirectional=True)).eval()
    assert isinstance(classifier, Classifier)
    encoder = build(SentenceEncoderSpec(**SIZES, bidirectional=True)).eval()
    encoder.load_state_dict(classifier.sentence.state_dict())
    tokens = padded(random_rows())
    torch.testing.assert_close(classifier.output(encoder(tokens)), classifier(tokens))


def tagger(decoder: str, **changes):
    return build(
        TaggerSpec(
            **SIZES, bidirectional=True, labels=("a", "b", "c"), decoder=decoder, character_vocab_size=9, **changes
        )
    ).eval()


def random_letters(rows: list[torch.Tensor]) -> torch.Tensor:
    letters = torch.full((len(rows), max(map(len, rows)), 4), NOTHING)
    for row, words in enumerate(rows):
        for time in range(len(words)):
            count = int(torch.randint(1, 5, ()))
            letters[row, time, :count] = torch.randint(0, 9, (count,))
    return letters


every_decoder = pytest.mark.parametrize("decoder", ["independent", "feedback", "crf"])


@every_cell
@every_decoder
def test_a_padded_sentence_is_tagged_as_it_is_alone(cell, decoder):
    changes = {**cell, "proj_size": 0}
    model, rows = tagger(decoder, **changes), random_rows()
    tokens, letters = padded(rows), random_letters(rows)
    y = model(tokens, letters)
    labels, scores = model.decode(y, tokens != NOTHING)
    log_probs = model.log_prob(y, labels)
    for row, words in enumerate(rows):
        own = model(words[None], letters[row : row + 1, : len(words)])
        own_labels, own_scores = model.decode(own, torch.ones(1, len(words), dtype=torch.bool))
        assert labels[row].tolist() == own_labels[0].tolist() + [NOTHING] * (9 - len(words))
        torch.testing.assert_close(scores[row, : len(words)], own_scores[0])
        torch.testing.assert_close(log_probs[row], model.log_prob(own, own_labels)[0])


@every_decoder
def test_all_labellings_together_have_probability_one(decoder):
    model, rows = tagger(decoder), random_rows()[:1]
    y = model(padded(rows), random_letters(rows))[:, :4]
    every = torch.tensor(list(itertools.product(range(3), repeat=4)))
    total = model.log_prob(y.expand(len(every), -1, -1), every).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)


def test_a_crf_finds_the_labelling_that_is_best_of_all():
    crf = CRF(3)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    for length in (1, 2, 5):
        emissions = torch.randn(1, length, 3)
        every = torch.tensor(list(itertools.product(range(3), repeat=length)))
        present = torch.ones(1, length, dtype=torch.bool)
        log_probs = crf.log_prob(emissions.expand(len(every), -1, -1), every, present.expand(len(every), -1))
        assert crf.decode(emissions, present)[0].tolist() == every[log_probs.argmax()].tolist()


def test_a_move_that_is_forbidden_in_padding_costs_nothing():
    crf = CRF(2)
    crf.transitions.data[0, 0] = -torch.inf
    emissions, labels = torch.randn(1, 3, 2), torch.tensor([[1, 0, -1]])
    short = crf.log_prob(emissions[:, :2], labels[:, :2], labels[:, :2] != NOTHING)
    torch.testing.assert_close(crf.log_prob(emissions, labels, labels != NOTHING), short)


def test_a_crf_agrees_with_pytorch_crf():
    """Sixty masked problems with likelihoods and paths recorded from pytorch-crf."""
    oracle = np.load(shared("suites/crf/pytorch_crf_oracle.npz"))
    for number in range(60):
        case = {name: torch.from_numpy(oracle[f"{number}.{name}"]) for name in (
            "emissions", "lengths", "tags", "loglik", "decode", "start", "end", "trans")}  # fmt: skip
        crf = CRF(len(case["start"]))
        crf.load_state_dict({"start": case["start"], "end": case["end"], "transitions": case["trans"]})
        emissions = case["emissions"]
        present = torch.arange(emissions.shape[1]) < case["lengths"][:, None]
        ours = crf.log_prob(emissions, case["tags"], present)
        torch.testing.assert_close(ours, case["loglik"].float(), rtol=1e-5, atol=1e-4)
        found = crf.decode(emissions, present)
        assert torch.equal(found[present], case["decode"].reshape(found.shape)[present])
