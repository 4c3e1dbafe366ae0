"""Poses by TF, where tf2_ros is installed: it is not among PyPI's wheels."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from hybrid_depth_ros.poses import pose_from_quaternion, quaternion_from_pose

Pose = npt.NDArray[np.floating]  # 4×4


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

    def pose(self, frame: str, stamp: int, other: str, other_stamp: int) -> Pose:
        """Look up where a sensor was when it measured, seen from the camera at its image.

        Where fixed_frame doesn't tell, both are taken to stand still; where the newest transform
        is older than the image, that one is taken.

        Args:
            frame: The camera's optical frame.
            stamp: Of the image, ns.
            other: The sensor's frame.
            other_stamp: Of the measurement, ns.

        Returns:
            4×4: `other` as it was at `other_stamp`, in `frame` at `stamp`.

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
        kinds = self._node.get_clock().clock_type
        then, now = (Time(nanoseconds=max(0, ns), clock_type=kinds) for ns in (other_stamp, stamp))
        attempts: list[Callable[[], Any]] = [
            lambda: self._buffer.lookup_transform(frame, other, now),
                    lambda: self._buffer.lookup_transform(frame, other, Time(clock_type=kinds))]
        if self.fixed_frame and other == self.fixed_frame:
            del attempts[1]  # where the camera was is asked for, and it moves
        if self.fixed_frame and stamp != other_stamp:
            attempts.insert(0, lambda: self._buffer.lookup_transform_full(
                frame, now, other, then, self.fixed_frame))
        reason: Exception | None = None
        for attempt in attempts:
            try:
                transform = attempt().transform
            except Exception as error:  # tf2's own are of several kinds
                reason = error
                continue
            t, q = transform.translation, transform.rotation
            try:
                return pose_from_quaternion((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
            except ValueError as error:
                raise LookupError(f'{other} in {frame}: {error}') from error
        raise LookupError(f'no transform leads from {other} to {frame} '
                          f'({" ".join(str(reason).split())}): see `ros2 run tf2_tools '
                          'view_frames`, or set anchor_poses') from reason
