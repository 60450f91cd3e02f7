"""Turn a bundle into a folder that an app developer drops in: model, runner, checks and one page of instructions."""

from rnn_edge.packaging.package import LISTING, ONNXRUNTIME_WEB, Platform, package

__all__ = ["LISTING", "ONNXRUNTIME_WEB", "Platform", "package"]
