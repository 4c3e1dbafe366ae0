"""Poses: 4×4 rigid transforms, from quaternions, from angles, from text (REP 103).

A pose of B in A takes points of the frame B to the frame A.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Pose = npt.NDArray[np.floating]


def pose_from_quaternion(translation: Sequence[float] | npt.NDArray[np.floating],
                         quaternion: Sequence[float] | npt.NDArray[np.floating]) -> Pose:
    """The pose of a translation and a quaternion, as geometry_msgs/Transform has them.

    Args:
        translation: x, y, z in metres.
        quaternion: x, y, z, w; it need not be normalised.

    Returns:
        4×4 float64.

    Raises:
        ValueError: a number is not finite, or the quaternion is 0.
    """
    x, y, z, w = np.asarray(quaternion, np.float64)
    length = np.sqrt(x * x + y * y + z * z + w * w)
    pose: Pose = np.eye(4)
    pose[:3, 3] = translation
    if not (np.isfinite(pose).all() and np.isfinite(length) and length > 1e-6):
        raise ValueError(f'a pose has the translation {tuple(translation)} and the quaternion '
                         f'{tuple(quaternion)}: they must be numbers, the quaternion of length 1')
    x, y, z, w = (part / length for part in (x, y, z, w))
    pose[:3, :3] = [[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                    [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                    [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]
    return pose


def quaternion_from_pose(pose: Pose) -> tuple[float, float, float, float]:
    """x, y, z, w of the rotation in a 4×4 pose."""
    vector = cv2.Rodrigues(np.ascontiguousarray(pose[:3, :3]))[0].ravel()
    angle = np.linalg.norm(vector)
    axis = vector / angle if angle else vector
    x, y, z = (axis * np.sin(angle / 2)).tolist()
    return x, y, z, float(np.cos(angle / 2))


def interpolate_poses(first: Pose, second: Pose, share: float) -> Pose:
    """The pose between two poses: `share` of the way from the first to the second.

    Below 0 and above 1 it lies beyond them, as if motion went on.
    """
    turn = cv2.Rodrigues(np.ascontiguousarray(first[:3, :3].T @ second[:3, :3]))[0]
    pose: Pose = np.eye(4)
    pose[:3, :3] = first[:3, :3] @ cv2.Rodrigues(turn * share)[0]
    pose[:3, 3] = (1 - share) * first[:3, 3] + share * second[:3, 3]
    return pose


def pose_from_angles(x: float, y: float, z: float,
                     roll: float, pitch: float, yaw: float) -> Pose:
    """The pose that static_transform_publisher makes of these numbers.

    Args:
        x: metres.
        y: metres.
        z: metres.
        roll: radians about the fixed axis x, applied first.
        pitch: radians about the fixed axis y, applied second.
        yaw: radians about the fixed axis z, applied last.

    Returns:
        4×4 float64.

    Source: REP 103.
    """
    cr, sr, cp, sp, cy, sy = (f(angle) for angle in (roll, pitch, yaw) for f in (np.cos, np.sin))
    pose: Pose = np.eye(4)
    pose[:3] = [[cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr, x],
                [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr, y],
                [-sp, cp * sr, cp * cr, z]]
    return pose


# A body frame (x forward, y left, z up) seen from the optical frame (z forward, x right, y down).
BODY_IN_OPTICAL: Pose = np.linalg.inv(pose_from_angles(0, 0, 0, -np.pi / 2, 0, -np.pi / 2))


def read_pose(text: str) -> Pose | None:
    """The pose of a sensor in the camera's optical frame, from a parameter's text.

    Args:
        text: ``x y z roll pitch yaw`` in metres and degrees. They place the sensor as seen from
            the camera: x forward, y left, z up. Commas may stand between them.

    Returns:
        4×4 float64; None for an empty text.

    Raises:
        ValueError: the text is not six finite numbers.
    """
    if not text.strip():
        return None
    try:
        numbers = [float(part) for part in text.replace(',', ' ').split()]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        raise ValueError(f'a pose is {text!r}; it must be six numbers, x y z in metres and roll '
                         "pitch yaw in degrees: '0.1 0 -0.2 0 0 0'")
    x, y, z = numbers[:3]
    roll, pitch, yaw = np.deg2rad(numbers[3:])
    return BODY_IN_OPTICAL @ pose_from_angles(x, y, z, roll, pitch, yaw)
