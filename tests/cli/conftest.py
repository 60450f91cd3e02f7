"""What commands work on: a small bundle and a small checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import tiny_bundle, tiny_checkpoint


@pytest.fixture
def files(tmp_path) -> None:
    from rnn_edge.modules import save_checkpoint

    tiny_bundle(Path("model.rnn"))
    save_checkpoint(tiny_checkpoint(), Path("model.pt"))
