"""Turn a bundle into a folder that an app developer drops in: model, runner, checks and one page of instructions."""

from rnn_edge.packaging.package import ONNXRUNTIME_WEB, Platform, package

__all__ = ["ONNXRUNTIME_WEB", "Platform", "package"]
