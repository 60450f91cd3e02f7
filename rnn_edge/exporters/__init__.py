"""From PyTorch to ONNX: the graphs, the proof that they say the same, and the bundle."""

from rnn_edge.exporters.export import Exported, export, verify
from rnn_edge.exporters.parity import Check, Parity, measure_parity

__all__ = ["Check", "Exported", "Parity", "export", "measure_parity", "verify"]
