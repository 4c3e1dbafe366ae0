"""Sequences of images whose poses and depths are known: recorded ones, and walks in virtual rooms.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import Room, upright_camera_pose
from train.datasets.nyu import CAMERA, SyncTree, read_camera
from train.datasets.pairs import RgbdPair
from train.datasets.raycast_rooms import ANY_KINDS, PREFIX, VirtualRooms

Pose = npt.NDArray[np.float64]  # 4×4, optical frame → world, metres

POSES = 'poses.txt'
RATE = 10.0  # frames a second of virtual walks, and of recordings, whose files don't say it
FOV = 63.3   # degrees across, of the virtual camera
FRAMES = 40  # of a virtual walk
PACE = 3.0   # times the room's own: about 0.3 m/s
TURN, AXIS = np.deg2rad(30.0), 0.08  # a second; metres from the axis to the camera


class Walk(NamedTuple):
    """A camera's way. read: image and depth of a frame. poses: one for each frame."""

    name: str
    camera: Intrinsics
    poses: Sequence[Pose]
    read: Callable[[int], RgbdPair]


def recorded_walk(folder: str | Path) -> Walk:
    """A folder of ``rgb_NNNNN.jpg``, ``sync_depth_NNNNN.png``, ``camera.txt`` and ``poses.txt``.

    ``camera.txt`` is that of :class:`SyncTree`. ``poses.txt`` has a line for each frame: its number
    and 4×4 camera → world, row by row, of the optical frame, metres.

    Raises:
        OSError: A file is not there, or holds something else.
    """
    folder = Path(folder)
    pairs, poses = SyncTree(folder), {}
    fx, fy, cx, cy = read_camera(folder / CAMERA)
    try:
        for line in np.loadtxt(folder / POSES, ndmin=2):
            poses[int(line[0])] = line[1:].reshape(4, 4)
    except ValueError as error:
        raise OSError(f'{folder}: {POSES} does not hold 17 numbers a frame ({error}); write it '
                      'anew') from error
    frames = [number for number in range(len(pairs)) if pairs.number(number) in poses]
    if len(frames) < 2:
        raise OSError(f'{folder}: {POSES} has the poses of {len(frames)} of the {len(pairs)} '
                      'frames; two are the least')
    height, width = pairs.read(frames[0]).rgb.shape[:2]
    return Walk(folder.name, Intrinsics(width, height, fx, fy, cx, cy),
                [poses[pairs.number(number)] for number in frames],
                lambda number: pairs.read(frames[number]))


def virtual_walks(name: str) -> list[Walk]:
    """Four walks in each of ``room:FIRST-LAST``.

    *walk*: through the room at about 0.3 m/s. *turn*: about an upright axis, AXIS beside the
    camera. *phone*: held by a hand that looks down into the room. *desk*: by one over small, near
    things.

    Raises:
        ValueError: The name is none of rooms.
    """
    rooms = VirtualRooms(name)
    camera = Intrinsics.from_horizontal_fov(320, 240, FOV)
    walks = []
    for seed in range(rooms.first, rooms.last + 1):
        room, near = Room(seed), VirtualRooms(f'{PREFIX}{seed}:any')
        rng = np.random.default_rng([seed, 31])
        start = rng.uniform(0, 60)
        walks.append(_in_room(f'walk {seed}', room, camera, [
            room.camera_pose(start + PACE * number / RATE) for number in range(FRAMES)]))
        walks.append(_in_room(f'turn {seed}', room, camera, [
            _turned(room, start + TURN * number / RATE) for number in range(FRAMES)]))
        for kind, index, step, turn in (('phone', ANY_KINDS.index('steep'), 0.017, 1.0),
                                        ('desk', ANY_KINDS.index('near'), 0.01, 4.0)):
            crowded, _, first = near.view(index)
            walks.append(_in_room(f'{kind} {seed}', crowded, camera,
                                  held_by_hand(first, FRAMES, step, turn, rng)))
    return walks


def open_walks(name: str) -> list[Walk]:
    """The walks of ``room:FIRST-LAST``, or that of a folder.

    Raises:
        OSError, ValueError: As :func:`recorded_walk` and :func:`virtual_walks`.
    """
    return virtual_walks(name) if name.startswith(PREFIX) else [recorded_walk(name)]


def _in_room(name: str, room: Room, camera: Intrinsics, poses: Sequence[Pose]) -> Walk:
    return Walk(name, camera, poses, lambda number: RgbdPair(*room.render(camera, poses[number])))


def _turned(room: Room, yaw: float) -> Pose:
    """In the middle of a room, AXIS from an upright axis."""
    x, y = room.size[:2] / 2
    return upright_camera_pose([x + AXIS * np.cos(yaw), y + AXIS * np.sin(yaw), 1.2], yaw, -0.15)


def held_by_hand(first: Pose, frames: int, step: float, turn: float, rng: np.random.Generator
                 ) -> list[Pose]:
    """A way as of a hand, which begins at a pose.

    Args:
        first: The pose.
        frames: Their number.
        step: Metres from frame to frame, the mean.
        turn: Degrees, likewise.
        rng: Of the way.
    """
    velocity, angles, poses = rng.normal(size=3), np.zeros(3), [first]
    for _ in range(frames - 1):
        velocity = 0.9 * velocity + rng.normal(size=3) * 0.44  # its norm stays about 1.6
        angles = 0.8 * angles + rng.normal(size=3) * np.deg2rad(turn) * 0.6
        pose = poses[-1].copy()
        pose[:3, 3] += step * velocity / 1.6
        pose[:3, :3] = first[:3, :3] @ cv2.Rodrigues(angles)[0]
        poses.append(pose)
    return poses
