"""The obstacles of one camera of the depth node: a cloud, and a laser scan in a level frame."""

from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import LaserScan, PointCloud2
from std_msgs.msg import Header

from hybrid_depth_ros.anchors.sensor_poses import camera_above_floor
from hybrid_depth_ros.floor_plane import FloorPlane, FloorTracker, level_axes
from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.nodes.depth.settings import DepthSettings
from hybrid_depth_ros.nodes.shared.messages import cloud_message
from hybrid_depth_ros.nodes.shared.transforms import TransformBroadcaster, TransformLookup
from hybrid_depth_ros.obstacles import (
    ObstacleSettings,
    Scan,
    ScanAngles,
    find_obstacles,
    obstacle_cloud,
    obstacle_scan,
    scan_angles,
)
from hybrid_depth_ros.stamps import stamp_of

LEVEL_SUFFIX = '_level'  # of the scan's frame, behind the image's frame_id
FLOOR_MISSING = 10.0  # seconds without a floor in sight, after which that is told


class ObstacleTopics:
    """``depth/obstacles`` and ``depth/scan``, with the transform of the scan's frame on /tf.

    ``problem``: why neither is sent, or may be wrong; empty where all is well.

    Args:
        node: The depth node.
        prefix: Of the topics, the camera's namespace with a slash, or empty.
        publisher: Makes a publisher of a type and a topic.
        transforms: Asked where the camera stands, if ``camera_height`` does not say.
        warn: Logs a text. Takes a key of what it is about, the text, and the least seconds between
            two such logs; None: the default.
    """

    def __init__(self, node: Node, prefix: str, publisher: Callable[[type[Any], str], Publisher],
                 transforms: TransformLookup, warn: Callable[[str, str, float | None], None]
                 ) -> None:
        self._transforms, self._warn = transforms, warn
        self._cloud_publisher = publisher(PointCloud2, prefix + 'depth/obstacles')
        self._scan_publisher = publisher(LaserScan, prefix + 'depth/scan')
        self.publishers = (self._cloud_publisher, self._scan_publisher)
        self._broadcaster = TransformBroadcaster(node)
        self.reset()

    def reset(self) -> None:
        """Forget the floor."""
        self.problem = ''
        self._floor = FloorTracker()
        self._angles: tuple[tuple[Intrinsics, ObstacleSettings], ScanAngles] | None = None

    def publish(self, header: Header, depth: npt.NDArray[np.float32], rgb: npt.NDArray[np.uint8],
                intrinsics: Intrinsics, settings: DepthSettings,
                snapped: npt.NDArray[np.float32] | None = None) -> None:
        """Send what stands above the floor, where somebody listens.

        Args:
            header: The image's.
            depth: float32 H×W metres, NaN where unknown.
            rgb: uint8 H×W×3.
            intrinsics: Of both.
            settings: The node's.
            snapped: `depth` with its outlines as steps, where the cloud needed that as well.
        """
        self.problem = ''
        if not any(publisher.get_subscription_count() for publisher in self.publishers):
            return
        stamp, frame, what = stamp_of(header), header.frame_id, settings.obstacles
        try:
            height, down = camera_above_floor(frame, settings.anchoring, lambda: (
                self._transforms.pose_over_time(frame, stamp, settings.floor_frame, stamp).pose))
        except LookupError as error:
            self.problem = ('depth/obstacles and depth/scan wait: the height of the camera above '
                            f'the floor is unknown, set camera_height and camera_pitch ({error})')
            self._warn('obstacles', self.problem, None)
            return
        level = FloorPlane.from_gravity(height, down)
        plane = self._floor.update(depth, intrinsics, height, down, stamp / 1e9) or level
        if self._floor.missing > FLOOR_MISSING:
            self.problem = (
                f'the floor has not been seen for {FLOOR_MISSING:g} s ({self._floor.reason}): it '
                f'is taken to be {height:.2f} m below the camera. If the image shows it, see '
                'whether camera_height and camera_pitch, or floor_frame, are right')
            self._warn('floor', self.problem, 60.0)
        obstacles = (
            find_obstacles(depth, intrinsics, plane, what) if snapped is None else
            find_obstacles(snapped, intrinsics, plane, replace(what, edge_filter=0.0)))
        if self._cloud_publisher.get_subscription_count():
            self._cloud_publisher.publish(cloud_message(obstacle_cloud(obstacles, rgb), header))
        if self._scan_publisher.get_subscription_count():
            if self._angles is None or self._angles[0] != (intrinsics, what):
                self._angles = (intrinsics, what), scan_angles(intrinsics, level, what)
            scan = obstacle_scan(obstacles, self._angles[1])
            scan_frame = settings.scan_frame or frame + LEVEL_SUFFIX
            pose = np.eye(4)
            pose[:3, :3] = level_axes(level)
            if trouble := self._broadcaster.send(header.stamp, frame, scan_frame, pose):
                self._warn('scan_frame', trouble, None)
            self._scan_publisher.publish(_scan_message(
                scan, Header(stamp=header.stamp, frame_id=scan_frame), what.min_range,
                self._angles[1].range_max))


def _scan_message(scan: Scan, header: Header, range_min: float, range_max: float) -> LaserScan:
    message = LaserScan(
        header=header, angle_min=scan.angle_min, angle_increment=scan.angle_increment,
        angle_max=scan.angle_min + scan.angle_increment * (scan.ranges.size - 1),
        range_min=range_min, range_max=range_max)
    message.ranges = array('f', scan.ranges.tobytes())
    return message
