"""What a lidar measures in the scene of stub_depth_node."""

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
import stub_depth_node as scene
from sensor_msgs.msg import LaserScan
from stub_depth_node import HEIGHT, WIDTH, scene_depth

from hybrid_depth_ros.poses import read_pose

TRUTH = scene_depth(WIDTH, HEIGHT)

LIDAR = '-0.05 0.02 -0.1 0 3 -5'  # below the camera, turned a little

WRONG = 1.4


def scene_scan(header, pose=LIDAR, beams=360):
    """What a lidar at this pose measures all around, LaserScan."""
    angles = np.linspace(-np.pi, np.pi, beams, endpoint=False)
    transform = read_pose(pose) if isinstance(pose, str) else pose  # in the optical frame
    rays = transform[:3, :3] @ np.stack((np.cos(angles), np.sin(angles), 0 * angles))
    origin = transform[:3, 3]
    with np.errstate(divide='ignore', invalid='ignore'):
        plane = (scene.PLANE_DISTANCE - scene.PLANE_NORMAL @ origin) / (scene.PLANE_NORMAL @ rays)
        to_centre = scene.SPHERE_CENTRE - origin
        b = rays.T @ to_centre
        root = b ** 2 - (to_centre @ to_centre - scene.SPHERE_RADIUS ** 2)
        sphere = np.where((root > 0) & (b > 0), b - np.sqrt(np.maximum(root, 0)), np.inf)
    ranges = np.minimum(np.where(plane > 0, plane, np.inf), sphere)
    ranges[ranges > 12] = np.inf
    return LaserScan(header=header, angle_min=-np.pi, angle_max=np.pi,
                     angle_increment=2 * np.pi / beams, range_min=0.1, range_max=12.0,
                     ranges=ranges.astype(np.float32).tolist())


def off(depth, part=np.s_[:]):
    """How far depth is from the truth, as a share, in the median and for nearly all."""
    ratio = np.abs(depth / TRUTH - 1)[part]
    return np.median(ratio), np.percentile(ratio, 95)
