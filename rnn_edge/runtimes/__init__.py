"""Run bundles with numpy and ONNX Runtime alone: no PyTorch, no onnx."""
