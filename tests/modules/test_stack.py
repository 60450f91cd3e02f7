"""Our stack is torch's recurrent modules, weight for weight, and agrees with ONNX's own definition of the cells."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers import shared

from rnn_edge.modules import Stack
from rnn_edge.spec import LanguageModelSpec

TORCH = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def spec(**changes) -> LanguageModelSpec:
    return LanguageModelSpec(**{"vocab_size": 7, "embedding_size": 5, "hidden_size": 6, **changes})


@pytest.mark.parametrize("options", [
    {"cell": "elman"}, {"cell": "elman", "nonlinearity": "relu"}, {"cell": "gru"}, {"cell": "lstm"},
    {"cell": "lstm", "proj_size": 3},
])  # fmt: skip
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow
def test_torch_weights_load_unchanged_and_give_the_same(options, num_layers):
    ours = Stack(spec(num_layers=num_layers, **options), 5)
    arguments = {name: value for name, value in options.items() if name != "cell"}
    theirs = TORCH[options["cell"]](5, 6, num_layers, batch_first=True, **arguments)
    ours.rnn.load_state_dict(theirs.state_dict())
    x, state = torch.randn(2, 4, 5), tuple(map(torch.randn_like, ours.start(2)))
    y, after = ours(x, state)
    expected, expected_state = theirs(x, state if len(state) == 2 else state[0])
    assert torch.equal(y, expected)
    expected_state = expected_state if len(state) == 2 else (expected_state,)
    assert all(map(torch.equal, after, expected_state))


# ONNX stores gates as i, o, f, c and z, r, h; PyTorch as i, f, g, o and r, z, n.
GATES = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}
CELLS = {"RNN": "elman", "LSTM": "lstm", "GRU": "gru"}


def _onnx_cases() -> list[str]:
    kinds = ["defaults", "with_initial_bias", "seq_length", "batchwise", "reverse", "bidirectional"]
    cases = [f"test_{op}_{kind}" for op in ("gru", "lstm") for kind in kinds]
    # The suite's GRUs reset before the matrix product, as ONNX does by default and PyTorch does not. From a zero state,
    # or with weights that are all alike, the two are the same: all of them but test_gru_seq_length. The suite has
    # no test_lstm_seq_length, and its peepholes are no part of torch.nn.LSTM.
    cases = [case for case in cases if case not in ("test_lstm_seq_length", "test_gru_seq_length")]
    return [*cases, "test_rnn_seq_length", *(f"test_simple_rnn_{kind}" for kind in kinds if kind != "seq_length")]


@pytest.mark.parametrize("name", _onnx_cases())
def test_the_onnx_node_tests_hold(name):
    """Each direction is one stack, the second over reversed time."""
    case = json.loads(shared("suites/onnx_node_rnn/index.json").read_text())[name]
    data = np.load(shared(f"suites/onnx_node_rnn/{name}/data.npz"))
    hidden, order = case["attrs"]["hidden_size"], GATES[case["op"]]
    x, weights, recurrent, *bias = (torch.from_numpy(data[f"in_{index}"]) for index in range(len(case["inputs"])))
    by_batch = case["attrs"].get("layout") == 1
    x = x if by_batch else x.transpose(0, 1)  # (batch, time, input)
    reversals = {"reverse": [True], "bidirectional": [False, True]}.get(case["attrs"].get("direction", ""), [False])
    ends, outputs = [], []
    for direction, backwards in enumerate(reversals):
        stack = Stack(spec(cell=CELLS[case["op"]], embedding_size=x.shape[2], hidden_size=hidden), x.shape[2])
        both = bias[0][direction].reshape(2, len(order), hidden) if bias else torch.zeros(2, len(order), hidden)
        if case["op"] == "GRU":
            both = torch.stack([both.sum(0), torch.zeros_like(both[0])])
        stack.rnn.load_state_dict({
            "weight_ih_l0": weights[direction].reshape(len(order), hidden, -1)[order].flatten(0, 1),
            "weight_hh_l0": recurrent[direction].reshape(len(order), hidden, hidden)[order].flatten(0, 1),
            "bias_ih_l0": both[0][order].flatten(),
            "bias_hh_l0": both[1][order].flatten(),
        })  # fmt: skip
        y, state = stack(x.flip(1) if backwards else x, stack.start(len(x)))
        ends.append(state)
        outputs.append(y.flip(1) if backwards else y)
    found = {"Y_h": torch.cat([end[0] for end in ends]), "Y_c": torch.cat([end[-1] for end in ends])}
    found["Y"] = torch.stack(outputs, dim=2) if by_batch else torch.stack(outputs, dim=1).permute(2, 1, 0, 3)
    if by_batch:
        found["Y_h"] = found["Y_h"].transpose(0, 1)
    wanted = [output for output in case["outputs"] if output]
    for index, output in enumerate(wanted):
        np.testing.assert_allclose(found[output].detach(), data[f"out_{index}"], rtol=1e-5, atol=1e-6)
