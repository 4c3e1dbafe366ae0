"""Training: geometry of the augmentation, losses by hand, and a run of a few steps."""

import cv2
import numpy as np
import pytest
import torch

from hybrid_depth_ros.weights import load_network
from train import evaluate, nyu
from train.data import CROP_HEIGHT, CROP_WIDTH, RESIZED_WIDTH, SyncTree, augment
from train.loss import berhu, log_gradient, log_l1

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
    _, target = augment(np.zeros((480, 640, 3), np.uint8), depth, Fixed(scale, 0.0, mirrored))
    assert target.shape == (CROP_HEIGHT // 2, CROP_WIDTH // 2)
    # An image zoomed by s is of a camera of the same focal length, s times nearer: with depth
    # z/s the plane keeps its normal and comes s times nearer, where x and y are measured
    # through the unzoomed camera's focal length.
    zoom = scale * RESIZED_WIDTH / 640
    rows, columns = np.mgrid[:target.shape[0], :target.shape[1]]
    sign = -1 if mirrored else 1
    u = 319.5 + sign * (columns - (target.shape[1] - 1) / 2) * 2 / zoom
    v = 239.5 + (rows - (target.shape[0] - 1) / 2) * 2 / zoom
    focal_x, focal_y = FX * RESIZED_WIDTH / 640, FY * RESIZED_WIDTH / 640
    points = np.stack([(u - CX) * zoom / focal_x * target, (v - CY) * zoom / focal_y * target,
                       target * scale], axis=-1)
    # z·s through focal length f is z through s·f: back on the plane
    residual = points @ normal - distance
    assert np.abs(residual[1:-1, 1:-1]).max() < 0.02  # nearest neighbour: half a pixel
    assert np.abs(residual).mean() < 0.006


def test_augmentation_masks_what_is_not_scene():
    rng = np.random.default_rng(0)
    depth = np.full((480, 640), 2.0, np.float32)
    rgb = np.full((480, 640, 3), 255, np.uint8)
    rgb[10:-10, 10:-10] = 100  # a white frame
    for _ in range(20):
        picture, target = augment(rgb, depth, rng, border=10, scale=(0.8, 0.8), colour=(1, 1))
        assert np.allclose(picture, 100 / 255, atol=0.01)
        assert set(np.unique(target)) <= {np.float32(0), np.float32(2 / 0.8)}
        assert (target == 0).any()


def test_rotation_turns_colour_and_depth_together():
    yy, xx = np.mgrid[:480, :640]
    value = (((xx // 40) + (yy // 40)) % 2).astype(np.float32)
    rgb = np.repeat((value * 255).astype(np.uint8)[..., None], 3, axis=2)
    rng = np.random.default_rng(3)
    for _ in range(10):
        picture, target = augment(rgb, value + 1, rng, colour=(1, 1), rotation=5.0)
        small = cv2.resize(picture[..., 0], (160, 128), interpolation=cv2.INTER_AREA)
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


def test_learning_rate_curve():
    assert nyu.learning_rate(0.0, 0.1) == pytest.approx(0.04)
    assert nyu.learning_rate(0.1, 0.1) == 1
    assert nyu.learning_rate(0.55, 0.1) == pytest.approx(0.5)
    assert nyu.learning_rate(1.0, 0.1) == pytest.approx(0)


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
    assert len(SyncTree(tree, [[2, 4]])) == 3
    assert len(SyncTree(tree, [[2, 4]], keep=False)) == 5
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
    cut = nyu.save_checkpoint
    try:
        def stop_after_first_epoch(path, state):
            cut(path, state)
            if state['step'] == 2:
                raise KeyboardInterrupt
        nyu.save_checkpoint = stop_after_first_epoch
        with pytest.raises(KeyboardInterrupt):
            run('cut')
    finally:
        nyu.save_checkpoint = cut
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
    assert 'on 2 images: RMSE' in capsys.readouterr().out


def test_bad_configurations_fail_early(config, tree, tmp_path):
    config.write_text('epoks: 3\n')
    with pytest.raises(SystemExit, match='epoks'):
        nyu.main(['--config', str(config), '--data', str(tree)])
    config.write_text('epochs: 3\n')
    with pytest.raises(SystemExit, match='nowhere'):
        nyu.main(['--config', str(config), '--data', str(tmp_path / 'nowhere')])
