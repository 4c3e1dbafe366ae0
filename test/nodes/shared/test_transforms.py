"""Poses by TF, by a buffer that answers as tf2's does: never beyond what it knows."""

from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from rclpy.clock import ClockType
from transform_messages import transform

from hybrid_depth_ros.nodes.shared.transforms import TransformLookup
from hybrid_depth_ros.poses import pose_from_angles

MS = 1_000_000


def turned_at(ns):
    return pose_from_angles(1e-9 * ns, 0, 0, 0, 0, 1e-9 * ns)


class Buffer:
    """A robot that turns at 1 rad/s in odom, known from 0 to 1 s; camera and lidar lie in it."""

    def lookup_transform(self, frame, other, moment):
        if 'map' in (frame, other):
            raise RuntimeError('"map" passed to lookupTransform does not exist.')
        ns = moment.nanoseconds or 1000 * MS
        if frame == other or 'odom' not in (frame, other):
            return transform(frame, other, np.eye(4), 0)
        if not 0 <= ns <= 1000 * MS:
            raise RuntimeError('Lookup would require extrapolation into the future.')
        pose = turned_at(ns)
        return transform(frame, other, pose if frame == 'odom' else np.linalg.inv(pose), ns)


@pytest.fixture
def lookup():
    clock = SimpleNamespace(clock_type=ClockType.ROS_TIME)
    lookup = TransformLookup(SimpleNamespace(get_clock=lambda: clock))
    lookup._buffer, lookup.fixed_frame = Buffer(), 'odom'
    return lookup


@pytest.mark.parametrize(('image', 'scan', 'off', 'note'), [
    (900, 700, 0, ''), (1030, 950, 2e-3, '0.03 s before'), (1200, 1100, 0.02, '0.2 s before')])
def test_motion_until_the_image_is_by_the_newest_transforms(lookup, image, scan, off, note):
    found = lookup.pose_over_time('camera', image * MS, 'lidar', scan * MS)
    true = np.linalg.inv(turned_at(image * MS)) @ turned_at(scan * MS)
    assert np.abs(found.pose - true).max() <= off + 1e-9
    assert note in found.note and bool(note) == bool(found.note) and not found.warning


def test_what_is_older_stands_and_is_told_of(lookup):
    found = lookup.pose_over_time('camera', 1400 * MS, 'lidar', 1300 * MS)
    np.testing.assert_allclose(found.pose, np.eye(4))
    assert 'as if the robot stood' in found.warning
    lookup.fixed_frame = 'map'  # nobody sends it: nothing to tell of
    assert not lookup.pose_over_time('camera', 900 * MS, 'lidar', 800 * MS).warning


def test_where_the_camera_was_is_never_guessed(lookup):
    with pytest.raises(LookupError, match=r'leads from odom to camera .*extrapolation'):
        lookup.pose_over_time('camera', 1400 * MS, 'odom', 1400 * MS)
    with pytest.raises(LookupError, match='not both named'):
        lookup.pose_over_time('camera', 0, '', 0)
