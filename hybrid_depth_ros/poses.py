"""Poses: 4×4 rigid transforms, from quaternions, from angles, from text (REP 103).

A pose of B in A takes points of the frame B to the frame A.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt

Pose = npt.NDArray[np.floating]
MAX_EXTRAPOLATION = 0.25  # seconds behind the newest transform for which motion is carried on
VELOCITY_TIME = 100_000_000  # ns before it, over which that motion is taken
DESKEW_INTERVAL = 0.01  # seconds of a sweep between two poses; between them points move evenly


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


class PlacedPose(NamedTuple):
    """A pose, and how it was found.

    Attributes:
        pose: 4×4.
        note: what was assumed, or empty.
        warning: what was not known and matters, or empty.
    """

    pose: Pose
    note: str = ''
    warning: str = ''


class Transforms(Protocol):
    """Frames in space and time: tf2's, or those of a recording."""

    def pose(self, frame: str, other: str, stamp: int | None = None) -> Pose:
        """The pose of `other` in `frame` at a stamp (ns), or the newest; LookupError: unknown."""

    def newest(self, frame: str, other: str) -> int:
        """The stamp (ns) up to which that pose is known; 0: always. LookupError: it never is."""


def pose_over_time(transforms: Transforms, frame: str, stamp: int, other: str, other_stamp: int,
                   fixed: str) -> PlacedPose:
    """The pose of `other` as it was at one moment, in `frame` at another moment.

    Where the newest transform is up to ``MAX_EXTRAPOLATION`` older than a moment, motion is
    carried on from there. Without a fixed frame, or its poses for these moments, nothing is taken
    to have moved.

    Args:
        transforms: what knows poses.
        frame: a frame's name.
        stamp: its moment, ns.
        other: another's name.
        other_stamp: its moment, ns.
        fixed: a frame that does not move; empty: there is none.

    Raises:
        LookupError: a sentence that names the frames.
    """
    warning = ''
    if fixed and stamp != other_stamp:
        try:
            first, late = _carried_on(transforms, frame, fixed, stamp)
            second, later = (_carried_on(transforms, other, fixed, other_stamp)
                             if other != fixed else (np.eye(4), 0.0))
            late = max(late, later)
            note = (f'{fixed} is known until {late:.3g} s before: motion is carried on from there'
                    if late else '')
            return PlacedPose(first @ np.linalg.inv(second), note)
        except LookupError as error:
            if other == fixed:
                raise
            warning = _still(transforms, frame, fixed, error)
    try:
        return PlacedPose(transforms.pose(frame, other, stamp), '', warning)
    except LookupError:
        if other == fixed:
            raise
        return PlacedPose(transforms.pose(frame, other), '', warning)


def _still(transforms: Transforms, frame: str, fixed: str, error: LookupError) -> str:
    """A sentence on motion that is not known; empty where nobody tells of the fixed frame."""
    try:
        transforms.newest(frame, fixed)
    except LookupError:
        return ''
    return (f'it is taken as if the robot stood, {error.args[0]}: see whether what sends {fixed} '
            'is late, or its clock is another')


def _carried_on(transforms: Transforms, frame: str, fixed: str, stamp: int) -> tuple[Pose, float]:
    """The pose of a fixed frame, and for how many seconds motion was carried on."""
    try:
        return transforms.pose(frame, fixed, stamp), 0.0
    except LookupError:
        newest = transforms.newest(frame, fixed)
        late = (stamp - newest) / 1e9
        if not newest or not 0 < late <= MAX_EXTRAPOLATION:
            raise
    last = transforms.pose(frame, fixed, newest)
    try:
        before = transforms.pose(frame, fixed, newest - VELOCITY_TIME)
    except LookupError:  # it has only come
        return last, late
    # of the camera in the fixed frame, so that it turns about itself
    carried = interpolate_poses(np.linalg.inv(before), np.linalg.inv(last),
                                1 + 1e9 * late / VELOCITY_TIME)
    return np.linalg.inv(carried), late


def deskewed(points: npt.NDArray[np.float32], seconds: npt.NDArray[np.float32],
             pose_at: Callable[[float], Pose]) -> npt.NDArray[np.float32]:
    """Points of a sensor that moved while it measured, as if all were of the moment 0.

    Args:
        points: 3×N metres in the sensor's frame, each at its own moment.
        seconds: N, when each was measured.
        pose_at: from such a moment to the sensor's pose in some frame that stays, 4×4.

    Returns:
        float32 3×N metres in the sensor's frame at the moment 0.

    Raises:
        LookupError: as of `pose_at`.
    """
    if not seconds.size:
        return points
    first, last = float(seconds.min()), float(seconds.max())
    count = 2 + int((last - first) / DESKEW_INTERVAL)
    start = np.linalg.inv(pose_at(0.0))
    knots = np.linspace(first, last, count)
    moves = np.array([start @ pose_at(float(moment)) for moment in knots])
    if np.allclose(moves, np.eye(4), atol=1e-6):
        return points
    place = ((seconds - first) / max(last - first, 1e-9) * (count - 1)).clip(0, count - 1)
    before = np.minimum(place.astype(int), count - 2)
    share = (place - before).astype(np.float32)
    moved = np.empty_like(points)
    for knot in np.unique(before):
        chosen = before == knot
        ends = [move[:3, :3].astype(np.float32) @ points[:, chosen]
                + move[:3, 3:].astype(np.float32) for move in moves[knot:knot + 2]]
        moved[:, chosen] = ends[0] + share[chosen] * (ends[1] - ends[0])
    return moved
