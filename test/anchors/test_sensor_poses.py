"""Where a camera's sensors are, by odometry and by whoever knows poses."""

from types import SimpleNamespace

import numpy as np

from hybrid_depth_ros.anchors.sensor_poses import SensorPoses
from hybrid_depth_ros.anchors.source import AnchorSource
from hybrid_depth_ros.anchors.types import ImageInfo


def odometry_without_pose():
    """Odometry of base_link: where the camera is on it must be looked up."""
    source = AnchorSource('motion', None)
    source.take(SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0)),
        child_frame_id='base_link', pose=SimpleNamespace(pose=SimpleNamespace(
            position=SimpleNamespace(x=0.0, y=0.0, z=0.0),
            orientation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)))))
    return source


def test_why_poses_are_not_known_is_said_on_one_line():
    """tf2's sentences of several lines broke the warning."""
    def lookup(*names):
        raise LookupError('base_link is\n  not connected\n  to camera')
    poses = SensorPoses(lookup, odometry_without_pose())
    lidar = AnchorSource('scan', np.eye(4))
    pose = poses.of_sensor(lidar, ImageInfo(10 ** 9, 'camera', None), 'laser', 10 ** 9)
    np.testing.assert_array_equal(pose, np.eye(4))
    assert lidar.warning == (
        'it is taken as if the robot stood: base_link is not connected to camera')
