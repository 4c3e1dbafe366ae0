"""Poses of quaternions, of angles and of text."""

import numpy as np
import pytest

from hybrid_depth_ros.poses import (
    deskewed,
    pose_from_angles,
    pose_from_quaternion,
    pose_over_time,
)

OPTICAL = pose_from_angles(0, 0, 0, -np.pi / 2, 0, -np.pi / 2)  # of a camera in its body frame
NAN = float('nan')


def test_poses_follow_rep_103():
    np.testing.assert_allclose(OPTICAL[:3, :3] @ [0, 0, 1], [1, 0, 0], atol=1e-12)  # z is forward
    np.testing.assert_allclose(OPTICAL[:3, :3] @ [1, 0, 0], [0, -1, 0], atol=1e-12)  # x is right
    np.testing.assert_allclose(pose_from_quaternion((1, 2, 3), (-0.5, 0.5, -0.5, 0.5)),
                               pose_from_angles(1, 2, 3, -np.pi / 2, 0, -np.pi / 2), atol=1e-12)
    for wrong in ((0, 0, 0, 0), (NAN, 0, 0, 1)):
        with pytest.raises(ValueError, match='quaternion'):
            pose_from_quaternion((0, 0, 0), wrong)


class Turning:
    """A robot that turns at 2 rad/s, known until a moment (ns)."""

    def __init__(self, until, since=0):
        self.since, self.until = since, until

    def pose(self, frame, other, stamp=None):
        if 'odom' not in (frame, other):
            return np.eye(4)
        stamp = self.until if stamp is None else stamp
        if not self.since <= stamp <= self.until:
            raise LookupError('that is not known')
        pose = turned_at(stamp / 1e9)
        return np.linalg.inv(pose) if other == 'odom' else pose

    def newest(self, frame, other):
        return self.until


def turned_at(seconds):
    return pose_from_angles(seconds, 0, 0, 0, 0, 2 * seconds)


@pytest.mark.parametrize(('until', 'off', 'said'), [
    (2.0, 0.0, ''), (0.97, 0.005, 'odom is known until 0.03 s before'), (0.6, 0.6, '')])
def test_motion_is_carried_on_from_the_newest_transform(until, off, said):
    """An image at 1 s, a scan at 0.7 s."""
    found = pose_over_time(Turning(round(until * 1e9)), 'camera', 10**9, 'lidar', 7 * 10**8, 'odom')
    true = np.linalg.inv(turned_at(1.0)) @ turned_at(0.7)
    assert np.abs(found.pose - true).max() <= off + 1e-9
    assert found.note.startswith(said) and bool(found.note) == bool(said)
    assert ('as if the robot stood' in found.warning) == (until == 0.6)


def test_a_transform_that_has_only_come_is_taken_as_it_is():
    found = pose_over_time(Turning(970_000_000, 950_000_000), 'camera', 10**9, 'lidar',
                           960_000_000, 'odom')
    true = np.linalg.inv(turned_at(0.97)) @ turned_at(0.96)
    np.testing.assert_allclose(found.pose, true, atol=1e-9)
    assert 'odom is known until' in found.note


def test_each_beam_of_a_sweep_is_taken_at_its_time():
    seconds = np.linspace(0, 0.1, 360).astype(np.float32)
    rng = np.random.default_rng(0)
    still = np.vstack((rng.uniform(1, 5, (2, 360)), np.ones(360)))  # in the frame at the start
    seen = np.stack([np.linalg.inv(turned_at(moment)) @ np.append(point, 1)
                     for moment, point in zip(seconds, still.T)], 1)[:3].astype(np.float32)
    assert np.abs(seen - still).max() > 0.5
    np.testing.assert_allclose(deskewed(seen, seconds, turned_at), still, atol=2e-3)
    np.testing.assert_array_equal(deskewed(seen, seconds, lambda moment: np.eye(4)), seen)
    assert deskewed(np.zeros((3, 0), np.float32), np.zeros(0), turned_at).shape == (3, 0)
