"""An output layer in two stages: candidates have the scores that they have without it, others those of the preview."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from exporters.test_graphs import CELLS, check_ways_of_reading, every_cell, model, opened
from helpers import some_checkpoint, tiny_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

import rnn_edge
from rnn_edge.bundle import Bundle, Preview
from rnn_edge.errors import ExportError
from rnn_edge.exporters import ExportOptions, export, verify
from rnn_edge.exporters.candidates import CandidateSteps
from rnn_edge.exporters.graphs import NEWEST_OPSET, OLDEST_OPSET, build
from rnn_edge.exporters.two_stage import _main_directions
from rnn_edge.exporters.weights import Plan
from rnn_edge.modules import save_checkpoint

PT, RNN = Path("model.pt"), Path("model.rnn")
PREVIEWS = {
    "int8": Preview(precision="int8", rank=None, candidates=16),
    "int8 rank 4": Preview(precision="int8", rank=4, candidates=16),
    "fp32 rank 4": Preview(precision="fp32", rank=4, candidates=16),
}
PLANS = {
    **{f"fp32, {name}": Plan("fp32", (), preview=preview) for name, preview in PREVIEWS.items()},
    "fp16, int8": Plan("fp16", (), preview=PREVIEWS["int8"]),
    "int8, int8 rank 4": Plan("int8", (), preview=PREVIEWS["int8 rank 4"]),
    "int8, fp32 rank 4": Plan("int8", (), preview=PREVIEWS["fp32 rank 4"]),
    "int8, kept float, int8": Plan("int8", ("output", "embedding"), preview=PREVIEWS["int8"]),
    "int4, int8 rank 4": Plan("int4", (), preview=PREVIEWS["int8 rank 4"]),
}
every_plan = pytest.mark.parametrize("plan", PLANS)
TOKENS = np.random.default_rng(0).integers(0, 270, (3, 9))
TEXT = "the cat sat on the mat, the end of it\n" * 40
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow


def step_graph(network, plan: Plan, opset: int = OLDEST_OPSET) -> onnx.ModelProto:
    return build(network, plan, opset=opset).protos["step"]


def exactly(plan: Plan) -> Plan:
    """Return the plan that scores every token as candidates are scored."""
    return replace(plan, preview=replace(plan.preview, candidates=None))


@pytest.mark.parametrize("tied", [False, True])
@every_plan
def test_candidates_have_their_exact_scores_and_the_others_their_previews(plan, tied):
    network = model("lstm", tied=tied, embedding_size=40, hidden_size=40)
    network.output.bias.data.zero_()
    graph = CandidateSteps(step_graph(network, PLANS[plan]).SerializeToString())
    exact = opened(step_graph(network, exactly(PLANS[plan])))
    logits, candidates, after = graph.step(TOKENS, exact.start(3))
    expected, expected_after = exact.step(TOKENS, exact.start(3))
    assert all(map(np.array_equal, after, expected_after))
    assert candidates.shape == (3, 16)
    found = np.take_along_axis(logits, candidates, axis=1)
    np.testing.assert_allclose(found, np.take_along_axis(expected, candidates, axis=1), rtol=1e-5, atol=1e-5)
    guess = after[0][-1] @ nearest(network.output.weight.detach().numpy(), PLANS[plan].preview.rank).T
    np.put_along_axis(logits, candidates, np.take_along_axis(guess, candidates, axis=1), axis=1)  # these are compared
    difference = np.abs(logits - guess).max() / np.abs(guess).max()
    assert difference < (1e-3 if PLANS[plan].preview.precision == "fp32" else 0.05)


def test_noise_in_the_last_digits_leaves_the_directions_alone():
    """Another machine's linear algebra differs there, and a bundle is verified by building it again."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(40, 270)) * np.linspace(1, 3, 40)[:, None]
    noisy = weight * (1 + 1e-14 * random.normal(size=weight.shape))
    exactly, again = (np.linalg.eigh(each @ each.T)[1] for each in (weight, noisy))
    assert not np.array_equal(exactly, again)
    assert np.array_equal(_main_directions(weight, 8), _main_directions(noisy, 8))


def nearest(weight, rank: int | None):
    """Return the nearest matrix of a rank, the textbook's way."""
    left, sizes, right = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    return ((left[:, :rank] * sizes[:rank]) @ right[:rank]).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_rounded_previews_find_the_best(precision):
    network = model("gru")
    exact = opened(step_graph(network, Plan(precision)))
    expected = exact.step(TOKENS, exact.start(3))[0]
    found = opened(step_graph(network, Plan(precision, (), preview=PREVIEWS["int8"]))).step(TOKENS, exact.start(3))[0]
    assert np.array_equal(np.argsort(-found)[:, :5], np.argsort(-expected)[:, :5])


@every_plan
def test_the_matrix_is_stored_once_and_the_preview_is_told(plan):
    network = model("lstm", tied=True, embedding_size=40, hidden_size=40)
    stored = build(network, PLANS[plan]).stored
    of_vocabulary = [each.name for each in stored if "preview" in each.name or each.name in ("embedding", "output")]
    ends = ("",) if PLANS[plan].preview.rank is None else (".down", ".up")
    assert of_vocabulary == ["embedding", *(f"embedding.preview{end}" for end in ends)]


@functools.cache
def running(name: str, plan: str, threads: int = 1):
    tied = {"proj_size": 5, "embedding_size": 16} if CELLS[name].get("tied") else {}
    return opened(step_graph(model(name, **tied), PLANS[plan]), threads)


@every_cell
@settings(max_examples=3)
@given(data=st.data(), plan=st.sampled_from(sorted(PLANS)))
def test_every_way_of_reading_gives_the_same_bits(name, plan, data):
    """Alone, in a batch, padded, idle in between, in pieces: candidates are chosen row by row."""
    check_ways_of_reading(running(name, plan), running(name, plan), data)


@pytest.mark.slow
@every_cell
@settings(max_examples=120)
@given(data=st.data(), plan=st.sampled_from(sorted(PLANS)))
def test_thousands_of_ways_of_reading_give_the_same_bits(name, plan, data):
    """Also with two threads."""
    check_ways_of_reading(running(name, plan), running(name, plan, threads=2), data)


@pytest.mark.parametrize("opset", [OLDEST_OPSET, 18, NEWEST_OPSET])
@every_plan
def test_every_opset_gives_a_valid_graph_with_the_same_numbers(plan, opset):
    network = model("gru")
    graph = step_graph(network, PLANS[plan], opset)
    onnx.checker.check_model(graph)
    found, expected = opened(graph), opened(step_graph(network, PLANS[plan]))
    assert np.array_equal(found.step(TOKENS, found.start(3))[0], expected.step(TOKENS, expected.start(3))[0])


@pytest.mark.parametrize("options", [
    {"preview": "int8"},
    {"preview": "fp32", "preview_rank": 8, "max_loss": 0.5},
    {"precision": "fp16", "preview": "int8"},
    {"precision": "int8", "preview": "int8", "preview_rank": 8, "max_loss": 0.5},
    {"preview": "int8", "decode": "beam"},
])  # fmt: skip
def test_a_bundle_is_measured_verified_and_runs(options):
    save_checkpoint(tiny_checkpoint(), PT)
    exported = export(PT, RNN, ExportOptions(candidates=16, eval_text=TEXT, **options))
    manifest = Bundle.read(RNN).manifest
    assert manifest.preview == Preview(precision=options["preview"], rank=options.get("preview_rank"), candidates=16)
    assert manifest.quality["recall"]["recall_at_20"] == exported.recall.recall_at_20
    assert exported.recall.recall_at_1 > 0.99
    assert exported.quality.tokens == exported.recall.tokens
    assert verify(PT, RNN) == exported.parity
    assert rnn_edge.load(RNN, self_test=True).complete("the c")


@pytest.mark.parametrize("seed", range(3))
def test_translators_have_previews_too(seed):
    """With whatever attention the seed brings."""
    checkpoint = some_checkpoint("translate", seed=seed, hidden_size=16, embedding_size=16)
    save_checkpoint(checkpoint, PT)
    options = ExportOptions(preview="int8", candidates=16, decode="greedy", max_loss=0.1)
    names = [check.name for check in export(PT, RNN, options).parity.checks]
    assert names[:2] == ["encoder alone", "candidates"]
    assert names[-1] == "greedy graph"
    assert verify(PT, RNN).passed


def test_a_preview_can_be_kept_float():
    """Which is of no use, but what is asked for is done."""
    plan = Plan("fp16", ("output.preview",), preview=PREVIEWS["int8"])
    assert {each.name: each.precision for each in build(model("gru"), plan).stored}["output.preview"] == "fp32"


def test_a_preview_of_low_rank_has_twice_as_many_candidates():
    assert ExportOptions(preview="int8").stages.candidates == 32
    assert ExportOptions(preview="int8", preview_rank=9).stages.candidates == 64


def test_other_weights_are_found_out_among_the_candidates():
    source = tiny_checkpoint()
    export(source, RNN, ExportOptions(preview="int8", candidates=16, eval_text=TEXT))
    source.model.output.bias.data[7] += 3  # often a candidate
    save_checkpoint(source, PT)
    assert "candidates" in [check.name for check in verify(PT, RNN).checks if not check.passed]


def test_a_preview_that_misses_too_much_leaves_nothing_behind():
    options = ExportOptions(preview="fp32", preview_rank=1, candidates=2, eval_text=TEXT, max_loss=0.01)
    with pytest.raises(ExportError, match="give it a higher rank"):
        export(tiny_checkpoint(), RNN, options)
    assert not RNN.exists()


@pytest.mark.parametrize(("task", "options", "problem"), [
    ("language-model", {}, "a vocabulary of 272 tokens is too small to choose 32 of them"),
    ("language-model", {"candidates": 4, "preview_rank": 9}, "of rank 9 costs as much .* 16 wide: give at most 8"),
    ("language-model", {"candidates": 4, "precision": "int8"}, "the output layer is in int8"),
    ("classify", {}, "only a network that writes has a preview of its scores"),
    ("describe", {"candidates": 1}, "keeps none: export it without one"),
])  # fmt: skip
def test_previews_that_cannot_pay_or_be_judged_are_refused(task, options, problem):
    source = tiny_checkpoint() if task == "language-model" else some_checkpoint(task, hidden_size=16)
    with pytest.raises(ExportError, match=problem):
        export(source, RNN, ExportOptions(preview="int8", **options))
    assert not RNN.exists()


@pytest.mark.parametrize(("options", "problem"), [
    ({"preview": "int4"}, "preview must be int8 or fp32, got 'int4'"),
    ({"preview": "fp32"}, "a preview in fp32 needs a preview_rank"),
    ({"preview": "int8", "target": "webgpu"}, "a preview is for the target cpu"),
    ({"preview": "int8", "precision": "auto"}, "precision cannot be auto"),
    ({"preview": "int8", "candidates": 0}, "candidates must be a whole number from 1, got 0"),
    ({"preview_rank": 8}, "preview_rank is for a preview only"),
    ({"candidates": 8}, "candidates is for a preview only"),
])  # fmt: skip
def test_options_that_contradict_one_another_are_refused(options, problem):
    with pytest.raises(ExportError, match=problem):
        ExportOptions(**options)
