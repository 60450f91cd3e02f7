"""From PyTorch to ONNX: the graphs, the proof that they say the same, and the bundle."""

from rnn_edge.exporters.export import Exported, export, verify
from rnn_edge.exporters.options import ExportOptions
from rnn_edge.exporters.parity import Check, Parity, measure_parity
from rnn_edge.exporters.quality import Quality, Recall

__all__ = ["Check", "ExportOptions", "Exported", "Parity", "Quality", "Recall", "export", "measure_parity", "verify"]
