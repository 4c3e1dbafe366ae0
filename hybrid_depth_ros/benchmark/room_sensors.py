"""A lidar, a depth camera and odometry in a virtual room, as messages that anchors take."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.anchors.corrector import AnchorCorrector
from hybrid_depth_ros.depth_camera import DEPTH_CAMERAS, measured_depth
from hybrid_depth_ros.poses import quaternion_from_pose, read_pose
from hybrid_depth_ros.virtual_room import Room

Pose = npt.NDArray[np.float64]

LIDAR_BELOW = 0.15  # metres that the lidar is below the camera
BEAMS = np.deg2rad(np.arange(-180, 180.0))
DEPTH_CAMERA = DEPTH_CAMERAS['realsense']
LENGTH, DRIFT = 1.02, np.deg2rad(0.2)  # of drifting odometry: times; angle for each √metre


def level_pose(pose: Pose, height: float) -> Pose:
    """x forward, y left, z up → world, 4×4: where a camera (4×4, optical frame → world) looks."""
    yaw = np.arctan2(pose[1, 2], pose[0, 2])
    level = np.eye(4)
    level[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    level[:3, 3] = *pose[:2, 3], height
    return level


def drifting(poses: Sequence[Pose]) -> list[Pose]:
    """What odometry says that is LENGTH times as long and turns by DRIFT for each √m.

    Args:
        poses: 4×4 each, optical frame → world, metres.
    """
    rng, out = np.random.default_rng(1), [poses[0]]
    for before, after in zip(poses, poses[1:]):
        step = np.linalg.inv(before) @ after
        step[:3, 3] *= LENGTH
        turn = rng.normal(size=3) * DRIFT * np.sqrt(np.linalg.norm(step[:3, 3]) / 3)
        step[:3, :3] = step[:3, :3] @ cv2.Rodrigues(turn)[0]
        out.append(out[-1] @ step)
    return out


class SensedRoom:
    """What corrects the depth of a camera in a room by one anchor.

    Args:
        room: The room.
        anchor: ``floor``, ``scan``, ``motion`` or ``depth``.
        pitch: Degrees that the camera looks down.
    """

    def __init__(self, room: Room, anchor: str, pitch: float) -> None:
        ahead, below = (LIDAR_BELOW * turn(np.deg2rad(pitch)) for turn in (np.sin, np.cos))
        fixed = {'scan': read_pose(f'{ahead} 0 {-below} 0 {-pitch} 0'), 'motion': np.eye(4)}
        self._room, self._anchor = room, anchor
        self.corrector = AnchorCorrector([anchor], [fixed.get(anchor)])

    def sense(self, pose: Pose, stamp: int, odometry: Pose | None = None) -> None:
        """Hand the corrector a scan, or what odometry says.

        Args:
            pose: 4×4, optical frame → world.
            stamp: ns.
            odometry: 4×4, the pose as odometry has it; None: as it is.
        """
        time = SimpleNamespace(sec=stamp // 10**9, nanosec=stamp % 10**9)
        if self._anchor == 'scan':
            self.corrector.take('scan', SimpleNamespace(
                header=SimpleNamespace(frame_id='lidar', stamp=time),
                ranges=self._room.scan(level_pose(pose, pose[2, 3] - LIDAR_BELOW), BEAMS),
                angle_min=BEAMS[0], angle_max=BEAMS[-1], angle_increment=np.deg2rad(1),
                range_min=0.05, range_max=8.0, time_increment=0.0, scan_time=0.0))
        elif self._anchor == 'motion':
            pose = pose if odometry is None else odometry
            x, y, z, w = quaternion_from_pose(pose)
            self.corrector.take('motion', SimpleNamespace(
                header=SimpleNamespace(frame_id='odom', stamp=time), child_frame_id='camera',
                pose=SimpleNamespace(pose=SimpleNamespace(
                    position=SimpleNamespace(**dict(zip('xyz', pose[:3, 3]))),
                    orientation=SimpleNamespace(x=x, y=y, z=z, w=w)))))

    def sense_depth(self, rgb: npt.NDArray[np.uint8], truth: npt.NDArray[np.float32], fx: float,
                    stamp: int) -> None:
        """Hand the corrector what a depth camera measures, registered to the image.

        Args:
            rgb: H×W×3, the image.
            truth: H×W metres.
            fx: Focal length, pixels.
            stamp: ns.
        """
        if self._anchor != 'depth':
            return
        depth = measured_depth(DEPTH_CAMERA, rgb, truth, fx, np.random.default_rng([12, stamp]))
        self.corrector.take('depth', SimpleNamespace(
            header=SimpleNamespace(frame_id='camera', stamp=SimpleNamespace(
                sec=stamp // 10**9, nanosec=stamp % 10**9)),
            encoding='32FC1', is_bigendian=0, height=depth.shape[0], width=depth.shape[1],
            step=4 * depth.shape[1], data=depth.tobytes()))
