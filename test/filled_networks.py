"""Networks whose values float16 holds exactly, and whether two are the same."""

import torch

from hybrid_depth_ros.network import HybridDepthNet

LITE = 'efficientnet_lite0'


def filled_network(encoder):
    """Values that float16 holds exactly, batch norms with statistics of their own."""
    torch.manual_seed(0)
    network = HybridDepthNet(encoder).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith('running_mean'):
                tensor.uniform_(-0.1, 0.1)
            elif name.endswith('running_var'):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith('num_batches_tracked'):
                tensor.fill_(7)
            tensor.copy_(tensor.half() if tensor.is_floating_point() else tensor)
        network.head.bias.fill_(5.0)  # keep the last ReLU open
    return network


def assert_same(loaded, network):
    assert type(loaded) is HybridDepthNet
    assert not loaded.training
    expected, got = network.state_dict(), loaded.state_dict()
    assert list(got) == list(expected)
    for name, tensor in got.items():
        assert tensor.device.type == 'cpu'
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        depth = loaded(x)
        assert depth.std() > 0
        assert torch.equal(depth, network(x))
