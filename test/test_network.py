"""The network computes what the published one computes, in both forms of its unpoolings."""

import zlib

import numpy as np
import pytest
import torch

from hybrid_depth_ros.imagenet import IMAGENET_MEAN, IMAGENET_STD
from hybrid_depth_ros.network import ENCODERS, HybridDepthNet
from hybrid_depth_ros.weights import load_network


def filled(parity):
    """The 531 published tensors, filled by the parity rule."""
    tensors = {}
    for line in (parity / 'state_dict_keys.txt').read_text().splitlines():
        name, shape, twin = line.split('\t')
        if twin:
            tensors[name] = tensors[twin.removeprefix('same tensor as ')]
            continue
        if shape == 'scalar':
            tensors[name] = torch.tensor(0)
            continue
        shape = [int(side) for side in shape.split('x')]
        x = np.random.RandomState(zlib.crc32(name.encode())).randn(*shape)
        if name.endswith('running_var'):
            x = 0.5 + np.abs(x)
        elif len(shape) == 4:
            x = x * np.sqrt(2 / np.prod(shape[1:]))
        else:
            x = 0.1 * x + (name.endswith('.weight') and len(shape) == 1)
        tensors[name] = torch.from_numpy(x.astype(np.float32))
    return tensors


@pytest.fixture(scope='module')
def published(parity, tmp_path_factory):
    """The published names in a .model file, loaded by name as a user loads it."""
    tensors = filled(parity)
    assert len(tensors) == 531
    path = tmp_path_factory.mktemp('published') / 'hyb_net_weights.model'
    torch.save(tensors, path)
    return load_network(str(path))


def test_parity_with_the_published_network(published, parity):
    expected = np.load(parity / 'expected_depth.npy')
    x = np.random.RandomState(2018).rand(1, 3, 256, 320)
    x = (x - np.reshape(IMAGENET_MEAN, (3, 1, 1))) / np.reshape(IMAGENET_STD, (3, 1, 1))
    x = torch.from_numpy(x)
    with torch.inference_mode():
        for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
            depth = published.to(dtype)(x.to(dtype))[0, 0].numpy()
            assert np.abs(depth - expected).max() / np.abs(expected).max() <= tolerance


def test_resnet50_is_the_papers_size():
    network = HybridDepthNet(encoder='resnet50')
    assert sum(p.numel() for p in network.parameters()) == 64_614_017
    assert network(torch.zeros(2, 3, 64, 96)).shape == (2, 1, 32, 48)


def test_lite_is_small_and_fully_convolutional():
    network = HybridDepthNet('efficientnet_lite0').eval()
    assert 5e6 < sum(p.numel() for p in network.parameters()) < 7e6
    for height, width in ((32, 32), (256, 320), (96, 416)):
        assert network(torch.zeros(1, 3, height, width)).shape == (
            1, 1, height // 2, width // 2)


def test_without_lateral_connections_it_is_lainas_network():
    hybrid, laina = (HybridDepthNet('resnet50', lateral=lateral) for lateral in (True, False))
    extra = {name for name in hybrid.state_dict() if name not in laina.state_dict()}
    assert all(name.startswith('laterals.') for name in extra)
    assert len(extra) == 8
    assert laina(torch.zeros(2, 3, 32, 64)).shape == (2, 1, 16, 32)


@pytest.mark.parametrize('encoder', ['resnet50', 'efficientnet_lite0'])
def test_fused_and_unfused_agree(encoder):
    torch.manual_seed(0)
    network = HybridDepthNet(encoder).eval()
    network.head.bias.data.fill_(5.0)  # keep the last ReLU open
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        unfused = network(x)
        in_training_form = network.train_fused()(x)
        network.train_fused(False)
        fused = network.fuse()(x)
    assert unfused.std() > 0
    for other in (in_training_form, fused):
        assert (other - unfused).abs().max() <= 1e-5 * unfused.abs().max()
    assert any('unpool_fused' in name for name in network.state_dict())
    after = network.unfuse().state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert len(after) == len(before)


def test_training_in_fused_form_gives_the_same_gradients():
    torch.manual_seed(0)
    network = HybridDepthNet('efficientnet_lite0', dropout=0.0)
    network.head.bias.data.fill_(5.0)
    x, gradients = torch.randn(2, 3, 64, 64), []
    for fused in (False, True):
        network.zero_grad()
        network.train_fused(fused)(x).square().mean().backward()
        gradients.append(network.up_projections[0].unpool_main.conv_B.weight.grad.clone())
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_unknown_encoder_is_named():
    with pytest.raises(ValueError, match=r"'vgg'.*resnet50"):
        HybridDepthNet('vgg')
    assert 'efficientnet_lite0' in ENCODERS
