"""Tensors by name → a network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hybrid_depth_ros.errors import list_briefly

if TYPE_CHECKING:
    import torch

    from hybrid_depth_ros.network import HybridDepthNet

MAX_NUMBERS = 2**28  # in the tensors of a file: four times those of the largest network


def build_network(tensors: Mapping[str, torch.Tensor],
                  metadata: Mapping[str, str]) -> HybridDepthNet:
    """Build the network whose state dict this is.

    Args:
        tensors: The state dict, of this package's names or the paper authors'.
        metadata: ``encoder`` and ``lateral``, as they are written into the file; guessed from the
            tensors where they are missing.

    Returns:
        The network: float32, on the CPU, in eval mode.

    Raises:
        ValueError: It names what is missing, left over or not finite.
    """
    import torch

    from hybrid_depth_ros.network import HybridDepthNet, is_published
    if odd := [name for name, tensor in tensors.items() if tensor.layout != torch.strided
               or tensor.device.type != 'cpu' or tensor.is_quantized or tensor.is_complex()]:
        raise ValueError(f'not plain tensors of real numbers: {list_briefly(odd)}')
    # views of a few bytes can claim to be any number of them
    if (count := sum(tensor.numel() for tensor in tensors.values())) > MAX_NUMBERS:
        raise ValueError(f'{count} numbers, more than any network of this package has')
    # copies, as tensors may share memory in the file
    tensors = {name: tensor.to(torch.int64 if name.endswith('num_batches_tracked')
                               else torch.float32, copy=True) for name, tensor in tensors.items()}
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise ValueError(f'NaN or infinite numbers in {list_briefly(bad)}')
    lateral = metadata.get('lateral') or str(
        any(name.startswith(('laterals.', 'con_conv')) for name in tensors)).lower()
    if lateral not in ('true', 'false'):
        raise ValueError(f"metadata 'lateral' is {lateral!r}; it must be true or false")
    encoder = metadata.get('encoder') or (
        'resnet50' if is_published(tensors) else _guess_encoder(tensors))
    with torch.device('meta'):  # no time lost on values that are replaced at once
        network = HybridDepthNet(
            encoder, lateral == 'true',
            uncertainty=any(name.startswith('uncertainty.') for name in tensors))
        if network.uncertainty and any('.unfamiliarity.' in name for name in tensors):
            network.uncertainty.add_unfamiliarity()
        if any('.unpool_fused.' in name for name in tensors):
            network.fuse()
    try:
        missing, unexpected = network.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        wrong = re.findall(r'size mismatch for (\S+):', str(error)) or [str(error)]
        raise ValueError(f'not the shapes of a {encoder} network: {list_briefly(wrong)}') from error
    if missing or unexpected:
        raise ValueError(f'not the tensors of a {encoder} network; missing: '
                         f'{list_briefly(missing)}; left over: {list_briefly(unexpected)}')
    return network.unfuse().eval()


def _guess_encoder(tensors: Mapping[str, torch.Tensor]) -> str:
    """The encoder that shares most tensors, by name and shape."""
    import torch

    from hybrid_depth_ros.network import ENCODERS, HybridDepthNet
    given = {(name, tensor.shape) for name, tensor in tensors.items()}
    with torch.device('meta'):
        states = {encoder: HybridDepthNet(encoder).state_dict() for encoder in ENCODERS}
    shared = {encoder: len(given & {(name, tensor.shape) for name, tensor in state.items()})
              for encoder, state in states.items()}
    best = max(shared, key=shared.__getitem__)
    if not shared[best]:
        raise ValueError('no tensor is of a network known here; it holds '
                         f'{list_briefly(list(tensors))}')
    return best
