"""`rnn-edge info`: of a bundle, a checkpoint, and neither."""

from __future__ import annotations

import json

from cli.calling import call, refused


def test_info_tells_of_a_bundle_and_a_checkpoint(files):
    for path in ("model.rnn", "model.pt"):
        assert "cell: lstm" in call("info", path).stdout
        assert json.loads(call("info", path, "--json").stdout)["spec"]["hidden_size"] == 16


def test_what_is_neither_is_one_sentence():
    assert "cannot read nowhere" in refused("info", "nowhere")
