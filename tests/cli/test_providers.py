"""`rnn-edge providers` and `placement`: the table, and what ran where."""

from __future__ import annotations

import json

from cli.calling import call

from rnn_edge.runtimes.providers import PROVIDERS


def test_the_table_tells_of_every_provider():
    rows = json.loads(call("providers", "--json").stdout)
    assert [row["name"] for row in rows] == list(PROVIDERS)
    cpu, cuda, *_ = rows
    assert (cpu["usable"], cpu["verified"], cpu["form"]) == (True, "hardware", "scan")
    assert (cuda["verified"], cuda["precisions"]) == ("no", ["fp32", "fp16"])
    told = call("providers").stdout
    assert all(provider.full_name in told for provider in PROVIDERS.values())
    assert "can be used here" in told


def test_placement_tells_what_ran_where(files):
    assert json.loads(call("placement", "model.rnn", "--json").stdout)["CPUExecutionProvider"]["Scan"] == 1
    assert call("placement").stdout.startswith("CPUExecutionProvider: ")


def test_what_suits_a_provider_is_told():
    told = call("providers").stdout
    assert "--target webgpu: step form, fp32\n" in told
    assert "--target qnn: step form, fixed, fp32 or fp16 or int8; int8 is calibrated, with 16 bits" in told
    assert "int8 is calibrated, with 8 bits for products only" in told


def test_a_placement_that_was_not_foretold_is_exit_code_1(files, monkeypatch):
    """What ran is told all the same."""
    told = "cpu ran nothing, and the export foretold everything"
    monkeypatch.setattr("rnn_edge.runtimes.unforeseen", lambda *_: told)
    done = call("placement", "model.rnn")
    assert (done.exit_code, done.stdout.startswith("CPUExecutionProvider: ")) == (1, True)
    assert done.stderr == f"Error: {told}\n"
