"""Bundles on a real GPU: `pytest -m gpu` on a machine that has one, with onnxruntime-gpu. CI has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from helpers import tiny_checkpoint

from rnn_edge.bundle import Bundle
from rnn_edge.exporters import ExportOptions, export, verify
from rnn_edge.modules import save_checkpoint
from rnn_edge.runtimes import StepGraph, by_provider, measure_providers, placement
from rnn_edge.runtimes.decoding import Steps, read, steps_from
from rnn_edge.runtimes.device_steps import DeviceSteps
from rnn_edge.runtimes.providers import PROVIDERS, why_not
from rnn_edge.runtimes.recorded_steps import RecordedSteps

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(why_not(PROVIDERS["cuda"])), reason=f"cuda {why_not(PROVIDERS['cuda'])}"),
]


@pytest.mark.parametrize("target", ["cuda", "webgpu"])
@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_cuda_runs_every_node_and_equals_pytorch(cell, target):
    """In `fused` form and in `step` form; both for the whole parity check."""
    checkpoint = tiny_checkpoint(cell=cell, num_layers=2, hidden_size=64)
    save_checkpoint(checkpoint, Path("model.pt"))
    export(checkpoint, "model.rnn", ExportOptions(target=target))
    assert set(by_provider(placement(Bundle.read(Path("model.rnn")), provider="cuda"))) == {"CUDAExecutionProvider"}
    parity = verify("model.pt", "model.rnn", atol=1e-4, provider="cuda")
    assert parity.passed, parity


def test_cuda_is_among_what_is_measured():
    export(tiny_checkpoint(hidden_size=256), "model.rnn", ExportOptions(target="cuda"))
    measured = {each.provider: each for each in measure_providers(Bundle.read(Path("model.rnn")))}
    assert not measured["cuda"].problem


@pytest.mark.parametrize("target", ["cuda", "webgpu"])
def test_states_and_scores_stay_on_the_gpu(target):
    export(tiny_checkpoint(cell="lstm", num_layers=2), "model.rnn", ExportOptions(target=target))
    bundle = Bundle.read(Path("model.rnn"))
    there, here = StepGraph.from_bundle(bundle, provider="cuda"), StepGraph.from_bundle(bundle)
    begun = read(here, [[3, 4], [5]])
    resident, plain = steps_from(there, begun), Steps(here, begun)
    assert isinstance(resident, DeviceSteps)
    assert there._helpers.top_k is not None
    assert there._helpers.take_rows is not None
    for rows in ([0, 1], [1, 0, 0], [0, 1, 2], [0, 1, 2], [2]):
        tokens = [7 + row for row in rows]
        resident.go_on(rows, tokens)
        plain.go_on(rows, tokens)
        assert {value.device_name() for value in (resident._here.logits, *resident._here.states)} == {"cuda"}
        (found, log_probs), (expected, others) = resident.scores.top(5), plain.scores.top(5)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(log_probs, others, atol=1e-4)


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_a_gpu_replays_steps_that_it_recorded(cell):
    """In `step` form; in `fused` form onnxruntime may refuse to record."""
    export(tiny_checkpoint(cell=cell, num_layers=2), "model.rnn", ExportOptions(target="webgpu"))
    bundle = Bundle.read(Path("model.rnn"))
    place = {"provider": "cuda", "provider_options": {"enable_cuda_graph": "1"}}
    there, here = StepGraph.from_bundle(bundle, **place), StepGraph.from_bundle(bundle)
    searches = [
        (steps_from(there, read(there, [prompt])), Steps(here, read(here, [prompt]))) for prompt in ([3, 4], [5])
    ]
    for number in range(64):
        for replayed, plain in searches:
            assert isinstance(replayed, RecordedSteps)
            for rows in [[0, 0, 0], [2]] if number % 20 == 10 else [[0]]:
                tokens = [7 + number % 8 + row for row in rows]
                replayed.go_on(rows, tokens)
                plain.go_on(rows, tokens)
            one, other = replayed.position, plain.position
            for found, expected in zip((one.logits, *one.state), (other.logits, *other.state), strict=True):
                np.testing.assert_allclose(found, expected, atol=1e-4)
    one, other = (replayed._recording for replayed, _ in searches)
    before = [each.places[1].logits.numpy().copy() for each in (one, other)]
    one._token.update_inplace(np.array([[7]]))
    there._session.run_with_iobinding(other._ways[0], one._runs[0])  # replayed, it writes to its own places
    changed = [(each.places[1].logits.numpy() != old).any() for each, old in zip((one, other), before, strict=True)]
    assert changed == [True, False]
