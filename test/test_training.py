"""Training: geometry of the augmentation, losses by hand, and a run of a few steps."""

import os
import re
import resource
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch

from hybrid_depth_ros.network import HybridDepthNet
from hybrid_depth_ros.weights import load_network, save_network
from train import (
    average,
    checkpoint,
    configuration,
    evaluate,
    interrupts,
    networks,
    nyu,
    optimisation,
    prepare,
    quantise,
    throughput,
)
from train.augment import (
    CROP_HEIGHT,
    CROP_WIDTH,
    NETWORK_WIDTH,
    augment,
    colour_statistics,
    paste_window,
    transfer_colours,
)
from train.data import TrainingSamples, make_loader, normalise, to_input
from train.datasets.nyu import SyncTree
from train.datasets.pairs import RgbdDataset
from train.depthwise import speed_up_depthwise
from train.loss import berhu, log_gradient, log_l1, scale_free

FX, FY, CX, CY = 518.858, 519.470, 325.582, 253.736


class Fixed:
    """A random generator that says what the test wants."""

    def __init__(self, scale, degrees=0.0, mirrored=False):
        self.answers, self.mirrored = [scale, degrees], mirrored

    def uniform(self, low=0.0, high=1.0, size=None):
        if size is not None:
            return np.ones(size)
        return self.answers.pop(0) if self.answers else (low + high) / 2

    def random(self):
        return 0.0 if self.mirrored else 1.0


def plane_depth():
    """Depth of the plane n·p = d through NYU's camera, 640×480."""
    normal, distance = np.array([0.3, -0.2, 0.9]), 3.0
    y, x = np.mgrid[:480, :640]
    rays = np.stack([(x - CX) / FX, (y - CY) / FY, np.ones_like(x)], axis=-1)
    return (distance / (rays @ normal)).astype(np.float32), normal, distance


@pytest.mark.parametrize('scale', [1.0, 1.3, 1.5])
@pytest.mark.parametrize('mirrored', [False, True])
def test_augmentation_keeps_geometry(scale, mirrored):
    depth, normal, distance = plane_depth()
    *_, target = augment(np.zeros((480, 640, 3), np.uint8), depth, Fixed(scale, 0.0, mirrored))
    assert target.shape == (CROP_HEIGHT // 2, CROP_WIDTH // 2)
    # An image zoomed by s is of a camera of the same focal length, s times nearer: with depth
    # z/s the plane keeps its normal and comes s times nearer, where x and y are measured
    # through the unzoomed camera's focal length.
    zoom = scale * NETWORK_WIDTH / 640
    rows, columns = np.mgrid[:target.shape[0], :target.shape[1]]
    sign = -1 if mirrored else 1
    u = 319.5 + sign * (columns - (target.shape[1] - 1) / 2) * 2 / zoom
    v = 239.5 + (rows - (target.shape[0] - 1) / 2) * 2 / zoom
    focal_x, focal_y = FX * NETWORK_WIDTH / 640, FY * NETWORK_WIDTH / 640
    points = np.stack([(u - CX) * zoom / focal_x * target, (v - CY) * zoom / focal_y * target,
                       target * scale], axis=-1)
    # z·s through focal length f is z through s·f: back on the plane
    residual = points @ normal - distance
    assert np.abs(residual[1:-1, 1:-1]).max() < 0.02  # nearest neighbour: half a pixel
    assert np.abs(residual).mean() < 0.006


class Tilted(Fixed):
    def uniform(self, low=0.0, high=1.0, size=None):
        return np.array([5.0, -4.0]) if size == 2 else super().uniform(low, high, size)


@pytest.mark.parametrize('scale', [1.0, 1.3])
def test_a_tilted_camera_sees_the_same_plane(scale):
    normal, distance = np.array([0.3, -0.2, 0.9]), 3.0
    y, x = np.mgrid[:480, :640]
    rays = np.stack([(x - 319.5) / FX, (y - 239.5) / FX, np.ones_like(x)], axis=-1)
    depth = (distance / (rays @ normal)).astype(np.float32)
    *_, target = augment(np.zeros((480, 640, 3), np.uint8), depth, Tilted(scale, 0.0), tilt=7.0)
    rows, columns = np.mgrid[:target.shape[0], :target.shape[1]]
    step = 2 / (scale * NETWORK_WIDTH / 640) / FX
    rays = np.stack([(columns - (target.shape[1] - 1) / 2) * step,
                     (rows - (target.shape[0] - 1) / 2) * step, np.ones_like(rows)], axis=-1)
    up, side = np.deg2rad([5.0, -4.0])
    turn = (np.array([[1, 0, 0], [0, np.cos(up), -np.sin(up)], [0, np.sin(up), np.cos(up)]])
            @ np.array([[np.cos(side), 0, np.sin(side)], [0, 1, 0],
                        [-np.sin(side), 0, np.cos(side)]]))
    points = rays * (target * scale)[..., None] @ turn.T
    seen = target > 0
    assert seen.mean() > 0.8
    assert np.abs(points @ normal - distance)[seen].max() < 0.003


@pytest.mark.parametrize(('focal', 'tilt', 'metres'), [(0.1, 70.0, 3.0), (0.02, 20.0, 3.0),
                                                        (0.8, 10.0, 1000.0)])
def test_no_depth_is_endless(focal, tilt, metres):
    """Depths of 1000 m counted as valid: a wide lens that is tilted, or the wrong unit."""
    rgb, depth = np.zeros((240, 320, 3), np.uint8), np.full((240, 320), metres, np.float32)
    made = [augment(rgb, depth, np.random.default_rng(seed), focal=focal, tilt=tilt)[2]
            for seed in range(40)]
    assert np.isfinite(made).all()
    assert 0 <= np.min(made) <= np.max(made) <= 100
    assert (np.max(made) > 0) == (metres < 100)


def test_erasing_hides_colour_and_asks_for_depth():
    rgb, depth = np.full((480, 640, 3), 100, np.uint8), np.full((480, 640), 2.0, np.float32)
    shares = []
    for seed in range(20):
        picture, _, target = augment(rgb, depth, np.random.default_rng(seed), scale=(1.0, 1.0),
                                     rotation=0.0, colour=(1, 1), erase=1.0)
        assert (target == 2).all()
        shares.append((picture != 100).any(axis=2).mean())
    assert min(shares) >= 0.01 and 0.08 < max(shares) <= 0.16


def test_a_pasted_window_keeps_its_place_and_depth():
    rng = np.random.default_rng(3)
    rgb, depth = paste_window(
        np.zeros((256, 320, 3), np.uint8), np.ones((128, 160), np.float32),
        np.ones((256, 320, 3), np.uint8), np.full((128, 160), 5, np.float32), rng)
    pasted = depth == 5
    share = [pasted.any(axis).mean() for axis in (1, 0)]
    assert all(0.19 < part <= 0.5 for part in share) and pasted.sum() == np.prod(
        [pasted.any(axis).sum() for axis in (1, 0)])
    assert np.array_equal(rgb, np.repeat(np.repeat(pasted, 2, 0), 2, 1)[..., None] * np.ones(3))


def test_a_picture_takes_on_the_colours_of_another():
    rng = np.random.default_rng(0)
    picture = np.uint8(np.clip(rng.normal((90, 120, 150), 20, (64, 80, 3)), 0, 255))
    other = np.uint8(np.clip(rng.normal((170, 140, 100), 30, (48, 60, 3)), 0, 255))
    same = transfer_colours(picture, colour_statistics(other), 0)
    assert np.abs(same.astype(int) - picture).mean() < 1
    dressed = transfer_colours(picture, colour_statistics(other), 1)
    assert np.allclose(dressed.mean((0, 1)), other.mean((0, 1)), atol=4)
    lab = [cv2.cvtColor(one, cv2.COLOR_RGB2LAB).std((0, 1)) for one in (picture, other, dressed)]
    assert np.allclose(lab[2], lab[1], rtol=0.15) and not np.allclose(lab[0], lab[1], rtol=0.15)
    flat = np.full((8, 8, 3), 100, np.uint8)
    # no spread, nothing to blow up
    assert np.ptp(transfer_colours(flat, colour_statistics(other), 1), (0, 1)).max() == 0


def test_only_other_sets_take_on_the_first_ones_colours():
    class Grey(RgbdDataset):
        def __init__(self, level):
            self.level = level

        def __len__(self):
            return 2

        def read(self, i):
            return (np.full((264, 352, 3), self.level, np.uint8),
                    np.full((264, 352), 2, np.float32))
    plain = {'scale': (1.0, 1.0), 'rotation': 0.0, 'colour': (1, 1), 'flip': 0.0}

    def levels(style):
        samples = TrainingSamples([Grey(200), Grey(60)], [1, 1], 20, 0, plain, style=style)
        return [samples.place(n)[0] for n in range(20)], [samples[n][0].mean() for n in range(20)]
    sets, without = levels(0.0)
    assert without == [(200, 60)[which] for which in sets] and set(sets) == {0, 1}
    _, restyled = levels(1.0)
    for which, level in zip(sets, restyled):
        assert level == 200 if which == 0 else 60 <= level <= 200
    assert restyled == levels(1.0)[1] and np.ptp([level for which, level in zip(
        sets, restyled) if which == 1]) > 40  # by chance more or less of it, the same each time


def test_augmentation_masks_what_is_not_scene():
    rng = np.random.default_rng(0)
    depth = np.full((480, 640), 2.0, np.float32)
    rgb = np.full((480, 640, 3), 255, np.uint8)
    rgb[10:-10, 10:-10] = 100  # a white frame
    for _ in range(20):
        picture, _, target = augment(rgb, depth, rng, border=10, scale=(0.8, 0.8), colour=(1, 1))
        assert np.allclose(picture, 100, atol=2)
        assert set(np.unique(target)) <= {np.float32(0), np.float32(2 / 0.8)}
        assert (target == 0).any()


def test_rotation_turns_colour_and_depth_together():
    yy, xx = np.mgrid[:480, :640]
    value = (((xx // 40) + (yy // 40)) % 2).astype(np.float32)
    rgb = np.repeat((value * 255).astype(np.uint8)[..., None], 3, axis=2)
    rng = np.random.default_rng(3)
    for _ in range(10):
        picture, _, target = augment(rgb, value + 1, rng, colour=(1, 1), rotation=5.0)
        small = cv2.resize(picture[..., 0] / 255, (160, 128), interpolation=cv2.INTER_AREA)
        sure = (np.abs(small - 0.5) > 0.45) & (target > 0)
        bright = target > np.median(np.unique(target[target > 0]))
        assert (bright[sure] == (small[sure] > 0.5)).mean() > 0.99


def test_losses_by_hand():
    predicted = torch.tensor([[[[1.0, 2.0], [3.0, 9.0]]]])
    target = torch.tensor([[[[1.5, 2.0], [8.0, 0.0]]]])
    valid = target > 0
    # errors 0.5, 0, 5 → c = 1
    assert berhu(predicted, target, valid).item() == pytest.approx((0.5 + 0 + (25 + 1) / 2) / 3)
    logs = [abs(np.log(1 / 1.5)), 0, abs(np.log(3 / 8))]
    assert log_l1(predicted, target, valid).item() == pytest.approx(sum(logs) / 3)
    # same shape at another scale: no gradient error
    wall = torch.rand(1, 1, 16, 16) + 1
    assert log_gradient(2 * wall, wall, wall > 0).item() == pytest.approx(0, abs=1e-6)
    assert log_gradient(wall.square(), wall, wall > 0).item() > 0.01
    nothing = torch.zeros_like(target)
    for loss in (berhu, log_l1, log_gradient):
        assert loss(predicted, nothing, nothing > 0).item() == 0


def test_fast_depthwise_gradients_are_the_gradients():
    torch.manual_seed(0)
    network = networks.make_network({**configuration.DEFAULTS, 'dropout': 0.0},
                                    from_scratch=True).double()
    picture = torch.rand(2, 3, 64, 96, dtype=torch.float64)

    def gradients():
        network.zero_grad()
        network(picture).square().sum().backward()
        return {name: p.grad.clone() for name, p in network.named_parameters()}

    torch_forward = {name: m.forward for name, m in network.named_modules()}
    expected = gradients()
    speed_up_depthwise(network)
    changed = [name for name, m in network.named_modules() if m.forward != torch_forward[name]]
    assert len(changed) == 11  # nine 5×5, two of them with a stride, and two strided 3×3
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-8, msg=name)


def test_frozen_layers_stay_as_they_are(tree, tmp_path):
    config = configuration.load_config('config/training/lite.yaml', [
        'encoder=efficientnet_lite0', 'epochs=1', 'epoch_images=4', 'batch=2', 'validation=[]',
        'ema=0.0', 'precision=fp32'])
    torch.manual_seed(config['seed'])
    before = networks.make_network(config, from_scratch=True).state_dict()
    nyu.train(config, [SyncTree(tree)], tmp_path / 'out', from_scratch=True)
    after = torch.load(tmp_path / 'out' / 'last.pt', weights_only=True)['network']
    frozen = {name for name in before
              if name.removeprefix('encoder.').startswith(tuple(config['freeze']))}
    assert len(frozen) > 20
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before['encoder.blocks.2.0.conv_pw.weight'],
                           after['encoder.blocks.2.0.conv_pw.weight'])


def test_drop_path_skips_whole_samples():
    """The branch of a skipped sample is 0, the others are scaled: the mean stays."""
    network = HybridDepthNet('efficientnet_lite0')
    networks.drop_paths(network, 0.4, 0, 1)
    dropped = [m.drop_path for m in network.encoder.modules() if hasattr(m, 'drop_path')]
    assert dropped[-1].p == 0.4 and 0 < dropped[0].p < 0.05
    x = dropped[-1](torch.ones(1000, 2, 3, 3))
    kept = x.flatten(1)
    assert ((kept == 0).all(1) | torch.isclose(kept, torch.tensor(1 / 0.6)).all(1)).all()
    assert 0.55 < (kept[:, 0] > 0).float().mean() < 0.65
    assert torch.equal(dropped[-1].eval()(x), x)


def test_learning_rate_curve():
    cycle = {'lr': 2.0, 'warmup': 0.1, 'lr_steps': []}
    assert optimisation.learning_rate(cycle, 0.0) == pytest.approx(0.08)
    assert optimisation.learning_rate(cycle, 0.1) == 2
    assert optimisation.learning_rate(cycle, 0.55) == pytest.approx(1)
    assert optimisation.learning_rate(cycle, 1.0) == pytest.approx(0)


@pytest.fixture
def tree(tmp_path):
    """Eight pairs in the sync layout."""
    folder = tmp_path / 'nyu'
    folder.mkdir()
    depth, _, _ = plane_depth()
    rng = np.random.default_rng(0)
    for i in range(8):
        rgb = rng.integers(0, 256, (480, 640, 3), np.uint8)
        cv2.imwrite(str(folder / f'rgb_{i:05d}.jpg'), cv2.blur(rgb, (9, 9)))
        cv2.imwrite(str(folder / f'sync_depth_{i:05d}.png'),
                    (depth * 1000 / (1 + i / 8)).astype(np.uint16))
    return folder


def test_sync_tree(tree):
    rgb, depth = SyncTree(tree).read(0)
    assert rgb.shape == (480, 640, 3)
    np.testing.assert_allclose(depth, plane_depth()[0], atol=1e-3)
    assert len(SyncTree(tree).numbered([[2, 4]])) == 3
    assert len(SyncTree(tree).numbered([[2, 4]], keep=False)) == 5
    with pytest.raises(OSError, match='sync_depth'):
        SyncTree(tree / 'nothing')
    (tree / 'rgb_00000.jpg').write_bytes(b'')
    with pytest.raises(OSError, match='rgb_00000'):
        SyncTree(tree).read(0)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.yaml'
    path.write_text('epochs: 2\nepoch_images: 4\nbatch: 2\nvalidation: [[0, 1]]\n'
                    'validate_every: 1\nema: 0.9\nlog_l1: 1.0\nprecision: fp32\n')
    return path


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
    assert load_network(str(best)).encoder_name == 'efficientnet_lite0'
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


def test_what_cannot_be_written_is_said_before_the_work(tree, tmp_path, capsys):
    for option in ('--json', '--plot'):
        with pytest.raises(SystemExit, match=r'^train\.evaluate: \S+none/out\.png: No such file'):
            evaluate.main(['--data', str(tree), option, str(tmp_path / 'none' / 'out.png')])
    (tmp_path / 'file').write_text('')
    with pytest.raises(SystemExit, match='file: File exists; remove it'):
        evaluate.main(['--data', str(tree), '--pictures', str(tmp_path / 'file')])
    assert not capsys.readouterr().out


def test_a_folder_that_tensorboard_cannot_write_is_named(tmp_path):
    """opencv#4292's kind: TensorBoard takes UTF-8 alone, and said so after the network was made."""
    out = tmp_path / os.fsdecode(b'caf\xe9')
    with pytest.raises(OSError, match='is not UTF-8, which TensorBoard wants: choose another'):
        nyu.train({}, [], out)
    assert not out.exists()


@pytest.mark.parametrize(('main', 'arguments', 'said'), [
    (evaluate.main, ('--ranges', '[1,2]'), 'is no list of ranges; write it like [[0,9],[20,29]]'),
    (evaluate.main, ('--depth-scale', '0'), "'0' is not a number above 0"),
    (prepare.main, ('--out', 'store', '--count', '-1'), '--count is -1'),
    (average.main, ('lite-nyu', '--out', 'mean', '--batches', '0'), '--batches is 0'),
    (throughput.main, ('--rounds', '0'), '--rounds is 0')])
def test_arguments_that_make_no_sense_are_refused(main, arguments, said, tree, capsys):
    with pytest.raises(SystemExit, match='2'):
        main([*arguments, '--data', str(tree)])
    assert said in capsys.readouterr().err


def test_labeled_is_not_ignored(tree, tmp_path):
    with pytest.raises(SystemExit, match='--labeled is for raw scenes'):
        prepare.main(['--data', str(tree), '--out', str(tmp_path / 's'), '--labeled', 'no.mat'])


def test_paper_yaml_is_the_paper():
    """Harsányi et al. 2018, section 4, line by line."""
    config = configuration.load_config('config/training/paper.yaml')
    assert (config['encoder'], config['lateral'], config['dropout']) == ('resnet50', True, 0.5)
    assert (CROP_WIDTH, CROP_HEIGHT, NETWORK_WIDTH) == (320, 256, 352)
    assert config['augment'] == {'scale': [1.0, 1.5], 'rotation': 5.0, 'colour': [0.8, 1.2],
                                 'flip': 0.5, 'nearest': True}
    assert (config['berhu'], config['log_l1'], config['log_gradient']) == (1.0, 0.0, 0.0)
    assert config['decoder_std'] == 0.001
    assert (config['optimiser'], config['momentum'], config['weight_decay'], config['batch']) == (
        'sgd', 0.9, 0.00025, 16)
    assert 25 <= config['epochs'] <= 30
    rates = [optimisation.learning_rate(config, epoch / config['epochs'])
             for epoch in range(config['epochs'])]
    assert rates == [1e-2] * 10 + [5e-3] * 10 + [1e-3] * (config['epochs'] - 20)
    assert 5 <= rates.count(1e-3) <= 10
    assert (config['clip'], config['ema'], config['encoder_lr'], config['precision']) == (
        0, 0, 1, 'fp32')

    network = networks.make_network(config, from_scratch=True)
    assert network.head.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert network.up_projections[0].main_conv.weight.std().item() == pytest.approx(0.001, rel=0.01)
    assert network.laterals[0].bias.abs().max() == 0
    optimiser = optimisation.make_optimiser(config, network)
    assert all(group['share'] == 1 and group['weight_decay'] == 0.00025
               and group['momentum'] == 0.9 for group in optimiser.param_groups)
    assert sum(p.numel() for group in optimiser.param_groups
               for p in group['params']) == 64_614_017


def test_nearest_neighbour_invents_no_colour():
    palette = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250]], np.uint8)
    rgb = palette[np.random.default_rng(0).integers(0, 3, (264, 352))]
    for nearest, most in ((True, 3), (False, 1000)):
        picture, *_ = augment(rgb, np.ones((264, 352), np.float32), np.random.default_rng(5),
                             scale=(1.3, 1.3), colour=(1, 1), nearest=nearest)
        count = len(np.unique(picture.reshape(-1, 3), axis=0))
        assert count == 3 if nearest else count > most


def test_lite_yaml_and_overrides(tmp_path):
    config = configuration.load_config(
        'config/training/lite.yaml', ['epochs=3', 'freeze=[]', 'lr=8e-4'])
    assert (config['epochs'], config['freeze'], config['encoder'], config['lr']) == (
        3, [], 'efficientnet_lite2', 8e-4)
    bad = tmp_path / 'bad.yaml'
    for text, named in (('encoder: vgg', 'vgg.*resnet50'), ('lr: fast', "lr is 'fast'"),
                        ('batch: 0', 'at least 1'), ('epochs: 2.5', 'epochs is 2.5'),
                        ('- a', 'keys and values'), ('fused: 3', 'fused is 3'),
                        ('a: [', r'bad\.yaml is not a YAML file'), ('workers: -1', 'at least 0'),
                        ('validation: [1, 2]', r'like \[\[first, last\]'),
                        ('lr_steps: [[1, 0.1]]', r'like \[\[0, '), ('freeze: [1]', 'names'),
                        ('augment: {foo: 1}', 'scale, rotation'),
                        ('augment: {scale: 1}', r'low, high')):
        bad.write_text(text)
        with pytest.raises(ValueError, match=named):
            configuration.load_config(bad)
    for text, said in (('epochs', '--set epochs: it must be KEY=VALUE'),
                       ('lr=[', r'--set lr=\[: '), ('epoks=3', "--set: unknown key 'epoks'")):
        with pytest.raises(ValueError, match=f'^{said}'):
            configuration.load_config('config/training/lite.yaml', [text])


def test_fine_tuning_starts_from_weights(tmp_path):
    config = configuration.load_config('config/training/lite.yaml')
    network = networks.make_network(config, init='lite-nyu')
    shipped = load_network('lite-nyu').state_dict()
    assert all(torch.equal(tensor, shipped[name]) for name, tensor in
               network.state_dict().items())
    with pytest.raises(ValueError, match=r'lite-nyu has the encoder efficientnet_lite2.*resnet50'):
        networks.make_network({**config, 'encoder': 'resnet50'}, init='lite-nyu')


def test_a_longer_lens_learns_the_depth_of_nyus(tree):
    """Targets are what NYU's camera would see: the inverse of the predictor's correction."""
    class LongLens(SyncTree):
        def focal(self, i):
            return 2 * super().focal(i)
    options = {'scale': (1.0, 1.0), 'rotation': 0.0}
    near, far = (TrainingSamples([kind(tree)], [1], 4, 0, options)[0][2]
                 for kind in (LongLens, SyncTree))
    np.testing.assert_allclose(near, far / 2, rtol=1e-6)


def test_two_processes_are_one(tree, tmp_path):
    """torchrun with two gloo processes: the weights of one process at the same global batch."""
    config = tmp_path / 'config.yaml'
    config.write_text('epochs: 1\nepoch_images: 8\nbatch: 4\noptimiser: sgd\nlr: 1.0e-3\n'
                      'dropout: 0.3\ndrop_path: 0.3\nmix: 0.5\nlog_l1: 1.0\n'
                      'log_gradient: 0.5\nhead_bias: 2.5\nprecision: fp64\n'
                      'validation: [[0, 1]]\nworkers: 0\n')
    common = ['--config', str(config), '--data', str(tree), '--from-scratch', '--out']
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    for out, launcher in (('one', []), ('two', [
            'torch.distributed.run', '--standalone', '--nproc-per-node', '2', '-m'])):
        done = subprocess.run([sys.executable, '-m', *launcher, 'train.nyu', *common,
                               str(tmp_path / out)], env=environment, capture_output=True,
                              text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / out / 'last.pt', weights_only=True)['network']
                for out in ('one', 'two'))
    torch.manual_seed(0)
    start = networks.make_network(configuration.load_config(config),
                                  from_scratch=True).double().state_dict()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-7, atol=1e-9, msg=name)
    assert (one['head.weight'] - start['head.weight']).abs().max() > 1e-4
    assert (one['encoder.conv_stem.weight'] - start['encoder.conv_stem.weight']).abs().max() > 1e-5


def test_scores_by_hand():
    scores = evaluate.Scores()
    scores.add(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]]))   # right; nothing to score
    scores.add(np.array([[3.0, 3.0, 5.0]]), np.array([[2.0, 3.0, 4.0]]))
    report = scores.report()
    assert (report['pixels'], report['images']) == (4, 2)
    assert report['rel'] == pytest.approx((0 + 0.5 + 0 + 0.25) / 4)
    assert report['rel_per_image'] == pytest.approx([0, 0.25])
    assert report['per_image']['rel'] == pytest.approx(0.125)
    assert report['per_image']['rmse'] == pytest.approx(np.sqrt(2 / 3) / 2)
    bands = {(band['from'], band['to']): band for band in report['bands']}
    assert bands[(0, 1)]['pixels'] == 1
    assert bands[(1.5, 2)]['rel'] == pytest.approx(0.5)
    assert bands[(3.5, 4)]['delta1'] == 0  # 5/4 is not below 1.25
    assert sum(band['pixels'] for band in report['bands']) == 4


class Wall:
    """A dataset of one wall at 3 m, with garbage outside Eigen's crop and beyond 10 m."""

    def __len__(self):
        return 1

    def read(self, i):
        depth = np.full((480, 640), 99.0, np.float32)
        depth[45:471, 41:601] = 3.0
        depth[100:110, 100:110] = 12.0
        return np.zeros((480, 640, 3), np.uint8), depth

    def focal(self, i):
        return 518.858 / 640


class Constant(torch.nn.Module):
    """Sees 2.4 m everywhere, and 3.6 m when asked a second time."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.encoder_name, self.calls = 'resnet50', 0

    def forward(self, x):
        self.calls += 1
        return torch.full((len(x), 1, x.shape[2] // 2, x.shape[3] // 2), 1.2 * (self.calls + 1))


def test_eigen_protocol():
    report = evaluate.evaluate_eigen(Constant(), Wall())
    assert report['pixels'] == 426 * 560 - 100
    assert report['rel'] == pytest.approx(0.2, rel=1e-5)
    flipped = evaluate.evaluate_eigen(Constant(), Wall(), flip=True)
    assert flipped['rel'] == pytest.approx(0.0, abs=1e-3)  # the mean of 2.4 and 3.6


def test_scale_free_knows_no_scale():
    target = torch.rand(2, 1, 8, 10) + 1
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[0, :, :3] = False
    scaled = target * torch.tensor([1.7, 0.4]).view(2, 1, 1, 1)  # each picture by its own
    scaled[0, :, :3] = 99
    assert scale_free(scaled, target, valid) == pytest.approx(0, abs=1e-6)
    # half of the second picture's pixels off by a factor e²: each is off by 1 from its mean
    target[:] = 1
    half = target.clone()
    half[1, :, :4] = np.e ** 2
    pixels = valid.sum().item()
    assert scale_free(half, target, valid) == pytest.approx(80 / pixels)
    assert scale_free(half, target, torch.zeros_like(valid)) == 0


def test_int8_is_calibrated_on_each_kind_of_picture_alike():
    a, b = Heights(), Heights()
    assert len(quantise.equal_shares([a, b], 8)) == 8
    assert len(quantise.equal_shares([a], 4)) == 4
    assert len(quantise.equal_shares([a, b], 100)) == 12  # all there are


class Heights(RgbdDataset):
    """Six walls, at 2.4, 4.8, 2.4 … m, seen from 0.3 m and 1.0 m in turn, through NYU's lens."""

    def __len__(self):
        return 6

    def read(self, i):
        return np.zeros((60, 80, 3), np.uint8), np.full((60, 80), 2.4 * (1 + i % 2), np.float32)

    def name(self, i):
        return f'wall {i}'

    def height(self, i):
        return (0.3, 1.0)[i % 2]


def test_whole_pictures_by_height():
    report = evaluate.evaluate_whole(
        lambda rgb, fx: np.full(rgb.shape[:2], 2.4 * fx / (518.858 / 640 * 80), np.float32),
        Heights())
    assert report['images'] == 6 and report['pixels'] == 6 * 36 * 56
    low, high = report['heights']
    assert (low['from'], low['to'], low['images']) == (0.25, 0.45, 3)
    assert low['delta1'] == 1 and low['ratio'] == pytest.approx(1)
    assert high['delta1'] == 0 and high['scaled'] == 1 and high['ratio'] == pytest.approx(0.5)
    assert report['aligned']['rel'] == pytest.approx(0, abs=1e-6)
    table = evaluate.height_table(report)
    assert '0.25 to 0.45 m' in table and '0.80 to 1.20 m' in table and 'outlines' in table


def test_a_training_judges_each_set_by_height(tree, config, tmp_path, capsys):
    nyu.main(['--config', str(config), '--data', str(tree), '--out', str(tmp_path / 'out'),
              '--from-scratch', '--validate', 'room:7', '--set', 'epochs=1'])
    log = (tmp_path / 'out' / 'log.txt').read_text()
    assert log.count('room:7, whole: RMSE') == 1
    assert '0.25 to 0.45 m' in log and 'at the right scale' in log and 'outlines: ' in log
    assert list((tmp_path / 'out' / 'tensorboard').iterdir())
    with pytest.raises(SystemExit, match='nowhere does not exist'):
        nyu.main(['--config', str(config), '--data', str(tree), '--out', str(tmp_path / 'out2'),
                  '--validate', 'nowhere'])


def test_whole_pictures_of_the_virtual_room(capsys):
    evaluate.main(['--data', 'room:7', '--protocol', 'whole'])
    printed = capsys.readouterr().out
    assert '12 images, whole protocol' in printed and '0.25 to 0.45 m' in printed
    with pytest.raises(SystemExit):
        evaluate.main(['--data', 'room:7', '--protocol', 'whole', '--flip'])
    assert '--flip is of the protocols paper and eigen' in capsys.readouterr().err
    for name in ('room:', 'room:9-3', 'room:x'):
        with pytest.raises(SystemExit, match='names no rooms: write room:FIRST-LAST'):
            evaluate.main(['--data', name, '--protocol', 'whole'])


def test_paper_protocol():
    report = evaluate.evaluate_paper(Constant(), Wall(), flip=True)
    assert report['pixels'] == 582 * 466
    assert report['rel'] > 0.1  # this one does look at the pixels outside Eigen's crop


def test_evaluation_draws(tree, tmp_path, capsys):
    evaluate.main(['--data', str(tree), '--ranges', '[[0, 3]]', '--protocol', 'eigen',
                   '--plot', str(tmp_path / 'plot.png'), '--pictures', str(tmp_path / 'pictures')])
    assert cv2.imread(str(tmp_path / 'plot.png')).std() > 10
    assert sorted(file.name for file in (tmp_path / 'pictures').iterdir()) == [
        'best.png', 'median.png', 'worst.png']
    assert 'eigen protocol' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='numbered 0 to 7'):
        evaluate.main(['--data', str(tree), '--ranges', '[[90, 99]]'])


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


# ---- what travels from the loading process ----------------------------------------------------

@pytest.mark.parametrize('more', [{}, {'gamma': 0.3, 'brightness': 0.3, 'contrast': 0.3,
                                       'saturation': 0.5}])
def test_pictures_travel_as_bytes(more):
    """The paper's colour factor is exact; other changes are rounded to half a level."""
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (264, 352, 3), np.uint8)
    options = {'scale': (1.0, 1.0), 'rotation': 0.0, 'flip': 0.0, 'nearest': True}
    rgb, gain, _ = augment(picture, np.ones((264, 352), np.float32), np.random.default_rng(2),
                           **options, **more)
    assert rgb.dtype == np.uint8

    # the same draws, in plain float arithmetic
    rng = np.random.default_rng(2)
    plain, *_ = augment(picture, np.ones((264, 352), np.float32), rng, **options, colour=(1, 1))
    rng = np.random.default_rng(2)
    rng.random(5)
    expected = plain.astype(np.float32) / 255 * rng.uniform(0.8, 1.2, 3).astype(np.float32)
    if more:
        expected = np.clip(expected, 0, 1) ** np.float32(np.exp(rng.uniform(-0.3, 0.3)))
        mean = expected.mean()
        expected = (expected - mean) * (1 + rng.uniform(-0.3, 0.3)) + mean
        expected = expected * (1 + rng.uniform(-0.3, 0.3))
        luma = (expected @ np.array([0.299, 0.587, 0.114]))[..., None]
        rng.random()
        expected = luma + (expected - luma) * (1 + rng.uniform(-0.5, 0.5))
    expected = normalise(np.clip(expected, 0, 1).astype(np.float32))
    got = to_input(torch.from_numpy(rgb)[None], torch.from_numpy(gain)[None])
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(got[0].numpy() - expected).max() <= (0.51 / 255 / 0.224 if more else 0)


def test_throughput_prints_its_table(tmp_path, capsys):
    config = tmp_path / 'config.yaml'
    config.write_text('encoder: efficientnet_lite0\nbatch: 1\nprecision: bf16\n')
    throughput.main(['--config', str(config), '--rounds', '1'])
    rates = re.findall(r'^(loader|step|plain).* (\d+\.\d) +\d+ ', capsys.readouterr().out, re.M)
    assert [name for name, _ in rates] == ['loader', 'step', 'step', 'plain']


# ---- killed, stopped, out of room, out of numbers ---------------------------------------------

TINY = ('epochs: 2\nepoch_images: 6\nbatch: 2\nmix: 0.5\ndropout: 0.3\ndrop_path: 0.3\n'
        'validation: [[0, 1]]\nvalidate_every: 1\nema: 0.9\nema_start: 0.2\nlog_l1: 1.0\n'
        'head_bias: 2.5\nprecision: bf16\nfused: true\n')


def until(true, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_and_resumed_is_bit_identical(tree, tmp_path):
    config = tmp_path / 'tiny.yaml'
    config.write_text(TINY)

    def start(out, *more):
        return subprocess.Popen(
            [sys.executable, '-m', 'train.nyu', '--config', str(config), '--data', str(tree),
             '--out', str(tmp_path / out), '--from-scratch', '--checkpoint-every', '1', *more],
            env={**os.environ, 'OMP_NUM_THREADS': '1'}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
    whole = start('whole')
    last = tmp_path / 'cut' / 'last.pt'

    cut = start('cut')
    until(last.exists, cut)
    with pytest.raises(SystemExit, match=r'another training writes to .*cut'):
        nyu.main(['--config', str(config), '--data', str(tree), '--out', str(tmp_path / 'cut'),
                  '--from-scratch'])
    cut.kill()
    cut.communicate()
    with pytest.raises(SystemExit, match=r'last\.pt is of an earlier training.*--resume'):
        nyu.main(['--config', str(config), '--data', str(tree), '--out', str(tmp_path / 'cut')])

    before = last.stat().st_mtime_ns
    cut = start('cut', '--resume')  # at once: loading processes that live on hold no lock
    until(lambda: last.stat().st_mtime_ns != before, cut)
    cut.send_signal(signal.SIGTERM)
    _, said = cut.communicate(timeout=60)
    assert cut.returncode == 128 + signal.SIGTERM, said
    assert re.search(r'stopped after step \d of 6; .*--resume', said)
    assert 'Traceback' not in said

    cut = start('cut', '--resume')
    _, said = cut.communicate(timeout=120)
    assert cut.returncode == 0, said
    _, said = whole.communicate(timeout=120)
    assert whole.returncode == 0, said
    one, two = (torch.load(tmp_path / out / 'last.pt', weights_only=True)
                for out in ('whole', 'cut'))
    assert two['step'] == 6
    for part in ('network', 'average'):
        for name, tensor in one[part].items():
            assert torch.equal(tensor, two[part][name]), name
    assert one['recent'] == two['recent']
    epochs = [re.sub(r'\d+s', '', (tmp_path / out / 'log.txt').read_text())
              for out in ('whole', 'cut')]
    assert epochs[0] == epochs[1]


def test_loading_processes_hold_no_lock(tree, tmp_path):
    samples = TrainingSamples([SyncTree(tree)], [1], 8, 0, {})
    with interrupts.claimed(tmp_path / 'out') as handle:
        with pytest.raises(OSError, match='another training'), interrupts.claimed(tmp_path / 'out'):
            pass
        loader = iter(make_loader(samples, range(8), 1, workers=1, handles=[handle]))
        next(loader)
    with interrupts.claimed(tmp_path / 'out'):  # that process lives, as after a SIGKILL of this one
        next(loader)


def tiny_run(tree, out, **more):
    config = {**configuration.DEFAULTS, 'epochs': 1, 'batch': 2, 'workers': 0, **more}
    nyu.train(config, [SyncTree(tree)], out, from_scratch=True, checkpoint_every=(1, 'steps'))
    return torch.load(out / 'last.pt', weights_only=True)


def test_a_loss_that_is_no_number(tree, tmp_path, monkeypatch):
    loss_of, calls = nyu.total_loss, []

    def third_is_nan(*arguments):
        calls.append(arguments)
        return loss_of(*arguments) * (np.nan if len(calls) == 3 else 1)
    monkeypatch.setattr(nyu, 'total_loss', third_is_nan)
    with pytest.raises(FloatingPointError, match=r'loss is nan.*step 2.*bad_batch\.pt.*last\.pt'):
        tiny_run(tree, tmp_path / 'out')
    assert torch.load(tmp_path / 'out' / 'last.pt', weights_only=True)['step'] == 2
    batch = torch.load(tmp_path / 'out' / 'bad_batch.pt', weights_only=True)
    assert batch['step'] == 2
    assert batch['rgb'].shape == (2, CROP_HEIGHT, CROP_WIDTH, 3)
    samples = TrainingSamples([SyncTree(tree)], [8], 8, 0, {})
    assert batch['pairs'] == [samples.name(4), samples.name(5)]
    assert np.array_equal(batch['rgb'][1], samples[5][0])


def test_weights_that_are_no_numbers_are_not_saved(tree, tmp_path, monkeypatch):
    update, calls = nyu.backward_and_step, []

    def second_breaks(config, network, *arguments):
        update(config, network, *arguments)
        calls.append(1)
        if len(calls) == 2:
            torch.nn.init.constant_(network.head.bias, np.nan)
    monkeypatch.setattr(nyu, 'backward_and_step', second_breaks)
    with pytest.raises(FloatingPointError, match=r'weights are no number at step 1'):
        tiny_run(tree, tmp_path / 'out')
    assert torch.load(tmp_path / 'out' / 'last.pt', weights_only=True)['step'] == 1


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


def test_training_outlives_a_full_disk(tree, tmp_path, monkeypatch, capsys):
    save, calls = checkpoint.save_checkpoint, []

    def second_fails(path, state):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, 'No space left on device', str(path))
        save(path, state)
    monkeypatch.setattr(checkpoint, 'save_checkpoint', second_fails)
    assert tiny_run(tree, tmp_path / 'out', epoch_images=6)['step'] == 3
    assert 'No space left' in capsys.readouterr().err


@pytest.mark.parametrize('options', [
    {'precision': 'fp16', 'epoch_images': 2}, {'optimiser': 'sgd', 'lr': 1e-3, 'epoch_images': 4}])
def test_other_arithmetic(tree, tmp_path, options):
    state = tiny_run(tree, tmp_path / 'out', **options)
    assert state['step'] == options['epoch_images'] / 2
    assert ('scale' in state['scaler']) == ('precision' in options)


def test_broken_pairs_are_named_counted_and_left_out(tree, tmp_path, capsys):
    def cut(name):
        (tree / name).write_bytes((tree / name).read_bytes()[:-2000])
    cut('rgb_00002.jpg')
    cut('sync_depth_00003.png')
    cv2.imwrite(str(tree / 'sync_depth_00004.png'), np.full((480, 640), 200, np.uint8))
    cv2.imwrite(str(tree / 'sync_depth_00005.png'), np.zeros((480, 640), np.uint16))
    (tree / 'sync_depth_00006.png').unlink()
    cut('rgb_00000.jpg')  # of the validation
    config = tmp_path / 'config.yaml'
    config.write_text('epochs: 1\nepoch_images: 8\nbatch: 2\nvalidation: [[0, 1]]\n'
                      'precision: fp32\n')
    common = ['--config', str(config), '--data', str(tree), '--from-scratch', '--out']
    nyu.main([*common, str(tmp_path / 'out')])
    said = capsys.readouterr().err
    for name in ('rgb_00002.jpg', 'sync_depth_00003.png', 'sync_depth_00004.png is not a depth',
                 'rgb_00005.jpg has no depth', 'rgb_00006.jpg has no', 'rgb_00000.jpg'):
        assert len(re.findall(f'left out: .*{name}', said)) == 1, name
    assert '6 pairs left out' in said
    assert '6 pairs left out' in (tmp_path / 'out' / 'log.txt').read_text()

    # the next readable pair of the order takes the place, whichever process comes to it first
    dataset, options = SyncTree(tree), {'scale': (1.0, 1.0), 'rotation': 0.0}
    samples = TrainingSamples([dataset], [1], 30, 0, options)
    order = samples.order(0, 0)
    at = next(n for n in range(7) if 'rgb_00002' in samples.name(n))
    broken = {i for i in range(7) if re.search('_0000[02345]', dataset.name(i))}
    heir = next(i for i in np.roll(order, -at) if i not in broken)
    expected = augment(*dataset.read(heir), np.random.default_rng([0, 2, at]), **options)
    for _ in range(2):
        rgb, _, depth, lost = samples[at]
        assert np.array_equal(rgb, expected[0])
        assert np.array_equal(depth[0], expected[2])
        assert 'rgb_00002' in lost[0]

    with pytest.raises(SystemExit, match=r'train\.nyu: .*rgb_00006\.jpg has no'):
        nyu.main([*common, str(tmp_path / 'strict'), '--strict'])
    for file in tree.glob('rgb_*.jpg'):
        file.write_bytes(b'')
    config.write_text('epochs: 1\nepoch_images: 8\nbatch: 2\nprecision: fp32\n')
    with pytest.raises(SystemExit, match='not one pair') as stopped:
        nyu.main([*common, str(tmp_path / 'nothing')])
    assert 'Traceback' not in str(stopped.value)
