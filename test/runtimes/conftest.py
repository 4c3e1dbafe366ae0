"""A cache of its own, and a small network."""

import pytest
import torch

from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.weights import save_network


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('HYBRID_DEPTH_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def weights(tiny, tmp_path):
    """The file of a small network."""
    torch.manual_seed(0)
    path = tmp_path / 'small.safetensors'
    save_network(HybridDepthNet('tiny'), path)
    return path
