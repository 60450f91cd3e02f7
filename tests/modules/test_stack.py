"""Our stack is torch's recurrent modules, weight for weight."""

from __future__ import annotations

import pytest
import torch

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
