"""Specs check themselves once, say everything that is wrong, and survive JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_edge.errors import SpecError
from rnn_edge.spec import LanguageModelSpec, ModelSpec

SMALL = LanguageModelSpec(vocab_size=10, embedding_size=4, hidden_size=8)

sizes = st.integers(1, 5000)
specs = st.one_of(
    st.builds(LanguageModelSpec, vocab_size=sizes, embedding_size=sizes, hidden_size=sizes, cell=st.just("elman"),
              nonlinearity=st.sampled_from(["tanh", "relu"]), num_layers=st.integers(1, 9), tied=st.booleans()),
    st.builds(LanguageModelSpec, vocab_size=sizes, embedding_size=sizes, hidden_size=st.integers(10, 5000),
              proj_size=st.integers(0, 9), dropout=st.floats(0, 0.99)),
    st.builds(LanguageModelSpec, vocab_size=sizes, embedding_size=sizes, hidden_size=sizes, cell=st.just("gru")),
)  # fmt: skip


@given(specs)
def test_a_spec_survives_json(spec):
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_all_problems_are_told_at_once():
    with pytest.raises(SpecError) as caught:
        LanguageModelSpec(vocab_size=0, embedding_size=-1, hidden_size=8, cell="rnn", dropout=1.5)
    for word in ("vocab_size", "embedding_size", "cell must be one of elman, lstm, gru", "dropout"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": 8.0}, "hidden_size"),
        ({"hidden_size": 2**40}, "hidden_size"),
        ({"num_layers": 0}, "num_layers"),
        ({"proj_size": 8}, "smaller than hidden_size"),
        ({"cell": "gru", "proj_size": 2}, "proj_size is for the lstm cell only"),
        ({"nonlinearity": "relu"}, "elman and gru cells only"),
        ({"reset_after": False}, "gru cell only"),
        ({"cell": "gru", "coupled_gates": True}, "coupled_gates is for the lstm cell only"),
        ({"cell": "elman", "squash": "state"}, "squash is for the lstm cell only"),
        ({"tied": 1}, "tied"),
        ({"dropout": float("nan")}, "dropout"),
        ({"task": "translate-whales"}, "task"),
    ],
)
def test_what_cannot_be_built_is_refused(change, word):
    with pytest.raises(SpecError, match=word):
        replace(SMALL, **change)


@pytest.mark.parametrize("values", [None, [], {}, {"vocab_size": 3}, {**SMALL.to_dict(), "surprise": 1}])
def test_a_damaged_description_is_refused(values):
    with pytest.raises(SpecError):
        ModelSpec.from_dict(values)


def test_a_projected_lstm_has_a_narrow_h_and_a_wide_c():
    spec = replace(SMALL, proj_size=3)
    assert spec.output_size == 3
    assert spec.state_sizes == {"h": 3, "c": 8}


def test_only_a_tied_embedding_of_another_width_needs_a_bridge():
    assert replace(SMALL, tied=True).has_bridge
    assert not replace(SMALL, tied=True, embedding_size=8).has_bridge
    assert not SMALL.has_bridge
