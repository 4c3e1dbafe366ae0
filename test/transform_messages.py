"""Headers and transforms as messages, for tests."""

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from std_msgs.msg import Header

from hybrid_depth_ros.poses import quaternion_from_pose


def header(ns, frame):
    return Header(stamp=Time(sec=ns // 10**9, nanosec=ns % 10**9), frame_id=frame)


def transform(parent, child, pose, ns=0):
    message = TransformStamped(header=header(ns, parent), child_frame_id=child)
    message.transform.translation = Vector3(**dict(zip('xyz', pose[:3, 3].tolist())))
    message.transform.rotation = Quaternion(**dict(zip('xyzw', quaternion_from_pose(pose))))
    return message
