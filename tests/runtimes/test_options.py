"""Options are right once they exist, and tell everything that is wrong before."""

from __future__ import annotations

import contextlib
import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_edge.errors import OptionsError
from rnn_edge.runtimes.options import GenerateOptions


def test_the_defaults_are_greedy():
    options = GenerateOptions()
    assert (options.num_beams, options.do_sample, options.num_return_sequences) == (1, False, 1)


def test_they_are_a_value():
    assert hash(GenerateOptions(num_beams=2)) == hash(GenerateOptions(num_beams=2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerateOptions().num_beams = 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("max_new_tokens", "num_beams") for value in (0, -1, 10**9, 1.0, True, "5")),
        ("num_beams", None),
        *(("num_return_sequences", value) for value in (0, 1001, 2.0)),
        *(("top_k", value) for value in (-1, 2**25, 0.5)),
        *(("seed", value) for value in (-1, 2**63, 1.5)),
        *(("temperature", value) for value in (0, 0.0, -1, math.nan, math.inf, 1e-9, "warm", True)),
        *(("top_p", value) for value in (0, -0.1, 1.1, math.nan, None)),
        *(("length_penalty", value) for value in (math.nan, math.inf, -math.inf, 11, False)),
        *(("min_p", value) for value in (-0.1, 1.1, math.nan, "0")),
        *(("repetition_penalty", value) for value in (0, -1.0, 101, math.nan, None)),
        *(("no_repeat_ngram_size", value) for value in (-1, 1001, 2.0)),
        *(("early_stopping", value) for value in ("always", 1, None)),
        *(("beam_threshold", value) for value in (-0.1, 1.1, math.nan, True)),
        *(("num_beam_groups", value) for value in (0, 1001, 2.0)),
        *(("diversity_penalty", value) for value in (-0.1, math.inf, "0")),
        *(("forced_prefix", value) for value in (None, b"x", "x" * 1001, "\ud800")),
        ("narrowing", 1),
        ("do_sample", 1),
        *(("stop_strings", value) for value in ("stop", ["stop"], ("",), (b"x",), ("\ud800",))),
        *(("stop_strings", value) for value in (("x" * 1001,), ("x",) * 101)),
        *(("bad_words", value) for value in ("bad", ["bad"], ("",), (b"x",), ("\ud800",), ("x",) * 101)),
    ],
)
def test_a_wrong_value_is_refused_by_name(name, value):
    with pytest.raises(OptionsError, match=name.replace("_", ".").removesuffix("s")):
        GenerateOptions(**{name: value})


def test_all_problems_are_told_at_once():
    with pytest.raises(OptionsError) as caught:
        GenerateOptions(max_new_tokens=0, temperature=-1.0, num_beams=4, do_sample=True, stop_strings=("",))
    for part in ("max_new_tokens must be", "temperature must be", "num_beams=4 searches", "a stop string must be"):
        assert part in str(caught.value)


def test_beams_and_samples_exclude_each_other():
    with pytest.raises(OptionsError, match="num_beams=4 searches and do_sample=True draws"):
        GenerateOptions(num_beams=4, do_sample=True)


@pytest.mark.parametrize("option", [{"temperature": 0.5}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_sampling_options_without_sampling_are_refused(option):
    with pytest.raises(OptionsError, match="only matters with do_sample=True"):
        GenerateOptions(**option)
    assert GenerateOptions(**option, do_sample=True)


def test_more_results_than_beams_are_refused_with_a_way_out():
    with pytest.raises(OptionsError, match=r"set num_beams to at least 3, or do_sample=True"):
        GenerateOptions(num_return_sequences=3)
    assert GenerateOptions(num_return_sequences=3, num_beams=3)
    assert GenerateOptions(num_return_sequences=3, do_sample=True)


@pytest.mark.parametrize(
    "option",
    [
        {"early_stopping": True},
        {"early_stopping": "never"},
        {"narrowing": True},
        {"beam_threshold": 0.1},
        {"num_beam_groups": 2, "diversity_penalty": 1.0},
    ],
)
def test_options_of_beams_without_beams_are_refused(option):
    with pytest.raises(OptionsError, match="only matters with several beams"):
        GenerateOptions(**option)
    assert GenerateOptions(**option, num_beams=4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_beams": 4, "narrowing": True, "early_stopping": True}, "leave out early_stopping"),
        ({"num_beams": 4, "num_beam_groups": 3, "diversity_penalty": 1.0}, "make it a multiple"),
        ({"num_beams": 4, "num_beam_groups": 2}, "set both num_beam_groups above 1 and diversity_penalty above 0"),
        ({"num_beams": 4, "diversity_penalty": 1.0}, "set both num_beam_groups above 1 and diversity_penalty above 0"),
        ({"forced_prefix": "a bad word", "bad_words": ("bad",)}, "'bad', which is among bad_words"),
        ({"forced_prefix": "a\n", "stop_strings": ("\n",)}, "which is among stop_strings"),
    ],
)
def test_contradictions_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(OptionsError, match=sentence):
        GenerateOptions(**options)


anything = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.text()))


@given(st.fixed_dictionaries({}, optional={field.name: anything for field in dataclasses.fields(GenerateOptions)}))
def test_nothing_but_an_options_error_comes_out(values):
    with contextlib.suppress(OptionsError):
        GenerateOptions(**values)
