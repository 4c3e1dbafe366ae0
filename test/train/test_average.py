"""The mean of networks."""

import pytest
import torch

from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.weights import load_network, save_network
from train import average


def test_the_mean_of_networks_has_batch_norms_of_its_own(tree, tmp_path, capsys):
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        networks.append(HybridDepthNet('efficientnet_lite0'))
        save_network(networks[-1], tmp_path / f'{seed}.safetensors')
    average.main([str(tmp_path / '0.safetensors'), str(tmp_path / '1.safetensors'), '--data',
                  str(tree), '--out', str(tmp_path / 'mean.safetensors'), '--batches', '2',
                  '--set', 'batch=4', 'validation=[]'])
    mean = load_network(str(tmp_path / 'mean.safetensors')).state_dict()
    one, two = (network.state_dict() for network in networks)
    torch.testing.assert_close(mean['head.weight'], (one['head.weight'] + two['head.weight']) / 2,
                               rtol=2e-3, atol=1e-4)  # the file is float16
    assert (mean['reduction_bn.running_mean'] - one['reduction_bn.running_mean']).abs().max() > 0.01
    with pytest.raises(SystemExit, match='have no mean'):
        average.main([str(tmp_path / '0.safetensors'), 'lite-nyu', '--data', str(tree),
                      '--out', str(tmp_path / 'none.safetensors')])


def test_measured_batch_norms_are_those_of_the_batches():
    network = HybridDepthNet('efficientnet_lite0')
    batches = torch.randn(3, 4, 3, 64, 64) * 2 + 1
    average.measure_batch_norms(network, batches)
    stem = network.encoder.conv_stem(batches.flatten(0, 1))
    torch.testing.assert_close(network.encoder.bn1.running_mean, stem.mean((0, 2, 3)),
                               rtol=1e-4, atol=1e-5)
    assert not network.training
    assert network.encoder.bn1.momentum is not None
