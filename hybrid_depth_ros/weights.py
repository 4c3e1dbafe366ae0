"""Weights files and the named registry: what :func:`load_network` accepts."""

import os
from pathlib import Path

import safetensors.torch


def save_network(network, path):
    """Write weights as float16 safetensors, atomically, with what rebuilds the network."""
    tensors = {name: tensor.half().contiguous() if tensor.is_floating_point() else tensor
               for name, tensor in network.state_dict().items()}
    partial = Path(path).with_suffix('.partial')
    safetensors.torch.save_file(tensors, partial, {
        'encoder': network.encoder_name, 'lateral': str(network.lateral).lower()})
    os.replace(partial, path)


def load_network(name_or_path):
    raise NotImplementedError
