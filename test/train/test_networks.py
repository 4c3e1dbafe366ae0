"""The network at the start of a training."""

from dataclasses import replace

import pytest
import torch

from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.weights import load_network
from train import networks, nyu
from train.configuration import TrainingConfig, load_config
from train.datasets.nyu import SyncTree
from train.depthwise import speed_up_depthwise


def test_fast_depthwise_gradients_are_the_gradients():
    torch.manual_seed(0)
    network = networks.make_network(TrainingConfig(dropout=0.0),
                                    from_scratch=True).double()
    image = torch.rand(2, 3, 64, 96, dtype=torch.float64)

    def gradients():
        network.zero_grad()
        network(image).square().sum().backward()
        return {name: p.grad.clone() for name, p in network.named_parameters()}

    torch_forward = {name: m.forward for name, m in network.named_modules()}
    expected = gradients()
    speed_up_depthwise(network)
    changed = [name for name, m in network.named_modules() if m.forward != torch_forward[name]]
    assert len(changed) == 11  # nine 5×5, two of them with a stride, and two strided 3×3
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-8, msg=name)


def test_frozen_convolutions_and_their_batch_norms_are_one():
    """They cost a sixth of a step; what is loaded after that counts too."""
    config = TrainingConfig(dropout=0.0, freeze=('conv_stem', 'bn1', 'blocks.0', 'blocks.1'))
    plain, folded = (networks.make_network(config, from_scratch=True) for _ in range(2))
    for module in plain.encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
    networks.make_trainable(config, folded)
    folded.load_state_dict(plain.state_dict())
    networks.freeze(plain.train(), config.freeze)
    stem, norm, image = plain.encoder.conv_stem, folded.encoder.bn1, torch.rand(2, 3, 64, 96)
    assert norm(stem(image)).min() < 0.1  # the norm is in the convolution now
    for one, other in zip(folded.encoder(image), plain.encoder(image)):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_frozen_layers_stay_as_they_are(tree, tmp_path):
    config = load_config('config/training/lite.yaml', [
        'encoder=efficientnet_lite0', 'epochs=1', 'epoch_images=4', 'batch=2', 'validation=[]',
        'ema=0.0', 'precision=fp32'])
    torch.manual_seed(config.seed)
    before = networks.make_network(config, from_scratch=True).state_dict()
    nyu.train(config, [SyncTree(tree)], tmp_path / 'out', from_scratch=True)
    after = torch.load(tmp_path / 'out' / 'last.pt', weights_only=True)['network']
    frozen = {name for name in before
              if name.removeprefix('encoder.').startswith(config.freeze)}
    assert len(frozen) > 20
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before['encoder.blocks.2.0.conv_pw.weight'],
                           after['encoder.blocks.2.0.conv_pw.weight'])


def test_drop_path_skips_whole_samples():
    """The branch of a skipped sample is 0, the others are scaled: the mean stays."""
    network = HybridDepthNet('efficientnet_lite0')
    networks.add_drop_path(network, 0.4, 0, 1)
    dropped = [m.drop_path for m in network.encoder.modules() if hasattr(m, 'drop_path')]
    assert dropped[-1].p == 0.4 and 0 < dropped[0].p < 0.05
    x = dropped[-1](torch.ones(1000, 2, 3, 3))
    kept = x.flatten(1)
    assert ((kept == 0).all(1) | torch.isclose(kept, torch.tensor(1 / 0.6)).all(1)).all()
    assert 0.55 < (kept[:, 0] > 0).float().mean() < 0.65
    assert torch.equal(dropped[-1].eval()(x), x)


def test_fine_tuning_starts_from_weights(tmp_path):
    config = load_config('config/training/lite.yaml')
    network = networks.make_network(config, init='lite-nyu')
    shipped = load_network('lite-nyu').state_dict()
    assert all(torch.equal(tensor, shipped[name]) for name, tensor in
               network.state_dict().items())
    with pytest.raises(ValueError, match=r'lite-nyu has the encoder efficientnet_lite2.*resnet50'):
        networks.make_network(replace(config, encoder='resnet50'), init='lite-nyu')
