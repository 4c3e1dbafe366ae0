"""What the networks are shown: the virtual room, or NYU's held-out frames."""

from pathlib import Path

import cv2
import numpy as np

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.picture_files import STORED, read_pixels
from hybrid_depth_ros.room import Room
from hybrid_depth_ros.weights import HELD_OUT

FOV = 63.3  # degrees: the camera node's


def room_picture(width=640, height=480, seconds=0.0):
    """The virtual room: uint8 H×W×3, and the camera that sees it."""
    room, camera = Room(0), Intrinsics.from_horizontal_fov(width, height, FOV)
    return room.render(camera, room.camera_pose(seconds))[0], camera


def nyu_pictures(folder):
    """The held-out NYU frames with their true depth, spread so that the first few will do.

    Of the "sync" layout, flat or a folder for each scene: ``rgb_NNNNN.jpg``, and depth in
    ``sync_depth_NNNNN.png``, uint16 millimetres. Returns ``[(uint8 H×W×3, float32 H×W metres, 0
    where unknown), …]``. Raises OSError where there is none, or one can't be read.
    """
    pairs = []
    for path in sorted([*Path(folder).glob('rgb_*.jpg'), *Path(folder).glob('*/rgb_*.jpg')]):
        number, depth = path.stem[4:], path.with_name(f'sync_depth_{path.stem[4:]}.png')
        if number.isdecimal() and depth.exists() and any(
                first <= int(number) <= last for first, last in HELD_OUT):
            pairs.append((path, depth))
    if not pairs:
        raise OSError(f'{folder}: no rgb_NNNNN.jpg numbered {HELD_OUT} with a '
                      'sync_depth_NNNNN.png beside it, here or one folder down')
    order = sorted(range(len(pairs)), key=lambda i: i * 0.618034 % 1)
    return [_read(*pairs[i]) for i in order]


def _read(colour, depth):
    bgr, millimetres = read_pixels(colour, STORED), read_pixels(depth, cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), millimetres / np.float32(1000)
