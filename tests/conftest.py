"""What all tests share: one thread, and small networks that are ready to use."""

from __future__ import annotations

import signal

import hypothesis
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a background job, whose children would not hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("patient", deadline=None)  # machines that run tests are busy
hypothesis.settings.load_profile("patient")

try:
    import torch
except ImportError:  # the runtime's tests need no PyTorch
    collect_ignore = ["modules", "training", "exporters"]
else:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path, monkeypatch):
    """Keep every test out of the checkout."""
    monkeypatch.chdir(tmp_path)
