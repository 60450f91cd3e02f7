"""No step gets slower unnoticed: what it costs is counted, not timed, so that a busy machine says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.counts import FORMS, calls_of, counts, write_bundle

MOST = json.loads((Path(__file__).parent / "data" / "counts.json").read_text())
SLACK = 1.1  # versions of Python and of onnxruntime differ by a call or two


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("cell", "precision"), FORMS)
def test_a_form_costs_no_more_than_it_did(cell, precision, tmp_path):
    """If this fails for a good reason: python -m benchmarks.counts > tests/data/counts.json"""
    found, most = counts(write_bundle(cell, precision, tmp_path / "model.rnn")), MOST[f"{cell}, {precision}"]
    more = {name: count for name, count in found["nodes"].items() if count > most["nodes"].get(name, 0)}
    assert sum(found["nodes"].values()) <= sum(most["nodes"].values()), f"more nodes than before: {more}"
    for what in ("calls of a step", "calls of a beam"):
        assert found[what] <= most[what] * SLACK, what


def test_calls_are_counted_in_python_and_in_c():
    def task() -> None:
        len(sorted([2, 1]))

    assert calls_of(lambda: None) + 2 == calls_of(task)  # sorted and len
