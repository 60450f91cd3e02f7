"""The benchmark measures what it says, and refuses what is wrong. None of this looks at a clock."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from runtimes.fakes import RememberingModel

from benchmarks.alternatives import ALTERNATIVES, Source
from benchmarks.alternatives.base import best
from benchmarks.alternatives.pytorch import EAGER
from benchmarks.alternatives.with_numpy import NUMPY
from benchmarks.goals import GOALS, Goal, index
from benchmarks.limit import Limit
from benchmarks.report import Report
from benchmarks.run import IN_GRAPH, TWO_STAGE_IN_GRAPH, Row, Settings, _entrant
from benchmarks.scale import Server
from benchmarks.tasks import beam_of, error_of, logits_of
from benchmarks.workloads import WORKLOADS, PlainStep

ROOT = Path(__file__).parents[1]
SMALL = {
    name: replace(
        workload,
        spec=replace(
            workload.spec,
            vocab_size=30,
            embedding_size=8,
            hidden_size=12,
            proj_size=8 if workload.spec.proj_size else 0,
        ),
    )
    for name, workload in WORKLOADS.items()
}
TOKENS = np.random.default_rng(0).integers(0, 30, (3, 20))


@pytest.fixture(scope="module", params=["-DBY_COMPILER", "-march=native"])
def limit(request, tmp_path_factory):
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    return Limit(tmp_path_factory.mktemp("limit"), request.param)


@pytest.mark.parametrize("batch", [1, 5])
def test_the_limit_multiplies_floats(limit, batch):
    x, w = _random(batch, 96), _random(96, 128)
    packed = w.reshape(96, 2, 64).transpose(1, 0, 2)  # (tile, input, output)
    y = limit.multiply(32, x, np.ascontiguousarray(packed), np.ones(1, np.float32), 128)
    np.testing.assert_allclose(y, x @ w, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 5])
def test_the_limit_multiplies_bytes(limit, batch):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (batch, 96), np.uint8)
    w, scales = generator.integers(-128, 128, (96, 128), np.int8), _random(128)
    packed = w.reshape(24, 4, 2, 64).transpose(2, 0, 3, 1)  # (tile, four inputs, output, input)
    y = limit.multiply(8, x, np.ascontiguousarray(packed), scales, 128)
    np.testing.assert_allclose(y, (x.astype(np.int64) @ w) * scales, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 5])
def test_the_limit_multiplies_halves_of_bytes(limit, batch):
    generator = np.random.default_rng(0)
    x = generator.integers(-128, 128, (batch, 96), np.int8)
    w, scales = generator.integers(0, 16, (96, 128), np.uint8), _random(3, 128)
    eights = w.reshape(12, 2, 4, 2, 64).transpose(3, 0, 4, 2, 1)  # (tile, eight inputs, output, input, half)
    packed = eights[..., 0] | eights[..., 1] << 4
    by_tile = np.ascontiguousarray(scales.reshape(3, 2, 64).transpose(1, 0, 2))
    y = limit.multiply(4, x, np.ascontiguousarray(packed), by_tile, 128)
    np.testing.assert_allclose(y, x.astype(np.float64) @ (w * np.repeat(scales, 32, axis=0)), rtol=1e-3, atol=1e-2)


def test_the_limit_has_no_other_form(limit):
    with pytest.raises(ValueError, match="no form"):
        limit.multiply(16, _random(1, 32), _random(32, 64), _random(64), 64)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", WORKLOADS)
def test_plain_step_and_numpy_say_what_pytorch_says(name, tmp_path):
    import torch

    source = Source(SMALL[name], "fp32", len(TOKENS), tmp_path)
    model, step = SMALL[name].model(), PlainStep(SMALL[name].model())
    with torch.no_grad():
        expected, _ = model(torch.from_numpy(TOKENS), model.start(len(TOKENS)))
        expected = expected.numpy().transpose(1, 0, 2)[:16]
        state = source.plain()[1][1:]
        for column, logits in zip(TOKENS.T, expected, strict=False):
            found, *state = step(torch.from_numpy(column), *state)
            np.testing.assert_allclose(found, logits, atol=1e-5)
    runner = NUMPY.open(NUMPY.convert(source))
    np.testing.assert_allclose(logits_of(runner, TOKENS), expected, atol=1e-5)


def test_the_twenty_best_are_what_sorting_gives():
    logits = _random(2, 30)
    tokens, log_probs = best(logits, 20)
    exact = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert np.argsort(-logits, axis=1)[:, :20].tolist() == tokens.tolist()
    np.testing.assert_allclose(log_probs, np.take_along_axis(exact, tokens, axis=1), rtol=1e-5)


def test_the_beam_written_by_hand_finds_no_worse_than_greedy(tmp_path):
    runner = NUMPY.open(NUMPY.convert(Source(SMALL["elman"], "fp32", 5, tmp_path)))
    state, token, greedy = runner.start(1), np.array([3]), 0.0
    for _ in range(20):
        logits, state = runner.step(token, state)
        (token,), (log_prob,) = (each[:, 0] for each in best(logits, 20))
        token, greedy = np.array([token]), greedy + log_prob
    assert beam_of(runner, 3)().max() >= greedy - 1e-4


def test_a_conversion_that_is_wrong_is_not_timed(tmp_path, monkeypatch):
    """The check must be able to fail: this alternative's states stand still."""
    monkeypatch.setattr("benchmarks.run.start", lambda *_: {})
    source = Source(SMALL["elman"], "fp32", 3, tmp_path)
    monkeypatch.setitem(WORKLOADS, "elman", SMALL["elman"])
    reference = logits_of(EAGER.open(EAGER.convert(source)), TOKENS)
    assert _entrant(NUMPY, source, TOKENS, reference).error < 1e-5

    class Forgetful(type(NUMPY.open(NUMPY.convert(source)))):
        def step(self, tokens, state):
            return super().step(tokens, self.start(len(tokens)))

    forgetful = replace(NUMPY, name="forgetful", open=Forgetful)
    with pytest.raises(ValueError, match="does not say what PyTorch says"):
        _entrant(forgetful, source, TOKENS, reference)


def test_error_is_a_share_of_the_spread():
    logits = _random(4, 50)
    assert error_of(logits, logits) == 0
    assert error_of(logits + 0.1 * logits.std(), logits) == pytest.approx(0.1, rel=1e-4)


def test_a_report_survives_json_and_tells_ratios_and_goals(tmp_path):
    rows = [
        Row("elman", "step", 1, "limit", "int8", (10.0, 20.0)),
        Row("elman", "step", 1, "rnn-edge", "int8", (12.0, 24.0)),
        Row("elman", "step", 1, "LiteRT", "int8", (6.0, 12.0)),
    ]
    report = Report("a machine", {"rounds": 2, "seconds": 0.1}, rows, ["LiteRT in fp32 is skipped: no"])
    again = Report.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again == report
    text = "\n".join(again.lines())
    assert "| rnn-edge | int8 | 18 (1.2×, 1.2–1.2) |" in text
    assert "| elman: step, int8, over the limit | 1.25× | 1.20×, 1.20–1.20 | met |" in text
    assert "| elman: step, int8, over LiteRT | 1.10× | 2.00×, 2.00–2.00 | not met |" in text
    assert "LiteRT in fp32 is skipped: no" in text


def test_goals_speak_of_rows_that_a_run_gives():
    """A goal with a misspelt name would never be measured, and so never be missed."""
    names = {each.name for each in ALTERNATIVES} | {"limit", IN_GRAPH, TWO_STAGE_IN_GRAPH}
    tasks = {"step", "20 best", "prompt of 64", "beam of 5", "bytes"}
    for goal in GOALS:
        for workload, task, batch, alternative, precision in (goal.ours, goal.other):
            assert workload in WORKLOADS
            assert task in tasks
            assert batch in Settings().batches
            assert alternative in names
            assert precision in Settings().precisions
    missing = Goal("", ("elman", "step", 1, "rnn-edge", "int8"), ("elman", "step", 1, "nobody", "int8"), 1)
    assert missing.measured(index([Row("elman", "step", 1, "rnn-edge", "int8", (1.0,))])) is None


@pytest.mark.slow
def test_the_whole_runs_and_says_what_it_skipped(tmp_path):
    """Everything that is installed here, on the smallest workload; what is not installed is named."""
    quick = [
        "--workload",
        "character",
        "--rounds",
        "1",
        "--seconds",
        "0",
        "--starts",
        "0",
        "--without",
        "torch.compile",
    ]
    command = [sys.executable, "-m", "benchmarks", *quick, "--json", str(tmp_path / "found.json")]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=900).stdout
    found = json.loads((tmp_path / "found.json").read_text())
    entered = {(row["alternative"], row["precision"]) for row in found["rows"]}
    assert {("rnn-edge", each) for each in ("fp32", "int8", "int4")} | {("PyTorch", "fp32")} <= entered
    for alternative in ALTERNATIVES:
        skipped = any(f": {alternative.name} in" in reason for reason in found["skipped"])
        assert skipped or alternative.name in {name for name, _ in entered} | {"torch.compile"}
    assert "| rnn-edge | int8 |" in printed


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="AMX is x86-64's, and the filter Linux's"
)
def test_amx_is_refused_to_a_process_and_its_children():
    asks = "import ctypes; print(ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(ctypes.c_ulong())))"
    command = [sys.executable, "-c", asks]
    code = (
        f"from benchmarks.without_amx import refuse_amx; import subprocess; {{}}subprocess.run({command!r}, check=True)"
    )
    answers = [
        subprocess.check_output([sys.executable, "-c", code.format(each)], text=True) for each in ("", "refuse_amx(); ")
    ]
    if answers[0].strip() != "0":
        pytest.skip("this Linux does not speak of AMX")
    assert answers[1].strip() == "-1"


def test_sessions_that_step_together_say_what_each_says_alone():
    """Five of them, two at a time: those who wait longest come first, and each goes on with a state of its own."""
    scores = np.random.default_rng(0).normal(size=(9, 4))
    model = RememberingModel(lambda history: scores[sum(history) % 9])
    server = Server(model, sessions=5, largest_batch=2)
    server.tokens[:] = [0, 1, 2, 3, 0]
    waited = [server.step()[0] for _ in range(7)]  # 14 steps: three of each, but two of the last
    assert [len(each) for each in waited] == [2] * 7
    assert all(each > 0 for of_batch in waited for each in of_batch)
    for session, first in enumerate([0, 1, 2, 3, 0]):
        history = [first]
        for _ in range(2 if session == 4 else 3):
            history.append(int(scores[sum(history) % 9].argmax()))
        assert server.tokens[session] == history[-1]


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)
