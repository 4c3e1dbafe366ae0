"""What runs a network: torch, OpenVINO, ONNX Runtime or TensorRT, from the same weights."""
