"""Metres from relative inverse depth by anchors: scale, shift, outliers, frames without."""

from types import SimpleNamespace

import numpy as np
import pytest

from hybrid_depth_ros.anchors import Anchors, fit_scale_shift
from hybrid_depth_ros.anchors.corrector import AnchorCorrector, AnchorSettings, ImageInfo
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.poses import read_pose
from hybrid_depth_ros.virtual_room import Room

CAMERA = Intrinsics.from_horizontal_fov(160, 120, 63.3)
SCALE, SHIFT = 1 / 37, 0.05


def scene(seed=1):
    """Depth float32 120×160, and what a network without metres gives of it."""
    rng = np.random.default_rng(seed)
    depth = np.exp(rng.normal(0, 0.1, (120, 160))) * np.linspace(1, 6, 160)[None]
    return depth.astype(np.float32), ((1 / depth - SHIFT) / SCALE).astype(np.float32)


def some(depth, count, wrong=0.0, seed=2):
    """Anchors with 1 % noise, a share of them off by far."""
    rng = np.random.default_rng(seed)
    u, v = rng.integers(0, depth.shape[1], count), rng.integers(0, 120, count)
    z = depth[v, u] * (1 + rng.normal(0, 0.01, count))
    bad = rng.random(count) < wrong
    z[bad] *= rng.uniform(0.2, 3, bad.sum())
    return Anchors(u, v, z)


def off(metres, depth):
    return float(np.median(np.abs(metres / depth - 1)))


@pytest.mark.parametrize(('count', 'wrong', 'most'), [
    (200, 0.0, 0.002), (200, 0.4, 0.005), (20, 0.3, 0.02), (2, 0.0, 0.1), (1, 0.0, 0.2)])
def test_scale_and_shift_are_found(count, wrong, most):
    depth, relative = scene()
    metres, line = fit_scale_shift(relative, some(depth, count, wrong))
    assert metres.dtype == np.float32 and metres.shape == depth.shape
    assert off(metres, depth) < most
    if count == 200:
        assert (line.scale, line.shift) == pytest.approx((SCALE, SHIFT), rel=0.05)
        assert line.used > (1 - wrong) * count * 0.9


def test_anchors_of_one_depth_leave_the_shift_to_the_prior():
    """A wall, seen by a lidar: no line through one point may turn the room inside out."""
    depth, relative = scene()
    depth[:, :80] = 2.0
    relative[:, :80] = (1 / 2.0 - SHIFT) / SCALE
    metres, line = fit_scale_shift(relative, some(depth[:, :80], 100))
    assert line.scale > 0
    assert abs(metres[60, 40] / 2 - 1) < 0.03
    assert (np.diff(metres[:, 100:].mean(0)) > -0.5).all()


def test_what_is_unknown_or_far_stays_unknown():
    depth, relative = scene()
    relative[0, 0], relative[0, 1], relative[0, 2] = np.nan, np.inf, -SHIFT / SCALE
    metres, _ = fit_scale_shift(relative, some(depth, 100))
    assert np.isnan(metres[0, 0]) and np.isnan(metres[0, 2])
    assert not (metres[0, 1] > 0.001)
    assert np.isfinite(metres[1:]).all()


def test_a_line_is_carried_on_for_seconds_and_no_longer():
    depth, relative = scene()
    none = Anchors.joined(())
    with pytest.raises(LookupError, match='no metres'):
        fit_scale_shift(relative, none)
    _, line = fit_scale_shift(relative, some(depth, 100), stamp=10.0)
    metres, kept = fit_scale_shift(relative, none, line, stamp=12.0)
    assert off(metres, depth) < 0.01 and kept == line
    with pytest.raises(LookupError, match='no metres'):
        fit_scale_shift(relative, none, kept, stamp=16.0)


def test_few_anchors_are_averaged_and_a_new_scene_is_not():
    depth, relative = scene()
    noisy = Anchors([80], [60], [depth[60, 80] * 1.1])
    _, line = fit_scale_shift(relative, some(depth, 100), stamp=1.0)
    smoothed, _ = fit_scale_shift(relative, noisy, line, stamp=1.1)
    alone, _ = fit_scale_shift(relative, noisy, line, stamp=1.1, time_constant=0)
    assert off(smoothed, depth) < off(alone, depth)
    other, _ = fit_scale_shift(relative * 3, some(depth, 8), line, stamp=1.1)  # a cut
    assert off(other, depth) < 0.1


def test_a_range_at_scale_zero_of_everything_is_no_crash():
    relative = np.zeros((120, 160), np.float32)
    metres, line = fit_scale_shift(relative, Anchors([3, 9], [4, 100], [2.0, 2.0]))
    assert metres.shape == relative.shape and np.isfinite(line.scale)


LIDAR = read_pose('0 0 -0.3 0 0 0')
ANGLES = np.linspace(-np.pi, np.pi, 360, endpoint=False)


def scan(room, pose, stamp, rng):
    """sensor_msgs/LaserScan's fields: a lidar below the camera in the virtual room."""
    ranges = room.scan(pose @ LIDAR, ANGLES) + rng.normal(0, 0.01, ANGLES.size)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id='lidar'), angle_min=-np.pi,
        angle_max=np.pi, angle_increment=2 * np.pi / 360, range_min=0.1, range_max=5.0,
        ranges=np.where(ranges < 5, ranges, np.inf).astype(np.float32))


def test_a_scan_makes_metres_of_the_virtual_room():
    """A network without metres whose scale and shift change from picture to picture."""
    room, rng, corrector = Room(0), np.random.default_rng(0), AnchorCorrector(['scan'], [LIDAR])
    settings, errors = AnchorSettings(), []
    for second in range(1, 13):
        pose = room.camera_pose(float(second))
        _, truth = room.render(CAMERA, pose)
        smooth = 1 + 0.03 * np.sin(np.linspace(0, 6, 160))[None] * np.ones((120, 1))
        relative = ((smooth / truth - rng.uniform(0, 0.1)) * rng.uniform(20, 60)).astype(np.float32)
        stamp = SimpleNamespace(sec=second, nanosec=0)
        corrector.take('scan', scan(room, pose, stamp, rng))
        depth = corrector.correct(relative, ImageInfo(second * 10**9, 'camera', CAMERA), settings,
                                  relative=True).depth
        near = truth < 5  # as far as the lidar sees
        errors.append(np.nanmedian(np.abs(depth / truth - 1)[near]))
        assert corrector.sources['scan'].used > 10
    assert np.median(errors) < 0.03, errors
    assert max(errors) < 0.1, errors
    with pytest.raises(LookupError, match='no metres'):  # the lidar is dead
        corrector.correct(relative, ImageInfo(30 * 10**9, 'camera', CAMERA), settings,
                          relative=True)
    assert 'away from the image' in corrector.sources['scan'].trouble
