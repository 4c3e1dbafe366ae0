"""Views of pairs from other places."""

import cv2
import numpy as np
import pytest
from rgbd_files import write_sync

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import Room
from train import prepare
from train.configuration import TrainingConfig
from train.datasets import open_dataset
from train.datasets.pairs import read_checked
from train.datasets.reprojected_views import reproject, source_name
from train.split import split_datasets


@pytest.mark.parametrize('shift', [(0.0, 0.5, 0.0), (0.3, -0.2, 0.2)])
def test_a_moved_view_is_what_a_camera_there_sees(shift):
    room, camera = Room(3), Intrinsics.from_horizontal_fov(480, 360, 63)
    pose, share = room.camera_pose(4.0), 0.6
    rgb, depth, gone, corner = reproject(*room.render(camera, pose), camera.fx / 480, shift, share)
    assert gone == shift and depth.shape == (264, 352) and rgb.dtype == np.uint8
    there = pose.copy()
    there[:3, 3] += pose[:3, :3] @ shift
    zoom = 352 / 480 / share
    seen, true = room.render(Intrinsics(
        352, 264, camera.fx * zoom, camera.fy * zoom,
        175.5 + (0.5 - share / 2 - corner[0]) * 352 / share,
        131.5 + (0.5 - share / 2 - corner[1]) * 264 / share), there)
    known = depth > 0
    assert known.mean() > 0.75
    off = depth[known] / true[known] - 1
    assert np.median(np.abs(off)) < 0.003
    # what was not seen before may hide a part: that part is farther than it should be
    assert (np.abs(off[off < 0.02]) < 0.02).mean() > 0.98 and (off < 0.02).mean() > 0.85
    assert np.median(np.abs(rgb[known].astype(int) - seen[known])) < 6


def test_a_move_that_shows_too_little_becomes_shorter():
    wall = np.full((120, 160), 2.0, np.float32)
    grey = np.full((120, 160, 3), 90, np.uint8)
    rgb, depth, gone, _ = reproject(grey, wall, 0.8, (0, 1.0, 0), 0.9)
    assert 0 < gone[1] < 1 and gone[0] == gone[2] == 0
    assert np.abs(rgb.astype(int) - 90).max() < 10, 'unknown: it takes the colour around it'
    assert set(np.unique(depth)) <= {0, np.float32(2)} and (depth > 0).mean() > 0.75


def test_nearer_views_are_nearer_and_no_nearer_than_they_may(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (120, 160, 3), np.uint8)
    rgb = cv2.resize(rgb, (640, 480), interpolation=cv2.INTER_CUBIC)
    folder = tmp_path / 'wall'
    folder.mkdir()
    for i, metres in enumerate((0.5, 2.0)):
        cv2.imwrite(str(folder / f'rgb_{i:05d}.png'), rgb)
        cv2.imwrite(str(folder / f'sync_depth_{i:05d}.png'),
                    np.full((480, 640), 1000 * metres + 1, np.uint16)
                    - np.uint16(2) * (np.arange(640) > 320))  # half of it is the nearer
    views = open_dataset(f'nearer:{folder}')
    assert len(views) == 6 and source_name(views.name(5)) == open_dataset(folder).name(1)
    for i in range(6):
        near = views.read(i).depth
        true = (0.5, 2.0)[i // 3]
        assert max(0.34, true / 2.5) < np.median(near[near > 0]) < true / 1.25, i


def test_moved_views_belong_to_their_pairs(frames, tmp_path):
    write_sync(tmp_path / 'nyu', frames, first=7)
    data, views = (open_dataset(f'{kind}{tmp_path / "nyu"}') for kind in ('', 'moved:'))
    assert len(views) == 3 * len(data) and views.number(4) == data.number(1)
    rgb, depth = views.read(4)
    again, _ = views.read(4)
    assert (rgb == again).all() and depth.any() and rgb.shape == (*depth.shape, 3)
    assert views.focal(4) > data.focal(1) and source_name(views.name(4)) == data.name(1)
    assert prepare.prepare(views, tmp_path / 'store', workers=1) == 0
    for others in (views, open_dataset(tmp_path / 'store')):
        split = split_datasets(TrainingConfig(validation=((7, 7),)), [data, others], is_main=True)
        names = [split.training[1].name(i) for i in range(len(split.training[1]))]
        assert len(names) == 6
        assert {source_name(name) for name in names} == {data.name(1), data.name(2)}


@pytest.mark.parametrize('shape', [(48, 36), (6, 8), (90, 1200), (1000, 1500)])
def test_views_of_images_of_any_shape(shape):
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 4, shape).astype(np.float32)
    depth[0], depth[:, 0] = 0, np.nan
    rgb, depth, *_ = reproject(rng.integers(0, 255, (*shape, 3), np.uint8), depth, 0.9,
                           (0, 0.4, 0), 0.7)
    assert rgb.shape == (*depth.shape, 3) and depth.shape[1] == 352
    assert np.isfinite(depth).all() and depth.max() <= 4


def test_a_view_of_a_pair_without_depth_names_the_pair(tmp_path):
    write_sync(tmp_path, [(np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.float32))])
    with pytest.raises(OSError, match=r'rgb_00000\.jpg has no depth'):
        read_checked(open_dataset(f'moved:{tmp_path}'), 1)
