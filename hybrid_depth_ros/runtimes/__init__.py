"""What runs the network: torch, OpenVINO or ONNX Runtime, from the same weights.

A runtime is a callable: uint8 N×H×W×3 RGB, H and W multiples of 32 → float32 N×H/2×W/2 metres,
in an array that is the caller's; N is 1 for a Model that is ``one_by_one``. Normalisation is a
part of it. It has a ``name``, a ``precision`` and a ``device``. Only torch's own and a first export
need torch.
"""
