"""Trainings of a few steps, by the command."""

import os
import re
import socket
from functools import partial

import cv2
import numpy as np
import pytest
import tiny_encoder
import torch
from forked_process import HERE, ForkedProcess

from hybrid_depth_ros.weights import load_network
from train import checkpoint, evaluate, networks, nyu
from train.augment import CROP_HEIGHT, CROP_WIDTH
from train.configuration import AugmentationConfig, TrainingConfig, load_config
from train.data import TrainingSamples
from train.datasets.nyu import SyncTree


def test_a_run_resumes_exactly_and_ships_weights(tree, config, tmp_path, capsys):
    def run(out, *extra):
        nyu.main(['--config', str(config), '--data', str(tree), '--out', str(tmp_path / out),
                  '--from-scratch', *extra])
        return torch.load(tmp_path / out / 'last.pt', weights_only=True)

    whole = run('whole')
    assert whole['step'] == 4
    cut = checkpoint.save_checkpoint
    try:
        def stop_after_first_epoch(path, state):
            cut(path, state)
            if state['step'] == 2:
                raise KeyboardInterrupt
        checkpoint.save_checkpoint = stop_after_first_epoch
        with pytest.raises(SystemExit, match='--resume'):
            run('cut')
    finally:
        checkpoint.save_checkpoint = cut
    resumed = run('cut', '--resume')
    for name, tensor in whole['network'].items():
        torch.testing.assert_close(resumed['network'][name], tensor, rtol=1e-4, atol=1e-5)
    log = (tmp_path / 'cut' / 'log.txt').read_text()
    assert log.count('validation RMSE') == 2

    best = tmp_path / 'whole' / 'best.safetensors'
    assert load_network(str(best)).encoder_name == 'tiny'
    evaluate.main(['--weights', str(best), '--data', str(tree), '--ranges', '[[0, 1]]',
                   '--json', str(tmp_path / 'out.json')])
    assert '"delta1"' in (tmp_path / 'out.json').read_text()
    printed = capsys.readouterr().out
    assert 'on 2 images, paper protocol' in printed
    assert 'Laina et al. 2016' in printed


def test_bad_configurations_fail_early(config, tree, tmp_path):
    config.write_text('epoks: 3\n')
    with pytest.raises(SystemExit, match='epoks'):
        nyu.main(['--config', str(config), '--data', str(tree)])
    config.write_text('epochs: 3\n')
    with pytest.raises(SystemExit, match='nowhere'):
        nyu.main(['--config', str(config), '--data', str(tmp_path / 'nowhere')])


def test_a_folder_that_tensorboard_cannot_write_is_named(tmp_path):
    """TensorBoard takes UTF-8 alone, and said so only after the network was made."""
    out = tmp_path / os.fsdecode(b'caf\xe9')
    with pytest.raises(OSError, match='is not UTF-8, which TensorBoard wants: choose another'):
        nyu.train(TrainingConfig(), [], out)
    assert not out.exists()


def test_two_processes_are_one(tree, tiny, tmp_path):
    """Two gloo processes, as torchrun starts them: the weights of one at the same global batch."""
    config = tmp_path / 'config.yaml'
    config.write_text('encoder: tiny\nepochs: 1\nepoch_images: 8\nbatch: 4\noptimiser: sgd\n'
                      'lr: 1.0e-3\ndropout: 0.3\ndrop_path: 0.3\nmix: 0.5\nlog_l1: 1.0\n'
                      'log_gradient: 0.5\nhead_bias: 2.5\nprecision: fp64\n'
                      'validation: [[0, 1]]\nworkers: 0\n')
    common = ['--config', str(config), '--data', str(tree), '--from-scratch', '--out']
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = str(free.getsockname()[1])
    two = [ForkedProcess(
        tiny_encoder.__file__, [*common, tmp_path / 'two'], tmp_path / f'log{rank}', HERE,
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
        MASTER_PORT=port) for rank in range(2)]
    nyu.main([*common, str(tmp_path / 'one')])
    for rank, process in enumerate(two):
        assert process.wait(300) == 0, (tmp_path / f'log{rank}').read_text()
    one, two = (torch.load(tmp_path / out / 'last.pt', weights_only=True)['network']
                for out in ('one', 'two'))
    torch.manual_seed(0)
    start = networks.make_network(load_config(config),
                                  from_scratch=True).double().state_dict()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-7, atol=1e-9, msg=name)
    assert (one['head.weight'] - start['head.weight']).abs().max() > 1e-4
    assert (one['encoder.conv_stem.weight'] - start['encoder.conv_stem.weight']).abs().max() > 1e-5


def test_a_training_validates_on_more_sets_by_height(tree, config, tmp_path, capsys):
    nyu.main(['--config', str(config), '--data', str(tree), '--out', str(tmp_path / 'out'),
              '--from-scratch', '--validate', 'room:7', '--set', 'epochs=1'])
    log = (tmp_path / 'out' / 'log.txt').read_text()
    assert log.count('room:7, whole: RMSE') == 1
    assert '0.25 to 0.45 m' in log and 'at the right scale' in log and 'outlines: ' in log
    assert list((tmp_path / 'out' / 'tensorboard').iterdir())
    with pytest.raises(SystemExit, match='nowhere does not exist'):
        nyu.main(['--config', str(config), '--data', str(tree), '--out', str(tmp_path / 'out2'),
                  '--validate', 'nowhere'])


@pytest.fixture
def short_run(tree, tiny, tmp_path):
    """A function that trains for a few steps into ``out``; its last.pt."""
    return partial(run_shortly, tree, tmp_path / 'out')


def run_shortly(tree, out, **more):
    config = TrainingConfig(**{'encoder': 'tiny', 'epochs': 1, 'batch': 2, 'workers': 0, **more})
    nyu.train(config, [SyncTree(tree)], out, from_scratch=True,
              checkpoint_every=nyu.CheckpointInterval(1, 'steps'))
    return torch.load(out / 'last.pt', weights_only=True)


def test_a_loss_that_is_no_number(tree, short_run, tmp_path, monkeypatch):
    loss_of, calls = nyu.total_loss, []

    def third_is_nan(*arguments):
        calls.append(arguments)
        return loss_of(*arguments) * (np.nan if len(calls) == 3 else 1)
    monkeypatch.setattr(nyu, 'total_loss', third_is_nan)
    with pytest.raises(FloatingPointError, match=r'loss is nan.*step 2.*bad_batch\.pt.*last\.pt'):
        short_run()
    assert torch.load(tmp_path / 'out' / 'last.pt', weights_only=True)['step'] == 2
    batch = torch.load(tmp_path / 'out' / 'bad_batch.pt', weights_only=True)
    assert batch['step'] == 2
    assert batch['rgb'].shape == (2, CROP_HEIGHT, CROP_WIDTH, 3)
    samples = TrainingSamples([SyncTree(tree)], [8], 8, 0, AugmentationConfig())
    assert batch['pairs'] == [samples.name(4), samples.name(5)]
    assert np.array_equal(batch['rgb'][1], samples[5].sample.rgb)


def test_weights_that_are_no_numbers_are_not_saved(short_run, tmp_path, monkeypatch):
    update, calls = nyu.backward_and_step, []

    def second_breaks(config, network, *arguments):
        update(config, network, *arguments)
        calls.append(1)
        if len(calls) == 2:
            torch.nn.init.constant_(network.head.bias, np.nan)
    monkeypatch.setattr(nyu, 'backward_and_step', second_breaks)
    with pytest.raises(FloatingPointError, match=r'weights are no number at step 1'):
        short_run()
    assert torch.load(tmp_path / 'out' / 'last.pt', weights_only=True)['step'] == 1


def test_training_outlives_a_full_disk(short_run, monkeypatch, capsys):
    save, calls = checkpoint.save_checkpoint, []

    def second_fails(path, state):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, 'No space left on device', str(path))
        save(path, state)
    monkeypatch.setattr(checkpoint, 'save_checkpoint', second_fails)
    assert short_run(epoch_images=6)['step'] == 3
    assert 'No space left' in capsys.readouterr().err


@pytest.mark.parametrize('options', [
    {'precision': 'fp16', 'epoch_images': 2}, {'optimiser': 'sgd', 'lr': 1e-3, 'epoch_images': 4}])
def test_other_arithmetic(short_run, options):
    state = short_run(**options)
    assert state['step'] == options['epoch_images'] / 2
    assert ('scale' in state['scaler']) == ('precision' in options)


def test_broken_pairs_are_named_counted_and_left_out(tree, tiny, tmp_path, capsys):
    def cut(name):
        (tree / name).write_bytes((tree / name).read_bytes()[:-2000])
    cut('rgb_00002.jpg')
    cut('sync_depth_00003.png')
    cv2.imwrite(str(tree / 'sync_depth_00004.png'), np.full((480, 640), 200, np.uint8))
    cv2.imwrite(str(tree / 'sync_depth_00005.png'), np.zeros((480, 640), np.uint16))
    (tree / 'sync_depth_00006.png').unlink()
    cut('rgb_00000.jpg')  # of the validation
    config = tmp_path / 'config.yaml'
    config.write_text('encoder: tiny\nepochs: 1\nepoch_images: 8\nbatch: 2\nvalidation: [[0, 1]]\n'
                      'precision: fp32\n')
    common = ['--config', str(config), '--data', str(tree), '--from-scratch', '--out']
    nyu.main([*common, str(tmp_path / 'out')])
    said = capsys.readouterr().err
    for name in ('rgb_00002.jpg', 'sync_depth_00003.png', 'sync_depth_00004.png is not a depth',
                 'rgb_00005.jpg has no depth', 'rgb_00006.jpg has no', 'rgb_00000.jpg'):
        assert len(re.findall(f'left out: .*{name}', said)) == 1, name
    assert '6 pairs left out' in said
    assert '6 pairs left out' in (tmp_path / 'out' / 'log.txt').read_text()

    with pytest.raises(SystemExit, match=r'train\.nyu: .*rgb_00006\.jpg has no'):
        nyu.main([*common, str(tmp_path / 'strict'), '--strict'])
    for file in tree.glob('rgb_*.jpg'):
        file.write_bytes(b'')
    config.write_text('encoder: tiny\nepochs: 1\nepoch_images: 8\nbatch: 2\nprecision: fp32\n')
    with pytest.raises(SystemExit, match='not one pair') as stopped:
        nyu.main([*common, str(tmp_path / 'nothing')])
    assert 'Traceback' not in str(stopped.value)
