"""Small networks and tokenizers with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"


def shared(path: str) -> Path:
    """Return a file of real data beside the checkout, or skip where it is not there."""
    if not (SHARED / path).exists():
        pytest.skip(f"needs ../shared/data/{path}, which is not distributed")
    return SHARED / path


def tiny_checkpoint(kind: str = "characters", *, seed: int = 0, **changes: Any):
    """Return a checkpoint with random weights, large enough to make its choices clear-cut."""
    import torch

    from rnn_edge.modules import Checkpoint, LanguageModel
    from rnn_edge.spec import ModelSpec
    from rnn_edge.text import Tokenizer

    tokenizer = Tokenizer.train(kind, ["the cat sat on the mat, the end of it\n" * 9], vocab_size=300)
    sizes = {"embedding_size": 12, "hidden_size": 16, **changes}
    torch.manual_seed(seed)
    model = LanguageModel(ModelSpec(vocab_size=tokenizer.vocab_size, **sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return Checkpoint(model, tokenizer)


def tiny_bundle(path: Path, kind: str = "characters", **changes: Any):
    """Export a tiny checkpoint to `path` and read it back."""
    pytest.importorskip("torch")
    from rnn_edge.bundle import Bundle
    from rnn_edge.exporters import export

    export(tiny_checkpoint(kind, **changes), path)
    return Bundle.read(path)


def darwin_checkpoint():
    """Return ml5's published CharRNN of Darwin, or skip where it is not there."""
    torch = pytest.importorskip("torch")
    from rnn_edge.modules import Checkpoint, LanguageModel
    from rnn_edge.spec import ModelSpec
    from rnn_edge.text import Tokenizer

    weights = np.load(shared("models/ml5_charrnn/darwin/torch_order.npz"))
    ids = json.loads(shared("models/ml5_charrnn/darwin/golden.json").read_text())["vocab"]
    no_text = [chr(0xE000 + index) for index in range(100 - len(ids))]  # the network has more outputs than characters
    tokenizer = Tokenizer.characters([*sorted(ids, key=ids.__getitem__), *no_text])
    model = LanguageModel(ModelSpec(vocab_size=100, embedding_size=128, hidden_size=128, num_layers=2)).eval()
    tensors = {name: torch.from_numpy(weights[name]) for name in weights}
    model.load_state_dict({
        "embedding.weight": tensors.pop("embedding"),
        "output.weight": tensors.pop("softmax_w").T,
        "output.bias": tensors.pop("softmax_b"),
        **{f"stack.rnn.{name}": tensor for name, tensor in tensors.items()},
    })  # fmt: skip
    return Checkpoint(model, tokenizer)
