"""Recordings without a depth camera: what their sensors measured is learnt."""

import numpy as np
import pytest
import torch
from scan_bag import write_scan_bag

from hybrid_depth_ros.anchors import Anchors
from hybrid_depth_ros.poses import read_pose
from hybrid_depth_ros.sources import LIDAR_POSE
from train import nyu
from train.datasets.anchored_bag import AnchoredBag, coarse_depth
from train.datasets.pairs import read_checked


@pytest.fixture(scope='module')
def walk(tmp_path_factory):
    """A recording of six frames, and what was seen and true in them."""
    path = tmp_path_factory.mktemp('walk') / 'bag'
    seen, camera = write_scan_bag(path, [3], 6)
    return path, seen, camera


def test_measured_pixels_have_their_true_depth(walk):
    path, seen, camera = walk
    data = AnchoredBag(path, {'scan': None}, poses=[read_pose(LIDAR_POSE)])
    assert data.sparse and len(data) == 6
    for i, (rgb, truth) in enumerate(seen):
        got, depth, focal = read_checked(data, i)
        assert np.array_equal(got, rgb) and depth.shape == (120, 160)
        assert focal == pytest.approx(camera.fx / camera.width)
        rows, columns = np.nonzero(depth)
        assert rows.size > 20
        # each cell is 2×2 pixels of the image: one of them, or one beside them
        near = np.stack([np.roll(truth, (dy, dx), (0, 1)) for dy in range(-2, 4)
                         for dx in range(-2, 4)])[:, 2 * rows, 2 * columns]
        off = np.abs(near / depth[rows, columns] - 1).min(0)
        assert np.mean(off < 0.05) > 0.9


def test_a_range_is_learnt_where_its_cone_meets_the_nearest_thing(walk):
    path, seen, _ = walk
    truths = {rgb.tobytes(): truth for rgb, truth in seen}
    data = AnchoredBag(path, {'range': None}, poses=[read_pose('0 0 0 0 0 0')],
                       predict=lambda rgb, fx: truths[rgb.tobytes()])
    assert len(data) == 6
    for i, (_, truth) in enumerate(seen):
        depth = data.read(i).depth
        (row,), (column,) = np.nonzero(depth)
        near = truth[2 * row - 3:2 * row + 5, 2 * column - 3:2 * column + 5]
        assert np.abs(near / depth[row, column] - 1).min() < 0.05


def test_depth_by_the_robots_own_motion_is_learnt(tmp_path):
    seen, _ = write_scan_bag(tmp_path / 'bag', [3], 14, fps=5.0, odometry=True)
    data = AnchoredBag(tmp_path / 'bag', {'motion': None})
    assert len(data) >= 5
    truths = {rgb.tobytes(): truth for rgb, truth in seen}
    off = []
    for i in range(len(data)):
        rgb, depth, _ = read_checked(data, i)
        rows, columns = np.nonzero(depth)
        truth = truths[rgb.tobytes()]
        off += list(np.abs(truth[2 * rows, 2 * columns] / depth[rows, columns] - 1))
    assert len(off) > 100 and np.median(off) < 0.08


def test_no_anchor_is_lost_and_the_nearer_one_stays():
    cells, depth = coarse_depth(Anchors([0, 0.4, 639, 300, -5], [0, 0, 479, 100, 3],
                                        [3, 2, 4, 5, 6]), 480, 640)
    assert cells.tolist() == [0, 25 * 160 + 75, 160 * 120 - 1] and depth.tolist() == [2, 5, 4]


def test_a_recording_without_depth_trains(walk, tree, tmp_path):
    """It was refused: "no topic holds depth images"."""
    path, *_ = walk
    config = tmp_path / 'config.yaml'
    config.write_text('epochs: 1\nepoch_images: 8\nbatch: 4\nprecision: fp32\nberhu: 0.0\n'
                      'log_l1: 1.0\nworkers: 0\nhead_bias: 2.5\noptimiser: sgd\nlr: 1.0e-3\n')
    common = ['--config', str(config), '--from-scratch', '--out']
    with pytest.raises(SystemExit, match=r'no topic holds depth images'):
        nyu.main([*common, str(tmp_path / 'none'), '--data', str(path)])
    nyu.main([*common, str(tmp_path / 'out'), '--data', str(tree), str(path), '--shares', '1', '1',
              '--anchors', 'scan', '--anchor-pose', LIDAR_POSE])
    assert torch.load(tmp_path / 'out' / 'last.pt', weights_only=True)['step'] == 2
    nyu.main([*common, str(tmp_path / 'alone'), '--data', str(path), '--anchors', 'scan=/scan',
              '--anchor-pose', LIDAR_POSE])
    assert (tmp_path / 'alone' / 'samples' / '0001.png').exists()


@pytest.mark.parametrize(('options', 'said'), [
    (['scan'], r'not one of 6 images has anchors of scan: 6 frames without anchors of scan: '),
    (['points'], 'no topic holds PointCloud2'),
    (['scan=/image'], r'scan /image: that topic holds Image, not LaserScan')])
def test_anchors_that_are_not_there_are_named(walk, tmp_path, options, said):
    path, *_ = walk
    with pytest.raises(SystemExit, match=said):
        nyu.main(['--data', str(path), '--out', str(tmp_path / 'out'), '--anchors', *options])


def test_kinds_of_anchors(walk, tmp_path, capsys):
    with pytest.raises(SystemExit, match='2'):
        nyu.main(['--data', 'x', '--anchors', 'lidar'])
    assert "'lidar' is no kind of anchors; use scan, points, range, motion or depth" in (
        capsys.readouterr().err)


def test_anchors_need_a_camera_info(tmp_path):
    write_scan_bag(tmp_path / 'bag', [3], 2, calibrated=False)
    with pytest.raises(OSError, match=r'not one of 2 images has anchors of scan: .*no camera_info'):
        AnchoredBag(tmp_path / 'bag', {'scan': None}, poses=[read_pose(LIDAR_POSE)])
