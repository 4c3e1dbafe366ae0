"""Poses by TF, where tf2_ros is installed: it is not among PyPI's wheels."""

from importlib import import_module
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from hybrid_depth_ros.poses import (
    PlacedPose,
    Pose,
    pose_from_quaternion,
    pose_over_time,
    quaternion_from_pose,
)
from hybrid_depth_ros.stamps import stamp_of


def publish_static_transform(node: Node, parent: str, child: str, pose: Pose) -> Any:
    """Send the pose of a frame in its parent on /tf_static.

    Args:
        node: That sends.
        parent: Its frame.
        child: The other frame.
        pose: 4×4, of `child` in `parent`.

    Returns:
        What must be kept while it holds; None where tf2_ros is not installed.
    """
    try:
        tf2_ros = import_module('tf2_ros')
    except ImportError:
        return None
    broadcaster = tf2_ros.StaticTransformBroadcaster(node)
    broadcaster.sendTransform(_transform(node.get_clock().now().to_msg(), parent, child, pose))
    return broadcaster


def _transform(stamp: Any, parent: str, child: str, pose: Pose) -> Any:
    from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
    transform = TransformStamped(child_frame_id=child)
    transform.header.stamp, transform.header.frame_id = stamp, parent
    transform.transform.translation = Vector3(**dict(zip('xyz', pose[:3, 3].tolist())))
    transform.transform.rotation = Quaternion(**dict(zip('xyzw', quaternion_from_pose(pose))))
    return transform


class TransformBroadcaster:
    """Sends poses of frames on /tf; its topic appears with the first one."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._broadcaster: Any = None

    def send(self, stamp: Any, parent: str, child: str, pose: Pose) -> str:
        """Send the pose of a frame in its parent.

        Args:
            stamp: builtin_interfaces/Time, of the message in the frame.
            parent: Its frame.
            child: The other frame.
            pose: 4×4, of `child` in `parent`.

        Returns:
            A sentence where it can't be sent; empty otherwise.
        """
        if self._broadcaster is None:
            try:
                self._broadcaster = import_module('tf2_ros').TransformBroadcaster(self._node)
            except ImportError as error:
                return (f'the transform from {parent} to {child} is not sent: tf2_ros is not '
                        f'installed ({error}); apt install ros-$ROS_DISTRO-tf2-ros')
        self._broadcaster.sendTransform(_transform(stamp, parent, child, pose))
        return ''


class TransformLookup:
    """Listens to /tf and /tf_static as soon as a pose is asked for the first time.

    ``fixed_frame``: what stays while the robot moves, ``odom``; empty: nothing is taken to move.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._missing = node, ''
        self._buffer: Any = None
        self._listener: Any = None
        self.fixed_frame = ''

    def listen(self) -> None:
        """Start to listen, at the first call."""
        if self._buffer or self._missing:
            return
        try:
            tf2_ros = import_module('tf2_ros')
        except ImportError as error:
            self._missing = (f'tf2_ros is not installed ({error}): install it (apt install '
                             'ros-$ROS_DISTRO-tf2-ros), or set anchor_poses and camera_height')
            return
        self._buffer = tf2_ros.Buffer(cache_time=Duration(seconds=10))
        self._listener = tf2_ros.TransformListener(self._buffer, self._node, spin_thread=False)

    def pose_over_time(self, frame: str, stamp: int, other: str, other_stamp: int) -> PlacedPose:
        """Look up where a sensor was when it measured, seen from the camera at its image.

        Args:
            frame: The camera's optical frame.
            stamp: Of the image, ns.
            other: The sensor's frame.
            other_stamp: Of the measurement, ns.

        Returns:
            `other` as it was at `other_stamp`, in `frame` at `stamp`, by way of ``fixed_frame``,
            see :func:`~hybrid_depth_ros.poses.pose_over_time`.

        Raises:
            LookupError: A sentence, where no transform leads there.
        """
        self.listen()
        if not self._buffer:
            raise LookupError(self._missing)
        frame, other = frame.lstrip('/'), other.lstrip('/')
        if not frame or not other:
            raise LookupError(f'the frames {frame!r} and {other!r} are not both named: have the '
                              'drivers fill frame_id, or set anchor_poses')
        return pose_over_time(self, frame, stamp, other, other_stamp, self.fixed_frame)

    def pose(self, frame: str, other: str, stamp: int | None = None) -> Pose:
        """Look up the pose of `other` in `frame`, 4×4, at a stamp (ns) or the newest.

        Raises:
            LookupError: A sentence, where no transform leads there.
        """
        return self._transform(frame, other, stamp)[0]

    def newest(self, frame: str, other: str) -> int:
        """Return the stamp (ns) up to which that pose is known; 0: always.

        Raises:
            LookupError: It never is.
        """
        return self._transform(frame, other, None)[1]

    def _transform(self, frame: str, other: str, stamp: int | None) -> tuple[Pose, int]:
        moment = Time(nanoseconds=max(0, stamp or 0),
                      clock_type=self._node.get_clock().clock_type)  # 0: the newest
        try:
            found = self._buffer.lookup_transform(frame, other, moment)
        except Exception as error:  # tf2's own are of several kinds
            raise LookupError(f'no transform leads from {other} to {frame} '
                              f'({" ".join(str(error).split())}): see `ros2 run tf2_tools '
                              'view_frames`, or set anchor_poses') from error
        t, q = found.transform.translation, found.transform.rotation
        try:
            pose = pose_from_quaternion((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
        except ValueError as error:
            raise LookupError(f'{other} in {frame}: {error}') from error
        return pose, stamp_of(found.header)
