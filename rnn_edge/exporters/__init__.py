"""From PyTorch to ONNX: the graphs, the proof that they say the same, and the bundle."""

from rnn_edge.exporters.export import Exported, ExportOptions, export, verify
from rnn_edge.exporters.parity import Check, Parity, measure_parity
from rnn_edge.exporters.quality import Quality

__all__ = ["Check", "ExportOptions", "Exported", "Parity", "Quality", "export", "measure_parity", "verify"]
