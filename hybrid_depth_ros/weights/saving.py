"""Weights of a network → a safetensors file."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_depth_ros.errors import reason
from hybrid_depth_ros.files import atomic_write

if TYPE_CHECKING:
    import torch

    from hybrid_depth_ros.network import HybridDepthNet


def save_network(network: HybridDepthNet, path: str | os.PathLike[str]) -> None:
    """Write a network's weights as float16 safetensors, whole or not at all.

    The file also holds what is needed to rebuild the network. A fused network is written in its
    unfused form; the network itself stays as it is.

    Raises:
        OSError: The file can't be written; nothing half-written is left.
    """
    import safetensors.torch
    if any('.unpool_fused.' in name for name in network.state_dict()):
        network = copy.deepcopy(network).unfuse()
    tensors = {name: _half_precision(tensor).contiguous()
               for name, tensor in network.state_dict().items()}
    try:
        with atomic_write(Path(path)) as partial:
            safetensors.torch.save_file(tensors, partial, {
                'encoder': network.encoder_name, 'lateral': str(network.lateral).lower()})
    except (OSError, safetensors.SafetensorError) as error:
        # safetensors' own: "Error while serializing: I/O error: … (os error 28) at path …"
        said = re.search(r'I/O error: (.*?) \(os error', str(error))
        raise OSError(f'{path} could not be written ({said[1] if said else reason(error)}); make '
                      'room there or choose another path') from error


def _half_precision(tensor: torch.Tensor) -> torch.Tensor:
    half = tensor.half() if tensor.is_floating_point() else tensor
    # A variance can be more than float16 holds, 65504.
    return half if half.isfinite().all() else tensor
