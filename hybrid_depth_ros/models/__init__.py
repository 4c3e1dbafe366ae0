"""Depth networks of any family."""

from __future__ import annotations

import contextlib

from hybrid_depth_ros.files import expand_user
from hybrid_depth_ros.models.base import Model
from hybrid_depth_ros.weights.hub import snapshot_folder
from hybrid_depth_ros.weights.registry import HUB, HUB_FILES, HUB_NAMES, INDEX_FILE


def open_model(weights: str) -> Model:
    """Open the network that a name, a file or a folder means.

    What a family needs is imported here, and for it alone.

    Args:
        weights: A registered name, a name on the hub (``hf:ORG/NAME``), a folder in transformers'
            format, an ONNX file, or a weights file of this package.

    Raises:
        OSError: It is not there or cannot be downloaded.
        ValueError: It is not such a network.
    """
    if weights in HUB_NAMES or weights.startswith(HUB) or _is_transformers_folder(weights):
        from hybrid_depth_ros.models.transformers import TransformersModel
        return TransformersModel(weights)
    if weights.lower().endswith('.onnx'):
        from hybrid_depth_ros.models.onnx_file import OnnxFileModel
        return OnnxFileModel(weights)
    from hybrid_depth_ros.models.hybrid import HybridModel
    return HybridModel(weights)


def _is_transformers_folder(weights: str) -> bool:
    with contextlib.suppress(OSError):
        folder = snapshot_folder(expand_user(weights))
        return folder.is_dir() and any(
            (folder / name).exists() for name in (*HUB_FILES, 'pytorch_model.bin', INDEX_FILE))
    return False
