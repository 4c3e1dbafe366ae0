"""The state of a training, saved and loaded."""

import resource

import pytest
import torch

from hybrid_depth_ros.weights import load_network
from train import checkpoint
from train.configuration import TrainingConfig
from train.distributed import DistributedContext
from train.networks import make_network
from train.split import Split


def test_a_checkpoint_without_room_leaves_the_old_one(tmp_path):
    path = tmp_path / 'last.pt'
    checkpoint.save_checkpoint(path, {'step': 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r'last\.pt could not be written \(.*the one before it'):
            checkpoint.save_checkpoint(path, {'step': 2, 'weights': torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.load_checkpoint(path, 'cpu') == {'step': 1}
    assert [file.name for file in tmp_path.iterdir()] == ['last.pt']
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OSError, match=r'last\.pt is not a whole checkpoint'):
        checkpoint.load_checkpoint(path, 'cpu')


def make_state(**keys):
    config = TrainingConfig(epochs=1, epoch_images=20, batch=2, **keys)
    context = DistributedContext(0, 1, torch.device('cpu'))
    torch.manual_seed(0)
    return checkpoint.TrainingState(config, make_network(config, from_scratch=True), context,
                                    Split([], None, None, []))


def test_the_weight_average_starts_where_the_configuration_says():
    """It is the network's weights until then, and moves towards them from then on."""
    state = make_state(ema=0.75, ema_start=0.3)
    assert state.steps == 10
    weight, average = state.network.head.bias, state.ema.module.head.bias
    expected = None
    for step in range(1, 6):
        torch.nn.init.constant_(weight, float(step))
        state.ema.update(state.network, step)
        expected = float(step) if step <= 3 else 0.75 * expected + 0.25 * step
        assert average.item() == pytest.approx(expected), step
    state.network.reduction_bn.num_batches_tracked.fill_(7)
    state.ema.update(state.network, 6)
    assert state.ema.module.reduction_bn.num_batches_tracked == 7


def test_a_checkpoint_names_the_settings_that_changed(tmp_path):
    """A default that was written, and one that was left out, are the same."""
    before = make_state(lr=1e-3)
    before.settings['augment'] = {'flip': 0.5, 'scale': [1.0, 1.5], 'tilt': 3.0}
    before.save(tmp_path / 'last.pt')
    changed = make_state(lr=2e-3).load(tmp_path / 'last.pt', torch.device('cpu'))
    assert changed == ['lr 0.001 → 0.002', "augment {'tilt': 3.0} → {}"]


def test_a_checkpoint_is_weights_too(tmp_path):
    """It was refused as no state dict, with the advice to pass what train.nyu wrote."""
    state = make_state(ema=0.5, ema_start=0.0)
    for step in (1, 2):
        torch.nn.init.constant_(state.network.head.bias, float(step))
        state.ema.update(state.network, step)
    state.save(tmp_path / 'last.pt')
    network = load_network(tmp_path / 'last.pt')
    assert network.encoder_name == 'efficientnet_lite0' and network.lateral
    assert network.head.bias.item() == state.ema.module.head.bias.item() != 2.0
    broken = torch.load(tmp_path / 'last.pt', weights_only=True)
    del broken['settings']['encoder']
    torch.save(broken, tmp_path / 'broken.pt')
    with pytest.raises(ValueError, match=r'broken\.pt is not a whole checkpoint of train\.nyu'):
        load_network(tmp_path / 'broken.pt')
    (tmp_path / 'best.safetensors').write_bytes(b'')
    with pytest.raises(IsADirectoryError, match=r'is a folder; pass .*/best\.safetensors'):
        load_network(tmp_path)
