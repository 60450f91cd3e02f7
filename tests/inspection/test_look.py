"""What an inspection shows is what the bundle says by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import tiny_bundle

from rnn_edge import GenerateOptions
from rnn_edge.errors import BundleError, TextError
from rnn_edge.inspection import inspect
from rnn_edge.runtimes import load
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.spec import ClassifierSpec

TEXT = "the cat\n  (the mat)"


@pytest.fixture(scope="module", params=["lstm", "gru"])
def bundle(request, tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "model.rnn", cell=request.param, num_layers=2)


def test_the_cells_are_those_after_each_token(bundle):
    found = inspect(bundle, TEXT)
    graph = StepGraph.from_bundle(bundle)
    tokens = [bundle.tokenizer.end_id, *bundle.tokenizer.encode(TEXT)]
    for count in (1, 5, len(tokens)):
        _, state = graph.step(np.array([tokens[:count]]), graph.start(1))
        h = state[0][:, 0]  # (layers, hidden)
        np.testing.assert_allclose(found.cells[count - 1][: h.size], h.ravel(), atol=1e-6)
        if len(state) == 2:
            np.testing.assert_allclose(found.cells[count - 1][h.size :], np.tanh(state[1]).ravel(), atol=1e-6)
    assert found.names[:2] == ("h, layer 1, cell 1", "h, layer 1, cell 2")
    assert len(found.names) == found.cells.shape[1] == 2 * 16 * len(state)
    assert len(set(found.names)) == len(found.names)


def test_every_token_shows_what_it_says_and_how_probable_it_was(bundle):
    found = inspect(bundle, TEXT)
    assert found.text == TEXT
    assert found.pieces[0] == ""
    assert np.isnan(found.told[0])
    expected = load(bundle.path).score(TEXT).token_log_probs
    assert np.log(found.told[1:]).tolist() == pytest.approx(list(expected), abs=1e-5)


def test_guesses_are_the_most_probable_tokens(bundle):
    found = inspect(bundle, TEXT)
    graph = StepGraph.from_bundle(bundle)
    tokens = [bundle.tokenizer.end_id, *bundle.tokenizer.encode(TEXT)]
    logits, _ = graph.step(np.array([tokens]), graph.start(1))
    chances = np.exp(logits[0] - logits[0].max())
    expected = sorted((chances / chances.sum()).tolist(), reverse=True)[:5]
    assert [chance for _, chance in found.guesses[-1]] == pytest.approx(expected, rel=1e-4)
    for row, chance in zip(found.guesses, found.told[1:], strict=False):
        assert row[0][1] >= chance - 1e-9
    assert len(found.guesses) == len(tokens)


def test_cells_are_ranked_by_what_they_tell_and_constant_properties_are_left_out(bundle):
    found = inspect(bundle, TEXT)
    assert set(found.readings) == {"position in line", "bracket depth", "indentation"}
    for readings in found.readings.values():
        assert [each.explained for each in readings] == sorted((each.explained for each in readings), reverse=True)
        assert 0 <= readings[-1].explained <= readings[0].explained <= 1
    depth = np.array([0, *(int("(" in TEXT[: end + 1] and ")" not in TEXT[: end + 1]) for end in range(len(TEXT)))])
    first = found.readings["bracket depth"][0]
    assert first.explained == pytest.approx(np.corrcoef(found.cells[:, first.cell], depth)[0, 1] ** 2, abs=1e-5)


def paths_of(beams, before="", chance=1.0):
    for beam in beams:
        text, total = before + beam.text, chance * beam.probability
        yield text, total, beam
        yield from paths_of(beam.children, text, total)


def test_the_best_path_of_the_tree_is_what_a_beam_completes(bundle):
    """The same text with the same probability, end token included."""
    found = inspect(bundle, "the cat sat ", num_beams=3, max_new_tokens=4)
    options = GenerateOptions(num_beams=3, max_new_tokens=4, num_return_sequences=1)
    (best,) = load(bundle.path).complete("the cat sat ", options)
    green = [(text, total) for text, total, beam in paths_of(found.beams) if beam.is_best]
    text, total = green[-1]
    assert text.removesuffix("</s>") == best.text
    assert np.log(total) == pytest.approx(best.log_prob, abs=1e-5)
    assert len(found.beams) <= 3


def test_no_token_has_more_probability_than_is_left(bundle):
    for _, _, beam in paths_of(inspect(bundle, "a").beams):
        assert sum(child.probability for child in beam.children) <= 1 + 1e-6


@pytest.mark.parametrize("text", ["", "a" * 5000])
def test_a_text_that_no_page_could_show_is_refused(bundle, text):
    with pytest.raises(TextError, match="from 1 to 4000 tokens"):
        inspect(bundle, text)


def test_only_language_models_are_inspected(bundle):
    spec = ClassifierSpec(vocab_size=3, embedding_size=2, hidden_size=2, labels=("a", "b"))
    with pytest.raises(BundleError, match="task classify: only language models"):
        inspect(replace(bundle, manifest=replace(bundle.manifest, spec=spec)), "a")
