"""Small networks and tokenizers with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    from rnn_edge.spec import LanguageModelSpec
    from rnn_edge.text import Tokenizer

    tokenizer = Tokenizer.train(kind, ["the cat sat on the mat, the end of it\n" * 9], vocab_size=300)
    sizes = {"embedding_size": 12, "hidden_size": 16, **changes}
    torch.manual_seed(seed)
    model = LanguageModel(LanguageModelSpec(vocab_size=tokenizer.vocab_size, **sizes)).eval()
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
