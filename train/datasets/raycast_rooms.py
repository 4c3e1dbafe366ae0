"""Pictures of the package's own virtual room, at robots' heights: ten a second, never the same.

``room:100-149`` are the rooms of fifty seeds. Seed 0 is the demo's: leave it to the demo.
"""

import re
from functools import lru_cache

import numpy as np

from hybrid_depth_ros.geometry import Intrinsics
from hybrid_depth_ros.virtual_room import WALK_SECONDS, Room
from train.datasets.pairs import RgbdDataset

PREFIX = 'room:'
VIEWS = 12                     # of each room
HEIGHTS = 0.2, 1.6             # m
WIDTH, HEIGHT = 352, 264


@lru_cache(maxsize=4)
def _room(seed):
    return Room(seed)


class VirtualRooms(RgbdDataset):
    """``room:FIRST-LAST``: VIEWS pictures of each seed's room; ``number`` is the seed.

    Heights are spread evenly on a logarithmic scale, fields of view are 50° to 90°. Raises
    ValueError for another name.
    """

    def __init__(self, name):
        match = re.fullmatch(r'room:(\d{1,9})(?:-(\d{1,9}))?', name)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f'{name!r} names no rooms: write room:FIRST-LAST, like room:100-149')
        self.first, self.last = int(match[1]), int(match[2] or match[1])

    def __len__(self):
        return (self.last - self.first + 1) * VIEWS

    def _view(self, i):
        """Seed, camera and pose of picture i."""
        seed, rng = self.first + i // VIEWS, np.random.default_rng([i // VIEWS + self.first, i, 5])
        share = (i % VIEWS + rng.random()) / VIEWS
        height = HEIGHTS[0] * (HEIGHTS[1] / HEIGHTS[0]) ** share
        camera = Intrinsics.from_horizontal_fov(WIDTH, HEIGHT, rng.uniform(50, 90))
        pose = _room(seed).camera_pose(rng.uniform(0, WALK_SECONDS))
        pose[2, 3] = height
        pitch = np.deg2rad(rng.normal(4, 6))  # up from the walk's own 11° down
        c, s = np.cos(pitch), np.sin(pitch)
        pose[:3, :3] = pose[:3, :3] @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        return seed, camera, pose, height

    def read(self, i):
        seed, camera, pose, _ = self._view(i)
        return _room(seed).render(camera, pose)

    def name(self, i):
        return f'room {self.number(i)}, view {i % VIEWS}'

    def number(self, i):
        return self.first + i // VIEWS

    def focal(self, i):
        camera = self._view(i)[1]
        return camera.fx / camera.width

    def height(self, i):
        return self._view(i)[3]
