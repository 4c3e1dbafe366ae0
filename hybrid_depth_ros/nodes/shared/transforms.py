"""Poses by TF, where tf2_ros is installed: it is not among PyPI's wheels."""

from importlib import import_module

from rclpy.duration import Duration
from rclpy.time import Time

from hybrid_depth_ros.poses import pose_from_quaternion, quaternion_from_pose


def publish_static_transform(node, parent, child, pose):
    """Send the 4×4 pose of a frame in its parent on /tf_static; returns what must be kept, or None
    where tf2_ros is not installed."""
    try:
        tf2_ros = import_module('tf2_ros')
    except ImportError:
        return None
    from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
    transform = TransformStamped(child_frame_id=child)
    transform.header.stamp, transform.header.frame_id = node.get_clock().now().to_msg(), parent
    transform.transform.translation = Vector3(**dict(zip('xyz', pose[:3, 3].tolist())))
    transform.transform.rotation = Quaternion(**dict(zip('xyzw', quaternion_from_pose(pose))))
    broadcaster = tf2_ros.StaticTransformBroadcaster(node)
    broadcaster.sendTransform(transform)
    return broadcaster


class TransformLookup:
    """Listens to /tf and /tf_static as soon as a pose is asked for the first time.

    ``fixed_frame``: what stays while the robot moves, ``odom``; empty: nothing is taken to move.
    """

    def __init__(self, node):
        self._node, self._buffer, self._listener, self._trouble = node, None, None, ''
        self.fixed_frame = ''

    def listen(self):
        """Start to listen; once."""
        if self._buffer or self._trouble:
            return
        try:
            tf2_ros = import_module('tf2_ros')
        except ImportError as error:
            self._trouble = (f'tf2_ros is not installed ({error}): install it (apt install '
                             'ros-$ROS_DISTRO-tf2-ros), or set anchor_poses and camera_height')
            return
        self._buffer = tf2_ros.Buffer(cache_time=Duration(seconds=10))
        self._listener = tf2_ros.TransformListener(self._buffer, self._node, spin_thread=False)

    def pose(self, frame, stamp, other, other_stamp):
        """4×4: `other` as it was at other_stamp (ns), in `frame` at stamp.

        Where fixed_frame doesn't tell, both are taken to stand still; where the newest transform
        is older than the picture, that one is taken. Raises LookupError, a sentence.
        """
        self.listen()
        if not self._buffer:
            raise LookupError(self._trouble)
        frame, other = frame.lstrip('/'), other.lstrip('/')
        if not frame or not other:
            raise LookupError(f'the frames {frame!r} and {other!r} are not both named: have the '
                              'drivers fill frame_id, or set anchor_poses')
        kinds = self._node.get_clock().clock_type
        then, now = (Time(nanoseconds=max(0, ns), clock_type=kinds) for ns in (other_stamp, stamp))
        attempts = [lambda: self._buffer.lookup_transform(frame, other, now),
                    lambda: self._buffer.lookup_transform(frame, other, Time(clock_type=kinds))]
        if self.fixed_frame and stamp != other_stamp:
            attempts.insert(0, lambda: self._buffer.lookup_transform_full(
                frame, now, other, then, self.fixed_frame))
        trouble = None
        for attempt in attempts:
            try:
                transform = attempt().transform
            except Exception as error:  # tf2's own are of several kinds
                trouble = error
                continue
            t, q = transform.translation, transform.rotation
            try:
                return pose_from_quaternion((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
            except ValueError as error:
                raise LookupError(f'{other} in {frame}: {error}') from error
        raise LookupError(f'no transform leads from {other} to {frame} '
                          f'({" ".join(str(trouble).split())}): see `ros2 run tf2_tools '
                          'view_frames`, or set anchor_poses') from trouble
