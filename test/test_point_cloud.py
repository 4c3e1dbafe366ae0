"""Clouds: points of pixels, ranges, voxels."""

import numpy as np
import pytest
from test_outlines import bleeding_edge

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.outlines import snap_edges
from hybrid_depth_ros.point_cloud import POINT, organised_cloud, voxel_downsample


def test_cloud_by_hand():
    camera = Intrinsics(3, 2, 100.0, 50.0, 1.0, 0.5)
    depth = np.array([[1, 2, np.nan], [4, 5, 6]], np.float32)
    rgb = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    cloud = organised_cloud(depth, rgb, camera)
    assert cloud.shape == (2, 3)
    assert cloud[1, 2]['x'] == np.float32(6 * (2 - 1) / 100)
    assert cloud[1, 2]['y'] == np.float32(6 * (1 - 0.5) / 50)
    assert cloud[1, 2]['z'] == 6
    assert cloud[1, 2]['rgb'] == (15 << 16 | 16 << 8 | 17)
    assert all(np.isnan(cloud[0, 2][axis]) for axis in 'xyz')
    with pytest.raises(ValueError, match='3×2'):
        organised_cloud(depth.T, rgb, camera)

CAMERA = Intrinsics.from_horizontal_fov(640, 480, 63.3)


def test_stride_keeps_each_pixels_own_ray():
    camera = Intrinsics(7, 5, 4.0, 5.0, 3.2, 1.9)
    depth = np.random.default_rng(0).uniform(1, 4, (5, 7)).astype(np.float32)
    rgb = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    whole = organised_cloud(depth, rgb, camera)
    sparse = organised_cloud(depth, rgb, camera, stride=3)
    assert sparse.shape == (2, 3)
    np.testing.assert_array_equal(sparse, whole[::3, ::3])
    bleeding = bleeding_edge()
    colours = np.zeros((480, 640, 3), np.uint8)
    kept = [np.isfinite(organised_cloud(bleeding, colours, CAMERA, stride, edge_filter=0.1)['z'])
            for stride in (1, 4)]
    np.testing.assert_array_equal(kept[1], kept[0][::4, ::4])
    with pytest.raises(ValueError, match='stride is 0'):
        organised_cloud(depth, rgb, camera, stride=0)


def test_a_clouds_outlines_are_steps():
    depth = bleeding_edge()
    snapped = snap_edges(depth, 0.1)
    cloud = organised_cloud(depth, np.zeros((480, 640, 3), np.uint8), CAMERA, edge_filter=0.1)
    np.testing.assert_array_equal(cloud['z'], snapped)
    np.testing.assert_array_equal(np.isnan(cloud['x']), np.isnan(snapped))


def test_range_is_measured_along_the_ray():
    camera = Intrinsics(3, 1, 1.0, 1.0, 1.0, 0.0)  # rays at -45°, 0° and 45°
    depth, rgb = np.array([[2, 2, np.nan]], np.float32), np.zeros((1, 3, 3), np.uint8)

    def kept(**limits):
        return np.isfinite(organised_cloud(depth, rgb, camera, **limits)['x']).tolist()[0]
    assert kept() == [True, True, False]
    assert kept(max_range=2.5) == [False, True, False]   # 2.83 m, 2 m
    assert kept(min_range=2.5) == [True, False, False]
    assert kept(min_range=1.5, max_range=3) == [True, True, False]
    assert kept(min_range=3) == [False, False, False]
    with pytest.raises(ValueError, match=r'max_range 1 m is not beyond min_range 2 m'):
        kept(min_range=2, max_range=1)


def test_a_voxel_keeps_the_centroid_and_the_mean_colour():
    cloud = np.zeros((2, 3), POINT)
    cloud['x'] = [[0.01, 0.03, -0.01], [np.nan, 0.11, 0.02]]
    cloud['y'] = [[0.02, 0.04, 0.02], [np.nan, 0.02, 0.03]]
    cloud['z'] = [[1.01, 1.03, 1.01], [np.nan, 1.01, 1.02]]
    cloud['rgb'] = [[0x102030, 0x203040, 0xffffff], [0xaaaaaa, 0x010203, 0x304056]]
    voxels = voxel_downsample(cloud, 0.1)
    assert voxels.dtype == POINT and voxels.shape == (1, 3)
    left, middle, right = voxels[0]
    assert (left['rgb'], right['rgb']) == (0xffffff, 0x010203)
    assert middle.tolist() == pytest.approx((0.02, 0.03, 1.02, 0x203042), rel=1e-6)
    nothing = voxel_downsample(cloud[1:, :1], 0.1)
    assert nothing.shape == (1, 0) and nothing.dtype == POINT
    for size, named in ((0, 'above 0'), (float('nan'), 'above 0'), (1e-6, 'too small')):
        with pytest.raises(ValueError, match=named):
            voxel_downsample(cloud, size)


def test_every_voxel_of_a_picture_is_there_once():
    depth = bleeding_edge()
    depth[:, :30] = np.nan
    rgb = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    cloud = organised_cloud(depth, rgb, CAMERA)
    voxels = voxel_downsample(cloud, 0.25)[0]
    points = cloud[np.isfinite(cloud['z'])]

    def cubes(of):
        return np.floor(np.stack([of[axis] for axis in 'xyz'], 1) / np.float32(0.25))
    occupied, counts = np.unique(cubes(points), axis=0, return_counts=True)
    np.testing.assert_array_equal(cubes(voxels), occupied)
    for axis in 'xyz':
        assert (voxels[axis] * counts).sum() == pytest.approx(
            points[axis].sum(dtype=np.float64), rel=1e-5, abs=0.1)
