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
