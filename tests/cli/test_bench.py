"""`rnn-edge bench`: a line, or a number, for everything that it times."""

from __future__ import annotations

import json

from cli.calling import call


def test_bench_prints_a_line_or_a_number_for_everything_it_times():
    quick = ("--rounds", "2", "--seconds", "0")
    lines = call("bench", *quick).stdout.splitlines()
    found = json.loads(call("bench", *quick, "--json").stdout)
    assert [line[:34].strip() for line in lines[2:]] == list(found["microseconds"])
    assert all(len(times["rounds"]) == 2 for times in found["microseconds"].values())
