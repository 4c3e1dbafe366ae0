"""Frames of a recording's transforms: by their parents, between stamps, never beyond."""

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
rosbags = pytest.importorskip('rosbags')

from transform_messages import transform

from hybrid_depth_ros.poses import pose_from_angles
from hybrid_depth_ros.recordings.frame_tree import FrameTree


class Tf:
    def __init__(self, *transforms):
        self.transforms = transforms


def test_frames_are_found_through_their_parents_and_between_stamps():
    tree = FrameTree()
    lidar, camera = pose_from_angles(1, 0, 0.5, 0, 0, 0), pose_from_angles(0, 2, 0, 0, 0, np.pi / 2)
    tree.add(Tf(transform('base', 'lidar', lidar), transform('/base', 'camera', camera)), True)
    np.testing.assert_allclose(tree.pose('camera', 'lidar'), np.linalg.inv(camera) @ lidar,
                               atol=1e-12)
    np.testing.assert_allclose(tree.pose('base', 'base'), np.eye(4))
    for ns, x, yaw in ((2 * 10**9, 2.0, 1.0), (10**9, 1.0, 0.0), (3 * 10**9, 3.0, 1.0)):
        tree.add(Tf(transform('odom', 'base', pose_from_angles(x, 0, 0, 0, 0, yaw), ns)), False)
    np.testing.assert_allclose(tree.pose('odom', 'base', 1_500_000_000),
                               pose_from_angles(1.5, 0, 0, 0, 0, 0.5), atol=1e-9)
    np.testing.assert_allclose(tree.pose('odom', 'base', 3 * 10**9)[0, 3], 3)
    # the robot drove half a metre between scan and picture
    moved = tree.pose_over_time('camera', 2_500_000_000, 'lidar', 2 * 10**9, 'odom')
    expected = (np.linalg.inv(pose_from_angles(2.5, 0, 0, 0, 0, 1) @ camera)
                @ pose_from_angles(2, 0, 0, 0, 0, 1) @ lidar)
    np.testing.assert_allclose(moved, expected, atol=1e-9)
    still = tree.pose_over_time('camera', 9 * 10**9, 'lidar', 8 * 10**9, 'odom')  # not known then
    np.testing.assert_allclose(still, np.linalg.inv(camera) @ lidar, atol=1e-12)
    for stamp in (0, 4 * 10**9):
        with pytest.raises(LookupError, match=r'known from 1\.000 to 3\.000 s'):
            tree.pose('odom', 'base', stamp)


def test_frames_that_do_not_meet_are_named():
    tree = FrameTree()
    tree.add(Tf(transform('base', 'lidar', np.eye(4)), transform('rig', 'camera', np.eye(4))), True)
    with pytest.raises(LookupError, match='from lidar to camera: they hang in two trees, of base '
                                          'and of rig'):
        tree.pose('camera', 'lidar')
    with pytest.raises(LookupError, match='sonar is in no transform'):
        tree.pose('camera', 'sonar')
    tree.add(Tf(transform('a', 'b', np.eye(4)), transform('b', 'a', np.eye(4))), True)
    with pytest.raises(LookupError):
        tree.pose('a', 'camera')  # a circle is no tree
    bad = transform('base', 'broken', np.eye(4))
    bad.transform.rotation.w = 0.0
    tree.add(Tf(bad), True)
    with pytest.raises(LookupError, match='broken is in no transform'):
        tree.pose('base', 'broken')
